"""The end of a world: the outside world is healthy again, time passes, and every invoice has to end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from invoice_mcp.domain.names import line_workflow_id
from invoice_mcp.domain.report import InvoiceReport, LineStatus, Status
from invoice_mcp.testing.checker.violations import Violation
from invoice_mcp.testing.engines.base import HARNESS_TIMEOUT, EngineStuckError
from invoice_mcp.testing.records import ToolRefused

if TYPE_CHECKING:
    from invoice_mcp.testing.world.world import World

# Longer than any retry takes, and than clocks may be apart.
_MARGIN = timedelta(hours=1)
# Retries of the ERP, then the decision, then the due dates and retries of payments; twice, as machines may be slow.
_MAX_ROUNDS = 8
# Real time after which it is stuck.
_END_TIMEOUT = 5.0
_TERMINAL = tuple(status for status in Status if status.is_terminal)
_OPEN = frozenset({LineStatus.PENDING, LineStatus.SCHEDULED})


async def run_to_quiescence(world: World) -> list[Violation]:
    """Let every invoice end, and tell those that do not (L1)."""
    await world.restart_worker()
    world.heal()
    # What was under way may be all that an invoice that has ended left behind.
    await world.ports_answer()
    for workflow_id in world.workflow_ids:
        await await_terminated_lines(world, workflow_id)
    waited: set[str] = set()
    for _ in range(_MAX_ROUNDS):
        try:
            needed = {each: await _time_needed(world, each, is_overdue=each in waited) for each in world.workflow_ids}
        except ToolRefused as refused:
            return [Violation("L1", world.workflow_id, f"can't be asked any more: {refused}")]
        spans = [span for span in needed.values() if span is not None]
        if not spans:
            await advance_past_abandoned_lines(world)
            return []
        waited.update(each for each, span in needed.items() if span is not None and span >= world.approval_timeout)
        try:
            await world.advance(max(spans))
        except EngineStuckError as stuck:
            return [Violation("L1", world.workflow_id, f"something in it holds up the clock: {stuck}")]
    found = []
    for workflow_id in world.workflow_ids:
        if (await world.handle(workflow_id).describe()).status is WorkflowExecutionStatus.TERMINATED:
            # Ended over the workflow's head: its status stays as it was.
            continue
        try:
            await world.until(*_TERMINAL, workflow_id=workflow_id, within=_END_TIMEOUT)
        except (AssertionError, ToolRefused) as stuck:
            found.append(Violation("L1", workflow_id, f"does not end: {stuck}"))
    return found


async def await_terminated_lines(world: World, workflow_id: str) -> None:
    """Where an invoice was terminated, give the server the time to end its lines: that comes a moment later."""
    if (await world.handle(workflow_id).describe()).status is not WorkflowExecutionStatus.TERMINATED:
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(_END_TIMEOUT):
            for line in (await world.status(workflow_id)).lines:
                handle = world.handle(line_workflow_id(workflow_id, line.line))
                with suppress(RPCError):
                    while (await handle.describe()).status is WorkflowExecutionStatus.RUNNING:
                        await asyncio.sleep(0.01)


async def advance_past_abandoned_lines(world: World) -> None:
    """Let the due dates come of lines that resets have left behind: whether they are paid then is to be seen."""
    for workflow_id in dict.fromkeys(world.resets):
        due = []
        for line in (await world.status(workflow_id)).lines:
            handle = world.handle(line_workflow_id(workflow_id, line.line))
            with suppress(RPCError):
                if (await handle.describe()).status is WorkflowExecutionStatus.RUNNING:
                    due.append(line.due_date)
        if due:
            await world.advance(max(max(due) - await world.now(workflow_id), timedelta()) + _MARGIN)


async def _time_needed(world: World, workflow_id: str, *, is_overdue: bool) -> timedelta | None:
    """How much time must pass for an invoice to go on, once it does not go on by itself; None when it has ended.

    Args:
        is_overdue: Its time to decide was waited for already; there is no second one.
    """
    if (await world.handle(workflow_id).describe()).status is not WorkflowExecutionStatus.RUNNING:
        return None
    # Then it waits for a retry, or is stuck, and more time must pass.
    patience = asyncio.get_running_loop().time() + world.engine.reaction_time
    while not (report := await world.status(workflow_id)).status.is_terminal:
        due = None
        if not (is_overdue and report.status is Status.PENDING_APPROVAL):
            due = _time_to_next_due(world, report, await world.now(workflow_id))
        if due is not None or asyncio.get_running_loop().time() >= patience:
            return (due or timedelta()) + _MARGIN
        await asyncio.sleep(0.01)
    return None


def _time_to_next_due(world: World, report: InvoiceReport, now: datetime) -> timedelta | None:
    """When the next thing is due, from now; None if it should be happening at this moment."""
    match report.status:
        case Status.PENDING_APPROVAL if report.decision is None:
            # Not what the report says: that is what is to be checked.
            return world.approval_timeout
        case Status.PAYING:
            waits = [line.due_date - now for line in report.lines if line.status in _OPEN]
            return max((wait for wait in waits if wait > timedelta()), default=None)
        case _:
            return None


async def cancel_open(world: World) -> None:
    """End what is still open, whatever it takes of the workflow itself.

    Raises:
        EngineStuckError: Something can't be ended.
    """
    await world.restart_worker()
    world.heal()
    for workflow_id in world.workflow_ids:
        # Cancelled, not terminated: the time-skipping server loses count of its clock's locks when a workflow is
        # terminated in the middle of a task.
        handle = world.handle(workflow_id)
        try:
            async with asyncio.timeout(HARNESS_TIMEOUT):
                if (await handle.describe()).status is not WorkflowExecutionStatus.RUNNING:
                    continue
                await handle.cancel()
                while (await handle.describe()).status is WorkflowExecutionStatus.RUNNING:
                    await asyncio.sleep(0.01)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
        except TimeoutError:
            raise EngineStuckError(f"{workflow_id} can't be ended") from None
