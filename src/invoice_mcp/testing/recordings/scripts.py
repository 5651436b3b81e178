"""The script of each path, in the verbs of `World`. A script ends where the path is recorded."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError

from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.names import LINE_WORKFLOW_TYPE, WORKFLOW_TYPE, line_workflow_id, workflow_id_for
from invoice_mcp.domain.report import AcceptedInvoice, InvoiceRequest, Policy, Status
from invoice_mcp.testing import PAST_DUE
from invoice_mcp.testing.recordings.context import PathContext
from invoice_mcp.testing.world.base import DAY
from invoice_mcp.workflow.invoice_workflow import InvoiceWorkflow

_PAST_DEADLINE = timedelta(days=6)


async def approved_and_paid(context: PathContext) -> None:
    await context.submit()
    await context.approve()
    await context.world.until(Status.PAID)


async def paid_after_due_dates(context: PathContext) -> None:
    await context.submit(await context.world.due_in(10 * DAY), await context.world.due_in(40 * DAY), PAST_DUE)
    await context.approve()
    await context.until_line_scheduled(2)
    await context.world.advance(41 * DAY)
    await context.world.until(Status.PAID)


async def paid_after_a_century(context: PathContext) -> None:
    await context.submit(await context.world.due_in(120 * 365 * DAY))
    await context.approve()
    await context.until_line_scheduled(1)
    await context.world.advance(121 * 365 * DAY)
    await context.world.until(Status.PAID)


async def one_line_refused(context: PathContext) -> None:
    context.world.payments.refuses(line=2)
    await context.submit()
    await context.approve()
    await context.world.until(Status.FAILED)


async def all_lines_refused(context: PathContext) -> None:
    context.world.payments.refuses(line=1)
    context.world.payments.refuses("ACCOUNT_CLOSED", line=2)
    await context.submit()
    await context.approve()
    await context.world.until(Status.FAILED)


async def erp_retried(context: PathContext) -> None:
    context.world.erp.is_down(2)
    await context.submit()
    await context.approve()
    await context.world.until(Status.PAID)


async def erp_mismatch(context: PathContext) -> None:
    context.world.erp.refuses()
    await context.submit(until=Status.FAILED)


async def erp_unreachable(context: PathContext) -> None:
    context.world.erp.is_down(5)
    await context.submit(until=Status.FAILED)


async def payment_retried(context: PathContext) -> None:
    context.world.payments.is_down(line=1)
    context.world.payments.loses_the_answer(line=1)
    await context.submit()
    await context.approve()
    await context.world.until(Status.PAID)


async def payment_unconfirmed(context: PathContext) -> None:
    context.world.payments.loses_the_answer(3, line=1)
    await context.submit()
    await context.approve()
    await context.world.until(Status.FAILED)


async def payment_refused_again(context: PathContext) -> None:
    context.world.payments.refuses_again(line=1)
    await context.submit()
    await context.approve()
    await context.world.until(Status.FAILED)


async def rejected(context: PathContext) -> None:
    await context.submit()
    await context.reject()
    await context.world.until(Status.REJECTED)


async def expired(context: PathContext) -> None:
    await context.submit()
    await context.world.advance(_PAST_DEADLINE)
    await context.world.until(Status.EXPIRED)


async def decided_too_late(context: PathContext) -> None:
    await context.submit()
    deadline = await _deadline(context)
    await context.world.crash_worker()
    # The timer fires and the signal arrives without a worker, so the workflow gets both in one task.
    await context.world.advance(deadline - await context.world.now())
    await context.world.signal("ApproveInvoice")
    await context.world.restart_worker()
    await context.world.until(Status.EXPIRED)


async def decided_at_the_last_moment(context: PathContext) -> None:
    # The deadline is counted from the ERP's answer, so it is later than start plus timeout.
    context.world.erp.is_down(2)
    await context.submit()
    await context.world.advance(await _deadline(context) - timedelta(seconds=1) - await context.world.now())
    await context.world.handle().execute_update(InvoiceWorkflow.approve, context.decision())
    await context.world.until(Status.PAID)


async def updated_too_late(context: PathContext) -> None:
    await context.submit()
    deadline = await _deadline(context)
    await context.world.crash_worker()
    await context.world.advance(deadline - await context.world.now())
    await context.world.when(partial(_has_fired_timer, context.world.handle()))
    decision = context.decision()
    deciding = asyncio.create_task(context.world.handle().execute_update(InvoiceWorkflow.approve, decision))
    await asyncio.sleep(0)
    await context.world.restart_worker()
    with suppress(WorkflowUpdateFailedError):
        await deciding
    await context.world.until(Status.EXPIRED)


async def _deadline(context: PathContext) -> datetime:
    deadline = (await context.world.status()).approval_deadline
    assert deadline is not None
    return deadline


async def _has_fired_timer(handle: WorkflowHandle[Any, Any]) -> bool:
    """Whether a timer of a workflow has fired."""
    events = (await handle.fetch_history()).events
    return any(event.HasField("timer_fired_event_attributes") for event in events)


async def _submit_with_slow_erp(context: PathContext) -> None:
    context.world.erp.is_slow()
    await context.submit(until=Status.PENDING_VALIDATION)
    await context.world.when(lambda: context.world.erp.asked)


async def decided_early(context: PathContext) -> None:
    await _submit_with_slow_erp(context)
    await context.approve()
    context.world.erp.answers()
    await context.world.until(Status.PAID)


async def rejected_early(context: PathContext) -> None:
    await _submit_with_slow_erp(context)
    await context.reject()
    await context.world.until(Status.REJECTED)
    context.world.erp.answers()


async def cancelled_early(context: PathContext) -> None:
    await _submit_with_slow_erp(context)
    await context.world.cancel(reason=context.faker.sentence())
    await context.world.until(Status.CANCELLED)
    context.world.erp.answers()


async def cancelled_while_waiting(context: PathContext) -> None:
    await context.submit()
    await context.world.cancel(reason=context.faker.sentence())
    await context.world.until(Status.CANCELLED)


async def cancelled_while_paying(context: PathContext) -> None:
    context.world.payments.is_slow()
    await context.submit(PAST_DUE, await context.world.due_in(30 * DAY))
    await context.approve()
    await context.until_line_scheduled(2)
    await context.world.when(lambda: context.world.payments.under_way)
    await context.world.cancel(reason=context.faker.sentence())
    context.world.payments.answers()
    await context.world.until(Status.CANCELLED)


async def approved_by_signal(context: PathContext) -> None:
    await context.submit()
    await context.world.signal("ApproveInvoice")
    await context.world.until(Status.PAID)


async def approving_signal_refused(context: PathContext) -> None:
    await context.submit()
    await context.world.signal("ApproveInvoice")
    await context.approve()
    await context.world.until(Status.PAID)


async def approving_signal_refused_after_an_upgrade(context: PathContext) -> None:
    # Release 0.1.0 started invoices with a policy without the field for approving signals.
    await _start_invoice(context, Policy())
    await context.world.signal("ApproveInvoice")
    await context.approve()
    await context.world.until(Status.PAID)


async def rejected_by_signal(context: PathContext) -> None:
    await context.submit()
    await context.world.signal("RejectInvoice")
    await context.world.until(Status.REJECTED)


async def repeated_and_opposite_decision(context: PathContext) -> None:
    await context.submit(await context.world.due_in(30 * DAY))
    await context.approve()
    await context.approve()
    await context.world.refusal(context.reject())
    await context.world.signal("RejectInvoice")
    await context.until_line_scheduled(1)
    await context.world.advance(31 * DAY)
    await context.world.until(Status.PAID)


async def form_dismissed(context: PathContext) -> None:
    await context.submit()
    await context.world.handle().execute_update(InvoiceWorkflow.dismiss, 1)
    with suppress(WorkflowUpdateFailedError):  # the form was dismissed already
        await context.world.handle().execute_update(InvoiceWorkflow.dismiss, 1)
    await context.approve()
    await context.world.until(Status.PAID)


async def worker_crashed(context: PathContext) -> None:
    context.world.payments.is_slow()
    await context.submit(PAST_DUE, await context.world.due_in(30 * DAY))
    await context.approve()
    await context.until_line_scheduled(2)
    await context.world.when(lambda: context.world.payments.under_way)
    await context.world.crash_worker()
    context.world.payments.answers()
    await context.world.restart_worker()
    await context.world.advance(31 * DAY)
    await context.world.until(Status.PAID)


async def _decide_and_cancel(context: PathContext, signal: str) -> None:
    """Send a decision and a cancellation without a worker, so that the workflow gets both in one task."""
    await context.submit(PAST_DUE, await context.world.due_in(30 * DAY))
    await context.world.crash_worker()
    await context.world.signal(signal)
    await context.world.handle().cancel()
    await context.world.restart_worker()


async def rejected_and_cancelled(context: PathContext) -> None:
    await _decide_and_cancel(context, "RejectInvoice")
    await context.world.until(Status.REJECTED)


async def approved_and_cancelled(context: PathContext) -> None:
    await _decide_and_cancel(context, "ApproveInvoice")
    await context.world.until(Status.CANCELLED)


async def line_ended_from_outside(context: PathContext) -> None:
    await context.submit(await context.world.due_in(30 * DAY), PAST_DUE)
    await context.approve()
    await context.until_line_scheduled(1)
    await context.world.handle(line_workflow_id(context.world.workflow_id, 1)).terminate()
    await context.world.until(Status.FAILED)


async def line_cancelled_from_outside(context: PathContext) -> None:
    world = context.world
    world.payments.is_slow()
    await context.submit(PAST_DUE, await world.due_in(30 * DAY))
    await context.approve()
    await context.until_line_scheduled(2)
    await world.when(lambda: world.payments.under_way)
    lines = [world.handle(line_workflow_id(world.workflow_id, number)) for number in (1, 2)]
    for line in lines:
        await line.cancel()
    # The first line must handle its cancellation before its payment is answered.
    await world.when(partial(_has_completed_tasks, lines[0], 2))
    world.payments.answers()
    await world.until(Status.FAILED)


async def _has_completed_tasks(handle: WorkflowHandle[Any, Any], number: int) -> bool:
    events = (await handle.fetch_history()).events
    return sum(event.HasField("workflow_task_completed_event_attributes") for event in events) >= number


async def line_cancelled_before_it_begins(context: PathContext) -> None:
    world = context.world
    await world.crash_worker()
    workflow_id = line_workflow_id(workflow_id_for(context.name.upper()), 1)
    await context.start(LINE_WORKFLOW_TYPE, context.order(PAST_DUE), workflow_id)
    await world.handle(workflow_id).cancel()
    await world.restart_worker()
    await context.until_closed(workflow_id)


async def line_id_taken(context: PathContext) -> None:
    await context.submit()
    # The workflow that has the id pays another order, started by hand.
    later = await context.world.due_in(30 * DAY)
    taken = line_workflow_id(context.world.workflow_id, 1)
    await context.start(LINE_WORKFLOW_TYPE, context.order(later), taken)
    await context.approve()
    await context.world.until(Status.FAILED)
    await context.world.handle(taken).terminate()


async def not_indexed(context: PathContext) -> None:
    await _start_invoice(context, Policy(index_status=False))
    await context.approve()
    await context.world.until(Status.PAID)


async def _start_invoice(context: PathContext, policy: Policy) -> None:
    """Start an invoice with this policy past the MCP server, and wait until it is pending approval."""
    invoice = Invoice.model_validate(context.invoice(PAST_DUE))
    request = InvoiceRequest(invoice=AcceptedInvoice.of(invoice), policy=policy)
    workflow_id = workflow_id_for(invoice.invoice_id)
    await context.start(WORKFLOW_TYPE, request, workflow_id)
    context.world.track(workflow_id)
    await context.world.until(Status.PENDING_APPROVAL)


async def started_with_garbage(context: PathContext) -> None:
    await _fail_to_start(context, WORKFLOW_TYPE, workflow_id_for(context.name.upper()))


async def line_started_with_garbage(context: PathContext) -> None:
    await _fail_to_start(context, LINE_WORKFLOW_TYPE, line_workflow_id(workflow_id_for(context.name.upper()), 1))


async def _fail_to_start(context: PathContext, workflow: str, workflow_id: str) -> None:
    await context.start(workflow, {"no": "invoice"}, workflow_id)
    await context.until_closed(workflow_id)


async def still_waiting_for_approval(context: PathContext) -> None:
    await context.submit()


async def still_waiting_for_due_date(context: PathContext) -> None:
    await context.submit(PAST_DUE, await context.world.due_in(30 * DAY))
    await context.approve()
    await context.until_line_scheduled(2)
    await context.world.when(lambda: context.world.ledger)
    await context.world.until(Status.PAYING)

    async def is_known() -> bool:
        return (await context.world.read_report()).lines[0].payment_id is not None

    await context.world.when(is_known)
