"""The fakes of the two ports: their contracts as ports, and their scripted faults."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TypeVar

import pytest

from invoice_mcp.adapters.erp import Erp, ErpMismatchError, ErpUnavailableError
from invoice_mcp.adapters.payments import PaymentRefusedError, Payments, PaymentUnavailableError
from invoice_mcp.domain.report import PaymentOrder
from invoice_mcp.testing import CallContext, Verb
from invoice_mcp.testing.records import Outcome
from invoice_mcp.testing.world.fakes import RecordingPayments, ScriptedErp
from tests.unit.testing.model_driver import invoice
from tests.unit.testing.run_builders import an_invoice

T = TypeVar("T")
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
INVOICE = invoice(1.0)


def order(line: int = 1) -> PaymentOrder:
    return PaymentOrder.for_line(an_invoice(line), line)


async def soon(doing: Awaitable[T]) -> T:
    return await asyncio.wait_for(doing, 5)


async def held_up(task: asyncio.Task[object]) -> bool:
    """Whether the task still waits when nothing else can run."""
    for _ in range(5):
        await asyncio.sleep(0)
    return not task.done()


# -- the ERP ---------------------------------------------------------------------------------------------------


async def test_the_erp_accepts_and_records_every_invoice() -> None:
    fake = ScriptedErp()
    erp: Erp = fake
    await erp.validate(INVOICE)
    await erp.validate(INVOICE)
    assert fake.asked == [INVOICE, INVOICE]


async def test_faults_of_the_erp_apply_in_scripted_order() -> None:
    erp = ScriptedErp()
    erp.is_down(2)
    erp.refuses("no such order")
    for _ in range(2):
        with pytest.raises(ErpUnavailableError):
            await erp.validate(INVOICE)
    with pytest.raises(ErpMismatchError, match="no such order"):
        await erp.validate(INVOICE)
    await erp.validate(INVOICE)
    assert len(erp.asked) == 4


async def test_a_slow_erp_answers_when_released() -> None:
    erp = ScriptedErp()
    erp.is_slow()
    slow = asyncio.ensure_future(erp.validate(INVOICE))
    assert await held_up(slow)
    await soon(erp.validate(INVOICE))
    erp.answers()
    await soon(slow)


async def test_a_healed_erp_has_no_faults_left_and_answers_what_waits() -> None:
    erp = ScriptedErp()
    erp.is_slow(3)
    slow = asyncio.ensure_future(erp.validate(INVOICE))
    assert await held_up(slow)
    erp.is_down(3)
    erp.heal()
    await soon(slow)
    await soon(erp.validate(INVOICE))


# -- payments --------------------------------------------------------------------------------------------------


async def test_a_payment_asked_for_twice_is_one_payment_with_one_id() -> None:
    fake = RecordingPayments()
    payments: Payments = fake
    assert await payments.pay(order()) == await payments.pay(order())
    assert len(fake.made) == 1
    assert fake.asked == [order(), order()]


async def test_payments_of_different_keys_have_different_ids() -> None:
    payments = RecordingPayments()
    receipts = [await payments.pay(order(line)) for line in (2, 1, 3)]
    assert len({receipt.payment_id for receipt in receipts}) == 3
    assert [paid.order.line for paid in payments.of_invoice("A")] == [1, 2, 3]
    assert payments.of_invoice("B") == []


@pytest.mark.parametrize("other", [{"amount": Decimal(99)}, {"currency": "EUR"}, {"customer": "Else"}, {"line": 2}])
async def test_a_key_that_paid_something_else_is_refused(other: dict[str, object]) -> None:
    payments = RecordingPayments()
    await payments.pay(order())
    with pytest.raises(PaymentRefusedError, match="IDEMPOTENCY_CONFLICT"):
        await payments.pay(order().model_copy(update=other))
    assert len(payments.made) == 1


async def test_a_payment_is_stamped_with_when_it_was_asked_for_and_by_which_run() -> None:
    times = iter([CallContext(NOW, "first"), CallContext(NOW + timedelta(hours=1), "second", 2)])
    payments = RecordingPayments(lambda: next(times))
    await payments.pay(order())
    await payments.pay(order())
    assert [(each.run_id, each.attempt) for each in payments.answered] == [("first", 1), ("second", 2)]
    assert [(paid.at, paid.run_id) for paid in payments.made] == [(NOW, "first")]


async def test_without_an_engine_payments_have_the_time_of_this_machine() -> None:
    payments = RecordingPayments()
    before = datetime.now(UTC)
    await payments.pay(order())
    assert before <= payments.made[0].at <= datetime.now(UTC)
    assert payments.made[0].run_id == ""


async def test_a_gateway_that_is_down_pays_nothing() -> None:
    payments = RecordingPayments()
    payments.is_down(2)
    for _ in range(2):
        with pytest.raises(PaymentUnavailableError):
            await payments.pay(order())
    assert payments.made == []
    await payments.pay(order())


async def test_a_refusal_has_the_scripted_code() -> None:
    payments = RecordingPayments()
    payments.refuses()
    payments.refuses("ACCOUNT_CLOSED")
    for code in ("INSUFFICIENT_FUNDS", "ACCOUNT_CLOSED"):
        with pytest.raises(PaymentRefusedError) as refused:
            await payments.pay(order())
        assert refused.value.code == code
    assert payments.made == []


async def test_an_answer_that_is_lost_leaves_the_payment_made_once() -> None:
    payments = RecordingPayments()
    payments.loses_the_answer(2)
    for _ in range(2):
        with pytest.raises(PaymentUnavailableError):
            await payments.pay(order())
    receipt = await payments.pay(order())
    assert [paid.payment_id for paid in payments.made] == [receipt.payment_id]


async def test_a_fault_of_a_line_is_that_lines_own_and_comes_before_those_of_any() -> None:
    payments = RecordingPayments()
    payments.is_down()
    payments.refuses(line=2)
    with pytest.raises(PaymentRefusedError):
        await payments.pay(order(2))
    with pytest.raises(PaymentUnavailableError):
        await payments.pay(order(2))
    await payments.pay(order(2))
    await payments.pay(order(1))


async def test_a_payment_whose_answer_was_lost_may_be_refused_afterwards() -> None:
    payments = RecordingPayments()
    payments.loses_the_answer()
    payments.refuses()
    with pytest.raises(PaymentUnavailableError):
        await payments.pay(order())
    with pytest.raises(PaymentRefusedError):
        await payments.pay(order())
    assert len(payments.made) == 1
    assert payments.faults_met == [Verb.ANSWER_LOST, Verb.PAYMENT_REFUSED]


async def test_a_key_that_was_used_is_refused_again_until_the_gateway_is_healed() -> None:
    payments = RecordingPayments()
    payments.refuses_again(line=1)
    with pytest.raises(PaymentUnavailableError):
        await payments.pay(order())
    payments.is_down()
    with pytest.raises(PaymentUnavailableError):
        await payments.pay(order())
    for _ in range(2):
        with pytest.raises(PaymentRefusedError, match="DUPLICATE_KEY"):
            await payments.pay(order())
    await payments.pay(order(2))
    assert payments.refused_keys == {order().idempotency_key}
    payments.heal()
    receipt = await payments.pay(order())
    assert [paid.payment_id for paid in payments.made][:1] == [receipt.payment_id]
    assert len(payments.made) == 2
    assert payments.faults_met == [Verb.REFUSED_AGAIN, Verb.PAYMENT_DOWN]


async def test_a_repeated_answer_is_the_receipt_of_another_line_and_pays_nothing() -> None:
    payments = RecordingPayments()
    payments.repeats_an_answer(2, line=2)
    with pytest.raises(PaymentUnavailableError):
        # No other line has a receipt yet.
        await payments.pay(order(2))
    first = await payments.pay(order(1))
    assert await payments.pay(order(2)) == first
    assert first.idempotency_key == order(1).idempotency_key
    assert [paid.order.line for paid in payments.made] == [1]
    assert [(each.outcome, each.payment_id) for each in payments.answered] == [
        (Outcome.UNKNOWN, ""),
        (Outcome.PAID, first.payment_id),
        (Outcome.UNKNOWN, first.payment_id),
    ]
    assert (await payments.pay(order(2))).payment_id != first.payment_id
    assert payments.faults_met == [Verb.STALE_ANSWER] * 2


async def test_an_answer_that_was_lost_or_is_of_another_invoice_is_not_repeated() -> None:
    payments = RecordingPayments()
    payments.loses_the_answer(line=1)
    with pytest.raises(PaymentUnavailableError):
        await payments.pay(order(1))
    await payments.pay(order(3).model_copy(update={"invoice_id": "B"}))
    payments.repeats_an_answer()
    with pytest.raises(PaymentUnavailableError):
        await payments.pay(order(2))


async def test_a_gateway_that_echoes_nothing_gives_receipts_without_a_key() -> None:
    payments = RecordingPayments()
    assert (await payments.pay(order())).idempotency_key == order().idempotency_key
    payments.echoes = False
    assert (await payments.pay(order())).idempotency_key is None


async def test_slow_payments_are_under_way_until_the_gateway_answers() -> None:
    payments = RecordingPayments()
    payments.is_slow(2)
    slow = [asyncio.ensure_future(payments.pay(order(line))) for line in (1, 2)]
    assert await held_up(slow[0])
    assert (payments.under_way, payments.made) == (2, [])
    await soon(payments.pay(order(3)))
    payments.answers()
    await soon(asyncio.gather(*slow))
    assert (payments.under_way, len(payments.made)) == (0, 3)


async def test_a_payment_under_way_that_is_given_up_is_not_made() -> None:
    payments = RecordingPayments()
    payments.is_slow()
    slow = asyncio.ensure_future(payments.pay(order()))
    assert await held_up(slow)
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(slow)
    assert (payments.under_way, payments.made) == (0, [])


async def test_a_gateway_that_is_slow_again_releases_earlier_payments_too() -> None:
    payments = RecordingPayments()
    payments.is_slow()
    first = asyncio.ensure_future(payments.pay(order(1)))
    assert await held_up(first)
    payments.is_slow()
    second = asyncio.ensure_future(payments.pay(order(2)))
    assert await held_up(second)
    payments.answers()
    await asyncio.wait_for(second, 5)
    await asyncio.wait_for(first, 0.5)


async def test_a_healed_gateway_has_no_faults_left_and_answers_what_waits() -> None:
    payments = RecordingPayments()
    payments.is_slow()
    slow = asyncio.ensure_future(payments.pay(order(1)))
    assert await held_up(slow)
    payments.is_down(2)
    payments.refuses(line=2)
    payments.heal()
    await soon(slow)
    await soon(payments.pay(order(2)))
    assert len(payments.made) == 2
