"""The hostile gateway, asked by the product's own adapters: what each fault does to them, and what is recorded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from invoice_mcp.adapters.erp import ErpMismatchError, ErpUnavailableError, HttpErp
from invoice_mcp.adapters.payments import HttpPayments, PaymentRefusedError, PaymentUnavailableError
from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.report import PaymentOrder
from invoice_mcp.testing.chaos.gateway import ERP_FAULTS, GATEWAY_FAULTS, LONG_FAULTS, Gateway
from invoice_mcp.testing.chaos.journal import Journal
from invoice_mcp.testing.chaos.schedule import Answers, LineAnswers
from tests.requirements import requirement
from tests.tool_client import an_invoice

# Long enough for the gateway, and not as long as its long faults.
TIMEOUT = 2.0
PAYS_NOT = {"lose-before", "reset-before", "redirect", "error-before", "busy", "conflict-before", "refuse"}
IS_PAID = {"slow", "duplicate", "drip"}


def an_order(line: int = 1, key: str = "K") -> PaymentOrder:
    return PaymentOrder(
        idempotency_key=f"{key}{line}",
        invoice_id="CHAOS-1-1",
        customer="ACME Corp",
        line=line,
        description="Widget",
        amount=Decimal("10.00"),
        currency="USD",
        due_date=datetime(2024, 1, 1, tzinfo=UTC),
    )


@asynccontextmanager
async def gateway_with(
    pay: str = "", *, validate: str = "", rate: float = 1.0, lines: tuple[LineAnswers, ...] = ()
) -> AsyncIterator[Gateway]:
    """A gateway whose every answer is this fault."""
    erp, payments = (Answers(rate, (kind,) if kind else ()) for kind in (validate, pay))
    gateway = Gateway(1, Journal(), erp, payments, lines)
    async with gateway.serving():
        yield gateway


@requirement("CHAOS-GATEWAY")
@pytest.mark.parametrize("kind", sorted(set(GATEWAY_FAULTS) - set(LONG_FAULTS)))
async def test_each_fault_pays_or_not_and_is_no_verdict_unless_it_answers(kind: str) -> None:
    async with gateway_with(kind) as gateway:
        payments = HttpPayments(gateway.payments_url, timeout=TIMEOUT)
        try:
            if kind in IS_PAID:
                assert (await payments.pay(an_order())).payment_id == "P-1"
            else:
                with pytest.raises(PaymentRefusedError if kind == "refuse" else PaymentUnavailableError):
                    await payments.pay(an_order())
        finally:
            await payments.aclose()
        assert len(gateway.payments) == (0 if kind in PAYS_NOT else 1)
        assert [asked.fault for asked in gateway.asked] == [kind]
        assert gateway.faults == {f"pay {kind}": 1}


@requirement("CHAOS-GATEWAY")
@pytest.mark.parametrize("kind", sorted(LONG_FAULTS))
async def test_what_takes_long_is_given_up_by_the_caller(kind: str) -> None:
    async with gateway_with(kind) as gateway:
        payments = HttpPayments(gateway.payments_url, timeout=0.2)
        with pytest.raises(PaymentUnavailableError, match="no complete answer"):
            await payments.pay(an_order())
        await payments.aclose()
        assert len(gateway.payments) == (0 if kind == "pay-late" else 1)


@requirement("CHAOS-GATEWAY")
async def test_a_key_is_paid_once_and_a_line_can_be_named() -> None:
    named = (LineAnswers(invoice=1, line=1, times=2, kind="lose-after"),)
    async with gateway_with(lines=named) as gateway:
        payments = HttpPayments(gateway.payments_url, timeout=TIMEOUT)
        for _ in range(2):
            with pytest.raises(PaymentUnavailableError):
                await payments.pay(an_order())
        assert (await payments.pay(an_order())).payment_id == "P-1"
        assert (await payments.pay(an_order(line=2))).payment_id == "P-2"
        await payments.aclose()
        assert [each.order for each in gateway.payments] == [an_order(), an_order(line=2)]


@requirement("CHAOS-GATEWAY")
async def test_a_gateway_that_refuses_what_comes_again_leaves_the_first_payment() -> None:
    async with gateway_with("refuse-repeated") as gateway:
        payments = HttpPayments(gateway.payments_url, timeout=TIMEOUT)
        with pytest.raises(PaymentUnavailableError):
            await payments.pay(an_order())
        with pytest.raises(PaymentRefusedError, match="DUPLICATE_KEY"):
            await payments.pay(an_order())
        await payments.aclose()
        assert len(gateway.payments) == 1


@requirement("CHAOS-GATEWAY")
@pytest.mark.parametrize("kind", sorted(set(ERP_FAULTS) - set(LONG_FAULTS)))
async def test_the_erp_accepts_refuses_or_gives_no_verdict(kind: str) -> None:
    invoice = Invoice.model_validate(an_invoice("A"))
    async with gateway_with(validate=kind) as gateway:
        erp = HttpErp(gateway.erp_url, timeout=TIMEOUT)
        if kind in IS_PAID:
            await erp.validate(invoice)
        else:
            with pytest.raises(ErpMismatchError if kind == "mismatch" else ErpUnavailableError):
                await erp.validate(invoice)
        await erp.aclose()
        assert gateway.faults == {f"validate {kind}": 1}


@requirement("CHAOS-GATEWAY")
async def test_healed_it_answers_well_and_the_rate_says_how_often_it_does_before() -> None:
    async with gateway_with("error-before", rate=0.5) as gateway:
        payments = HttpPayments(gateway.payments_url, timeout=TIMEOUT)
        for number in range(20):
            try:
                await payments.pay(an_order(key=f"K{number}-"))
            except PaymentUnavailableError:
                continue
        assert 3 < gateway.faults.total() < 17
        gateway.heal()
        for number in range(5):
            await payments.pay(an_order(key=f"H{number}-"))
        await payments.aclose()


@requirement("CHAOS-GATEWAY")
async def test_whoever_waits_for_an_event_is_called_before_the_answer_is_sent() -> None:
    journal = Journal()
    gateway = Gateway(1, journal, Answers(), Answers())
    seen: list[object] = []

    async def look() -> None:
        seen.append((len(gateway.payments), gateway.asked[0].answered_at))

    journal.on("paid", 1, look)
    journal.on("paid", 2, look)
    async with gateway.serving():
        payments = HttpPayments(gateway.payments_url, timeout=TIMEOUT)
        await payments.pay(an_order())
        await payments.aclose()
    assert seen == [(1, None)]
    assert journal.forget() == 1
