"""Updates around a deadline that was counted from a clock that was behind: see docs/upstream/query-before-task.md.

The simulator brings this about for certain: a query is answered from a replay just before the task in which the ERP's
answer is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import Client, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Replayer

from invoice_mcp.domain.errors import ErrorCode
from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.report import (
    AcceptedInvoice,
    Confirmation,
    DecisionRequest,
    InvoiceReport,
    InvoiceRequest,
    Policy,
    Status,
)
from invoice_mcp.testing import PAST_DUE, an_invoice
from invoice_mcp.testing.records import activity_context
from invoice_mcp.testing.world.fakes import RecordingPayments, ScriptedErp
from invoice_mcp.workflow.activities import InvoiceActivities
from invoice_mcp.workflow.worker import REPLAY, WORKFLOWS
from temporal_simulator import FifoScheduler, Simulation, Worker, connect
from tests.requirements import requirement

QUEUE = "late"
WINDOW = timedelta(minutes=10)
# The ERP is down for its first attempts: the workflow's clock stands still meanwhile.
BEHIND = timedelta(seconds=1 + 2)


class QueriesFirst(FifoScheduler):
    """Runs a query before each task where possible, until switched off."""

    asked = True

    def queries_before_task(self) -> bool:
        return self.asked


class Scene:
    """One invoice whose reported deadline is too early."""

    def __init__(self) -> None:
        self.scheduler = QueriesFirst()
        self.simulation = Simulation(scheduler=self.scheduler)
        self.erp, self.payments = ScriptedErp(), RecordingPayments(activity_context)
        self.client: Client = connect(self.simulation, data_converter=pydantic_data_converter)

    def start_worker(self) -> None:
        activities = InvoiceActivities(self.erp, self.payments).all()
        worker = Worker(WORKFLOWS, activities, converter=pydantic_data_converter)
        self.simulation.start_worker(QUEUE, worker)

    async def submit(self) -> WorkflowHandle[Any, InvoiceReport]:
        """Submit it, and look: now it waits for its decision."""
        self.start_worker()
        self.erp.is_down(times=2)
        request = InvoiceRequest(
            invoice=AcceptedInvoice.of(Invoice.model_validate(an_invoice("INV-1", ("1", PAST_DUE)))),
            policy=Policy(approval_timeout=WINDOW, index_status=False, signals_approve=True),
        )
        handle = await self.client.start_workflow(
            "InvoiceWorkflow", request, id="invoice-INV-1", task_queue=QUEUE, result_type=InvoiceReport
        )
        self.began = self.simulation.now
        self.evict()
        await self.simulation.advance(BEHIND)
        self.scheduler.asked = False
        report = await self.report(handle)
        assert report.status is Status.PENDING_APPROVAL
        assert report.approval_deadline == self.began + WINDOW
        return handle

    def evict(self) -> None:
        self.simulation.evict(QUEUE)

    async def turns(self) -> None:
        """Let asyncio tasks run until they wait for the simulation."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def report(self, handle: WorkflowHandle[Any, InvoiceReport]) -> InvoiceReport:
        report: InvoiceReport = await handle.query("GetInvoiceReport", result_type=InvoiceReport)
        return report

    async def replays(self, handle: WorkflowHandle[Any, InvoiceReport]) -> None:
        await Replayer(**REPLAY).replay_workflow(await handle.fetch_history())

    async def decide(self, handle: WorkflowHandle[Any, InvoiceReport], *names: str) -> list[Any]:
        """What updates of these names are answered that come at once; a refusal as its code."""
        person = DecisionRequest(by="Ann")
        update = handle.execute_update
        asked = [asyncio.create_task(update(name, person, result_type=InvoiceReport)) for name in names]
        await self.turns()
        await self.simulation.advance(timedelta(milliseconds=10))
        answers = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), timeout=10)
        return [_code(answer) or answer for answer in answers]


def _code(answer: Any) -> str | None:
    match answer:
        case WorkflowUpdateFailedError(cause=ApplicationError(type=code)):
            return code
        case RPCError(status=RPCStatusCode.NOT_FOUND):
            return ErrorCode.ALREADY_CLOSED
    return None


@pytest_asyncio.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    yield made
    await made.simulation.close()


REALLY = WINDOW + BEHIND
"""From the beginning to the deadline that the server's timer keeps."""


@requirement("DECIDE-EDGE", "HISTORY-NONDETERMINISM")
@pytest.mark.parametrize("evicted", [False, True])
@pytest.mark.parametrize(("name", "end"), [("approve", Status.PAID), ("reject", Status.REJECTED)])
async def test_an_update_between_the_reported_and_the_real_deadline_counts(
    scene: Scene, name: str, end: Status, evicted: bool
) -> None:
    handle = await scene.submit()
    await scene.simulation.advance(WINDOW - BEHIND + timedelta(seconds=1))
    if evicted:
        scene.evict()
    now = scene.simulation.now
    [report] = await scene.decide(handle, name)
    assert isinstance(report, InvoiceReport)
    assert report.decision is not None
    assert timedelta() <= report.decision.at - now < timedelta(milliseconds=10)
    scene.evict()
    await scene.simulation.run()
    assert (await handle.result()).status is end
    await scene.replays(handle)


@requirement("DECIDE-EDGE", "HISTORY-NONDETERMINISM")
@pytest.mark.parametrize("names", [("approve",), ("reject",), ("approve", "approve"), ("approve", "reject")])
async def test_an_update_in_the_same_task_as_the_deadline_is_refused(scene: Scene, names: tuple[str, ...]) -> None:
    handle = await scene.submit()
    scene.simulation.crash_worker(QUEUE)
    await scene.simulation.advance(REALLY - BEHIND)
    answers = asyncio.create_task(scene.decide(handle, *names))
    await scene.turns()
    scene.start_worker()
    assert {*await answers} <= {ErrorCode.ALREADY_CLOSED, ErrorCode.ALREADY_DECIDED}
    assert (await handle.result()).status is Status.EXPIRED
    assert scene.payments.asked == []
    await scene.replays(handle)


@requirement("DECIDE-EDGE", "CANCEL-BEFORE")
async def test_a_cancellation_while_it_is_confirmed_pays_nothing(scene: Scene) -> None:
    handle = await scene.submit()
    await scene.simulation.advance(WINDOW - BEHIND + timedelta(seconds=1))
    answer = asyncio.create_task(handle.execute_update("approve", DecisionRequest(by="Ann")))
    await scene.turns()
    assert not answer.done()
    await handle.cancel()
    await scene.simulation.advance(timedelta(milliseconds=10))
    await answer
    report = await scene.report(handle)
    assert (report.status, report.decision is not None) == (Status.CANCELLED, True)
    assert scene.payments.asked == []
    await scene.replays(handle)


@requirement("CONFIRM-RECORD")
async def test_an_update_that_claims_to_be_a_signal_is_refused(scene: Scene) -> None:
    handle = await scene.submit()
    forged = DecisionRequest(by="Ann", confirmation=Confirmation.SIGNAL)
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await handle.execute_update("approve", forged)
    assert _code(refused.value) == ErrorCode.INVALID_ARGUMENT
    assert (await scene.report(handle)).decision is None
