"""Reports: what a person is told, and what travels between our processes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from invoice_mcp.reports import (
    Decision,
    InvoiceReport,
    LineReport,
    LineStatus,
    PaymentReceipt,
    Policy,
    Status,
    Verdict,
    summarize,
)
from tests.requirements import requirement

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
APPROVED = Decision(verdict=Verdict.APPROVED, by="Ann", at=NOW)
REJECTED = Decision(verdict=Verdict.REJECTED, by="Bob", at=NOW)


def report(status: Status, *lines: LineStatus, **fields: Any) -> InvoiceReport:
    return InvoiceReport(
        workflow_id="invoice-A",
        run_id="run",
        invoice_id="A",
        customer="ACME",
        currency="USD",
        total=Decimal("1234.50"),
        status=status,
        workflow_status="RUNNING",
        lines=tuple(
            LineReport(
                line=number,
                description="Widget",
                amount=Decimal(1),
                due_date=NOW + timedelta(days=number),
                status=line,
                error="INSUFFICIENT_FUNDS" if line is LineStatus.FAILED else None,
                idempotency_key="key",
            )
            for number, line in enumerate(lines, 1)
        ),
        summary="",
        **fields,
    )


@pytest.mark.parametrize(
    ("told", "standing"),
    [
        (report(Status.INITIALIZING), "is being checked against the ERP."),
        (
            report(Status.PENDING_VALIDATION, decision=APPROVED),
            "is being checked against the ERP; it was already approved by Ann on 2026-11-23 12:00 UTC.",
        ),
        (report(Status.PENDING_APPROVAL, approval_deadline=NOW), "is waiting for approval until 2026-11-23 12:00 UTC."),
        (
            report(Status.PAYING, LineStatus.PAID, LineStatus.SCHEDULED, decision=APPROVED),
            (
                "was approved by Ann on 2026-11-23 12:00 UTC and is being paid: 1 of 2 lines paid; "
                "the next is due on 2026-11-25 12:00 UTC."
            ),
        ),
        (
            report(Status.PAID, LineStatus.PAID, decision=APPROVED),
            "was approved by Ann on 2026-11-23 12:00 UTC and is paid in full.",
        ),
        (
            report(Status.REJECTED, LineStatus.NOT_PAID, decision=REJECTED),
            "was rejected by Bob on 2026-11-23 12:00 UTC; nothing was paid.",
        ),
        (report(Status.EXPIRED, LineStatus.NOT_PAID), "expired: nobody decided in time; nothing was paid."),
        (report(Status.CANCELLED, reason="A mistake."), "was cancelled (A mistake); nothing was paid."),
        (
            report(Status.CANCELLED, LineStatus.PAID, LineStatus.CANCELLED, decision=APPROVED),
            "was cancelled; 1 of 2 lines paid.",
        ),
        (
            report(Status.FAILED, LineStatus.PAID, LineStatus.FAILED, decision=APPROVED),
            "failed; 1 of 2 lines paid; not paid: line 2 (INSUFFICIENT_FUNDS).",
        ),
        (
            report(Status.FAILED, *[LineStatus.NOT_PAID] * 7, reason="The ERP refuses it"),
            (
                "failed (The ERP refuses it); 0 of 7 lines paid; not paid: line 1 (NOT-PAID), line 2 (NOT-PAID), "
                "line 3 (NOT-PAID), line 4 (NOT-PAID), line 5 (NOT-PAID) and 2 more."
            ),
        ),
    ],
    ids=lambda value: value.status if isinstance(value, InvoiceReport) else "",
)
def test_every_status_has_a_sentence(told: InvoiceReport, standing: str) -> None:
    assert summarize(told) == f"Invoice A from ACME over USD 1,234.50 {standing}"


def before(told: InvoiceReport, *numbers: int) -> InvoiceReport:
    """The report where earlier submissions settled these lines."""
    lines = (line.model_copy(update={"settled_before": line.line in numbers}) for line in told.lines)
    return told.model_copy(update={"lines": tuple(lines)})


def doubtful(told: InvoiceReport, number: int) -> InvoiceReport:
    """The report where nobody knows whether this line was paid."""
    lines = (line.model_copy(update={"unconfirmed": line.line == number}) for line in told.lines)
    return told.model_copy(update={"lines": tuple(lines)})


NOT, LOST = LineStatus.NOT_PAID, LineStatus.FAILED


@requirement("PAY-FAILED")
@pytest.mark.parametrize(
    ("told", "standing"),
    [
        (
            before(report(Status.PENDING_APPROVAL, LineStatus.PENDING, LineStatus.PENDING), 2),
            "is waiting for approval; earlier submissions paid, or perhaps paid: line 2.",
        ),
        (
            before(report(Status.REJECTED, NOT, NOT, decision=REJECTED), 1),
            (
                "was rejected by Bob on 2026-11-23 12:00 UTC; nothing more was paid; "
                "earlier submissions paid, or perhaps paid: line 1."
            ),
        ),
        (
            before(report(Status.EXPIRED, NOT, NOT), 1, 2),
            (
                "expired: nobody decided in time; nothing more was paid; "
                "earlier submissions paid, or perhaps paid: line 1, line 2."
            ),
        ),
        (
            before(report(Status.CANCELLED, NOT), 1),
            "was cancelled; nothing more was paid; earlier submissions paid, or perhaps paid: line 1.",
        ),
        (
            doubtful(report(Status.CANCELLED, LOST, LineStatus.CANCELLED, decision=APPROVED), 1),
            "was cancelled; 0 of 2 lines paid; not confirmed, perhaps paid: line 1 (INSUFFICIENT_FUNDS).",
        ),
        (
            before(report(Status.FAILED, NOT, NOT, reason="The ERP refuses it"), 2),
            (
                "failed (The ERP refuses it); 0 of 2 lines paid; not paid: line 1 (NOT-PAID); "
                "earlier submissions paid, or perhaps paid: line 2."
            ),
        ),
        (
            # Some gateways refuse what they have paid.
            before(report(Status.FAILED, LineStatus.PAID, LOST, decision=APPROVED), 1, 2),
            "failed; 1 of 2 lines paid; earlier submissions paid, or perhaps paid: line 2 (INSUFFICIENT_FUNDS).",
        ),
    ],
    ids=lambda value: value.status if isinstance(value, InvoiceReport) else "",
)
def test_what_may_have_been_paid_is_never_told_as_not_paid(told: InvoiceReport, standing: str) -> None:
    assert summarize(told) == f"Invoice A from ACME over USD 1,234.50 {standing}"


def test_a_line_that_nothing_was_settled_of_is_told_as_ever() -> None:
    # The results of workflows are replayed to the letter.
    [line] = report(Status.PAID, LineStatus.PAID).lines
    assert "settled_before" not in line.model_dump_json()
    [line] = before(report(Status.PAID, LineStatus.PAID), 1).lines
    assert LineReport.model_validate_json(line.model_dump_json()) == line


def test_no_status_is_without_a_sentence() -> None:
    assert all(summarize(report(status)).endswith(".") for status in Status)


@requirement("WAIT-POLICY")
def test_an_invoice_waits_five_days_unless_told_otherwise() -> None:
    assert Policy().approval_timeout == timedelta(days=5)


@pytest.mark.parametrize("window", [timedelta(0), timedelta(seconds=-1), timedelta(days=3651)])
def test_a_window_that_makes_no_sense_is_refused(window: timedelta) -> None:
    with pytest.raises(ValidationError):
        Policy(approval_timeout=window)


def test_a_newer_writers_extra_field_is_no_error() -> None:
    assert PaymentReceipt.model_validate({"payment_id": "PAY-1", "fee": 3}) == PaymentReceipt(payment_id="PAY-1")
