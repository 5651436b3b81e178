"""What arrives while no worker runs arrives all at once: orders of events that a running worker hardly ever sees.

On the real server, which can be without a worker.
"""

from __future__ import annotations

import pytest
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import CancelledError

from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.names import line_workflow_id, workflow_id_for
from invoice_mcp.domain.report import (
    AcceptedInvoice,
    InvoiceReport,
    InvoiceRequest,
    LineStatus,
    PaymentOrder,
    Policy,
    Status,
)
from invoice_mcp.testing import World
from invoice_mcp.testing.plugin import NewWorld
from invoice_mcp.workflow.invoice_workflow import InvoiceWorkflow
from invoice_mcp.workflow.line_workflow import PayLineItem
from tests.requirements import requirement
from tests.tool_client import lines_of

LATER = "2090-01-01T00:00:00Z"


async def submit_without_a_worker(world: World) -> WorkflowHandle[InvoiceWorkflow, InvoiceReport]:
    """Start an invoice while no worker runs; `trigger` would refuse to."""
    await world.crash_worker()
    invoice = AcceptedInvoice.of(Invoice.model_validate(world.invoice()))
    handle = await world.client.start_workflow(
        InvoiceWorkflow.run,
        InvoiceRequest(invoice=invoice, policy=Policy(signals_approve=True)),
        id=workflow_id_for(invoice.invoice_id),
        task_queue=world.task_queue,
    )
    world.track(handle.id)
    return handle


@requirement("CANCEL-BEFORE")
async def test_cancelled_before_the_first_task_nothing_is_paid(real_world: NewWorld) -> None:
    async with real_world() as world:
        handle = await submit_without_a_worker(world)
        await handle.cancel(reason="Withdrawn")
        await world.restart_worker()
        report = await world.until(Status.CANCELLED)
        assert report.reason == "Withdrawn"
        assert lines_of(report) == [LineStatus.NOT_PAID]
        assert world.payments.asked == []


@requirement("CANCEL-BEFORE", "DECIDE-EARLY")
async def test_approved_and_cancelled_at_once_nothing_is_paid(real_world: NewWorld) -> None:
    async with real_world(signals_approve=True) as world:
        handle = await submit_without_a_worker(world)
        await world.signal("ApproveInvoice")
        await handle.cancel()
        await world.restart_worker()
        report = await world.until(Status.CANCELLED)
        assert report.decision
        assert world.payments.asked == []


@requirement("DECIDE-EARLY", "DECIDE-REJECT")
async def test_rejected_and_cancelled_at_once_is_rejected(real_world: NewWorld) -> None:
    async with real_world() as world:
        handle = await submit_without_a_worker(world)
        await world.signal("RejectInvoice")
        await handle.cancel()
        await world.restart_worker()
        report = await world.until(Status.REJECTED)
        assert report.workflow_status == "COMPLETED"
        assert world.payments.asked == []


@requirement("DECIDE-EARLY", "DECIDE-FIRST")
@pytest.mark.parametrize(
    ("signals", "status"),
    [(["ApproveInvoice", "RejectInvoice"], Status.PAID), (["RejectInvoice", "ApproveInvoice"], Status.REJECTED)],
)
async def test_of_two_decisions_at_once_the_first_counts(
    real_world: NewWorld, signals: list[str], status: Status
) -> None:
    async with real_world(signals_approve=True) as world:
        await submit_without_a_worker(world)
        for signal in signals:
            await world.signal(signal)
        await world.restart_worker()
        await world.until(status)
        assert len(world.ledger) == (status is Status.PAID)


@requirement("CANCEL-PAYING")
async def test_cancelled_while_the_worker_is_away_the_waiting_line_is_not_paid(real_world: NewWorld) -> None:
    async with real_world() as world:
        await world.submit(("1", LATER))
        await world.approve()
        await world.until(Status.PAYING)
        await world.crash_worker()
        await world.handle().cancel()
        await world.restart_worker()
        report = await world.until(Status.CANCELLED)
        assert lines_of(report) == [LineStatus.CANCELLED]
        assert world.payments.asked == []


@requirement("CANCEL-PAYING")
async def test_a_line_cancelled_before_its_first_task_is_not_paid(real_world: NewWorld) -> None:
    async with real_world() as world:
        await world.crash_worker()
        invoice = AcceptedInvoice.of(Invoice.model_validate(world.invoice()))
        handle = await world.client.start_workflow(
            PayLineItem.run,
            PaymentOrder.for_line(invoice, 1),
            id=line_workflow_id(workflow_id_for(invoice.invoice_id), 1),
            task_queue=world.task_queue,
        )
        await handle.cancel()
        await world.restart_worker()
        with pytest.raises(WorkflowFailureError) as failure:
            await handle.result()
        assert isinstance(failure.value.cause, CancelledError)
        assert world.payments.asked == []
