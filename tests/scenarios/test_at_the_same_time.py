"""What arrives while no worker runs arrives all at once: orders of events that a running worker hardly ever sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from mcp import Client as McpClient
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import CancelledError
from temporalio.service import RPCError

from invoice_mcp.invoices import Invoice
from invoice_mcp.line_workflow import PayLineItem
from invoice_mcp.reports import AcceptedInvoice, InvoiceReport, InvoiceRequest, LineStatus, PaymentOrder, Policy, Status
from invoice_mcp.server import build_server
from invoice_mcp.service import InvoiceService
from invoice_mcp.testing import RecordingPayments, ScriptedErp
from invoice_mcp.worker import build_worker
from invoice_mcp.workflows import InvoiceWorkflow
from tests.desk import PAST, Desk, an_invoice
from tests.requirements import requirement

TIMER_FIRED = EventType.EVENT_TYPE_TIMER_FIRED
TIMER_STARTED = EventType.EVENT_TYPE_TIMER_STARTED
LATER = "2090-01-01T00:00:00Z"


class Office:
    """A task queue whose worker comes and goes."""

    def __init__(self, client: Client, task_queue: str) -> None:
        self.client = client
        self.task_queue = task_queue
        self.erp, self.payments = ScriptedErp(), RecordingPayments()

    async def start(
        self, *lines: tuple[str, str], policy: Policy | None = None
    ) -> WorkflowHandle[InvoiceWorkflow, InvoiceReport]:
        invoice = Invoice.model_validate(an_invoice(self.task_queue, *lines))
        return await self.client.start_workflow(
            InvoiceWorkflow.run,
            InvoiceRequest(invoice=AcceptedInvoice.of(invoice), policy=policy or Policy()),
            id=f"invoice-{self.task_queue}",
            task_queue=self.task_queue,
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with build_worker(self.client, self.erp, self.payments, task_queue=self.task_queue):
            yield

    async def until(self, handle: WorkflowHandle[InvoiceWorkflow, InvoiceReport], status: Status) -> InvoiceReport:
        async with asyncio.timeout(10):
            while (report := await handle.query(InvoiceWorkflow.report)).status is not status:
                await asyncio.sleep(0.02)
        return report


@pytest.fixture
def office(real_client: Client, invoice_id: str) -> Office:
    return Office(real_client, invoice_id)


async def ended(handle: WorkflowHandle[InvoiceWorkflow, InvoiceReport]) -> InvoiceReport:
    """The last report, which a cancelled execution does not have as its result."""
    async with asyncio.timeout(20):
        while (report := await handle.query(InvoiceWorkflow.report)).status.is_terminal is False:
            await asyncio.sleep(0.02)
        with suppress(WorkflowFailureError):
            assert await handle.result() == report
    closed = (await handle.describe()).status
    assert closed is not None
    assert closed.name == report.workflow_status
    return report


@requirement("CANCEL-BEFORE")
async def test_cancelled_before_the_first_task_nothing_is_paid(office: Office) -> None:
    handle = await office.start()
    await handle.cancel(reason="Withdrawn")
    async with office.open():
        report = await ended(handle)
    assert (report.status, report.reason) == (Status.CANCELLED, "Withdrawn")
    assert [line.status for line in report.lines] == [LineStatus.NOT_PAID]
    assert office.payments.asked == []


@requirement("CANCEL-BEFORE", "DECIDE-EARLY")
async def test_approved_and_cancelled_at_once_nothing_is_paid(office: Office) -> None:
    handle = await office.start()
    await handle.signal("ApproveInvoice")
    await handle.cancel()
    async with office.open():
        report = await ended(handle)
    assert report.status is Status.CANCELLED
    assert report.decision
    assert office.payments.asked == []


@requirement("DECIDE-EARLY", "DECIDE-REJECT")
async def test_rejected_and_cancelled_at_once_is_rejected(office: Office) -> None:
    handle = await office.start()
    await handle.signal("RejectInvoice")
    await handle.cancel()
    async with office.open():
        report = await ended(handle)
    assert report.status is Status.REJECTED
    assert report.workflow_status == "COMPLETED"
    assert office.payments.asked == []


@requirement("DECIDE-EARLY", "DECIDE-FIRST")
@pytest.mark.parametrize(
    ("signals", "status"),
    [(["ApproveInvoice", "RejectInvoice"], Status.PAID), (["RejectInvoice", "ApproveInvoice"], Status.REJECTED)],
)
async def test_of_two_decisions_at_once_the_first_counts(office: Office, signals: list[str], status: Status) -> None:
    handle = await office.start()
    for signal in signals:
        await handle.signal(signal)
    async with office.open():
        report = await ended(handle)
    assert report.status is status
    assert len(office.payments.made) == (status is Status.PAID)


@requirement("CANCEL-PAYING")
async def test_cancelled_while_the_worker_is_away_the_waiting_line_is_not_paid(office: Office) -> None:
    handle = await office.start(("1", LATER))
    async with office.open():
        await handle.signal("ApproveInvoice")
        await office.until(handle, Status.PAYING)
    await handle.cancel()
    async with office.open():
        report = await ended(handle)
    assert report.status is Status.CANCELLED
    assert [line.status for line in report.lines] == [LineStatus.CANCELLED]
    assert office.payments.asked == []


@requirement("CANCEL-PAYING")
async def test_a_line_cancelled_before_its_first_task_is_not_paid(office: Office) -> None:
    invoice = Invoice.model_validate(an_invoice(office.task_queue, ("1", PAST)))
    handle = await office.client.start_workflow(
        PayLineItem.run,
        PaymentOrder.for_line(AcceptedInvoice.of(invoice), 1),
        id=f"invoice-{office.task_queue}-line-1",
        task_queue=office.task_queue,
    )
    await handle.cancel()
    async with office.open():
        with pytest.raises(WorkflowFailureError) as failure:
            await handle.result()
    assert isinstance(failure.value.cause, CancelledError)
    assert office.payments.asked == []


@requirement("PAY-FAILED")
async def test_a_line_whose_workflow_is_ended_from_outside_is_failed_and_unconfirmed(office: Office) -> None:
    async with office.open():
        handle = await office.start(("1", LATER), ("2", PAST))
        await handle.signal("ApproveInvoice")
        await office.until(handle, Status.PAYING)
        await _child(office, 1, "terminate")
        report = await ended(handle)
    assert report.status is Status.FAILED
    assert [line.status for line in report.lines] == [LineStatus.FAILED, LineStatus.PAID]
    assert report.lines[0].error == "TERMINATED"
    assert "not confirmed" in (report.lines[0].reason or "")


@requirement("PAY-DUE")
async def test_a_line_due_in_centuries_is_waited_for_in_steps_the_server_can_take(office: Office) -> None:
    async with office.open():
        handle = await office.start(("1", "2990-01-01T00:00:00Z"))
        await handle.signal("ApproveInvoice")
        await office.until(handle, Status.PAYING)
        child = office.client.get_workflow_handle(f"{handle.id}-line-1")
        async with asyncio.timeout(10):
            while not (timers := await _timers(child)):
                await asyncio.sleep(0.02)
        await handle.terminate()
    # The server fires any timer after a hundred years, whatever was asked for.
    assert [timer.days for timer in timers] == [90 * 365]


async def _timers(handle: WorkflowHandle[Any, Any]) -> list[timedelta]:
    try:
        events = [event async for event in handle.fetch_history_events()]
    except RPCError:  # not started yet
        return []
    started = [event.timer_started_event_attributes for event in events if event.event_type == TIMER_STARTED]
    return [attributes.start_to_fire_timeout.ToTimedelta() for attributes in started]


@requirement("START-ANEW", "PAY-ONCE")
async def test_an_invoice_that_was_terminated_while_paying_comes_back_unchanged_or_not_at_all(office: Office) -> None:
    server = build_server(InvoiceService(office.client, task_queue=office.task_queue))
    async with office.open(), McpClient(server) as session:
        desk = Desk(session)
        workflow_id = await desk.submit(an_invoice(office.task_queue, ("1", LATER)))
        await desk.call("approve", workflow_id=workflow_id)
        await desk.until(workflow_id, "PAYING")
        await office.client.get_workflow_handle(workflow_id).terminate()
        changed = await desk.refused("trigger", invoice=an_invoice(office.task_queue, ("2", LATER)))
        assert changed.code == "INVOICE_CONFLICT"
        assert (await desk.call("trigger", invoice=an_invoice(office.task_queue, ("1", LATER))))["created"]


@requirement("PAY-FAILED")
async def test_a_line_cancelled_from_outside_leaves_the_invoice_failed(office: Office) -> None:
    async with office.open():
        handle = await office.start(("1", LATER), ("2", PAST))
        await handle.signal("ApproveInvoice")
        await office.until(handle, Status.PAYING)
        await _child(office, 1, "cancel")
        report = await ended(handle)
    assert report.status is Status.FAILED
    assert [line.status for line in report.lines] == [LineStatus.CANCELLED, LineStatus.PAID]
    assert "line 1 (CANCELLED)" in report.summary


async def _child(office: Office, line: int, end: str) -> None:
    """End a line's workflow as an operator would, once it is there."""
    child = office.client.get_workflow_handle(f"invoice-{office.task_queue}-line-{line}")
    async with asyncio.timeout(10):
        while True:
            try:
                if (await child.describe()).status is WorkflowExecutionStatus.RUNNING:
                    break
            except RPCError:  # not there yet
                await asyncio.sleep(0.02)
    await (child.terminate() if end == "terminate" else child.cancel())


@requirement("WAIT-EXPIRES", "DECIDE-LATE")
async def test_a_decision_that_is_seen_only_after_the_deadline_does_not_count(office: Office) -> None:
    handle = await office.start(policy=Policy(approval_timeout=timedelta(seconds=1)))
    async with office.open():
        await office.until(handle, Status.PENDING_APPROVAL)
    # The worker is away while the deadline passes; the signal comes after it, but both are seen at once.
    async with asyncio.timeout(20):
        while not [event async for event in handle.fetch_history_events() if event.event_type == TIMER_FIRED]:
            await asyncio.sleep(0.05)
    await handle.signal("ApproveInvoice")
    async with office.open():
        report = await ended(handle)
    assert report.status is Status.EXPIRED
    assert report.decision is None
    assert office.payments.asked == []
