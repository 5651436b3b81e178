"""Scenarios on the real server with a worker without a cache: every workflow task replays the whole history.

Any nondeterminism fails the task at once (S9); any handler that runs on when its workflow is evicted hangs the worker.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from invoice_mcp.domain.report import LineStatus, Status
from invoice_mcp.testing import PAST_DUE, World
from invoice_mcp.testing.plugin import NewWorld
from invoice_mcp.workflow.worker import build_worker
from tests.tool_client import lines_of

LATER = "2090-01-01T00:00:00Z"


@asynccontextmanager
async def without_cache(real_world: NewWorld) -> AsyncIterator[World]:
    async with real_world() as world:
        await world.crash_worker()
        async with build_worker(
            world.client, world.erp, world.payments, task_queue=world.task_queue, max_cached_workflows=0
        ):
            yield world


async def test_an_invoice_is_paid_by_a_worker_without_a_cache(real_world: NewWorld) -> None:
    async with without_cache(real_world) as world:
        await world.submit(("1", PAST_DUE), ("2", PAST_DUE), ("3", PAST_DUE))
        await world.approve()
        await world.until(Status.PAID)
        assert [paid.order.line for paid in world.ledger] == [1, 2, 3]


async def test_an_invoice_is_cancelled_while_paying_by_a_worker_without_a_cache(real_world: NewWorld) -> None:
    async with without_cache(real_world) as world:
        await world.submit(("1", PAST_DUE), ("2", LATER), ("3", LATER))
        await world.approve()
        await world.when(lambda: world.ledger)
        await world.cancel()
        report = await world.until(Status.CANCELLED)
        assert lines_of(report) == [LineStatus.PAID, LineStatus.CANCELLED, LineStatus.CANCELLED]
        assert len(world.ledger) == 1
