"""The rule of decisions, in every combination."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from invoice_mcp.domain.decision import require_open_for
from invoice_mcp.domain.errors import ErrorCode, RefusedError
from invoice_mcp.domain.report import Decision, Status, Verdict
from tests.requirements import requirement

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
OPEN = [status for status in Status if not status.is_terminal]


def refusal(verdict: Verdict, status: Status, made: Verdict | None, deadline: datetime | None) -> ErrorCode | None:
    decision = Decision(verdict=made, by="Ann", at=NOW - timedelta(hours=1)) if made else None
    try:
        require_open_for(verdict, status=status, existing=decision, deadline=deadline, now=NOW)
    except RefusedError as refused:
        return refused.code
    return None


@requirement("DECIDE-LATE")
@pytest.mark.parametrize("verdict", Verdict)
@pytest.mark.parametrize("made", [None, *Verdict])
@pytest.mark.parametrize("status", [status for status in Status if status.is_terminal])
def test_nothing_is_decided_after_the_end(verdict: Verdict, made: Verdict | None, status: Status) -> None:
    assert refusal(verdict, status, made, None) is ErrorCode.ALREADY_CLOSED


@requirement("DECIDE-FIRST", "DECIDE-REPEAT")
@pytest.mark.parametrize("status", OPEN)
@pytest.mark.parametrize("made", Verdict)
@pytest.mark.parametrize("deadline", [None, NOW - timedelta(days=1), NOW + timedelta(days=1)])
def test_the_first_decision_stands_also_after_the_deadline(
    status: Status, made: Verdict, deadline: datetime | None
) -> None:
    (other,) = set(Verdict) - {made}
    assert refusal(made, status, made, deadline) is None
    assert refusal(other, status, made, deadline) is ErrorCode.ALREADY_DECIDED


@requirement("DECIDE-LATE")
@pytest.mark.parametrize(
    ("ends_in", "code"),
    [
        (timedelta(microseconds=1), None),
        (timedelta(0), ErrorCode.ALREADY_CLOSED),
        (-timedelta(1), ErrorCode.ALREADY_CLOSED),
    ],
)
def test_a_decision_counts_until_the_very_deadline(ends_in: timedelta, code: ErrorCode | None) -> None:
    assert refusal(Verdict.APPROVED, Status.PENDING_APPROVAL, None, NOW + ends_in) is code
    assert refusal(Verdict.APPROVED, Status.PENDING_VALIDATION, None, None) is None
