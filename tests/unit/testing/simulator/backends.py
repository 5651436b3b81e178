"""Where toy workflows run: on the simulator, and on Temporal's real server. The same tests pass on both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError
from temporalio.testing import TimeSkippingConfig, WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner
from temporalio.worker import Worker as RealWorker

from invoice_mcp.temporal.embedded import temporal_binary
from temporal_simulator import Simulation, Worker, connect
from tests.unit.testing.simulator import activity_workflows, reset_workflows, workflows
from tests.unit.testing.simulator.workflows import COLOUR

QUEUE = "toys"
WORKFLOWS = (*workflows.WORKFLOWS, *activity_workflows.WORKFLOWS, *reset_workflows.WORKFLOWS)
ACTIVITIES = (*workflows.ACTIVITIES, *activity_workflows.ACTIVITIES)
Handle = WorkflowHandle[Any, Any]


@dataclass
class Place:
    """One of them. `advance` lets time pass, for one workflow at least; while `away` is open nobody works."""

    client: Client
    advance: Callable[[Handle, timedelta], Awaitable[None]]
    away: Callable[[], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def simulated() -> AsyncIterator[Place]:
    simulation = Simulation(search_attributes=(COLOUR.name,))
    simulation.start_worker(QUEUE, Worker(WORKFLOWS, ACTIVITIES))

    async def advance(_: Handle, span: timedelta) -> None:
        await simulation.advance(span)

    @asynccontextmanager
    async def away() -> AsyncIterator[None]:
        simulation.crash_worker(QUEUE)
        yield
        simulation.start_worker(QUEUE, Worker(WORKFLOWS, ACTIVITIES))

    yield Place(connect(simulation), advance, away)
    await simulation.close()


@asynccontextmanager
async def real() -> AsyncIterator[Place]:
    async with await WorkflowEnvironment.start_time_skipping_v2(
        ts_config=TimeSkippingConfig(enabled=False, disable_propagation=True),
        search_attributes=[COLOUR],
        dev_server_existing_path=str(temporal_binary()),
        dev_server_extra_args=["--dynamic-config-value", "frontend.WorkflowTimeSkippingEnabled=true"],
        dev_server_log_level="error",
    ) as environment:

        async def advance(handle: Handle, span: timedelta) -> None:
            # It may have ended on the way.
            with suppress(RPCError):
                await environment.fast_forward(handle, span)

        def worker() -> RealWorker:
            return RealWorker(
                environment.client,
                task_queue=QUEUE,
                workflows=WORKFLOWS,
                activities=ACTIVITIES,
                workflow_runner=UnsandboxedWorkflowRunner(),
                graceful_shutdown_timeout=timedelta(0),
            )

        async with AsyncExitStack() as working:

            @asynccontextmanager
            async def away() -> AsyncIterator[None]:
                await working.aclose()
                yield
                await working.enter_async_context(worker())

            await working.enter_async_context(worker())
            yield Place(environment.client, advance, away)
