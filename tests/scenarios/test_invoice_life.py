"""Lives of invoices on virtual time, through a real in-memory MCP session."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from temporalio.client import (
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
)
from temporalio.exceptions import ApplicationError

from invoice_mcp.demo import sample_invoice
from invoice_mcp.invoices import Invoice
from invoice_mcp.reports import AcceptedInvoice, PaymentOrder
from invoice_mcp.workflows import TASK_QUEUE
from tests.desk import PAST, Stage, an_invoice, skipping_desk
from tests.requirements import requirement

DAY = timedelta(days=1)


def lines_of(report: dict[str, Any]) -> list[str]:
    return [line["status"] for line in report["lines"]]


@requirement("INV-SAMPLE", "START-ID", "DECIDE-APPROVE", "PAY-CHILD")
async def test_the_sample_invoice_is_approved_and_paid(stage: Stage) -> None:
    async with skipping_desk(stage) as desk:
        submitted = await desk.call("trigger", invoice=sample_invoice())
        assert submitted["workflow_id"] == "invoice-INV-100"
        assert submitted["created"]
        await desk.until("invoice-INV-100", "PENDING-APPROVAL")
        await desk.call("approve", workflow_id="invoice-INV-100", approver="Ann")
        report = await desk.until("invoice-INV-100", "PAID", "FAILED")
        assert report["status"] == "PAID"
        assert report["workflow_status"] == "COMPLETED"
        assert lines_of(report) == ["PAID", "PAID"]
        assert [(paid.order.line, str(paid.order.amount)) for paid in desk.payments.made] in (
            [(1, "100.00"), (2, "200.00")],
            [(2, "200.00"), (1, "100.00")],
        )
        children = [
            await stage.environment.client.get_workflow_handle(f"invoice-INV-100-line-{line}").describe()
            for line in (1, 2)
        ]
        assert [child.workflow_type for child in children] == ["PayLineItem", "PayLineItem"]


@requirement("PAY-DUE")
async def test_a_line_due_in_thirty_days_is_paid_then_and_not_before(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage) as desk:
        due = await desk.due_in(30 * DAY)
        workflow_id = await desk.submit(an_invoice(invoice_id, ("10", PAST), ("20", due)))
        await desk.call("approve", workflow_id=workflow_id)
        await desk.advance(29 * DAY)
        report = await desk.call("status", workflow_id=workflow_id)
        assert (report["status"], lines_of(report)) == ("PAYING", ["PAID", "SCHEDULED"])
        assert "1 of 2 lines paid; the next is due on" in report["summary"]
        await desk.advance(DAY + timedelta(minutes=1))
        report = await desk.until(workflow_id, "PAID")
        assert await desk.now() >= datetime.fromisoformat(due)
        assert len(desk.payments.made) == 2


@requirement("DECIDE-REJECT", "DECIDE-WHO")
async def test_a_rejected_invoice_is_never_paid(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage) as desk:
        workflow_id = await desk.submit(an_invoice(invoice_id))
        await desk.call("reject", workflow_id=workflow_id, approver="Bob", reason="Never ordered")
        report = await desk.until(workflow_id, "REJECTED")
        assert report["decision"]["by"] == "Bob"
        assert report["decision"]["comment"] == "Never ordered"
        assert "rejected by Bob" in report["summary"]
        assert lines_of(report) == ["NOT-PAID"]
        await desk.advance(10 * DAY)
        assert desk.payments.asked == []


@requirement("WAIT-EXPIRES", "DECIDE-LATE")
async def test_nobody_decides_for_five_days_and_the_invoice_expires(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage) as desk:
        workflow_id = await desk.submit(an_invoice(invoice_id))
        await desk.advance(5 * DAY - timedelta(hours=1))
        assert (await desk.call("status", workflow_id=workflow_id))["status"] == "PENDING-APPROVAL"
        await desk.advance(timedelta(hours=2))
        report = await desk.until(workflow_id, "EXPIRED")
        assert "nothing was paid" in report["summary"]
        late = await desk.refused("approve", workflow_id=workflow_id)
        assert late.code == "ALREADY_CLOSED"
        assert "EXPIRED" in str(late)
        assert desk.payments.asked == []


@requirement("WAIT-POLICY")
async def test_the_window_an_invoice_was_submitted_with_holds(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage, approval_timeout=timedelta(hours=12)) as desk:
        workflow_id = await desk.submit(an_invoice(invoice_id))
        async with skipping_desk(stage, approval_timeout=90 * DAY) as later:
            await later.advance(timedelta(hours=13))
            await later.until(workflow_id, "EXPIRED")


@requirement("PAY-FAILED", "PAY-RETRY")
async def test_a_line_refused_for_lack_of_funds_makes_the_invoice_failed_and_is_not_tried_again(
    stage: Stage, invoice_id: str
) -> None:
    async with skipping_desk(stage) as desk:
        desk.payments.refuses("INSUFFICIENT_FUNDS", line=2)
        workflow_id = await desk.submit(an_invoice(invoice_id, ("1", PAST), ("2", PAST), ("3", PAST)))
        await desk.call("approve", workflow_id=workflow_id)
        report = await desk.until(workflow_id, "FAILED", "PAID")
        assert report["status"] == "FAILED"
        assert lines_of(report) == ["PAID", "FAILED", "PAID"]
        assert report["lines"][1]["error"] == "INSUFFICIENT_FUNDS"
        assert "line 2 (INSUFFICIENT_FUNDS)" in report["summary"]
        assert [order.line for order in desk.payments.asked].count(2) == 1


@requirement("PAY-ALL-FAILED")
async def test_all_lines_refused_are_all_named(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage) as desk:
        desk.payments.refuses("INSUFFICIENT_FUNDS", times=2)
        workflow_id = await desk.submit(an_invoice(invoice_id, ("1", PAST), ("2", PAST)))
        await desk.call("approve", workflow_id=workflow_id)
        report = await desk.until(workflow_id, "FAILED", "PAID")
        assert [(line["line"], line["status"], line["error"]) for line in report["lines"]] == [
            (1, "FAILED", "INSUFFICIENT_FUNDS"),
            (2, "FAILED", "INSUFFICIENT_FUNDS"),
        ]
        assert desk.payments.made == []


@requirement("PAY-RETRY")
async def test_a_gateway_that_is_down_twice_is_tried_a_third_time(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage) as desk:
        desk.payments.is_down(times=2)
        workflow_id = await desk.submit(an_invoice(invoice_id))
        await desk.call("approve", workflow_id=workflow_id)
        await desk.advance(timedelta(minutes=2))
        await desk.until(workflow_id, "PAID")
        assert len(desk.payments.asked) == 3


@requirement("PAY-RETRY", "PAY-FAILED")
async def test_a_gateway_that_stays_down_leaves_the_payment_unconfirmed_and_says_so(
    stage: Stage, invoice_id: str
) -> None:
    async with skipping_desk(stage) as desk:
        desk.payments.is_down(times=9)
        workflow_id = await desk.submit(an_invoice(invoice_id))
        await desk.call("approve", workflow_id=workflow_id)
        await desk.advance(timedelta(minutes=2))
        report = await desk.until(workflow_id, "FAILED")
        assert len(desk.payments.asked) == 3
        assert report["lines"][0]["error"] == "PAYMENT_GATEWAY_ERROR"
        assert "not confirmed" in report["lines"][0]["reason"]


@requirement("PAY-ONCE")
async def test_an_answer_that_is_lost_after_the_payment_does_not_pay_twice(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage) as desk:
        desk.payments.loses_the_answer(times=2)
        workflow_id = await desk.submit(an_invoice(invoice_id))
        await desk.call("approve", workflow_id=workflow_id)
        await desk.advance(timedelta(minutes=2))
        report = await desk.until(workflow_id, "PAID")
        assert (len(desk.payments.asked), len(desk.payments.made)) == (3, 1)
        assert report["lines"][0]["payment_id"] == desk.payments.made[0].payment_id


@requirement("VALID-RETRY")
async def test_an_erp_that_is_down_four_times_is_asked_a_fifth(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage) as desk:
        desk.erp.is_down(times=4)
        workflow_id = await desk.submit(an_invoice(invoice_id), until="PENDING-VALIDATION")
        await desk.advance(timedelta(minutes=3))
        await desk.until(workflow_id, "PENDING-APPROVAL")
        assert len(desk.erp.asked) == 5


@requirement("VALID-DOWN")
async def test_an_erp_that_stays_down_fails_the_invoice_and_says_so(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage) as desk:
        desk.erp.is_down(times=9)
        workflow_id = await desk.submit(an_invoice(invoice_id), until="PENDING-VALIDATION")
        await desk.advance(timedelta(minutes=3))
        report = await desk.until(workflow_id, "FAILED")
        assert len(desk.erp.asked) == 5
        assert "ERP can't be reached" in report["reason"]
        assert desk.payments.asked == []


@requirement("VALID-MISMATCH")
async def test_a_mismatch_is_final(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage) as desk:
        desk.erp.refuses("unknown purchase order")
        workflow_id = await desk.submit(an_invoice(invoice_id), until="FAILED")
        report = await desk.call("status", workflow_id=workflow_id)
        assert "unknown purchase order" in report["summary"]
        assert len(desk.erp.asked) == 1
        assert lines_of(report) == ["NOT-PAID"]


@requirement("DECIDE-FIRST", "DECIDE-REPEAT")
@pytest.mark.parametrize(("first", "then"), [("approve", "reject"), ("reject", "approve")])
async def test_the_first_decision_is_final(stage: Stage, invoice_id: str, first: str, then: str) -> None:
    async with skipping_desk(stage) as desk:
        # While the ERP is down the invoice stays open, so that both decisions find it undecided.
        desk.erp.is_down(times=1)
        workflow_id = await desk.submit(
            an_invoice(invoice_id, ("1", await desk.due_in(9 * DAY))), until="PENDING-VALIDATION"
        )
        if first == "approve":
            made = (await desk.call(first, workflow_id=workflow_id, approver="Ann"))["decision"]
            opposite = await desk.refused(then, workflow_id=workflow_id, approver="Bob")
            assert opposite.code == "ALREADY_DECIDED"
            assert "approved by Ann" in str(opposite)
            again = await desk.call(first, workflow_id=workflow_id, approver="Carl")
            assert again["decision"] == made
            await desk.advance(10 * DAY)
            await desk.until(workflow_id, "PAID")
        else:
            await desk.call(first, workflow_id=workflow_id, approver="Ann")
            await desk.until(workflow_id, "REJECTED")
            assert (await desk.refused(then, workflow_id=workflow_id)).code == "ALREADY_CLOSED"
            await desk.advance(10 * DAY)
            assert desk.payments.asked == []


@requirement("DECIDE-EARLY")
async def test_an_approval_before_validation_has_ended_counts(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage) as desk:
        desk.erp.is_down(times=3)
        workflow_id = await desk.submit(an_invoice(invoice_id), until="PENDING-VALIDATION")
        report = await desk.call("approve", workflow_id=workflow_id, approver="Ann")
        assert report["status"] == "PENDING-VALIDATION"
        assert "already approved by Ann" in report["summary"]
        await desk.advance(timedelta(minutes=2))
        await desk.until(workflow_id, "PAID")


@requirement("DECIDE-EARLY")
async def test_a_rejection_does_not_wait_for_the_erp(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage) as desk:
        desk.erp.is_down(times=9)
        workflow_id = await desk.submit(an_invoice(invoice_id), until="PENDING-VALIDATION")
        await desk.call("reject", workflow_id=workflow_id)
        await desk.until(workflow_id, "REJECTED")


@requirement("SIGNAL-SEED")
async def test_the_seeds_signals_and_queries_decide_under_the_same_rules(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage) as desk:
        workflow_id = await desk.submit(an_invoice(invoice_id))
        handle = stage.environment.client.get_workflow_handle(workflow_id)
        assert await handle.query("GetInvoiceStatus") == "PENDING-APPROVAL"
        with pytest.raises(WorkflowQueryFailedError):
            await handle.query("IsInvoiceApproved")
        await handle.signal("ApproveInvoice")
        await handle.signal("RejectInvoice")
        report = await desk.until(workflow_id, "PAID")
        assert report["decision"]["by"] == "signal"
        assert await handle.query("IsInvoiceApproved") is True
        assert len(desk.payments.made) == 1


@requirement("SIGNAL-SEED")
async def test_a_rejection_by_signal_pays_nothing(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage) as desk:
        workflow_id = await desk.submit(an_invoice(invoice_id))
        handle = stage.environment.client.get_workflow_handle(workflow_id)
        await handle.signal("RejectInvoice")
        await desk.until(workflow_id, "REJECTED")
        assert await handle.query("IsInvoiceApproved") is False
        assert desk.payments.asked == []


@requirement("CANCEL-BEFORE")
async def test_cancelled_before_a_decision_nothing_is_paid(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage) as desk:
        workflow_id = await desk.submit(an_invoice(invoice_id))
        report = await desk.call("cancel", workflow_id=workflow_id, reason="Sent by mistake")
        assert (report["status"], report["workflow_status"]) == ("CANCELLED", "CANCELED")
        assert "Sent by mistake" in report["summary"]
        assert await desk.call("cancel", workflow_id=workflow_id) == report
        description = await stage.environment.client.get_workflow_handle(workflow_id).describe()
        assert description.status is WorkflowExecutionStatus.CANCELED
        assert (await desk.refused("approve", workflow_id=workflow_id)).code == "ALREADY_CLOSED"
        assert desk.payments.asked == []


@requirement("CANCEL-BEFORE")
async def test_cancelled_while_the_erp_is_asked_nothing_is_paid(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage) as desk:
        desk.erp.is_down(times=9)
        workflow_id = await desk.submit(an_invoice(invoice_id), until="PENDING-VALIDATION")
        report = await desk.call("cancel", workflow_id=workflow_id)
        assert (report["status"], lines_of(report)) == ("CANCELLED", ["NOT-PAID"])


@requirement("CANCEL-PAYING")
async def test_cancelled_while_paying_the_waiting_lines_are_not_paid(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage) as desk:
        due = await desk.due_in(30 * DAY)
        workflow_id = await desk.submit(an_invoice(invoice_id, ("1", PAST), ("2", due), ("3", due)))
        await desk.call("approve", workflow_id=workflow_id)
        while not desk.payments.made:
            await desk.call("status", workflow_id=workflow_id, wait_seconds=0.1)
        report = await desk.call("cancel", workflow_id=workflow_id, reason="Dispute")
        assert report["status"] == "CANCELLED"
        assert lines_of(report) == ["PAID", "CANCELLED", "CANCELLED"]
        assert "1 of 3 lines paid" in report["summary"]
        await desk.advance(40 * DAY)
        assert len(desk.payments.made) == 1


@requirement("CANCEL-PAYING")
async def test_a_payment_under_way_finishes_though_the_invoice_is_cancelled(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage) as desk:
        desk.payments.is_down(times=1, line=1)
        due = await desk.due_in(30 * DAY)
        workflow_id = await desk.submit(an_invoice(invoice_id, ("1", PAST), ("2", due)))
        await desk.call("approve", workflow_id=workflow_id)
        while not desk.payments.asked:
            await desk.call("status", workflow_id=workflow_id, wait_seconds=0.1)
        await desk.call("cancel", workflow_id=workflow_id)
        await desk.advance(timedelta(minutes=1))
        report = await desk.until(workflow_id, "CANCELLED")
        assert lines_of(report) == ["PAID", "CANCELLED"]


@requirement("CANCEL-PAYING")
async def test_a_cancellation_that_finds_every_payment_under_way_changes_nothing(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage) as desk:
        desk.payments.is_down(times=1)
        workflow_id = await desk.submit(an_invoice(invoice_id))
        await desk.call("approve", workflow_id=workflow_id)
        while not desk.payments.asked:
            await desk.call("status", workflow_id=workflow_id, wait_seconds=0.1)
        await desk.call("cancel", workflow_id=workflow_id)
        await desk.advance(timedelta(minutes=1))
        assert (await desk.until(workflow_id, "PAID"))["workflow_status"] == "COMPLETED"


@requirement("START-AGAIN", "START-CONFLICT")
async def test_the_same_invoice_again_is_the_run_that_is_there_and_another_content_is_refused(
    stage: Stage, invoice_id: str
) -> None:
    async with skipping_desk(stage) as desk:
        invoice = an_invoice(invoice_id)
        first = await desk.call("trigger", invoice=invoice)
        other = an_invoice(invoice_id, ("999", PAST))
        for _ in range(2):
            again = await desk.call("trigger", invoice=invoice)
            assert (again["created"], again["run_id"]) == (False, first["run_id"])
            assert (await desk.refused("trigger", invoice=other)).code == "INVOICE_CONFLICT"
            await desk.until(first["workflow_id"], "PENDING-APPROVAL", "PAID")
            await desk.call("approve", workflow_id=first["workflow_id"]) if not desk.payments.made else None
            await desk.until(first["workflow_id"], "PAID")
        assert len(desk.payments.made) == 1


@requirement("START-AGAIN")
async def test_fifty_submissions_at_once_are_one_run_and_one_payment_a_line(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage) as desk:
        invoice = an_invoice(invoice_id, ("1", PAST), ("2", PAST))
        answers = await asyncio.gather(*(desk.call("trigger", invoice=invoice) for _ in range(50)))
        assert sum(answer["created"] for answer in answers) == 1
        assert len({answer["run_id"] for answer in answers}) == 1
        workflow_id = answers[0]["workflow_id"]
        await desk.until(workflow_id, "PENDING-APPROVAL")
        await desk.call("approve", workflow_id=workflow_id)
        await desk.until(workflow_id, "PAID")
        assert len(desk.payments.made) == 2


@requirement("START-ANEW", "PAY-KEY")
async def test_a_failed_invoice_may_be_submitted_again_and_its_paid_lines_are_not_paid_again(
    stage: Stage, invoice_id: str
) -> None:
    async with skipping_desk(stage) as desk:
        desk.payments.refuses(line=2)
        invoice = an_invoice(invoice_id, ("1", PAST), ("2", PAST))
        workflow_id = await desk.submit(invoice)
        await desk.call("approve", workflow_id=workflow_id)
        failed = await desk.until(workflow_id, "FAILED")

        again = await desk.call("trigger", invoice=invoice)
        assert again["created"]
        assert again["run_id"] != failed["run_id"]
        await desk.until(workflow_id, "PENDING-APPROVAL")
        await desk.call("approve", workflow_id=workflow_id)
        paid = await desk.until(workflow_id, "PAID")
        assert paid["lines"][0]["payment_id"] == failed["lines"][0]["payment_id"]
        assert len(desk.payments.made) == 2
        # An earlier run stays addressable by its run id.
        assert (await desk.call("status", workflow_id=workflow_id, run_id=failed["run_id"]))["status"] == "FAILED"


@requirement("START-ANEW", "START-CONFLICT")
async def test_a_paid_line_may_not_come_back_changed(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage) as desk:
        desk.payments.refuses(line=2)
        workflow_id = await desk.submit(an_invoice(invoice_id, ("1", PAST), ("2", PAST)))
        await desk.call("approve", workflow_id=workflow_id)
        await desk.until(workflow_id, "FAILED")
        changed = await desk.refused("trigger", invoice=an_invoice(invoice_id, ("7", PAST), ("2", PAST)))
        assert changed.code == "INVOICE_CONFLICT"
        assert "changes: line 1" in str(changed)
        mended = await desk.call("trigger", invoice=an_invoice(invoice_id, ("1", PAST), ("3", PAST)))
        assert mended["created"]


@requirement("START-ANEW")
@pytest.mark.parametrize("ending", ["REJECTED", "CANCELLED", "EXPIRED"])
async def test_an_invoice_that_ended_unpaid_may_be_submitted_again(stage: Stage, invoice_id: str, ending: str) -> None:
    async with skipping_desk(stage) as desk:
        workflow_id = await desk.submit(an_invoice(invoice_id))
        match ending:
            case "REJECTED":
                await desk.call("reject", workflow_id=workflow_id)
            case "CANCELLED":
                await desk.call("cancel", workflow_id=workflow_id)
            case "EXPIRED":
                await desk.advance(6 * DAY)
        await desk.until(workflow_id, ending)
        again = await desk.call("trigger", invoice=an_invoice(invoice_id, ("5", PAST)))
        assert again["created"]


@requirement("START-ANEW", "PAY-ONCE")
@pytest.mark.parametrize("between", ["reject", "cancel"])
async def test_a_paid_line_stays_settled_whatever_run_lies_between(stage: Stage, invoice_id: str, between: str) -> None:
    async with skipping_desk(stage) as desk:
        desk.payments.refuses(line=2)
        invoice = an_invoice(invoice_id, ("1", PAST), ("2", PAST))
        workflow_id = await desk.submit(invoice)
        await desk.call("approve", workflow_id=workflow_id)
        await desk.until(workflow_id, "FAILED")
        await desk.submit(invoice)
        await desk.call(between, workflow_id=workflow_id)
        await desk.until(workflow_id, "REJECTED", "CANCELLED")

        changed = await desk.refused("trigger", invoice=an_invoice(invoice_id, ("7", PAST), ("2", PAST)))
        assert changed.code == "INVOICE_CONFLICT"
        assert "changes: line 1" in str(changed)
        for fields in ({"currency": "EUR"}, {"customer": "Somebody else"}):
            assert (await desk.refused("trigger", invoice=invoice | fields)).code == "INVOICE_CONFLICT"
        assert (await desk.refused("trigger", invoice=an_invoice(invoice_id, ("7", PAST)))).code == "INVOICE_CONFLICT"
        assert (await desk.call("trigger", invoice=invoice))["created"]


@requirement("START-ANEW", "PAY-FAILED", "PAY-ONCE")
async def test_a_line_that_was_perhaps_paid_may_not_come_back_changed(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage) as desk:
        desk.payments.loses_the_answer(times=3)
        workflow_id = await desk.submit(an_invoice(invoice_id))
        await desk.call("approve", workflow_id=workflow_id)
        await desk.advance(timedelta(minutes=2))
        report = await desk.until(workflow_id, "FAILED")
        assert report["lines"][0]["unconfirmed"]
        assert "not confirmed, perhaps paid: line 1" in report["summary"]
        changed = await desk.refused("trigger", invoice=an_invoice(invoice_id, ("7", PAST)))
        assert changed.code == "INVOICE_CONFLICT"
        await desk.submit(an_invoice(invoice_id))
        await desk.call("approve", workflow_id=workflow_id)
        await desk.until(workflow_id, "PAID")
        assert len(desk.payments.made) == 1


@requirement("SIGNAL-SEED", "TOOL-CODES")
@pytest.mark.parametrize("argument", [None, "yes", 5, {}, {"by": 5}])
async def test_an_update_with_a_senseless_argument_is_refused_and_nothing_is_stuck(
    stage: Stage, invoice_id: str, argument: object
) -> None:
    async with skipping_desk(stage) as desk:
        workflow_id = await desk.submit(an_invoice(invoice_id))
        handle = stage.environment.client.get_workflow_handle(workflow_id)
        with pytest.raises(WorkflowUpdateFailedError):
            await asyncio.wait_for(handle.execute_update("approve", argument), 10)
        assert (await desk.call("status", workflow_id=workflow_id))["decision"] is None
        await desk.call("approve", workflow_id=workflow_id)
        await desk.until(workflow_id, "PAID")


@requirement("CANCEL-PAYING")
async def test_a_cancellation_under_way_is_told(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage) as desk:
        desk.payments.is_down(times=1)
        workflow_id = await desk.submit(an_invoice(invoice_id))
        await desk.call("approve", workflow_id=workflow_id)
        while not desk.payments.asked:
            await desk.call("status", workflow_id=workflow_id, wait_seconds=0.1)
        report = await desk.call("cancel", workflow_id=workflow_id)
        if report["status"] == "PAYING":  # else the second try was faster than the cancellation
            assert report["cancelling"]
            assert "being cancelled" in report["summary"]
        await desk.advance(timedelta(minutes=1))
        await desk.until(workflow_id, "PAID")


@requirement("START-GARBAGE")
@pytest.mark.parametrize("garbage", [None, "garbage", {}, {"invoice": {"invoice_id": "x", "lines": "garbage"}}])
async def test_a_workflow_started_with_garbage_fails_and_does_not_hang(
    stage: Stage, invoice_id: str, garbage: object
) -> None:
    async with skipping_desk(stage) as desk:
        handle = await stage.environment.client.start_workflow(
            "InvoiceWorkflow", garbage, id=f"invoice-{invoice_id}", task_queue=TASK_QUEUE
        )
        with pytest.raises(WorkflowFailureError) as failure:
            await asyncio.wait_for(handle.result(), 10)
        assert isinstance(failure.value.cause, ApplicationError)
        assert (await desk.refused("status", workflow_id=handle.id)).code == "INTERNAL"
        # The id is free again for a real invoice.
        assert (await desk.call("trigger", invoice=an_invoice(invoice_id)))["created"]


@requirement("START-GARBAGE", "INV-MONEY")
async def test_an_invoice_that_breaks_the_rules_behind_triggers_back_is_failed(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage) as desk:
        content = an_invoice(invoice_id, ("-5", PAST), currency="XXX") | {"metadata": {}}
        handle = await stage.environment.client.start_workflow(
            "InvoiceWorkflow", {"invoice": content}, id=f"invoice-{invoice_id}", task_queue=TASK_QUEUE
        )
        report = await desk.until(handle.id, "FAILED")
        assert "lines[0].amount: Input should be greater than 0" in report["reason"]
        assert desk.payments.asked == []


@requirement("PAY-KEY")
def test_the_idempotency_key_depends_on_invoice_line_number_and_content_alone() -> None:
    def accepted(invoice_id: str, *lines: tuple[str, str]) -> AcceptedInvoice:
        return AcceptedInvoice.of(Invoice.model_validate(an_invoice(invoice_id, *lines)))

    same = [accepted("A", ("1", PAST), ("1", PAST)) for _ in range(2)]
    assert PaymentOrder.for_line(same[0], 1) == PaymentOrder.for_line(same[1], 1)
    keys = {
        PaymentOrder.for_line(accepted(invoice_id, (amount, due)), 1).idempotency_key
        for invoice_id in ("A", "B")
        for amount in ("1", "2")
        for due in (PAST, "2024-07-01T00:00:00Z")
    } | {PaymentOrder.for_line(same[0], 2).idempotency_key}
    assert len(keys) == 9
