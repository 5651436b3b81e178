"""Runs a baseline world to its end: time passes until every workflow has ended, or is stuck (L1)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from temporalio.client import WorkflowExecutionStatus

from invoice_mcp.testing.checker.violations import Violation
from invoice_mcp.testing.engines.base import EngineStuckError

if TYPE_CHECKING:
    from invoice_mcp.testing.baseline.world import BaselineWorld

# Longer than all retries.
_MARGIN = timedelta(hours=1)
# Seconds of real time for workflows to end without time passing. After that they wait for something.
_PROGRESS_TIMEOUT = 0.25
# In the first round everything falls due; then come retries, and waits that begin only then.
_ROUNDS = 4
# Seconds of real time after which a workflow that has not ended is stuck.
_END_TIMEOUT = 5.0


async def run_to_quiescence(world: BaselineWorld) -> list[Violation]:
    """Remove all faults, let every invoice end, and return a violation for each that does not (L1)."""
    try:
        for _ in range(_ROUNDS):
            world.heal()
            if not await _open_workflows(world, _PROGRESS_TIMEOUT):
                return []
            await world.advance(await _time_until_all_due(world))
        stuck = await _open_workflows(world, _END_TIMEOUT)
        return [Violation("L1", each, f"does not end: it is {await world.status(each)!r}") for each in stuck]
    except EngineStuckError as error:
        return await stuck_clock_violations(world, error)


async def stuck_clock_violations(world: BaselineWorld, error: EngineStuckError) -> list[Violation]:
    """A violation for each invoice that keeps the clock from advancing (L1)."""
    failing = await world.failing()
    found = [Violation("L1", each, f"does not end: {what} fails its tasks") for each, what in failing.items()]
    return found or [Violation("L1", world.workflow_id, f"the clock does not advance: {error}")]


async def _open_workflows(world: BaselineWorld, seconds: float) -> list[str]:
    """The workflows that have not ended within some seconds of real time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        described = [await world.handle(each).describe() for each in world.workflow_ids]
        running = [each.id for each in described if each.status is WorkflowExecutionStatus.RUNNING]
        if not running or asyncio.get_running_loop().time() > deadline:
            return running
        await asyncio.sleep(0.01)


async def _time_until_all_due(world: BaselineWorld) -> timedelta:
    """How much time must pass until every due date and deadline has passed."""
    now = await world.now()
    waits = [line.due_date - now for invoice in world.invoices for line in invoice.lines]
    return max(world.approval_timeout, *waits, timedelta()) + _MARGIN
