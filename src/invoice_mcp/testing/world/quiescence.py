"""The end of a world: faults are removed, time passes, and every invoice must end."""

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

# Longer than any retries, and than the skew of clocks.
_MARGIN = timedelta(hours=1)
# Retries of the ERP, the decision, due dates, retries of payments; twice that, for slow machines.
_MAX_ROUNDS = 8
# Real time in seconds after which an invoice counts as stuck.
_END_TIMEOUT = 5.0
_TERMINAL = tuple(status for status in Status if status.is_terminal)
_OPEN = frozenset({LineStatus.PENDING, LineStatus.SCHEDULED})


async def run_to_quiescence(world: World) -> list[Violation]:
    """Run every invoice to its end. Returns a violation of L1 for each one that does not end."""
    await world.restart_worker()
    world.heal()
    # Payments under way may belong to closed invoices, too.
    await world.ports_answer()
    for workflow_id in world.workflow_ids:
        await await_terminated_lines(world, workflow_id)
    waited: set[str] = set()
    for _ in range(_MAX_ROUNDS):
        try:
            needed = {each: await _time_needed(world, each, is_overdue=each in waited) for each in world.workflow_ids}
        except ToolRefused as refused:
            return [Violation("L1", world.workflow_id, f"its report can't be read any more: {refused}")]
        spans = [span for span in needed.values() if span is not None]
        if not spans:
            await advance_past_abandoned_lines(world)
            return []
        waited.update(each for each, span in needed.items() if span is not None and span >= world.approval_timeout)
        try:
            await world.advance(max(spans))
        except EngineStuckError as stuck:
            return [Violation("L1", world.workflow_id, f"the clock does not advance: {stuck}")]
    found = []
    for workflow_id in world.workflow_ids:
        if (await world.handle(workflow_id).describe()).status is WorkflowExecutionStatus.TERMINATED:
            # A terminated workflow keeps the status that it had.
            continue
        try:
            await world.until(*_TERMINAL, workflow_id=workflow_id, within=_END_TIMEOUT)
        except (AssertionError, ToolRefused) as stuck:
            found.append(Violation("L1", workflow_id, f"does not end: {stuck}"))
    return found


async def await_terminated_lines(world: World, workflow_id: str) -> None:
    """Wait until the server has ended the lines of a terminated invoice, which takes a moment."""
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
    """Advance past the due dates of the lines that resets left open, to observe whether they are paid then."""
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
    """How much time must pass for an invoice to progress; None if it is closed.

    Args:
        is_overdue: Whether the approval timeout has passed already.
    """
    if (await world.handle(workflow_id).describe()).status is not WorkflowExecutionStatus.RUNNING:
        return None
    # After this time the invoice waits for a retry or is stuck, so more time must pass.
    deadline = asyncio.get_running_loop().time() + world.engine.reaction_time
    while not (report := await world.status(workflow_id)).status.is_terminal:
        due = None
        if not (is_overdue and report.status is Status.PENDING_APPROVAL):
            due = _time_to_next_due(world, report, await world.now(workflow_id))
        if due is not None or asyncio.get_running_loop().time() >= deadline:
            return (due or timedelta()) + _MARGIN
        await asyncio.sleep(0.01)
    return None


def _time_to_next_due(world: World, report: InvoiceReport, now: datetime) -> timedelta | None:
    """The time until the invoice's next timer fires; None if it should progress now."""
    match report.status:
        case Status.PENDING_APPROVAL if report.decision is None:
            # Not the report's deadline, which is under test.
            return world.approval_timeout
        case Status.PAYING:
            waits = [line.due_date - now for line in report.lines if line.status in _OPEN]
            return max((wait for wait in waits if wait > timedelta()), default=None)
        case _:
            return None


async def cancel_open(world: World) -> None:
    """Cancel the invoices that are still open.

    Raises:
        EngineStuckError: A workflow can't be ended.
    """
    await world.restart_worker()
    world.heal()
    for workflow_id in world.workflow_ids:
        # Not terminated: the time-skipping server loses count of the locks of its clock if a workflow is terminated
        # during a task.
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
