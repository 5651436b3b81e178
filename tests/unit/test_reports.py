"""Reports: what a person is told, and what travels between our processes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from pydantic import ValidationError

from invoice_mcp.domain.report import LineReport, PaymentReceipt, Policy
from tests.requirements import requirement

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_a_line_that_nothing_was_settled_of_is_told_as_ever() -> None:
    # The results of workflows are replayed to the letter.
    line = LineReport(line=1, description="Widget", amount=Decimal(1), due_date=NOW, idempotency_key="key")
    assert "settled_before" not in line.model_dump_json()
    settled = line.model_copy(update={"settled_before": True})
    assert LineReport.model_validate_json(settled.model_dump_json()) == settled


@requirement("WAIT-POLICY")
def test_an_invoice_waits_five_days_unless_told_otherwise() -> None:
    assert Policy().approval_timeout == timedelta(days=5)


@pytest.mark.parametrize("window", [timedelta(0), timedelta(seconds=-1), timedelta(days=3651)])
def test_a_window_that_makes_no_sense_is_refused(window: timedelta) -> None:
    with pytest.raises(ValidationError):
        Policy(approval_timeout=window)


def test_a_newer_writers_extra_field_is_no_error() -> None:
    assert PaymentReceipt.model_validate({"payment_id": "PAY-1", "fee": 3}) == PaymentReceipt(payment_id="PAY-1")
