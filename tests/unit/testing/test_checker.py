"""The checker, S1 to S6: each rule passes on correct runs and fails, alone, on its own violation."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from invoice_mcp.domain.report import Decision, LineStatus, Status, Verdict
from invoice_mcp.testing import Observations, Violations, check
from invoice_mcp.testing.checker.history import ReceivedDecision
from invoice_mcp.testing.checker.observations import Run
from invoice_mcp.testing.checker.violations import RULES
from invoice_mcp.testing.records import Outcome
from tests.unit.testing.run_builders import (
    BEGAN,
    DEADLINE,
    DECIDED,
    ENDED,
    HOUR,
    a_payment,
    a_run,
    an_answer,
    an_attempt,
    an_invoice,
    broken,
    payments_of,
    retold,
    traced,
)

# The resolution of the clocks of histories and ledgers.
_INSTANT = timedelta(microseconds=1)
CANCELLED, FAILED, NOT_PAID, PAID = LineStatus.CANCELLED, LineStatus.FAILED, LineStatus.NOT_PAID, LineStatus.PAID
PENDING, SCHEDULED = LineStatus.PENDING, LineStatus.SCHEDULED
APPROVED, REJECTED = Verdict.APPROVED, Verdict.REJECTED

IN_FULL = a_run(Status.PAID, PAID, PAID, verdict=APPROVED)
HALF = a_run(Status.FAILED, PAID, FAILED, verdict=APPROVED)
NO_THANKS = a_run(Status.REJECTED, NOT_PAID, verdict=REJECTED)
CLEAN = {
    "paid": IN_FULL,
    "one line refused": HALF,
    "refused by the ERP": a_run(Status.FAILED, NOT_PAID, validated_at=None),
    "approved, then refused by the ERP": a_run(
        Status.FAILED, NOT_PAID, verdict=APPROVED, validated_at=None, children={}
    ),
    "rejected": NO_THANKS,
    "rejected before validation ended": a_run(Status.REJECTED, NOT_PAID, verdict=REJECTED, validated_at=None),
    "expired": a_run(Status.EXPIRED, NOT_PAID),
    "cancelled": a_run(Status.CANCELLED, NOT_PAID),
    "approved and cancelled": a_run(Status.CANCELLED, NOT_PAID, verdict=APPROVED, children={}),
    "cancelled while paying": a_run(Status.CANCELLED, PAID, CANCELLED, verdict=APPROVED),
    "cancelled in vain": replace(IN_FULL, trace=replace(IN_FULL.trace, cancelled_at=DECIDED)),
    "still checked": a_run(Status.PENDING_VALIDATION, PENDING),
    "still waiting": a_run(Status.PENDING_APPROVAL, PENDING),
    "still paying": a_run(Status.PAYING, PAID, SCHEDULED, verdict=APPROVED),
}


@pytest.mark.parametrize("run", CLEAN.values(), ids=CLEAN)
def test_a_correct_run_breaks_no_rule(run: Run) -> None:
    assert broken(run) == []


def test_there_is_a_clean_run_for_every_way_to_end() -> None:
    assert {run.status for run in CLEAN.values()} >= {status for status in Status if status.is_terminal}


def test_s1_a_payment_without_a_decision() -> None:
    run = a_run(Status.PAYING, SCHEDULED, verdict=APPROVED)
    undecided = retold(traced(run, decisions=()), status=Status.PENDING_APPROVAL, decision=None)
    undecided = traced(replace(undecided, status=Status.PENDING_APPROVAL), indexed=())
    assert broken(undecided) == []
    assert broken(undecided, ledger=[a_payment()]) == ["S1"]


def test_s1_a_payment_before_the_approval() -> None:
    early = a_payment(at=DECIDED - HOUR / 2)
    assert broken(a_run(Status.PAID, PAID, verdict=APPROVED), ledger=[early]) == ["S1"]


def test_s1_a_payment_by_an_unknown_run() -> None:
    assert broken(IN_FULL, ledger=[*payments_of(IN_FULL), a_payment(3, run_id="other")]) == ["S1"]


def test_s1_a_payment_on_an_approval_that_came_after_a_rejection() -> None:
    decisions = (ReceivedDecision(REJECTED, BEGAN), ReceivedDecision(APPROVED, DECIDED))
    run = traced(a_run(Status.PAYING, SCHEDULED, verdict=APPROVED), decisions=decisions)
    assert "S1" in broken(run, ledger=[a_payment()])


def test_s2_a_line_paid_twice() -> None:
    assert broken(IN_FULL, ledger=[*payments_of(IN_FULL), a_payment(2)]) == ["S2"]


def test_s2_a_line_paid_twice_whatever_the_key_the_run_and_the_content() -> None:
    assert "S2" in broken(IN_FULL, ledger=[*payments_of(IN_FULL), a_payment(2, idempotency_key="another")])
    assert "S2" in broken(IN_FULL, ledger=[*payments_of(IN_FULL), a_payment(2, run_id="nobody", amount=7)])


def test_s2_a_line_paid_again_by_a_second_run() -> None:
    again = a_run(Status.PAID, PAID, PAID, verdict=APPROVED, run_id="2")
    assert broken(HALF, again) == ["S2"]


def test_a_second_run_pays_what_the_first_left_unpaid() -> None:
    again = a_run(Status.PAID, PAID, PAID, verdict=APPROVED, run_id="2")
    assert broken(HALF, again, ledger=[a_payment(1), a_payment(2, run_id="2")]) == []


def test_a_second_run_that_ends_otherwise_leaves_the_payments_of_the_first_alone() -> None:
    for again in (
        a_run(Status.REJECTED, NOT_PAID, NOT_PAID, verdict=REJECTED, run_id="2"),
        a_run(Status.EXPIRED, NOT_PAID, NOT_PAID, run_id="2"),
        a_run(Status.CANCELLED, NOT_PAID, NOT_PAID, run_id="2"),
    ):
        assert broken(HALF, again, ledger=[a_payment(1)]) == []


def test_s3_another_decision_than_the_first() -> None:
    decisions = (ReceivedDecision(REJECTED, BEGAN), ReceivedDecision(APPROVED, DECIDED))
    # This run is still open, and nothing was paid yet.
    assert broken(traced(a_run(Status.PAYING, SCHEDULED, verdict=APPROVED), decisions=decisions)) == ["S3"]


def test_s3_a_decision_reported_in_two_ways() -> None:
    assert NO_THANKS.report
    one = NO_THANKS.report.model_dump(mode="json")
    other = {**one, "decision": {**one["decision"], "by": "Bob"}}
    assert broken(NO_THANKS, answers=[an_answer(content=one), an_answer(content=one)]) == []
    assert broken(NO_THANKS, answers=[an_answer(content=one), an_answer(content=other)]) == ["S3"]


@pytest.mark.parametrize("changes", [{"by": "Bob"}, {"comment": "no"}])
def test_s3_a_decision_that_is_another_one_in_the_end(changes: dict[str, str]) -> None:
    assert NO_THANKS.report
    told = NO_THANKS.report.model_dump(mode="json")
    assert broken(NO_THANKS, answers=[an_answer(content={**told, "decision": told["decision"] | changes})]) == ["S3"]


def test_s3_repeating_a_decision_changes_nothing() -> None:
    decisions = (
        ReceivedDecision(REJECTED, DECIDED),
        ReceivedDecision(REJECTED, DECIDED + HOUR / 4),
        ReceivedDecision(APPROVED, DECIDED + HOUR / 2),
    )
    assert broken(traced(NO_THANKS, decisions=decisions)) == []


def test_s4_paid_with_a_line_that_is_not() -> None:
    assert broken(IN_FULL, ledger=[a_payment(1)]) == ["S4"]


@pytest.mark.parametrize("wrong", [{"amount": 99}, {"currency": "EUR"}, {"customer": "Else"}])
def test_s4_a_payment_of_something_else(wrong: dict[str, Any]) -> None:
    assert broken(IN_FULL, ledger=[a_payment(1), a_payment(2, **wrong)]) == ["S4"]
    assert broken(HALF, ledger=[a_payment(1), a_payment(2, **wrong)]) == ["S4"]


def test_s4_a_payment_of_a_line_there_is_none_of() -> None:
    run = traced(HALF, children={**HALF.trace.children, "1-line-3": "invoice-A-line-3"})
    assert broken(run, ledger=[a_payment(1), a_payment(3)]) == ["S4"]


def test_s4_a_paid_line_reported_as_failed() -> None:
    assert broken(HALF, ledger=[a_payment(1), a_payment(2)]) == ["S4"]


@pytest.mark.parametrize("line", [CANCELLED, NOT_PAID])
def test_s4_a_paid_line_reported_as_not_paid(line: LineStatus) -> None:
    run = a_run(Status.CANCELLED, line, verdict=APPROVED)
    assert broken(run, ledger=[a_payment(1)]) == ["S4"]


def test_s4_an_unpaid_line_reported_as_paid() -> None:
    assert broken(HALF, ledger=[]) == ["S4"]


def test_s4_a_line_reported_as_paid_by_another_payment() -> None:
    assert broken(retold(HALF, line=1, payment_id="PAY-2"), ledger=[a_payment(1)]) == ["S4"]
    # As after a duplicated answer: the payment of line 2 was never requested.
    both = retold(IN_FULL, line=2, payment_id="PAY-1")
    assert broken(both, ledger=[a_payment(1)]) == ["S4"]


def test_s4_failed_with_every_line_paid() -> None:
    assert broken(a_run(Status.FAILED, PAID, verdict=APPROVED)) == ["S4"]


def test_s4_a_report_that_leaves_a_line_out() -> None:
    run = traced(a_run(Status.REJECTED, NOT_PAID, verdict=REJECTED), invoice=an_invoice(2))
    assert broken(run) == ["S4", "S7"]


@pytest.mark.parametrize("ledger", [[a_payment(1)], [a_payment(1), a_payment(2)]], ids=["not made", "made"])
def test_a_line_reported_as_unconfirmed_may_be_paid_or_not(ledger: list[object]) -> None:
    made = [paid for paid in (a_payment(1), a_payment(2)) if paid in ledger]
    assert broken(retold(HALF, line=2, unconfirmed=True), ledger=made) == []


def test_a_line_unconfirmed_in_one_run_may_be_reported_as_paid_by_the_next() -> None:
    again = a_run(Status.PAID, PAID, PAID, verdict=APPROVED, run_id="2")
    first = retold(HALF, line=2, unconfirmed=True)
    assert broken(first, again, ledger=[a_payment(1), a_payment(2)]) == []


UNCONFIRMED = retold(HALF, line=2, unconfirmed=True)


@pytest.mark.parametrize(
    ("run", "outcomes", "rules"),
    [
        (HALF, [Outcome.REFUSED], []),
        (HALF, [Outcome.UNKNOWN, Outcome.REFUSED], ["S4"]),
        (HALF, [Outcome.PAID, Outcome.REFUSED], ["S4"]),
        (HALF, [Outcome.UNKNOWN] * 3, ["S4"]),
        (UNCONFIRMED, [Outcome.UNKNOWN] * 3, []),
        (UNCONFIRMED, [Outcome.REFUSED], ["S4"]),
        (UNCONFIRMED, [Outcome.UNKNOWN, Outcome.REFUSED], []),
        (UNCONFIRMED, [Outcome.UNKNOWN, Outcome.PAID], ["S4"]),
        (UNCONFIRMED, [], []),
    ],
)
def test_s4_a_failed_line_is_as_certain_as_the_gateway_was(run: Run, outcomes: list[Outcome], rules: list[str]) -> None:
    attempts = [an_attempt(Outcome.PAID), *(an_attempt(outcome, 2) for outcome in outcomes)]
    assert broken(run, attempts=attempts) == rules


@pytest.mark.parametrize(("run", "rules"), [(HALF, ["S4"]), (UNCONFIRMED, [])], ids=["certain", "unconfirmed"])
def test_s4_a_refusal_is_not_certain_if_an_attempt_before_it_never_arrived(run: Run, rules: list[str]) -> None:
    assert broken(run, attempts=[an_attempt(Outcome.PAID), an_attempt(Outcome.REFUSED, 2, attempt=2)]) == rules


@pytest.mark.parametrize(("is_sure", "rules"), [(True, ["S4"]), (False, [])], ids=["certain", "unconfirmed"])
def test_s4_a_refusal_is_not_certain_if_an_earlier_run_got_no_verdict(is_sure: bool, rules: list[str]) -> None:
    again = a_run(Status.FAILED, PAID, FAILED, verdict=APPROVED, run_id="2")
    again = retold(again, line=2, unconfirmed=not is_sure, settled_before=True)
    attempts = [an_attempt(Outcome.UNKNOWN, 2), an_attempt(Outcome.REFUSED, 2, run_id="2")]
    assert broken(UNCONFIRMED, again, ledger=[a_payment(1)], attempts=attempts) == rules
    other = replace(attempts[0], order=attempts[0].order.model_copy(update={"idempotency_key": "another"}))
    # The second key of the line breaks another rule.
    assert broken(UNCONFIRMED, again, ledger=[a_payment(1)], attempts=[other, attempts[1]]) == ["S10"]


def test_s4_a_line_is_not_certain_if_the_gateway_named_its_payment_for_another_line() -> None:
    both = retold(a_run(Status.FAILED, FAILED, FAILED, verdict=APPROVED), line=1, unconfirmed=True)
    both = retold(both, line=2, unconfirmed=True)
    named = an_attempt(Outcome.PAID, names=1)
    assert broken(both, ledger=[a_payment(1)], attempts=[named, an_attempt(Outcome.UNKNOWN, 2, names=1)]) == []
    assert broken(both, ledger=[a_payment(1)], attempts=[named, an_attempt(Outcome.UNKNOWN, 2)]) == ["S4"]


def test_a_terminated_lines_answers_are_not_judged() -> None:
    ended = replace(UNCONFIRMED, completed_children=frozenset({"1-line-1"}))
    assert broken(ended, attempts=[an_attempt(Outcome.REFUSED, 2)]) == []


def test_answers_to_another_run_of_a_line_are_not_judged() -> None:
    again = a_run(Status.FAILED, PAID, FAILED, verdict=APPROVED, run_id="2")
    attempts = [an_attempt(Outcome.REFUSED, 2, run_id="2"), *(an_attempt(Outcome.UNKNOWN, 2) for _ in range(3))]
    assert broken(UNCONFIRMED, again, ledger=[a_payment(1)], attempts=attempts) == []


@pytest.mark.parametrize("status", [Status.EXPIRED, Status.CANCELLED])
def test_s5_a_payment_of_an_unapproved_invoice(status: Status) -> None:
    run = traced(a_run(status, NOT_PAID), children={"1-line-1": "invoice-A-line-1"})
    assert broken(retold(run, line=1, unconfirmed=True), ledger=[]) == []
    # No payment can break S5 alone: without an approval it breaks S1 as well.
    assert broken(retold(run, line=1, unconfirmed=True), ledger=[a_payment()]) == ["S1", "S5"]


def test_s5_a_payment_of_a_rejected_invoice() -> None:
    run = retold(NO_THANKS, line=1, unconfirmed=True)
    assert broken(run, ledger=[a_payment()]) == ["S1", "S5"]


def test_s6_a_payment_before_its_due_date() -> None:
    run = a_run(Status.PAID, PAID, verdict=APPROVED)
    for due, rules in ((ENDED, []), (ENDED + _INSTANT, ["S6"])):
        assert broken(traced(retold(run, line=1, due_date=due), invoice=an_invoice(1, due=due))) == rules


@pytest.mark.parametrize("late", [1, 2])
def test_s6_each_line_has_a_due_date_of_its_own(late: int) -> None:
    lines = list(an_invoice(2).lines)
    lines[late - 1] = lines[late - 1].model_copy(update={"due_date": ENDED + _INSTANT})
    invoice = an_invoice(2).model_copy(update={"lines": tuple(lines)})
    run = traced(retold(IN_FULL, line=late, due_date=ENDED + _INSTANT), invoice=invoice)
    (early,) = [each for each in check(Observations((run,), tuple(payments_of(run)))) if each.rule == "S6"]
    assert f"line {late} " in early.detail


def test_s8_a_decision_at_the_deadline_is_after_it() -> None:
    waiting = a_run(Status.PENDING_APPROVAL, PENDING)
    for at, is_late in ((DEADLINE - _INSTANT, False), (DEADLINE, True), (DEADLINE + _INSTANT, True)):
        run = retold(waiting, decision=Decision(verdict=APPROVED, by="Ann", at=at))
        assert ("S8" in broken(run)) is is_late
        arrived = traced(waiting, decisions=(ReceivedDecision(APPROVED, at),))
        assert (arrived.trace.effective_decision is None) is is_late


def test_each_rule_is_reported_once_per_invoice_with_its_text() -> None:
    found = check(Observations((IN_FULL,), ()))
    assert [violation.rule for violation in found] == ["S4"]
    failure = Violations(found)
    assert failure.found == tuple(found)
    assert f"S4 ({RULES['S4']}) invoice-A: is PAID, but not line 1 over USD 100" in str(failure)
