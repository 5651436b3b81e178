"""The reference model: what each action is answered in each status, and what becomes of the invoice."""

from __future__ import annotations

import pytest

from invoice_mcp.domain.report import LineStatus, Status, Verdict
from invoice_mcp.testing import ACTION_ALPHABET
from invoice_mcp.testing.model.model import OK
from invoice_mcp.testing.model.state import Shown
from tests.requirements import requirement
from tests.unit.testing.stories import LATER, Story, shown

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
HOW: dict[Shown, list[str]] = {
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
ENDED: dict[str, tuple[str, Shown | None]] = {
    "approve": (CLOSED, None),
    "reject": (CLOSED, None),
    "cancel": (CLOSED, None),
    "signal-approve": (GONE, None),
    "signal-reject": (GONE, None),
}
AGAIN: dict[str, tuple[str, Shown | None]] = {"trigger": (OK, WAITING), "trigger-changed": (OK, WAITING)}
PROMISED: dict[Shown, dict[str, tuple[str, Shown | None]]] = {
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


def at(stands: Shown) -> Story:
    return Story(-1, LATER).tell("trigger", *HOW[stands])


@pytest.mark.parametrize("letter", ACTION_ALPHABET, ids=str)
@pytest.mark.parametrize("stands", HOW, ids=lambda stands: f"{stands[0]}-{len(HOW[stands])}")
def test_each_action_in_each_status_has_one_answer_and_one_outcome(stands: Shown, letter: object) -> None:
    story = at(stands)
    assert story.shows == {stands}
    action = next(each for each in ACTION_ALPHABET if each is letter)
    answer, becomes = PROMISED[stands].get(str(action), (OK, None))
    assert story.may(action) == {answer: {becomes or stands}}


def test_the_table_names_actions_that_exist() -> None:
    assert {word for row in PROMISED.values() for word in row} <= {str(letter) for letter in ACTION_ALPHABET}
    assert {stands[0] for stands in HOW} >= {status for status in Status if status.is_terminal}


@pytest.mark.parametrize("word", ["approve", "reject", "cancel", "signal-approve", "signal-reject"])
def test_an_invoice_that_was_never_submitted_is_not_found(word: str) -> None:
    assert set(Story(-1).may(word)) == {GONE}


def test_a_mismatch_is_final_and_any_content_may_come_again() -> None:
    story = Story(-1, LATER).tell("erp-refuses", "trigger")
    assert story.shows == {REFUSED_BY_ERP}
    assert story.may("trigger-changed") == {OK: {WAITING}}
    assert story.may("approve") == {CLOSED: {REFUSED_BY_ERP}}


def test_the_first_decision_stays_whatever_is_sent_afterwards() -> None:
    story = Story(LATER).tell("trigger", "signal-approve", "signal-reject", "signal-approve", "approve")
    assert story.shows == {shown(Status.PAYING, APPROVED, SCHEDULED)}
    assert set(story.may("reject")) == {DECIDED}


def test_a_line_refused_and_a_line_paid_make_failed_naming_both() -> None:
    story = Story(-1, -1).tell("payment-refused 2", "trigger", "approve")
    assert story.shows == {shown(Status.FAILED, APPROVED, PAID, FAILED)}


def test_a_fault_of_one_line_is_met_by_no_other() -> None:
    story = Story(-1).tell("payment-refused 2", "trigger", "approve")
    assert story.shows == {shown(Status.PAID, APPROVED, PAID)}


def test_a_fault_waits_for_the_next_run() -> None:
    story = Story(-1).tell("payment-refused 1", "trigger", "reject", "trigger", "approve")
    assert story.shows == {shown(Status.FAILED, APPROVED, FAILED)}
    assert story.tell("trigger", "approve").shows == {shown(Status.PAID, APPROVED, PAID)}


@pytest.mark.parametrize(("changed", "answer"), [(1, CONFLICT), (2, OK)])
def test_a_line_that_was_paid_comes_back_unchanged_or_not_at_all(changed: int, answer: str) -> None:
    story = Story(-1, -1, changed=changed).tell("payment-refused 2", "trigger", "approve")
    assert set(story.may("trigger-changed")) == {answer}
    assert story.may("trigger") == {OK: {WAITING}}


def test_what_an_early_run_settled_stays_settled_through_runs_that_pay_nothing() -> None:
    story = Story(-1, -1, changed=1).tell("payment-refused 2", "trigger", "approve", "trigger", "reject")
    assert set(story.may("trigger-changed")) == {CONFLICT}
    assert story.tell("trigger", "approve").shows == {PAID_IN_FULL}


def test_lines_settled_by_different_contents_can_come_back_as_neither() -> None:
    # Line 1 is paid; line 2 is paid only as it was changed.
    story = Story(-1, -1, LATER, changed=2).tell("payment-refused 2", "trigger", "approve", "cancel")
    story.tell("trigger-changed", "approve", "cancel")
    assert story.shows == {shown(Status.CANCELLED, APPROVED, PAID, PAID, CANCELLED)}
    assert set(story.may("trigger")) == {CONFLICT}
    assert set(story.may("trigger-changed")) == {OK}


@requirement("ATTACK-RESET")
def test_a_reset_leaves_nothing_of_a_decision_but_what_was_paid() -> None:
    story = Story(-1, LATER).tell("trigger", "approve", "reset")
    assert story.shows == {WAITING}
    assert story.may("approve") == {OK: {shown(Status.FAILED, APPROVED, PAID, FAILED)}}
    assert story.tell("reject").shows == {NO_THANKS}
    # Line 2 may have been paid when its run was reset.
    assert set(story.may("trigger-changed")) == {CONFLICT}


@requirement("ATTACK-RESET")
def test_a_line_that_a_reset_left_waiting_has_its_id_until_it_is_due() -> None:
    story = Story(-1, LATER).tell("trigger", "approve", "reset", f"advance {LATER - 1}")
    assert story.may("approve") == {OK: {shown(Status.FAILED, APPROVED, PAID, FAILED)}}
    story.tell("advance 2")
    assert story.may("approve") == {OK: {PAID_IN_FULL}}


@requirement("ATTACK-RESET")
@pytest.mark.parametrize("decides", ["approve", "reject"])
def test_what_comes_again_after_a_reset_decides_again(decides: str) -> None:
    story = Story(-1, -1).tell("trigger", decides)
    (before,) = story.shows
    assert story.tell("reset-reapplied", "reset-reapplied").shows == {before}
    assert story.tell("reset", "reset-reapplied").shows == {WAITING}


@requirement("ATTACK-RESET")
def test_a_cancellation_does_not_come_again_after_a_reset() -> None:
    assert Story(-1, LATER).tell("trigger", "cancel", "reset-reapplied").shows == {WAITING}
    story = Story(LATER).tell("trigger", "approve", "cancel", "reset-reapplied")
    assert story.shows == {shown(Status.PAYING, APPROVED, SCHEDULED)}


def test_before_there_is_an_invoice_nothing_is_reset() -> None:
    assert set(Story(-1).may("reset")) == {GONE}
