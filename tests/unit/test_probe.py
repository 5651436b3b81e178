"""What is said where nobody answers: only what Temporal tells, and no clock is compared with another one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import anyio
import pytest
import temporalio.api.workflowservice.v1 as api
from temporalio.api.taskqueue.v1 import PollerInfo
from temporalio.client import Client, DescribeWorkflowInput, Interceptor, OutboundInterceptor
from temporalio.client import WorkflowExecutionDescription as Description
from temporalio.service import RPCError, RPCStatusCode

from invoice_mcp.domain.errors import RefusedError
from invoice_mcp.domain.report import InvoiceReport, Status
from invoice_mcp.service import invoice_service as module
from invoice_mcp.service.errors import temporal_calls
from invoice_mcp.service.invoice_service import InvoiceService
from invoice_mcp.temporal.probe import NoAnswerReason, Probe
from invoice_mcp.testing.plugin import NewWorld
from temporal_simulator import Simulation
from temporal_simulator.client.service import SimulatedService
from tests.requirements import requirement

NOW = datetime(2026, 11, 1, tzinfo=UTC)


class Server(SimulatedService):
    """A server that tells when workers polled, by a clock of its own; or only why it does not tell."""

    def __init__(self, *polled: datetime, error: RPCError | None = None) -> None:
        super().__init__(Simulation())
        self.polled = polled
        self.error = error
        self.asked = 0

    async def _describe_task_queue(self, request: api.DescribeTaskQueueRequest) -> api.DescribeTaskQueueResponse:
        self.asked += 1
        if self.error is not None:
            raise self.error
        answer = api.DescribeTaskQueueResponse()
        for polled in self.polled:
            poller = PollerInfo()
            poller.last_access_time.FromDatetime(polled)
            answer.pollers.append(poller)
        return answer


class Watch:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def probe_of(server: Server, track: Watch | None = None) -> Probe:
    return Probe(Client(server), monotonic=track or Watch())


async def said(probe: Probe, error: Exception | None = None) -> str:
    with pytest.raises(RefusedError) as refused:
        async with temporal_calls(probe):
            raise error or TimeoutError
    return str(refused.value)


@requirement("TEMPORAL-BUSY")
@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(minutes=2), timedelta(days=-400)])
async def test_a_worker_polls_whatever_the_time_is_here(ahead: timedelta) -> None:
    probe = probe_of(Server(datetime.now(UTC) + ahead))
    assert await probe.has_worker()
    assert (await said(probe)).startswith(
        "NO_ANSWER: No answer came in time, and the request may still be done: a worker"
    )
    assert "tart one" not in await said(probe)


@requirement("TEMPORAL-BUSY", "TEMPORAL-NO-WORKER")
async def test_a_worker_that_does_not_poll_any_more_is_gone_after_a_while() -> None:
    server, track = Server(NOW, NOW - timedelta(minutes=2)), Watch()
    probe = probe_of(server, track)
    assert await probe.has_worker()
    track.now += 60
    assert await probe.has_worker()
    track.now += 60
    assert not await probe.has_worker()
    assert (await said(probe)).startswith("NO_WORKER: No answer came in time")
    # Also if the server's clock was put back meanwhile.
    server.polled = (NOW - timedelta(hours=1), *server.polled)
    track.now += 1
    assert await probe.has_worker()


@requirement("TEMPORAL-BUSY", "TEMPORAL-NO-WORKER")
async def test_where_nobody_ever_polled_there_is_no_worker() -> None:
    probe = probe_of(Server())
    assert not await probe.has_worker()
    busy = RPCError("too much", RPCStatusCode.RESOURCE_EXHAUSTED, b"")
    assert "Start one with `invoice-mcp worker`" in await said(probe, busy)


@requirement("TEMPORAL-BUSY")
@pytest.mark.parametrize(
    "status", [RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.INTERNAL]
)
async def test_what_temporal_does_not_tell_is_not_said(status: RPCStatusCode) -> None:
    probe = probe_of(Server(error=RPCError("no", status, b"")))
    assert "NO_ANSWER: No answer came in time" in (told := await said(probe))
    assert "does not say whether a worker runs" in told


@requirement("TEMPORAL-BUSY")
async def test_hundreds_that_nobody_answers_ask_once() -> None:
    server, track = Server(NOW), Watch()
    probe = probe_of(server, track)
    assert set(await asyncio.gather(*(probe.no_answer_reason() for _ in range(300)))) == {NoAnswerReason.WORKER_POLLS}
    assert server.asked == 1
    track.now += 10
    server.polled = ()
    assert await probe.no_answer_reason() is NoAnswerReason.NO_WORKER


@requirement("TEMPORAL-DOWN")
async def test_a_broken_connection_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = RPCError("transport error", RPCStatusCode.UNKNOWN, b"")

    async def breaks(*_: object) -> NoReturn:
        raise broken

    server = Server(NOW)
    monkeypatch.setattr(server, "_check", breaks)
    monkeypatch.setattr(server, "_count_workflow_executions", breaks)
    assert not await probe_of(server).is_reachable()
    assert (await said(probe_of(server))).startswith("TEMPORAL_UNAVAILABLE")
    # That the attribute is missing, nobody has said.
    with pytest.raises(RPCError, match="transport error"):
        await probe_of(server).indexes_status()


class Silent(Interceptor):
    """Of a client whose server says nothing any more, once it has told of one execution."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        told: list[Description] = []

        class Silencing(OutboundInterceptor):
            async def describe_workflow(self, input: DescribeWorkflowInput) -> Description:
                if told:
                    await anyio.sleep_forever()
                told.append(await super().describe_workflow(input))
                return told[0]

        return Silencing(next)


@requirement("TOOL-WAIT", "TEMPORAL-DOWN")
async def test_a_wait_that_nobody_answers_any_more_ends_soon_after_its_time(
    new_world: NewWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def progress(waited: float, report: InvoiceReport) -> None:
        assert (waited < 0.3, report.status) == (True, Status.PENDING_APPROVAL)

    monkeypatch.setattr(module, "_LAST_QUERY_TIMEOUT", 0.2)
    async with new_world() as world:
        workflow_id = await world.submit()
        config = world.client.config()
        config["interceptors"] = [*config["interceptors"], Silent()]
        service = InvoiceService(Client(**config), task_queue=world.task_queue)
        with pytest.raises(RefusedError, match="No answer came in time"), anyio.fail_after(6):
            await service.wait_for_change(workflow_id, None, 0.3, progress)
