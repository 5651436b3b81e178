"""How each path is played, in the verbs of the World."""

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
from invoice_mcp.testing import DAY, PAST
from invoice_mcp.testing.recordings.scene import Scene
from invoice_mcp.workflow.invoice import InvoiceWorkflow

_PAST_DEADLINE = timedelta(days=6)


async def approved_and_paid(scene: Scene) -> None:
    await scene.submit()
    await scene.approve()
    await scene.world.until(Status.PAID)


async def paid_after_due_dates(scene: Scene) -> None:
    await scene.submit(await scene.world.due_in(10 * DAY), await scene.world.due_in(40 * DAY), PAST)
    await scene.approve()
    await scene.line_waits(2)
    await scene.world.advance(41 * DAY)
    await scene.world.until(Status.PAID)


async def paid_after_a_century(scene: Scene) -> None:
    await scene.submit(await scene.world.due_in(120 * 365 * DAY))
    await scene.approve()
    await scene.line_waits(1)
    await scene.world.advance(121 * 365 * DAY)
    await scene.world.until(Status.PAID)


async def one_line_refused(scene: Scene) -> None:
    scene.world.payments.refuses(line=2)
    await scene.submit()
    await scene.approve()
    await scene.world.until(Status.FAILED)


async def all_lines_refused(scene: Scene) -> None:
    scene.world.payments.refuses(line=1)
    scene.world.payments.refuses("ACCOUNT_CLOSED", line=2)
    await scene.submit()
    await scene.approve()
    await scene.world.until(Status.FAILED)


async def erp_retried(scene: Scene) -> None:
    scene.world.erp.is_down(2)
    await scene.submit()
    await scene.approve()
    await scene.world.until(Status.PAID)


async def erp_mismatch(scene: Scene) -> None:
    scene.world.erp.refuses()
    await scene.submit(until=Status.FAILED)


async def erp_unreachable(scene: Scene) -> None:
    scene.world.erp.is_down(5)
    await scene.submit(until=Status.FAILED)


async def payment_retried(scene: Scene) -> None:
    scene.world.payments.is_down(line=1)
    scene.world.payments.loses_the_answer(line=1)
    await scene.submit()
    await scene.approve()
    await scene.world.until(Status.PAID)


async def payment_unconfirmed(scene: Scene) -> None:
    scene.world.payments.loses_the_answer(3, line=1)
    await scene.submit()
    await scene.approve()
    await scene.world.until(Status.FAILED)


async def payment_refused_again(scene: Scene) -> None:
    scene.world.payments.refuses_again(line=1)
    await scene.submit()
    await scene.approve()
    await scene.world.until(Status.FAILED)


async def rejected(scene: Scene) -> None:
    await scene.submit()
    await scene.reject()
    await scene.world.until(Status.REJECTED)


async def expired(scene: Scene) -> None:
    await scene.submit()
    await scene.world.advance(_PAST_DEADLINE)
    await scene.world.until(Status.EXPIRED)


async def decided_too_late(scene: Scene) -> None:
    await scene.submit()
    deadline = await _deadline(scene)
    await scene.world.crash_worker()
    # The deadline comes, and then a decision; the workflow sees both in one task.
    await scene.world.advance(deadline - await scene.world.now())
    await scene.world.signal("ApproveInvoice")
    await scene.world.restart_worker()
    await scene.world.until(Status.EXPIRED)


async def decided_at_the_last_moment(scene: Scene) -> None:
    # The deadline is later than the time to decide counted from the start: by as long as the ERP took to answer.
    scene.world.erp.is_down(2)
    await scene.submit()
    await scene.world.advance(await _deadline(scene) - timedelta(seconds=1) - await scene.world.now())
    await scene.world.handle().execute_update(InvoiceWorkflow.approve, scene.decision())
    await scene.world.until(Status.PAID)


async def updated_too_late(scene: Scene) -> None:
    await scene.submit()
    deadline = await _deadline(scene)
    await scene.world.crash_worker()
    await scene.world.advance(deadline - await scene.world.now())
    await scene.world.when(partial(_has_fired, scene.world.handle()))
    decision = scene.decision()
    deciding = asyncio.create_task(scene.world.handle().execute_update(InvoiceWorkflow.approve, decision))
    await asyncio.sleep(0)
    await scene.world.restart_worker()
    with suppress(WorkflowUpdateFailedError):
        await deciding
    await scene.world.until(Status.EXPIRED)


async def _deadline(scene: Scene) -> datetime:
    deadline = (await scene.world.status()).approval_deadline
    assert deadline is not None  # noqa: S101 (it waits for its decision)
    return deadline


async def _has_fired(handle: WorkflowHandle[Any, Any]) -> bool:
    """Whether a timer of a workflow has."""
    events = (await handle.fetch_history()).events
    return any(event.HasField("timer_fired_event_attributes") for event in events)


async def _while_validating(scene: Scene) -> None:
    scene.world.erp.is_slow()
    await scene.submit(until=Status.PENDING_VALIDATION)
    await scene.world.when(lambda: scene.world.erp.asked)


async def decided_early(scene: Scene) -> None:
    await _while_validating(scene)
    await scene.approve()
    scene.world.erp.answers()
    await scene.world.until(Status.PAID)


async def rejected_early(scene: Scene) -> None:
    await _while_validating(scene)
    await scene.reject()
    await scene.world.until(Status.REJECTED)
    scene.world.erp.answers()


async def cancelled_early(scene: Scene) -> None:
    await _while_validating(scene)
    await scene.world.cancel(reason=scene.people.sentence())
    await scene.world.until(Status.CANCELLED)
    scene.world.erp.answers()


async def cancelled_while_waiting(scene: Scene) -> None:
    await scene.submit()
    await scene.world.cancel(reason=scene.people.sentence())
    await scene.world.until(Status.CANCELLED)


async def cancelled_while_paying(scene: Scene) -> None:
    scene.world.payments.is_slow()
    await scene.submit(PAST, await scene.world.due_in(30 * DAY))
    await scene.approve()
    await scene.line_waits(2)
    await scene.world.when(lambda: scene.world.payments.under_way)
    await scene.world.cancel(reason=scene.people.sentence())
    scene.world.payments.answers()
    await scene.world.until(Status.CANCELLED)


async def approved_by_signal(scene: Scene) -> None:
    await scene.submit()
    await scene.world.signal("ApproveInvoice")
    await scene.world.until(Status.PAID)


async def approving_signal_refused(scene: Scene) -> None:
    await scene.submit()
    await scene.world.signal("ApproveInvoice")
    await scene.approve()
    await scene.world.until(Status.PAID)


async def approving_signal_refused_after_an_upgrade(scene: Scene) -> None:
    # Release 0.1.0 began invoices with a policy that does not say whether signals approve.
    await _started(scene, Policy())
    await scene.world.signal("ApproveInvoice")
    await scene.approve()
    await scene.world.until(Status.PAID)


async def rejected_by_signal(scene: Scene) -> None:
    await scene.submit()
    await scene.world.signal("RejectInvoice")
    await scene.world.until(Status.REJECTED)


async def repeated_and_opposite_decision(scene: Scene) -> None:
    await scene.submit(await scene.world.due_in(30 * DAY))
    await scene.approve()
    await scene.approve()
    await scene.world.refusal(scene.reject())
    await scene.world.signal("RejectInvoice")
    await scene.line_waits(1)
    await scene.world.advance(31 * DAY)
    await scene.world.until(Status.PAID)


async def form_dismissed(scene: Scene) -> None:
    await scene.submit()
    await scene.world.handle().execute_update(InvoiceWorkflow.dismiss, 1)
    with suppress(WorkflowUpdateFailedError):  # it is not asked any more
        await scene.world.handle().execute_update(InvoiceWorkflow.dismiss, 1)
    await scene.approve()
    await scene.world.until(Status.PAID)


async def worker_crashed(scene: Scene) -> None:
    scene.world.payments.is_slow()
    await scene.submit(PAST, await scene.world.due_in(30 * DAY))
    await scene.approve()
    await scene.line_waits(2)
    await scene.world.when(lambda: scene.world.payments.under_way)
    await scene.world.crash_worker()
    scene.world.payments.answers()
    await scene.world.restart_worker()
    await scene.world.advance(31 * DAY)
    await scene.world.until(Status.PAID)


async def _at_once(scene: Scene, signal: str) -> None:
    """A decision and a cancellation that the workflow sees in one task: they came while there was no worker."""
    await scene.submit(PAST, await scene.world.due_in(30 * DAY))
    await scene.world.crash_worker()
    await scene.world.signal(signal)
    await scene.world.handle().cancel()
    await scene.world.restart_worker()


async def rejected_and_cancelled(scene: Scene) -> None:
    await _at_once(scene, "RejectInvoice")
    await scene.world.until(Status.REJECTED)


async def approved_and_cancelled(scene: Scene) -> None:
    await _at_once(scene, "ApproveInvoice")
    await scene.world.until(Status.CANCELLED)


async def line_ended_from_outside(scene: Scene) -> None:
    await scene.submit(await scene.world.due_in(30 * DAY), PAST)
    await scene.approve()
    await scene.line_waits(1)
    await scene.world.handle(line_workflow_id(scene.world.workflow_id, 1)).terminate()
    await scene.world.until(Status.FAILED)


async def line_cancelled_from_outside(scene: Scene) -> None:
    world = scene.world
    world.payments.is_slow()
    await scene.submit(PAST, await world.due_in(30 * DAY))
    await scene.approve()
    await scene.line_waits(2)
    await world.when(lambda: world.payments.under_way)
    lines = [world.handle(line_workflow_id(world.workflow_id, number)) for number in (1, 2)]
    for line in lines:
        await line.cancel()
    # The first one has to see it while it is being paid.
    await world.when(partial(_tasks_of, lines[0], 2))
    world.payments.answers()
    await world.until(Status.FAILED)


async def _tasks_of(handle: WorkflowHandle[Any, Any], number: int) -> bool:
    events = (await handle.fetch_history()).events
    return sum(event.HasField("workflow_task_completed_event_attributes") for event in events) >= number


async def line_cancelled_before_it_begins(scene: Scene) -> None:
    world = scene.world
    await world.crash_worker()
    workflow_id = line_workflow_id(workflow_id_for(scene.name.upper()), 1)
    await scene.start(LINE_WORKFLOW_TYPE, scene.order(PAST), workflow_id)
    await world.handle(workflow_id).cancel()
    await world.restart_worker()
    await scene.has_ended(workflow_id)


async def line_id_taken(scene: Scene) -> None:
    await scene.submit()
    # Whatever it is: another order, by somebody who pays lines by hand.
    later = await scene.world.due_in(30 * DAY)
    taken = line_workflow_id(scene.world.workflow_id, 1)
    await scene.start(LINE_WORKFLOW_TYPE, scene.order(later), taken)
    await scene.approve()
    await scene.world.until(Status.FAILED)
    await scene.world.handle(taken).terminate()


async def not_indexed(scene: Scene) -> None:
    await _started(scene, Policy(index_status=False))
    await scene.approve()
    await scene.world.until(Status.PAID)


async def _started(scene: Scene, policy: Policy) -> None:
    """Start an invoice with this policy behind trigger's back, and wait until it waits for its decision."""
    invoice = Invoice.model_validate(scene.invoice(PAST))
    request = InvoiceRequest(invoice=AcceptedInvoice.of(invoice), policy=policy)
    workflow_id = workflow_id_for(invoice.invoice_id)
    await scene.start(WORKFLOW_TYPE, request, workflow_id)
    scene.world.watch(workflow_id)
    await scene.world.until(Status.PENDING_APPROVAL)


async def started_with_garbage(scene: Scene) -> None:
    await _fails(scene, WORKFLOW_TYPE, workflow_id_for(scene.name.upper()))


async def line_started_with_garbage(scene: Scene) -> None:
    await _fails(scene, LINE_WORKFLOW_TYPE, line_workflow_id(workflow_id_for(scene.name.upper()), 1))


async def _fails(scene: Scene, workflow: str, workflow_id: str) -> None:
    await scene.start(workflow, {"no": "invoice"}, workflow_id)
    await scene.has_ended(workflow_id)


async def still_waiting_for_approval(scene: Scene) -> None:
    await scene.submit()


async def still_waiting_for_due_date(scene: Scene) -> None:
    await scene.submit(PAST, await scene.world.due_in(30 * DAY))
    await scene.approve()
    await scene.line_waits(2)
    await scene.world.when(lambda: scene.world.ledger)
    await scene.world.until(Status.PAYING)

    async def is_known() -> bool:
        return (await scene.world.peek()).lines[0].payment_id is not None

    await scene.world.when(is_known)
