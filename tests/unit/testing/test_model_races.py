"""The reference model where several outcomes are right: retries, decisions at the deadline, due lines, eager calls."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from invoice_mcp.domain.report import LineStatus, Status, Verdict
from invoice_mcp.testing import Action, Verb
from invoice_mcp.testing.model.model import OK
from invoice_mcp.testing.model.state import ReportedState, Span, State
from tests.unit.testing.model_driver import BEGAN, DEADLINE, LATER, ModelDriver, shown

CANCELLED, FAILED, NOT_PAID, PAID = LineStatus.CANCELLED, LineStatus.FAILED, LineStatus.NOT_PAID, LineStatus.PAID
PENDING, SCHEDULED = LineStatus.PENDING, LineStatus.SCHEDULED
APPROVED, REJECTED = Verdict.APPROVED, Verdict.REJECTED
CONFLICT, CLOSED = "INVOICE_CONFLICT", "ALREADY_CLOSED"

CHECKED = shown(Status.PENDING_VALIDATION, None, PENDING)
WAITING = shown(Status.PENDING_APPROVAL, None, PENDING)
IN_FULL = shown(Status.PAID, APPROVED, PAID)
PAYING = shown(Status.PAYING, APPROVED, SCHEDULED)
TOO_LATE = shown(Status.EXPIRED, None, NOT_PAID)
NOTHING_PAID = shown(Status.FAILED, APPROVED, FAILED)
SECOND = timedelta(seconds=1)
NEXT_WEEK = 200.0


# -- retries of the ERP --------------------------------------------------------------------------------------


@pytest.mark.parametrize("downs", [1, 4])
def test_an_erp_that_comes_back_in_time_lets_the_invoice_wait(downs: int) -> None:
    driver = ModelDriver(-1).play(*["erp-down"] * downs, "trigger")
    assert driver.reported == {CHECKED, WAITING}
    assert driver.play("advance 1").reported == {WAITING}


@pytest.mark.parametrize("downs", [5, 6])
def test_an_erp_down_five_times_fails_the_invoice(downs: int) -> None:
    driver = ModelDriver(-1).play(*["erp-down"] * downs, "trigger")
    assert driver.reported == {CHECKED, shown(Status.FAILED, None, NOT_PAID)}
    assert driver.play("advance 1").reported == {shown(Status.FAILED, None, NOT_PAID)}


def test_after_the_erp_was_down_five_times_a_new_run_is_validated_again() -> None:
    driver = ModelDriver(-1).play(*["erp-down"] * 6, "trigger", "advance 1", "trigger", "advance 1")
    assert driver.reported == {WAITING}


def test_a_refusal_after_a_retry_is_final() -> None:
    driver = ModelDriver(-1).play("erp-down", "erp-refuses", "trigger", "advance 1")
    assert driver.reported == {shown(Status.FAILED, None, NOT_PAID)}


def test_an_approval_while_the_erp_is_down_counts_once_it_is_back() -> None:
    driver = ModelDriver(LATER).play("erp-down", "trigger", "approve")
    assert driver.reported == {shown(Status.PENDING_VALIDATION, APPROVED, PENDING), PAYING}
    assert driver.play("advance 1").reported == {PAYING}


def test_a_rejection_does_not_wait_for_the_erp() -> None:
    driver = ModelDriver(-1).play("erp-down", "trigger", "reject")
    assert driver.reported == {shown(Status.REJECTED, REJECTED, NOT_PAID)}


def test_time_too_short_for_the_retries_may_or_may_not_end_them() -> None:
    driver = ModelDriver(-1).play(*["erp-down"] * 4, "trigger", f"advance {1 / 3600}")
    assert driver.reported == {CHECKED, WAITING}


def test_cancelled_before_validation_has_ended_an_approved_invoice_pays_nothing() -> None:
    driver = ModelDriver(LATER).play("erp-down", "trigger", "approve", "cancel")
    # Either validation had not ended yet, or it had, and the line was waiting for its due date.
    assert driver.reported == {shown(Status.CANCELLED, APPROVED, line) for line in (NOT_PAID, CANCELLED)}


def test_the_validation_of_a_cancelled_invoice_is_not_retried() -> None:
    driver = ModelDriver(-1).play("erp-down", "trigger", "cancel")
    assert driver.reported == {shown(Status.CANCELLED, None, NOT_PAID)}
    assert driver.play("advance 24").reported == {shown(Status.CANCELLED, None, NOT_PAID)}


# -- the deadline ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [0.0, 0.5, 5])
def test_a_decision_under_way_at_the_deadline_counts_or_is_refused(late: float) -> None:
    driver = ModelDriver(NEXT_WEEK).play("trigger", "advance 119.99")
    assert driver.allowed("approve", until=DEADLINE + late * SECOND) == {OK: {PAYING}, CLOSED: {TOO_LATE}}


def test_a_decision_before_the_deadline_counts() -> None:
    driver = ModelDriver(NEXT_WEEK).play("trigger", "advance 119.99")
    assert driver.allowed("approve", until=DEADLINE - SECOND) == {OK: {PAYING}}


def test_a_decision_surely_after_the_deadline_is_refused() -> None:
    driver = ModelDriver(LATER).play("trigger", "advance 120.01")
    assert driver.allowed("approve") == {CLOSED: {TOO_LATE}}


def test_the_approval_timeout_starts_when_validation_has_ended() -> None:
    # The retry took up to some minutes of the hour: so late the time to decide began, so late it may end.
    driver = ModelDriver(LATER).play("erp-down", "trigger", "advance 1", f"advance {119 + 1 / 60}")
    assert driver.reported == {WAITING, TOO_LATE}
    assert driver.play("advance 1").reported == {TOO_LATE}


# -- lines -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("passes", "becomes"),
    [(LATER - 0.1, {PAYING}), (LATER, {PAYING, IN_FULL}), (LATER + 0.1, {IN_FULL})],
    ids=["before", "about", "after"],
)
def test_a_line_is_paid_when_it_is_due(passes: float, becomes: object) -> None:
    driver = ModelDriver(LATER).play("trigger", "approve", f"advance {passes}")
    assert driver.reported == becomes


def test_a_line_that_falls_due_while_the_invoice_is_approved_may_or_may_not_be_paid_yet() -> None:
    driver = ModelDriver(0).play("trigger")
    assert driver.allowed("approve", until=BEGAN + SECOND) == {OK: {PAYING, IN_FULL}}


def test_a_line_that_falls_due_while_the_invoice_is_cancelled_is_cancelled_or_paid() -> None:
    driver = ModelDriver(LATER).play("trigger", "approve", f"advance {LATER - 0.1}")
    outcomes = driver.allowed("cancel", until=BEGAN + timedelta(hours=LATER))
    cancelled = shown(Status.CANCELLED, APPROVED, CANCELLED)
    # Its payment may be under way when it is cancelled: then it finishes.
    assert outcomes == {OK: {cancelled, PAYING, IN_FULL}, CLOSED: {IN_FULL}}


@pytest.mark.parametrize("fault", ["payment-down", "answer-lost", "stale-answer"])
def test_a_payment_without_a_verdict_is_tried_again_up_to_three_times(fault: str) -> None:
    driver = ModelDriver(-1).play(*[fault] * 2, "trigger", "approve")
    assert driver.reported == {PAYING, IN_FULL}
    assert driver.play("advance 1").reported == {IN_FULL}


@pytest.mark.parametrize("fault", ["payment-down", "answer-lost", "stale-answer"])
def test_a_payment_without_a_verdict_three_times_is_failed_and_settled(fault: str) -> None:
    driver = ModelDriver(-1, changed=1).play(*[fault] * 3, "trigger", "approve", "advance 1")
    assert driver.reported == {NOTHING_PAID}
    # It may have been made: other content could be paid beside it.
    assert set(driver.allowed("trigger-changed")) == {CONFLICT}
    assert driver.play("trigger", "approve").reported == {IN_FULL}


def test_a_refused_payment_settles_nothing() -> None:
    driver = ModelDriver(-1, changed=1).play("payment-refused", "trigger", "approve")
    assert driver.reported == {NOTHING_PAID}
    assert set(driver.allowed("trigger-changed")) == {OK}


@pytest.mark.parametrize("fault", ["payment-down", "answer-lost", "stale-answer"])
def test_a_refusal_after_no_verdict_is_failed_and_settled(fault: str) -> None:
    driver = ModelDriver(-1, changed=1).play(fault, "payment-refused", "trigger", "approve", "advance 1")
    assert driver.reported == {NOTHING_PAID}
    # The attempt before it may have paid: other content could be paid beside it.
    assert set(driver.allowed("trigger-changed")) == {CONFLICT}
    assert driver.play("trigger", "approve").reported == {IN_FULL}


def test_a_key_that_is_refused_again_is_failed_and_settled_as_often_as_it_is_submitted() -> None:
    driver = ModelDriver(-1, changed=1).play("refused-again", "trigger", "approve", "advance 1")
    for _ in range(2):
        assert driver.reported == {NOTHING_PAID}
        assert set(driver.allowed("trigger-changed")) == {CONFLICT}
        driver.play("trigger", "approve", "advance 1")


def test_every_key_with_a_lost_answer_is_refused_again() -> None:
    driver = ModelDriver(-1, -1).play("refused-again 1", "refused-again 2", "trigger", "approve", "advance 1")
    both = {shown(Status.FAILED, APPROVED, FAILED, FAILED)}
    assert driver.reported == both
    assert driver.play("trigger", "approve").reported == both


def test_a_key_is_refused_again_with_the_line_it_was_used_for_only() -> None:
    driver = ModelDriver(-1, -1, changed=2).play(
        "refused-again 1", "payment-refused 2", "trigger", "approve", "advance 1"
    )
    assert driver.reported == {shown(Status.FAILED, APPROVED, FAILED, FAILED)}
    # Line 1 is the same in the changed invoice, and so is its key; line 2 is another.
    assert driver.play("trigger-changed", "approve").reported == {shown(Status.FAILED, APPROVED, FAILED, PAID)}


@pytest.mark.parametrize("fault", ["payment-down", "answer-lost"])
def test_a_fault_is_met_before_the_key_is_refused_again(fault: str) -> None:
    driver = ModelDriver(-1).play("refused-again", *[fault] * 2, "trigger", "approve", "advance 1")
    assert {state.attempts for state in driver.model.possible} == {(0, 0)}
    assert {state.faults_of(1) for state in driver.model.possible} == {()}
    assert driver.reported == {NOTHING_PAID}


def test_a_payment_that_is_being_retried_finishes_although_the_invoice_is_cancelled() -> None:
    driver = ModelDriver(-1, LATER).play("payment-down 1", "trigger", "approve", "cancel")
    ends = shown(Status.CANCELLED, APPROVED, PAID, CANCELLED)
    assert driver.reported == {shown(Status.PAYING, APPROVED, SCHEDULED, CANCELLED), ends}
    assert driver.play("advance 1").reported == {ends}


def test_cancelled_when_the_only_payment_is_being_retried_the_invoice_is_paid_all_the_same() -> None:
    driver = ModelDriver(-1).play("payment-down", "trigger", "approve")
    assert driver.allowed("cancel") == {OK: {PAYING, IN_FULL}, CLOSED: {IN_FULL}}


def test_cancelled_while_a_payment_is_retried_in_vain_the_invoice_is_failed() -> None:
    driver = ModelDriver(-1, LATER).play(*["payment-down 2"] * 3, "trigger", "approve", f"advance {LATER - 0.1}")
    # Line 2 falls due, fails its first attempts, and is cancelled meanwhile. No line ends as cancelled.
    outcomes = driver.allowed("cancel", until=BEGAN + timedelta(hours=LATER))
    assert shown(Status.FAILED, APPROVED, PAID, FAILED) in outcomes[OK] | outcomes[CLOSED]
    assert shown(Status.CANCELLED, APPROVED, PAID, CANCELLED) in outcomes[OK]


# -- eager: actions while others are in flight -----------------------------------------------------------------


def play_eagerly(driver: ModelDriver, *actions: str) -> None:
    """Perform actions without time between them, each answered OK."""
    driver.model.eager = True
    for word in actions:
        action = Action(verb=Verb(word))
        driver.model.possible = driver.model.allowed_answers(action, Span(driver.now, driver.now))[OK]


def only(driver: ModelDriver, keep: Callable[[State], object]) -> None:
    """Continue with some of the possible states."""
    driver.model.possible = frozenset(filter(keep, driver.model.possible))


def eager_outcomes(*actions: str, driver: ModelDriver | None = None) -> set[ReportedState]:
    """The reported states after eager actions, each answered OK, at quiescence."""
    driver = driver or ModelDriver(-1)
    play_eagerly(driver, *actions)
    driver.model.reach_quiescence(Span(driver.now, driver.now))
    return driver.reported


def test_a_crash_may_lose_a_payments_answer_and_the_payment_is_retried() -> None:
    assert eager_outcomes("trigger", "approve") == {IN_FULL}
    still_checked = shown(Status.PENDING_VALIDATION, APPROVED, PENDING)
    assert eager_outcomes("trigger", "approve", "crash") == {still_checked, PAYING, IN_FULL}


def test_a_crash_may_lose_a_refusal() -> None:
    assert eager_outcomes("payment-refused", "trigger", "approve") == {NOTHING_PAID}
    assert eager_outcomes("payment-refused", "trigger", "approve", "crash") >= {NOTHING_PAID, PAYING, IN_FULL}


@pytest.mark.parametrize(
    ("fault", "still", "ends"),
    [
        ("payment-refused", PAYING, NOTHING_PAID),
        ("erp-refuses", shown(Status.PENDING_VALIDATION, APPROVED, PENDING), shown(Status.FAILED, APPROVED, NOT_PAID)),
    ],
)
def test_a_crash_may_come_before_a_port_is_asked(fault: str, still: ReportedState, ends: ReportedState) -> None:
    """The activity is repeated after its timeout, and then meets the fault."""
    driver = ModelDriver(-1)
    eager_outcomes(fault, "trigger", "approve", "crash", driver=driver)
    only(driver, lambda state: state.reported == still)
    later = driver.now + timedelta(hours=1)
    driver.model.reach_quiescence(Span(later, later))
    assert ends in driver.reported


def test_three_crashes_may_lose_all_answers() -> None:
    assert NOTHING_PAID not in eager_outcomes("trigger", "approve", "crash", "crash")
    assert NOTHING_PAID in eager_outcomes("trigger", "approve", "crash", "crash", "crash")


@pytest.mark.parametrize("end", ["cancel", "reject"])
def test_a_closed_invoice_may_have_missed_the_erps_refusal(end: str) -> None:
    assert eager_outcomes("erp-refuses", "trigger", end, "trigger", "approve") == {
        shown(Status.FAILED, APPROVED, NOT_PAID),
        IN_FULL,
    }


@pytest.mark.parametrize("again", ["approve", "signal-approve"])
def test_a_fault_scripted_after_the_gateway_has_paid_is_not_met_although_the_invoice_is_still_open(again: str) -> None:
    assert eager_outcomes("trigger", "approve", "payment-refused", again) == {IN_FULL, NOTHING_PAID}


@pytest.mark.parametrize(
    "done",
    [
        ("payment-refused", "trigger", "approve"),
        ("trigger", "payment-refused", "approve"),
        ("payment-refused", "trigger", "approve", "payment-down"),
    ],
)
def test_a_fault_scripted_before_the_gateway_was_asked_is_met(done: tuple[str, ...]) -> None:
    assert eager_outcomes(*done, "approve") == {NOTHING_PAID}


def test_a_payment_with_an_undelivered_answer_is_reported_although_the_invoice_is_cancelled() -> None:
    driver = ModelDriver(-1, LATER)
    play_eagerly(driver, "trigger", "approve", "payment-refused")
    only(driver, lambda state: state.undelivered)
    assert driver.allowed("cancel") == {
        OK: {shown(Status.PAYING, APPROVED, SCHEDULED, CANCELLED), shown(Status.CANCELLED, APPROVED, PAID, CANCELLED)}
    }


def test_a_refusal_after_an_answer_that_a_crash_lost_settles_the_line() -> None:
    driver = ModelDriver(-1, changed=1)
    eager_outcomes("trigger", "approve", "payment-refused", "crash", driver=driver)
    unmet = frozenset({(1, (Verb.PAYMENT_REFUSED,))})
    only(driver, lambda state: state.attempts == (0, 1) and state.faults == unmet)
    assert driver.play("advance 1").reported == {NOTHING_PAID}
    assert set(driver.allowed("trigger-changed")) == {CONFLICT}


def test_an_answer_in_flight_is_a_refusal_if_the_key_was_used_before() -> None:
    driver = ModelDriver(-1)
    play_eagerly(driver, "refused-again", "trigger", "approve", "approve")
    only(driver, lambda state: state.attempts == (0, 1))
    play_eagerly(driver, "payment-down")
    only(driver, lambda state: state.undelivered)
    assert driver.play("advance 1").reported == {NOTHING_PAID}
    assert {state.faults_of(1) for state in driver.model.possible} == {(Verb.PAYMENT_DOWN,)}


@pytest.mark.parametrize(
    ("actions", "seen", "ends"),
    [
        (
            ("erp-refuses", "erp-refuses", "trigger", "trigger-changed", "trigger-changed", "erp-down"),
            CHECKED,
            {WAITING, shown(Status.FAILED, None, NOT_PAID)},
        ),
        (("trigger", "approve", "payment-down", "payment-refused"), PAYING, {IN_FULL, NOTHING_PAID}),
    ],
    ids=["run 2 or 3", "paid or tried again"],
)
def test_an_observed_state_may_be_transient_although_another_path_ends_in_it(
    actions: tuple[str, ...], seen: ReportedState, ends: set[ReportedState]
) -> None:
    driver = ModelDriver(-1, changed=1)
    assert seen in eager_outcomes(*actions, driver=driver)
    driver.model.observe(seen)
    assert driver.reported == {seen}
    assert driver.play("advance 1").reported == ends


@pytest.mark.parametrize(
    ("decided", "seen", "ends"),
    [
        ((), CHECKED, {WAITING, shown(Status.FAILED, None, NOT_PAID)}),
        (
            ("approve",),
            shown(Status.PENDING_VALIDATION, APPROVED, PENDING),
            {IN_FULL, shown(Status.FAILED, APPROVED, NOT_PAID)},
        ),
    ],
)
def test_a_fault_scripted_after_the_erp_has_accepted_is_not_met_although_its_answer_is_undelivered(
    decided: tuple[str, ...], seen: ReportedState, ends: set[ReportedState]
) -> None:
    driver = ModelDriver(-1)
    eager_outcomes("trigger", "erp-down", "erp-refuses", *decided, driver=driver)
    driver.model.observe(seen)
    assert driver.play("advance 1").reported == ends


def test_a_fault_scripted_before_the_erp_was_asked_is_met() -> None:
    assert eager_outcomes("erp-down", "erp-refuses", "trigger") == {CHECKED, shown(Status.FAILED, None, NOT_PAID)}
    assert eager_outcomes("erp-refuses", "trigger", "erp-down", "approve") == {shown(Status.FAILED, APPROVED, NOT_PAID)}


@pytest.mark.parametrize(
    ("actions", "lines"),
    [(("cancel",), {NOT_PAID}), (("reject",), {NOT_PAID}), (("approve", "cancel"), {NOT_PAID, CANCELLED})],
)
def test_an_accepted_invoice_meets_no_later_fault_when_it_closes_before_the_answer(
    actions: tuple[str, ...], lines: set[LineStatus]
) -> None:
    driver = ModelDriver(LATER)
    play_eagerly(driver, "trigger", "erp-refuses")
    only(driver, lambda state: state.undelivered)
    play_eagerly(driver, *actions)
    assert not any(state.undelivered for state in driver.model.possible if state.status.is_terminal)
    assert {line for _, _, (line,) in eager_outcomes(driver=driver)} == lines
    assert {(state.faults_of(0), state.undelivered) for state in driver.model.possible} == {
        ((Verb.ERP_REFUSES,), frozenset())
    }


def test_a_crash_may_lose_the_erps_acceptance_and_the_erp_is_asked_again() -> None:
    driver = ModelDriver(-1)
    play_eagerly(driver, "trigger", "erp-refuses")
    only(driver, lambda state: state.undelivered)
    refused = shown(Status.FAILED, None, NOT_PAID)
    assert eager_outcomes("crash", driver=driver) == {CHECKED, WAITING, refused}
    only(driver, lambda state: state.reported == CHECKED)
    assert {state.faults_of(0) for state in driver.model.possible} == {(Verb.ERP_REFUSES,)}
    assert driver.play("advance 1").reported == {refused}


@pytest.mark.parametrize(
    ("actions", "asked", "fault"),
    [(("trigger", *["crash"] * 5), 0, "erp-down"), (("trigger", "approve", *["crash"] * 3), 1, "payment-down")],
)
def test_after_the_last_attempt_no_answer_is_in_flight(actions: tuple[str, ...], asked: int, fault: str) -> None:
    driver = ModelDriver(-1)
    play_eagerly(driver, *actions)
    attempts = max(state.attempts[asked] for state in driver.model.possible)
    only(driver, lambda state: state.attempts[asked] == attempts)
    play_eagerly(driver, fault)
    assert not any(state.undelivered for state in driver.model.possible)


# -- eager: attacks ---------------------------------------------------------------------------------------------

WITHDRAWN = shown(Status.CANCELLED, None, NOT_PAID)


def test_a_raw_cancel_is_answered_before_or_after_it_has_its_effect() -> None:
    driver = ModelDriver(LATER)
    play_eagerly(driver, "trigger", "raw-cancel")
    assert driver.allowed("raw-approve").keys() == {OK, "NOT_FOUND"}
    assert eager_outcomes(driver=driver) == {WITHDRAWN}


def test_a_decision_after_a_raw_cancel_may_still_count() -> None:
    ended = shown(Status.CANCELLED, APPROVED, NOT_PAID), shown(Status.CANCELLED, APPROVED, CANCELLED)
    assert eager_outcomes("trigger", "raw-cancel", "raw-approve", driver=ModelDriver(LATER)) == {*ended}
    assert eager_outcomes("trigger", "raw-cancel", "raw-reject") == {shown(Status.REJECTED, REJECTED, NOT_PAID)}


def test_a_payment_started_before_a_raw_cancel_is_handled_is_reported() -> None:
    assert eager_outcomes("trigger", "raw-approve", "raw-cancel") >= {
        IN_FULL,
        shown(Status.CANCELLED, APPROVED, CANCELLED),
    }


def test_an_invoice_that_is_terminated_at_once_may_not_have_received_its_decision() -> None:
    frozen = eager_outcomes("trigger", "signal-approve", "terminate", driver=ModelDriver(LATER))
    assert frozen >= {WAITING, shown(Status.PENDING_APPROVAL, APPROVED, PENDING), PAYING}
    assert IN_FULL not in frozen


def test_a_fault_scripted_after_a_terminated_invoice_may_be_left_for_the_next_run_or_not() -> None:
    driver = ModelDriver(-1)
    assert eager_outcomes(
        "trigger", "raw-approve", "payment-refused", "terminate", "trigger", "raw-approve", driver=driver
    ) >= {
        IN_FULL,
        NOTHING_PAID,
    }


def test_a_line_of_a_terminated_run_may_still_hold_the_id_that_the_next_run_needs() -> None:
    driver = ModelDriver(-1)
    play_eagerly(driver, "trigger", "raw-approve", "terminate", "trigger", "raw-approve")
    states = [state for state in driver.model.possible if state.status is Status.FAILED]
    assert {state.unconfirmed for state in states} == {frozenset({1})}


def test_a_line_of_a_run_that_is_reset_at_once_may_hold_its_workflow_id_or_not() -> None:
    driver = ModelDriver(LATER)
    play_eagerly(driver, "trigger", "raw-approve", "reset", "raw-approve")
    assert {state.reported for state in driver.model.possible} >= {PAYING, shown(Status.FAILED, APPROVED, FAILED)}
