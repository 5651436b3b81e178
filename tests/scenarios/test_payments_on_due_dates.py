"""Lines are paid on their due dates, once. Reports show for each line what could not be paid."""

from __future__ import annotations

from datetime import datetime, timedelta

from invoice_mcp.domain.report import LineStatus, Status
from invoice_mcp.testing import PAST_DUE
from invoice_mcp.testing.plugin import NewWorld
from invoice_mcp.testing.world.base import DAY
from tests.requirements import requirement
from tests.tool_client import lines_of


@requirement("PAY-DUE")
async def test_a_line_due_in_thirty_days_is_paid_then_and_not_before(new_world: NewWorld) -> None:
    async with new_world() as world:
        due = await world.due_in(30 * DAY)
        await world.submit(("10", PAST_DUE), ("20", due))
        await world.approve()
        await world.advance(29 * DAY)
        report = await world.status()
        assert report.status is Status.PAYING
        assert lines_of(report) == [LineStatus.PAID, LineStatus.SCHEDULED]
        assert "1 of 2 lines paid; the next is due on" in report.summary
        await world.advance(DAY + timedelta(minutes=1))
        await world.until(Status.PAID)
        assert [paid.order.line for paid in world.ledger] == [1, 2]
        assert world.ledger[1].at >= datetime.fromisoformat(due)


@requirement("PAY-FAILED", "PAY-RETRY")
async def test_a_line_refused_for_lack_of_funds_makes_the_invoice_failed_and_is_not_tried_again(
    new_world: NewWorld,
) -> None:
    async with new_world() as world:
        world.payments.refuses("INSUFFICIENT_FUNDS", line=2)
        await world.submit(("1", PAST_DUE), ("2", PAST_DUE), ("3", PAST_DUE))
        await world.approve()
        report = await world.until(Status.FAILED, Status.PAID)
        assert report.status is Status.FAILED
        assert lines_of(report) == [LineStatus.PAID, LineStatus.FAILED, LineStatus.PAID]
        assert report.lines[1].error == "INSUFFICIENT_FUNDS"
        assert "line 2 (INSUFFICIENT_FUNDS)" in report.summary
        assert [order.line for order in world.payments.asked].count(2) == 1


@requirement("PAY-ALL-FAILED")
async def test_all_lines_refused_are_all_named(new_world: NewWorld) -> None:
    async with new_world() as world:
        world.payments.refuses("INSUFFICIENT_FUNDS", times=2)
        await world.submit(("1", PAST_DUE), ("2", PAST_DUE))
        await world.approve()
        report = await world.until(Status.FAILED, Status.PAID)
        assert [(line.line, line.status, line.error) for line in report.lines] == [
            (1, LineStatus.FAILED, "INSUFFICIENT_FUNDS"),
            (2, LineStatus.FAILED, "INSUFFICIENT_FUNDS"),
        ]
        assert world.ledger == ()


@requirement("PAY-RETRY")
async def test_a_gateway_that_is_down_twice_is_tried_a_third_time(new_world: NewWorld) -> None:
    async with new_world() as world:
        world.payments.is_down(times=2)
        await world.submit()
        await world.approve()
        await world.advance(timedelta(minutes=2))
        await world.until(Status.PAID)
        assert len(world.payments.asked) == 3


@requirement("PAY-RETRY", "PAY-FAILED")
async def test_a_gateway_that_stays_down_leaves_the_payment_unconfirmed_and_says_so(new_world: NewWorld) -> None:
    async with new_world() as world:
        world.payments.is_down(times=9)
        await world.submit()
        await world.approve()
        await world.advance(timedelta(minutes=2))
        (line,) = (await world.until(Status.FAILED)).lines
        assert len(world.payments.asked) == 3
        assert line.error == "PAYMENT_GATEWAY_ERROR"
        assert "not confirmed" in str(line.reason)


@requirement("PAY-ONCE")
async def test_an_answer_that_is_lost_after_the_payment_does_not_pay_twice(new_world: NewWorld) -> None:
    async with new_world() as world:
        world.payments.loses_the_answer(times=2)
        await world.submit()
        await world.approve()
        await world.advance(timedelta(minutes=2))
        report = await world.until(Status.PAID)
        assert len(world.payments.asked) == 3
        (paid,) = world.ledger
        assert report.lines[0].payment_id == paid.payment_id


@requirement("PAY-UNCONFIRMED", "PAY-ONCE", "START-RESUBMITTED")
async def test_a_key_that_is_refused_again_is_unconfirmed_in_every_run_and_can_not_come_back_changed(
    new_world: NewWorld,
) -> None:
    async with new_world() as world:
        world.payments.refuses_again(line=1)
        invoice = world.invoice()
        changed = world.invoice(("7", PAST_DUE), invoice_id=invoice["invoice_id"])
        for is_again in (False, True):
            await world.trigger(invoice)
            await world.until(Status.PENDING_APPROVAL)
            await world.approve()
            await world.advance(timedelta(minutes=2))
            (line,) = (await world.until(Status.FAILED, Status.PAID)).lines
            assert (line.status, line.error, line.unconfirmed) == (LineStatus.FAILED, "DUPLICATE_KEY", True)
            assert str(line.reason).startswith("A repeated request was refused: this key was used before. Whether")
            assert line.settled_before is is_again
            assert (await world.refusal(world.trigger(changed))).code == "INVOICE_CONFLICT"
        assert len(world.ledger) == 1


@requirement("PORT-ANSWER", "PAY-RETRY")
async def test_a_receipt_for_another_key_is_asked_for_again(new_world: NewWorld) -> None:
    async with new_world() as world:
        world.payments.repeats_an_answer(line=2)
        await world.submit(("1", PAST_DUE), ("2", await world.due_in(DAY)))
        await world.approve()
        await world.advance(DAY + timedelta(minutes=2))
        report = await world.until(Status.PAID, Status.FAILED)
        assert [line.payment_id for line in report.lines] == [paid.payment_id for paid in world.ledger]
        assert [order.line for order in world.payments.asked] == [1, 2, 2]


@requirement("PAY-AMBIGUOUS")
async def test_a_payment_that_is_named_for_two_lines_confirms_neither_and_both_are_settled(new_world: NewWorld) -> None:
    async with new_world() as world:
        world.payments.echoes = False
        world.payments.repeats_an_answer(line=2)
        await world.submit(("1", PAST_DUE), ("2", await world.due_in(DAY)))
        await world.approve()
        await world.advance(DAY + timedelta(minutes=2))
        report = await world.until(Status.PAID, Status.FAILED)
        assert [(line.error, line.unconfirmed) for line in report.lines] == [("PAYMENT_ID_REUSED", True)] * 2
        assert [paid.order.line for paid in world.ledger] == [1]
        other = world.invoice(("7", PAST_DUE), ("7", PAST_DUE), invoice_id=report.invoice_id)
        assert "changes: line 1, line 2" in str(await world.refusal(world.trigger(other)))
