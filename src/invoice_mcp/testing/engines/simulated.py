"""The simulator as an engine: in this process, with the production code of workflows and activities."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from functools import partial

from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import UnsandboxedWorkflowRunner

from invoice_mcp.adapters.erp import Erp
from invoice_mcp.adapters.payments import Payments
from invoice_mcp.domain.names import INVOICE_STATUS
from invoice_mcp.testing.engines.base import EngineWorker
from invoice_mcp.testing.records import CallContext, activity_context
from invoice_mcp.workflow.activities import InvoiceActivities
from invoice_mcp.workflow.parent_lookup import find_parent
from invoice_mcp.workflow.worker import REPLAY
from temporal_simulator import FifoScheduler, RandomScheduler, Simulation, VirtualTimeLoop, Worker, connect

# The share of workflow tasks that come just after a query, where possible. That order is rare otherwise.
_QUERY_FIRST_SHARE = 0.3
# A new simulation starts after this many runs, to bound the memory.
_MAX_RUNS = 2000


class _SimulatedWorker:
    def __init__(self, simulation: Simulation, task_queue: str) -> None:
        self._simulation = simulation
        self._task_queue = task_queue

    async def evict_all(self) -> None:
        """See `EngineWorker.evict_all`."""
        self._simulation.evict(self._task_queue)


class Simulated:
    """The simulator. All workflows share one clock, which only moves by `advance`."""

    can_list = True
    can_run_without_worker = True
    reaction_time = 0.0

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.client = connect(simulation, data_converter=pydantic_data_converter)

    async def now(self, workflow_id: str | None = None) -> datetime:  # noqa: ARG002
        """See `Engine.now`."""
        return self.simulation.now

    async def advance(self, span: timedelta, workflow_ids: Sequence[str]) -> None:  # noqa: ARG002
        """See `Engine.advance`."""
        await self.simulation.advance(span)

    def shuffle(self, seed: int | None) -> None:
        """See `Engine.shuffle`."""
        self.simulation.scheduler = (
            FifoScheduler() if seed is None else RandomScheduler(seed, query_rate=_QUERY_FIRST_SHARE)
        )

    def call_context(self) -> CallContext:
        """See `Engine.call_context`."""
        return activity_context()

    @asynccontextmanager
    async def worker(
        self, erp: Erp, payments: Payments, workflows: Sequence[type], task_queue: str, *, sandboxed: bool
    ) -> AsyncIterator[EngineWorker]:
        """See `Engine.worker`. Leaving it crashes the worker."""
        runner = REPLAY["workflow_runner"] if sandboxed else UnsandboxedWorkflowRunner()
        activities = InvoiceActivities(erp, payments, partial(find_parent, self.client)).all()
        self.simulation.start_worker(
            task_queue, Worker(workflows, activities, runner=runner, converter=pydantic_data_converter)
        )
        await self.simulation.run()
        try:
            yield _SimulatedWorker(self.simulation, task_queue)
        finally:
            self.simulation.crash_worker(task_queue)

    def reset(self) -> None:
        """Drop the state of earlier worlds. The next one runs like the first, with the same times and ids."""
        self.simulation.clear()

    def needs_replacement(self) -> bool:
        """See `Engine.needs_replacement`."""
        return len(self.simulation.runs()) > _MAX_RUNS


@asynccontextmanager
async def open_simulated() -> AsyncIterator[Simulated]:
    """Start a simulation."""
    simulation = Simulation(search_attributes=(INVOICE_STATUS,))
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(simulation.close)
        if isinstance(loop, VirtualTimeLoop):
            # Virtual time then also passes while a tool waits.
            stack.callback(loop.attach(simulation))
        yield Simulated(simulation)
