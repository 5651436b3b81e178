"""The reference model: the answer to each action in each status, and the state that follows."""

from __future__ import annotations

import pytest

from invoice_mcp.domain.report import LineStatus, Status, Verdict
from invoice_mcp.testing.model.actions import ACTION_ALPHABET, Action
from invoice_mcp.testing.model.model import OK
from invoice_mcp.testing.model.state import ReportedState
from tests.requirements import requirement
from tests.unit.testing.model_driver import LATER, ModelDriver, shown

CANCELLED, FAILED, NOT_PAID, PAID = LineStatus.CANCELLED, LineStatus.FAILED, LineStatus.NOT_PAID, LineStatus.PAID
PENDING, SCHEDULED = LineStatus.PENDING, LineStatus.SCHEDULED
APPROVED, REJECTED = Verdict.APPROVED, Verdict.REJECTED
CONFLICT, CLOSED, GONE, DECIDED = "INVOICE_CONFLICT", "ALREADY_CLOSED", "NOT_FOUND", "ALREADY_DECIDED"

WAITING = shown(Status.PENDING_APPROVAL, None, PENDING, PENDING)
PAYING = shown(Status.PAYING, APPROVED, PAID, SCHEDULED)
PAID_IN_FULL = shown(Status.PAID, APPROVED, PAID, PAID)
REFUSED_BY_ERP = shown(Status.FAILED, None, NOT_PAID, NOT_PAID)
HALF_PAID = shown(Status.FAILED, APPROVED, FAILED, PAID)
NO_THANKS = shown(Status.REJECTED, REJECTED, NOT_PAID, NOT_PAID)
TOO_LATE = shown(Status.EXPIRED, None, NOT_PAID, NOT_PAID)
WITHDRAWN = shown(Status.CANCELLED, None, NOT_PAID, NOT_PAID)
WITHDRAWN_PAYING = shown(Status.CANCELLED, APPROVED, PAID, CANCELLED)

# How an invoice of two lines, one due and one due later, gets there.
HOW: dict[ReportedState, list[str]] = {
    WAITING: [],
    PAYING: ["approve"],
    PAID_IN_FULL: ["approve", f"advance {LATER + 1}"],
    HALF_PAID: ["payment-refused 1", "approve", f"advance {LATER + 1}"],
    NO_THANKS: ["reject"],
    TOO_LATE: ["advance 122"],
    WITHDRAWN: ["cancel"],
    WITHDRAWN_PAYING: ["approve", "cancel"],
}

# What the answer is, where it is not OK, and what becomes of it, where it does not stay as it was.
ENDED: dict[str, tuple[str, ReportedState | None]] = {
    "approve": (CLOSED, None),
    "reject": (CLOSED, None),
    "cancel": (CLOSED, None),
    "signal-approve": (GONE, None),
    "signal-reject": (GONE, None),
}
AGAIN: dict[str, tuple[str, ReportedState | None]] = {"trigger": (OK, WAITING), "trigger-changed": (OK, WAITING)}
PROMISED: dict[ReportedState, dict[str, tuple[str, ReportedState | None]]] = {
    WAITING: {
        "approve": (OK, PAYING),
        "reject": (OK, NO_THANKS),
        "cancel": (OK, WITHDRAWN),
        "signal-approve": (OK, PAYING),
        "signal-reject": (OK, NO_THANKS),
        "trigger-changed": (CONFLICT, None),
        "advance-122h": (OK, TOO_LATE),
    },
    PAYING: {
        "reject": (DECIDED, None),
        "cancel": (OK, WITHDRAWN_PAYING),
        "trigger-changed": (CONFLICT, None),
        "advance-122h": (OK, PAID_IN_FULL),
    },
    PAID_IN_FULL: ENDED | {"trigger-changed": (CONFLICT, None)},
    # The changed invoice has another line 2, which is paid.
    HALF_PAID: ENDED | {"trigger": (OK, WAITING), "trigger-changed": (CONFLICT, None)},
    NO_THANKS: ENDED | AGAIN,
    TOO_LATE: ENDED | AGAIN,
    WITHDRAWN: ENDED | AGAIN | {"cancel": (OK, None)},
    # Line 2 of the changed invoice is another one; it was not paid.
    WITHDRAWN_PAYING: ENDED | AGAIN | {"cancel": (OK, None)},
}


def at(stands: ReportedState) -> ModelDriver:
    return ModelDriver(-1, LATER).play("trigger", *HOW[stands])


@pytest.mark.parametrize("action", ACTION_ALPHABET, ids=str)
@pytest.mark.parametrize("stands", HOW, ids=lambda stands: f"{stands[0]}-{len(HOW[stands])}")
def test_each_action_in_each_status_has_one_answer_and_one_outcome(stands: ReportedState, action: Action) -> None:
    driver = at(stands)
    assert driver.reported == {stands}
    answer, becomes = PROMISED[stands].get(str(action), (OK, None))
    assert driver.allowed(action) == {answer: {becomes or stands}}


def test_the_table_names_actions_that_exist() -> None:
    assert {action for row in PROMISED.values() for action in row} <= {str(action) for action in ACTION_ALPHABET}
    assert {stands[0] for stands in HOW} >= {status for status in Status if status.is_terminal}


@pytest.mark.parametrize("action", ["approve", "reject", "cancel", "signal-approve", "signal-reject"])
def test_an_invoice_that_was_never_submitted_is_not_found(action: str) -> None:
    assert set(ModelDriver(-1).allowed(action)) == {GONE}


def test_a_mismatch_is_final_and_any_content_may_come_again() -> None:
    driver = ModelDriver(-1, LATER).play("erp-refuses", "trigger")
    assert driver.reported == {REFUSED_BY_ERP}
    assert driver.allowed("trigger-changed") == {OK: {WAITING}}
    assert driver.allowed("approve") == {CLOSED: {REFUSED_BY_ERP}}


def test_the_first_decision_stays_whatever_is_sent_afterwards() -> None:
    driver = ModelDriver(LATER).play("trigger", "signal-approve", "signal-reject", "signal-approve", "approve")
    assert driver.reported == {shown(Status.PAYING, APPROVED, SCHEDULED)}
    assert set(driver.allowed("reject")) == {DECIDED}


def test_a_line_refused_and_a_line_paid_make_failed_naming_both() -> None:
    driver = ModelDriver(-1, -1).play("payment-refused 2", "trigger", "approve")
    assert driver.reported == {shown(Status.FAILED, APPROVED, PAID, FAILED)}


def test_a_fault_of_one_line_is_met_by_no_other() -> None:
    driver = ModelDriver(-1).play("payment-refused 2", "trigger", "approve")
    assert driver.reported == {shown(Status.PAID, APPROVED, PAID)}


def test_a_fault_waits_for_the_next_run() -> None:
    driver = ModelDriver(-1).play("payment-refused 1", "trigger", "reject", "trigger", "approve")
    assert driver.reported == {shown(Status.FAILED, APPROVED, FAILED)}
    assert driver.play("trigger", "approve").reported == {shown(Status.PAID, APPROVED, PAID)}


@pytest.mark.parametrize(("changed", "answer"), [(1, CONFLICT), (2, OK)])
def test_a_paid_line_can_only_be_resubmitted_unchanged(changed: int, answer: str) -> None:
    driver = ModelDriver(-1, -1, changed=changed).play("payment-refused 2", "trigger", "approve")
    assert set(driver.allowed("trigger-changed")) == {answer}
    assert driver.allowed("trigger") == {OK: {WAITING}}


def test_what_an_early_run_settled_stays_settled_through_runs_that_pay_nothing() -> None:
    driver = ModelDriver(-1, -1, changed=1).play("payment-refused 2", "trigger", "approve", "trigger", "reject")
    assert set(driver.allowed("trigger-changed")) == {CONFLICT}
    assert driver.play("trigger", "approve").reported == {PAID_IN_FULL}


def test_lines_settled_with_different_contents_can_be_resubmitted_with_neither() -> None:
    # Line 1 is paid; line 2 is paid only as it was changed.
    driver = ModelDriver(-1, -1, LATER, changed=2).play("payment-refused 2", "trigger", "approve", "cancel")
    driver.play("trigger-changed", "approve", "cancel")
    assert driver.reported == {shown(Status.CANCELLED, APPROVED, PAID, PAID, CANCELLED)}
    assert set(driver.allowed("trigger")) == {CONFLICT}
    assert set(driver.allowed("trigger-changed")) == {OK}


@requirement("ATTACK-RESET")
def test_a_reset_drops_the_decision_and_keeps_the_payments() -> None:
    driver = ModelDriver(-1, LATER).play("trigger", "approve", "reset")
    assert driver.reported == {WAITING}
    assert driver.allowed("approve") == {OK: {shown(Status.FAILED, APPROVED, PAID, FAILED)}}
    assert driver.play("reject").reported == {NO_THANKS}
    # Line 2 may have been paid when its run was reset.
    assert set(driver.allowed("trigger-changed")) == {CONFLICT}


@requirement("ATTACK-RESET")
def test_the_only_line_of_an_invoice_that_was_reset_while_it_was_paid_can_not_change() -> None:
    driver = ModelDriver(LATER, changed=1).play("trigger", "approve", "reset", "reject")
    assert set(driver.allowed("trigger-changed")) == {CONFLICT}


@requirement("ATTACK-RESET")
def test_a_line_that_a_reset_left_waiting_has_its_id_until_it_is_due() -> None:
    driver = ModelDriver(-1, LATER).play("trigger", "approve", "reset", f"advance {LATER - 1}")
    assert driver.allowed("approve") == {OK: {shown(Status.FAILED, APPROVED, PAID, FAILED)}}
    driver.play("advance 2")
    assert driver.allowed("approve") == {OK: {PAID_IN_FULL}}


@requirement("ATTACK-RESET")
@pytest.mark.parametrize("decides", ["approve", "reject"])
def test_a_reapplied_decision_decides_again(decides: str) -> None:
    driver = ModelDriver(-1, -1).play("trigger", decides)
    (before,) = driver.reported
    assert driver.play("reset-reapplied", "reset-reapplied").reported == {before}
    assert driver.play("reset", "reset-reapplied").reported == {WAITING}


@requirement("ATTACK-RESET")
def test_a_cancellation_does_not_come_again_after_a_reset() -> None:
    assert ModelDriver(-1, LATER).play("trigger", "cancel", "reset-reapplied").reported == {WAITING}
    driver = ModelDriver(LATER).play("trigger", "approve", "cancel", "reset-reapplied")
    assert driver.reported == {shown(Status.PAYING, APPROVED, SCHEDULED)}


def test_before_there_is_an_invoice_nothing_is_reset() -> None:
    assert set(ModelDriver(-1).allowed("reset")) == {GONE}
