"""The backends of the conformance tests: the simulator, and Temporal's real server. The same tests pass on both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.api.common.v1 import Payloads
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle
from temporalio.converter import DataConverter
from temporalio.service import RPCError
from temporalio.testing import TimeSkippingConfig, WorkflowEnvironment
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner
from temporalio.worker import Worker as RealWorker

from invoice_mcp.temporal.embedded import temporal_binary
from temporal_simulator import Simulation, Worker, connect
from tests.unit.testing.simulator import activity_workflows, reset_workflows, workflows
from tests.unit.testing.simulator.workflows import COLOUR

QUEUE = "toys"
WORKFLOWS = (*workflows.WORKFLOWS, *activity_workflows.WORKFLOWS, *reset_workflows.WORKFLOWS)
ACTIVITIES = (*workflows.ACTIVITIES, *activity_workflows.ACTIVITIES)
Handle = WorkflowHandle[Any, Any]


def payloads(*values: Any) -> Payloads:
    """Arguments as the default data converter encodes them."""
    return Payloads(payloads=DataConverter.default.payload_converter.to_payloads(values))


async def event_types(handle: Handle) -> list[str]:
    """The types of the events in a history, without their prefix."""
    return [EventType.Name(event.event_type)[11:] async for event in handle.fetch_history_events()]


async def assert_replays(handle: Handle) -> None:
    """The SDK's replayer accepts the history."""
    replayer = Replayer(workflows=WORKFLOWS, workflow_runner=UnsandboxedWorkflowRunner())
    result = await asyncio.wait_for(replayer.replay_workflow(await handle.fetch_history()), 10)
    assert result.replay_failure is None


@dataclass
class Backend:
    """A server with a worker.

    Attributes:
        advance: Lets time pass, for one workflow at least.
        worker_stopped: While this context is open, no worker runs.
    """

    client: Client
    advance: Callable[[Handle, timedelta], Awaitable[None]]
    worker_stopped: Callable[[], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def simulated() -> AsyncIterator[Backend]:
    simulation = Simulation(search_attributes=(COLOUR.name,))
    simulation.start_worker(QUEUE, Worker(WORKFLOWS, ACTIVITIES))

    async def advance(_: Handle, span: timedelta) -> None:
        await simulation.advance(span)

    @asynccontextmanager
    async def worker_stopped() -> AsyncIterator[None]:
        simulation.crash_worker(QUEUE)
        yield
        simulation.start_worker(QUEUE, Worker(WORKFLOWS, ACTIVITIES))

    yield Backend(connect(simulation), advance, worker_stopped)
    await simulation.close()


@asynccontextmanager
async def real() -> AsyncIterator[Backend]:
    async with await WorkflowEnvironment.start_time_skipping_v2(
        ts_config=TimeSkippingConfig(enabled=False, disable_propagation=True),
        search_attributes=[COLOUR],
        dev_server_existing_path=str(temporal_binary()),
        dev_server_extra_args=["--dynamic-config-value", "frontend.WorkflowTimeSkippingEnabled=true"],
        dev_server_log_level="error",
    ) as environment:

        async def advance(handle: Handle, span: timedelta) -> None:
            # The workflow may close meanwhile.
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
            async def worker_stopped() -> AsyncIterator[None]:
                await working.aclose()
                yield
                await working.enter_async_context(worker())

            await working.enter_async_context(worker())
            yield Backend(environment.client, advance, worker_stopped)
