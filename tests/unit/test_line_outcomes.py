"""What the outcome of one line says of the lines of its invoice."""

from __future__ import annotations

from typing import Any

import pytest
from temporalio.exceptions import ActivityError, ApplicationError, RetryState

from invoice_mcp.domain.line_outcomes import PAYMENT_ID_REUSED, line_outcomes, unconfirmed_outcome
from invoice_mcp.domain.report import LineOutcome, LineReport, LineStatus, PaymentOrder
from invoice_mcp.workflow.line_workflow import _is_in_doubt
from tests.requirements import requirement
from tests.unit.testing.run_builders import an_invoice

REFUSED = LineOutcome(status=LineStatus.FAILED, error="INSUFFICIENT_FUNDS", reason="the account is empty.")


def paid(payment_id: str = "P-1") -> LineOutcome:
    return LineOutcome(status=LineStatus.PAID, payment_id=payment_id)


def lines(*outcomes: LineOutcome | None, settled: int = 0) -> list[LineReport]:
    """What is known so far; line `settled` was settled by an earlier submission."""
    invoice = an_invoice(len(outcomes))
    fields = {"idempotency_key", "line", "description", "amount", "due_date"}
    return [
        LineReport(
            **PaymentOrder.for_line(invoice, number).model_dump(include=fields),
            **(outcome.model_dump() if outcome else {}),
            settled_before=number == settled,
        )
        for number, outcome in enumerate(outcomes, 1)
    ]


@pytest.mark.parametrize("outcome", [paid(), REFUSED, unconfirmed_outcome("TIMEOUT", "no answer")])
def test_an_outcome_is_the_lines_own(outcome: LineOutcome) -> None:
    for others in (lines(None, None), lines(None, paid("P-2")), lines(None, REFUSED), lines(paid(), None)):
        assert line_outcomes(others, 1, outcome) == {1: outcome}


@requirement("PAY-AMBIGUOUS")
def test_a_payment_that_two_lines_name_confirms_neither() -> None:
    told = line_outcomes(lines(paid("P-2"), paid(), None, None), 3, paid())
    assert set(told) == {2, 3}
    assert told[2] == told[3]
    assert (told[3].status, told[3].unconfirmed, told[3].error) == (LineStatus.FAILED, True, PAYMENT_ID_REUSED)
    assert str(told[3].reason).startswith("The payment system named one payment, P-1, for several lines: 2, 3. Whether")


@requirement("PAY-AMBIGUOUS")
def test_a_payment_that_was_named_for_two_lines_confirms_no_third_one() -> None:
    known = lines(paid(), None, None)
    for number in (2, 3):
        for each, outcome in line_outcomes(known, number, paid()).items():
            known[each - 1] = known[each - 1].model_copy(update=outcome.model_dump())
    assert [(line.status, line.unconfirmed) for line in known] == [(LineStatus.FAILED, True)] * 3
    assert "several lines: 1, 2, 3" in str(known[0].reason)


@requirement("PAY-UNCONFIRMED")
def test_a_refusal_of_a_line_that_was_settled_before_does_not_say_that_nothing_was_paid() -> None:
    [told] = line_outcomes(lines(None, None, settled=1), 1, REFUSED).values()
    assert (told.status, told.unconfirmed, told.error) == (LineStatus.FAILED, True, "INSUFFICIENT_FUNDS")
    assert str(told.reason).startswith("A repeated request was refused: the account is empty. Whether the payment")
    assert line_outcomes(lines(None, None, settled=1), 2, REFUSED) == {2: REFUSED}
    for outcome in (paid(), unconfirmed_outcome("TIMEOUT", "no answer")):
        assert line_outcomes(lines(None, None, settled=1), 1, outcome) == {1: outcome}


@requirement("PAY-UNCONFIRMED")
@pytest.mark.parametrize(
    ("details", "is_in_doubt"),
    [
        # As activities of release 0.1.0 refuse.
        ((), False),
        (({"unconfirmed": True},), True),
        # As a later release might.
        (({"unconfirmed": True, "attempt": 2},), True),
        (({"unconfirmed": False},), False),
        (("unconfirmed", None, 7, [True], {"other": True}), False),
    ],
    ids=str,
)
def test_a_refusal_is_in_doubt_if_its_details_say_so(details: tuple[Any, ...], is_in_doubt: bool) -> None:
    error = ActivityError(
        "failed",
        scheduled_event_id=1,
        started_event_id=2,
        identity="",
        activity_type="payment_gateway",
        activity_id="1",
        retry_state=RetryState.NON_RETRYABLE_FAILURE,
    )
    assert not _is_in_doubt(error)
    error.__cause__ = ApplicationError("refused", *details, type="DUPLICATE_KEY", non_retryable=True)
    assert _is_in_doubt(error) is is_in_doubt
