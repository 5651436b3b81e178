"""Submitting an invoice again, unchanged or changed, never pays a line twice."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.report import AcceptedInvoice, PaymentOrder, Status
from invoice_mcp.server.forms import describe
from invoice_mcp.testing import PAST_DUE, World
from invoice_mcp.testing.plugin import NewWorld
from invoice_mcp.testing.world.base import DAY
from tests.requirements import requirement
from tests.tool_client import an_invoice


async def pay_all_but_line_2(world: World, *lines: tuple[str, str]) -> str:
    """Lead an invoice to FAILED for lack of funds for its second line, and return its invoice id."""
    world.payments.refuses(line=2)
    await world.submit(*lines)
    await world.approve()
    return (await world.until(Status.FAILED)).invoice_id


@requirement("START-REPEATED", "START-CONFLICT")
async def test_the_same_invoice_again_is_the_run_that_is_there_and_another_content_is_refused(
    new_world: NewWorld,
) -> None:
    async with new_world() as world:
        invoice = world.invoice()
        other = world.invoice(("999", PAST_DUE), invoice_id=invoice["invoice_id"])
        first = await world.trigger(invoice)

        async def is_there_and_nothing_else_may_be() -> None:
            again = await world.trigger(invoice)
            assert (again.created, again.run_id) == (False, first.run_id)
            assert (await world.refusal(world.trigger(other))).code == "INVOICE_CONFLICT"

        await is_there_and_nothing_else_may_be()
        await world.until(Status.PENDING_APPROVAL)
        await world.approve()
        await world.until(Status.PAID)
        await is_there_and_nothing_else_may_be()
        assert len(world.ledger) == 1


@requirement("START-REPEATED")
async def test_fifty_submissions_at_once_are_one_run_and_one_payment_a_line(new_world: NewWorld) -> None:
    async with new_world() as world:
        invoice = world.invoice(("1", PAST_DUE), ("2", PAST_DUE))
        answers = await asyncio.gather(*(world.trigger(invoice) for _ in range(50)))
        assert sum(answer.created for answer in answers) == 1
        assert len({answer.run_id for answer in answers}) == 1
        await world.until(Status.PENDING_APPROVAL)
        await world.approve()
        await world.until(Status.PAID)
        assert len(world.ledger) == 2


@requirement("START-RESUBMITTED", "PAY-KEY")
async def test_a_failed_invoice_may_be_submitted_again_and_its_paid_lines_are_not_paid_again(
    new_world: NewWorld,
) -> None:
    async with new_world() as world:
        world.payments.refuses(line=2)
        invoice = world.invoice(("1", PAST_DUE), ("2", PAST_DUE))
        await world.trigger(invoice)
        await world.until(Status.PENDING_APPROVAL)
        await world.approve()
        failed = await world.until(Status.FAILED)

        again = await world.trigger(invoice)
        assert again.created
        assert again.run_id != failed.run_id
        await world.until(Status.PENDING_APPROVAL)
        await world.approve()
        paid = await world.until(Status.PAID)
        assert paid.lines[0].payment_id == failed.lines[0].payment_id
        assert len(world.ledger) == 2
        # An earlier run stays addressable by its run id.
        assert (await world.status(run_id=failed.run_id)).status is Status.FAILED


@requirement("START-RESUBMITTED", "START-CONFLICT")
async def test_a_paid_line_may_not_come_back_changed(new_world: NewWorld) -> None:
    async with new_world() as world:
        invoice_id = await pay_all_but_line_2(world, ("1", PAST_DUE), ("2", PAST_DUE))
        changed = world.invoice(("7", PAST_DUE), ("2", PAST_DUE), invoice_id=invoice_id)
        refused = await world.refusal(world.trigger(changed))
        assert refused.code == "INVOICE_CONFLICT"
        assert "changes: line 1" in str(refused)
        mended = world.invoice(("1", PAST_DUE), ("3", PAST_DUE), invoice_id=invoice_id)
        assert (await world.trigger(mended)).created


@requirement("START-RESUBMITTED")
@pytest.mark.parametrize("ending", [Status.REJECTED, Status.CANCELLED, Status.EXPIRED])
async def test_an_invoice_that_ended_unpaid_may_be_submitted_again(new_world: NewWorld, ending: Status) -> None:
    async with new_world() as world:
        await world.submit()
        match ending:
            case Status.REJECTED:
                await world.reject()
            case Status.CANCELLED:
                await world.cancel()
            case _:
                await world.advance(6 * DAY)
        ended = await world.until(ending)
        assert (await world.trigger(world.invoice(("5", PAST_DUE), invoice_id=ended.invoice_id))).created


@requirement("START-RESUBMITTED", "PAY-ONCE")
@pytest.mark.parametrize("between", [Status.REJECTED, Status.CANCELLED])
async def test_a_paid_line_stays_settled_whatever_run_lies_between(new_world: NewWorld, between: Status) -> None:
    async with new_world() as world:
        invoice_id = await pay_all_but_line_2(world, ("1", PAST_DUE), ("2", PAST_DUE))
        await world.submit(("1", PAST_DUE), ("2", PAST_DUE), invoice_id=invoice_id)
        await (world.reject() if between is Status.REJECTED else world.cancel())
        await world.until(between)

        changed = world.invoice(("7", PAST_DUE), ("2", PAST_DUE), invoice_id=invoice_id)
        refused = await world.refusal(world.trigger(changed))
        assert refused.code == "INVOICE_CONFLICT"
        assert "changes: line 1" in str(refused)
        same = world.invoice(("1", PAST_DUE), ("2", PAST_DUE), invoice_id=invoice_id)
        shorter = world.invoice(("7", PAST_DUE), invoice_id=invoice_id)
        for other in (same | {"currency": "EUR"}, same | {"customer": "Somebody else"}, shorter):
            assert (await world.refusal(world.trigger(other))).code == "INVOICE_CONFLICT"
        assert (await world.trigger(same)).created


@requirement("START-RESUBMITTED", "PAY-FAILED", "PAY-ONCE")
async def test_a_line_that_was_perhaps_paid_may_not_come_back_changed(new_world: NewWorld) -> None:
    async with new_world() as world:
        world.payments.loses_the_answer(times=3)
        await world.submit()
        await world.approve()
        await world.advance(timedelta(minutes=2))
        report = await world.until(Status.FAILED)
        assert report.lines[0].unconfirmed
        assert "not confirmed, perhaps paid: line 1" in report.summary
        changed = world.invoice(("7", PAST_DUE), invoice_id=report.invoice_id)
        assert (await world.refusal(world.trigger(changed))).code == "INVOICE_CONFLICT"
        await world.submit(invoice_id=report.invoice_id)
        await world.approve()
        await world.until(Status.PAID)
        assert len(world.ledger) == 1


@requirement("START-RESUBMITTED", "PAY-FAILED")
async def test_the_form_of_a_resubmission_shows_what_was_paid_before(new_world: NewWorld) -> None:
    async with new_world() as world:
        invoice_id = await pay_all_but_line_2(world, ("1", PAST_DUE), ("2", PAST_DUE))
        await world.submit(("1", PAST_DUE), ("2", PAST_DUE), invoice_id=invoice_id)
        waiting = await world.until(Status.PENDING_APPROVAL)
        assert [line.settled_before for line in waiting.lines] == [True, False]
        assert "earlier submissions paid, or perhaps paid: line 1" in waiting.summary
        assert "an earlier submission paid it, or perhaps did" in describe(waiting).splitlines()[1]
        await world.reject()
        rejected = await world.until(Status.REJECTED)
        assert "nothing more was paid; earlier submissions paid, or perhaps paid: line 1" in rejected.summary


@requirement("START-RESUBMITTED")
async def test_an_invoice_that_expired_unpaid_may_be_paid_later(new_world: NewWorld) -> None:
    """On an engine with a clock for each run the second one pays before the first has ended."""
    async with new_world() as world:
        await world.submit()
        await world.advance(6 * DAY)
        expired = await world.until(Status.EXPIRED)
        assert "nothing was paid" in expired.summary
        await world.submit(invoice_id=expired.invoice_id)
        await world.approve()
        await world.until(Status.PAID)


@requirement("CANCEL-PAYING", "PAY-FAILED")
async def test_a_cancelled_invoice_reports_a_line_that_was_perhaps_paid(new_world: NewWorld) -> None:
    async with new_world() as world:
        world.payments.loses_the_answer(times=3, line=1)
        await world.submit(("1", PAST_DUE), ("2", await world.due_in(30 * DAY)))
        await world.approve()
        await world.advance(timedelta(minutes=2))

        async def is_known() -> bool:
            return (await world.read_report()).lines[0].unconfirmed

        await world.when(is_known)
        await world.cancel()
        report = await world.until(Status.CANCELLED)
        assert len(world.ledger) == 1
        assert "0 of 2 lines paid; not confirmed, perhaps paid: line 1" in report.summary


@requirement("PAY-KEY")
def test_the_idempotency_key_depends_on_invoice_line_number_and_content_alone() -> None:
    def accepted(invoice_id: str, *lines: tuple[str, str]) -> AcceptedInvoice:
        return AcceptedInvoice.of(Invoice.model_validate(an_invoice(invoice_id, *lines)))

    same = [accepted("A", ("1", PAST_DUE), ("1", PAST_DUE)) for _ in range(2)]
    assert PaymentOrder.for_line(same[0], 1) == PaymentOrder.for_line(same[1], 1)
    keys = {
        PaymentOrder.for_line(accepted(invoice_id, (amount, due)), 1).idempotency_key
        for invoice_id in ("A", "B")
        for amount in ("1", "2")
        for due in (PAST_DUE, "2024-07-01T00:00:00Z")
    } | {PaymentOrder.for_line(same[0], 2).idempotency_key}
    assert len(keys) == 9
