"""Lines are paid on their due dates, once, and what can't be paid is told line by line."""

from __future__ import annotations

from datetime import datetime, timedelta

from invoice_mcp.reports import LineStatus, Status
from invoice_mcp.testing import DAY, PAST
from invoice_mcp.testing.plugin import NewWorld
from tests.desk import lines_of
from tests.requirements import requirement


@requirement("PAY-DUE")
async def test_a_line_due_in_thirty_days_is_paid_then_and_not_before(new_world: NewWorld) -> None:
    async with new_world() as world:
        due = await world.due_in(30 * DAY)
        await world.submit(("10", PAST), ("20", due))
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
        await world.submit(("1", PAST), ("2", PAST), ("3", PAST))
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
        await world.submit(("1", PAST), ("2", PAST))
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
