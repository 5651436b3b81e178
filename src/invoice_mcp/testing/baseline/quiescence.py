"""The end of a world of workflows that speak as the seed's do: time passes until nothing is left to wait for."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from temporalio.client import WorkflowExecutionStatus

from invoice_mcp.testing.checker.violations import Violation
from invoice_mcp.testing.engines.base import EngineStuck

if TYPE_CHECKING:
    from invoice_mcp.testing.baseline.world import BaselineWorld

# More than retries take.
_MARGIN = timedelta(hours=1)
# Real time for workflows to go on by themselves; then they wait for something, and more time must pass.
_GOES_ON_WITHIN = 0.25
# At first everything falls due; then retries, and what begins to wait only after that.
_ROUNDS = 4
# Real time after which what has not ended is stuck.
_ENDS_WITHIN = 5.0


async def run_to_quiescence(world: BaselineWorld) -> list[Violation]:
    """Heal the ports, let every invoice end, and tell those that do not (L1)."""
    try:
        for _ in range(_ROUNDS):
            world.heal()
            if not await _open(world, _GOES_ON_WITHIN):
                return []
            await world.advance(await _everything_due(world))
        stuck = await _open(world, _ENDS_WITHIN)
        return [Violation("L1", each, f"does not end: it is {await world.status(each)!r}") for each in stuck]
    except EngineStuck as error:
        return await held_up(world, error)


async def held_up(world: BaselineWorld, error: EngineStuck) -> list[Violation]:
    """Whose doing it is that time does not pass (L1)."""
    failing = await world.failing()
    found = [Violation("L1", each, f"does not end: {what} fails its tasks") for each, what in failing.items()]
    return found or [Violation("L1", world.workflow_id, f"something holds up the clock: {error}")]


async def _open(world: BaselineWorld, patience: float) -> list[str]:
    """The workflows that have not ended, after some patience with them."""
    until = asyncio.get_running_loop().time() + patience
    while True:
        described = [await world.handle(each).describe() for each in world.workflow_ids]
        running = [each.id for each in described if each.status is WorkflowExecutionStatus.RUNNING]
        if not running or asyncio.get_running_loop().time() > until:
            return running
        await asyncio.sleep(0.01)


async def _everything_due(world: BaselineWorld) -> timedelta:
    """How much time must pass for all that any invoice waits for to be due."""
    now = await world.now()
    waits = [line.due_date - now for invoice in world.invoices for line in invoice.lines]
    return max(world.approval_timeout, *waits, timedelta()) + _MARGIN
