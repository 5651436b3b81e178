"""The checker, S7 to S9: agreement of the sources, the deadline, and errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from invoice_mcp.domain.errors import ErrorCode
from invoice_mcp.domain.report import Confirmation, InvoiceReport, LineStatus, Status, Verdict
from invoice_mcp.testing.checker.history import ReceivedDecision
from invoice_mcp.testing.checker.observations import Run
from tests.requirements import requirement
from tests.unit.testing.run_builders import (
    BEGAN,
    DEADLINE,
    DECIDED,
    ENDED,
    HOUR,
    a_payment,
    a_run,
    an_answer,
    broken,
    retold,
    traced,
)

CANCELLED, FAILED, NOT_PAID, PAID = LineStatus.CANCELLED, LineStatus.FAILED, LineStatus.NOT_PAID, LineStatus.PAID
PENDING, SCHEDULED = LineStatus.PENDING, LineStatus.SCHEDULED
APPROVED, REJECTED = Verdict.APPROVED, Verdict.REJECTED

NO_THANKS = a_run(Status.REJECTED, NOT_PAID, verdict=REJECTED)
TOO_LATE = a_run(Status.EXPIRED, NOT_PAID)
WITHDRAWN = a_run(Status.CANCELLED, NOT_PAID)
WAITING = a_run(Status.PENDING_APPROVAL, PENDING)
PAID_RUN = a_run(Status.PAID, PAID, verdict=APPROVED)


def otherwise(run: Run) -> InvoiceReport:
    assert run.report
    return run.report.model_copy(update={"customer": "Else"})


DISAGREE: dict[str, Callable[[], Run]] = {
    "tool and query": lambda: replace(NO_THANKS, tool_report=otherwise(NO_THANKS)),
    "result and query": lambda: traced(NO_THANKS, result=otherwise(NO_THANKS)),
    "the seed's query and the report": lambda: replace(TOO_LATE, status=Status.CANCELLED, temporal_status="COMPLETED"),
    "Temporal and the report": lambda: retold(NO_THANKS, workflow_status="RUNNING"),
    "Temporal and the history": lambda: traced(NO_THANKS, end="RUNNING"),
    "the index": lambda: traced(NO_THANKS, indexed=(Status.REJECTED, Status.PENDING_APPROVAL)),
    "a result that is missing": lambda: traced(NO_THANKS, result=None),
    "an end without a terminal status": lambda: retold(
        replace(WAITING, temporal_status="COMPLETED", trace=replace(NO_THANKS.trace, decisions=(), indexed=())),
        workflow_status="COMPLETED",
    ),
    "cancelled, but completed": lambda: traced(
        retold(replace(WITHDRAWN, temporal_status="COMPLETED"), workflow_status="COMPLETED"),
        end="COMPLETED",
        result=retold(WITHDRAWN, workflow_status="COMPLETED").report,
    ),
    "cancelled by nobody": lambda: traced(WITHDRAWN, cancelled_at=None),
    "a line that goes on": lambda: replace(NO_THANKS, open_children=("invoice-A-line-1",)),
}


@pytest.mark.parametrize("disagreement", DISAGREE.values(), ids=DISAGREE)
def test_s7_two_sources_that_disagree(disagreement: Callable[[], Run]) -> None:
    assert broken(disagreement()) == ["S7"]


def test_s7_a_decision_that_was_never_sent() -> None:
    run = a_run(Status.PENDING_APPROVAL, PENDING, verdict=APPROVED, decisions=())
    assert broken(run) == ["S7"]


def test_a_run_of_another_kind_of_workflow_is_held_only_against_what_it_has() -> None:
    # The original sample's workflow has no report. A workflow with an invalid input has failed.
    seeds = replace(
        NO_THANKS, tool_report=None, query_report=None, trace=replace(NO_THANKS.trace, result=None, indexed=())
    )
    assert broken(seeds, ledger=[]) == []
    garbage = replace(
        seeds, status="", temporal_status="FAILED", trace=replace(seeds.trace, invoice=None, end="FAILED", decisions=())
    )
    assert broken(garbage, ledger=[]) == []


def test_a_run_whose_tool_refuses_is_held_against_its_query() -> None:
    assert broken(replace(NO_THANKS, tool_report=None)) == ["S7"]
    assert broken(replace(NO_THANKS, query_report=None)) == []


LIES: dict[str, dict[str, Any]] = {
    "another customer": {"customer": "Somebody else"},
    "another total": {"total": Decimal(1)},
    "another currency": {"currency": "EUR"},
    "another invoice": {"invoice_id": "B"},
    "another run": {"run_id": "2"},
    "a later deadline": {"approval_deadline": DEADLINE + HOUR},
    "being cancelled": {"cancelling": True},
}


@pytest.mark.parametrize("lie", LIES)
def test_s7_what_all_sides_agree_on_though_it_is_not_so(lie: str) -> None:
    assert broken(retold(NO_THANKS, **LIES[lie])) == ["S7"]


def test_s7_a_payment_that_is_denied() -> None:
    first = a_run(Status.FAILED, PAID, FAILED, verdict=APPROVED)
    again = a_run(Status.EXPIRED, NOT_PAID, NOT_PAID, run_id="2")
    paid = a_payment(1, at=ENDED)
    assert broken(first, retold(again, summary="expired; nothing more was paid"), ledger=[paid]) == []
    denied = retold(again, summary="expired; nothing was paid")
    assert broken(first, denied, ledger=[paid]) == ["S7"]
    # Names in quotation marks may have any text.
    named = retold(again, summary='Invoice A from "nothing was paid" expired; nothing more was paid')
    assert broken(first, named, ledger=[paid]) == []
    # A later payment can't contradict an earlier report.
    early = retold(a_run(Status.REJECTED, NOT_PAID, verdict=REJECTED), summary="was rejected; nothing was paid")
    later = traced(a_run(Status.PAID, PAID, verdict=APPROVED, run_id="2"))
    assert broken(early, later, ledger=[a_payment(1, run_id="2", at=ENDED + HOUR)]) == []


def test_s7_a_line_reported_with_another_amount() -> None:
    assert broken(retold(NO_THANKS, line=1, amount=Decimal(1))) == ["S7"]


def test_s7_a_decision_reported_with_another_time_or_person() -> None:
    assert NO_THANKS.report
    decision = NO_THANKS.report.decision
    assert decision
    earlier = decision.model_copy(update={"at": decision.at - HOUR / 2})
    assert broken(retold(NO_THANKS, decision=earlier)) == ["S7"]
    by_bob = (ReceivedDecision(decision.verdict, decision.at, by="Bob"),)
    assert broken(traced(NO_THANKS, decisions=by_bob)) == ["S7"]


def test_two_sources_may_report_the_deadline_of_a_replay_but_no_other() -> None:
    run = traced(a_run(Status.PENDING_APPROVAL, LineStatus.PENDING), previous_task_at=BEGAN - HOUR)
    assert run.report
    for earlier, rules in ((HOUR, []), (2 * HOUR, ["S7"])):
        other = run.report.model_copy(update={"approval_deadline": DEADLINE - earlier})
        assert broken(replace(run, query_report=other)) == rules


# -- S8: the deadline ------------------------------------------------------------------------------------------


def test_s8_a_decision_in_time_that_does_not_count() -> None:
    in_time = (ReceivedDecision(APPROVED, DEADLINE - HOUR),)
    assert broken(traced(TOO_LATE, decisions=in_time)) == ["S8"]


@pytest.mark.parametrize("late", [0, 1])
def test_a_decision_at_the_deadline_or_later_need_not_count(late: int) -> None:
    assert broken(traced(TOO_LATE, decisions=(ReceivedDecision(APPROVED, DEADLINE + late * HOUR),))) == []


@pytest.mark.parametrize("late", [0, 1])
def test_s8_a_decision_taken_too_late(late: int) -> None:
    at = DEADLINE + late * HOUR
    run = traced(NO_THANKS, decisions=(ReceivedDecision(REJECTED, at),), ended_at=at)
    assert NO_THANKS.report
    assert NO_THANKS.report.decision
    honest = retold(run, decision=NO_THANKS.report.decision.model_copy(update={"at": at}))
    assert broken(honest) == ["S8"]
    # Reporting an earlier time than that of its arrival is a violation, too.
    assert broken(run) == ["S8"]


def test_s8_expired_before_the_deadline() -> None:
    assert broken(traced(TOO_LATE, ended_at=DEADLINE - HOUR)) == ["S8"]


def test_s3_s7_a_decision_reported_with_another_time_than_it_was_received_at() -> None:
    run = a_run(Status.PAYING, SCHEDULED, verdict=APPROVED)
    assert run.query_report
    assert run.query_report.decision
    again = DECIDED + timedelta(milliseconds=10)
    query_report = run.query_report.model_copy(
        update={"decision": run.query_report.decision.model_copy(update={"at": again})}
    )
    told = [an_answer(content=each.model_dump(mode="json")) for each in (run.query_report, query_report)]
    differs = replace(run, query_report=query_report)
    assert broken(differs) == ["S7"]
    assert broken(run, answers=told) == ["S3"]
    replayed = (ReceivedDecision(APPROVED, DECIDED, by_signal=True, replayed_at=(again,)),)
    assert broken(traced(differs, decisions=replayed), answers=told) == []
    # A replay changes nothing else.
    other = query_report.model_copy(
        update={"decision": run.query_report.decision.model_copy(update={"at": again, "by": "Bob"})}
    )
    assert broken(traced(replace(run, query_report=other), decisions=replayed)) == ["S7"]


def test_s8_expired_after_the_deadline() -> None:
    late = traced(TOO_LATE, last_task_at=DEADLINE + timedelta(minutes=1), ended_at=DEADLINE + timedelta(minutes=1))
    assert broken(late) == ["S8"]


def test_roused_in_time_an_invoice_expires_as_soon_as_a_worker_is_there() -> None:
    assert broken(traced(TOO_LATE, ended_at=DEADLINE + HOUR)) == []
    # Servers fire timers slightly late, and count from the end of the task that started them.
    assert broken(traced(TOO_LATE, last_task_at=DEADLINE + timedelta(seconds=1))) == []
    slow = traced(
        TOO_LATE,
        validation_seen_by=BEGAN + timedelta(minutes=1),
        last_task_at=DEADLINE + timedelta(minutes=1),
    )
    assert broken(slow) == []


def test_s8_rejected_without_a_decision() -> None:
    run = retold(traced(NO_THANKS, decisions=()), decision=None)
    assert broken(run) == ["S8"]


@pytest.mark.parametrize("status", [Status.PAYING, Status.PENDING_APPROVAL])
def test_s8_a_decision_in_time_missing_in_the_report(status: Status) -> None:
    run = retold(a_run(status, SCHEDULED, verdict=APPROVED), decision=None)
    assert broken(run) == ["S8"]


def test_s8_rejected_before_the_validation_failed() -> None:
    assert broken(a_run(Status.FAILED, NOT_PAID, verdict=REJECTED, validated_at=None)) == ["S8"]


def test_s8_cancelled_after_it_was_rejected() -> None:
    run = a_run(Status.CANCELLED, NOT_PAID, verdict=REJECTED, children={})
    assert broken(run) == ["S8"]
    # If both were received in the same task, their order is unknown.
    assert broken(traced(run, cancelled_at=DECIDED)) == []


def test_s8_approved_and_expired_all_the_same_also_when_it_is_cancelled() -> None:
    run = traced(TOO_LATE, decisions=(ReceivedDecision(APPROVED, DECIDED),), cancelled_at=ENDED)
    assert "S8" in broken(run)


def test_a_decision_before_validation_has_ended_is_in_time() -> None:
    run = a_run(Status.REJECTED, NOT_PAID, verdict=REJECTED, validated_at=DECIDED + HOUR / 2)
    assert broken(retold(run, approval_deadline=run.trace.deadline)) == []


# -- S9: errors ------------------------------------------------------------------------------------------------


def test_s9_a_workflow_that_fails_its_tasks() -> None:
    assert broken(traced(NO_THANKS, failed_tasks=("ValueError: boom",))) == ["S9"]


def test_s9_a_line_that_fails_its_tasks() -> None:
    assert broken(replace(PAID_RUN, failed_child_tasks=("ValueError: boom",))) == ["S9"]


@pytest.mark.parametrize(
    "refusal",
    [
        "",
        "Something went wrong",
        "WRONG_CODE: what. Do this.",
        "INTERNAL: it broke. Tell us.",
        'NOT_FOUND: Traceback (most recent call last): File "server.py", line 1. Do this.',
        "Error executing tool approve: NOT_FOUND: no such invoice",
    ],
)
def test_s9_a_tool_that_answers_with_an_error_of_its_own(refusal: str) -> None:
    assert broken(NO_THANKS, answers=[an_answer(refusal=refusal)]) == ["S9"]


@pytest.mark.parametrize("code", sorted(set(ErrorCode) - {ErrorCode.INTERNAL}))
def test_a_refusal_with_a_stable_code_is_an_answer(code: ErrorCode) -> None:
    assert broken(NO_THANKS, answers=[an_answer(refusal=f"{code}: why. What to do next.")]) == []


def test_an_answer_is_no_error_whatever_its_text() -> None:
    assert broken(NO_THANKS, answers=[an_answer("list", content={"invoices": [{"customer": "Traceback"}]})]) == []


def test_the_times_of_these_runs_are_in_order() -> None:
    assert BEGAN < DECIDED < ENDED < DEADLINE


@pytest.mark.parametrize(
    ("confirmation", "shown", "wrong"),
    [
        (Confirmation.FORM, "digest", []),
        (Confirmation.TASK, "digest", []),
        (Confirmation.NONE, None, []),
        (Confirmation.SIGNAL, None, []),
        (None, None, []),
        (Confirmation.FORM, None, ["S7"]),
        (Confirmation.TASK, None, ["S7"]),
        (Confirmation.NONE, "digest", ["S7"]),
        (None, "digest", ["S7"]),
    ],
)
def test_s7_a_confirmation_has_a_shown_text_exactly_if_a_form_was_shown(
    confirmation: Confirmation | None, shown: str | None, wrong: list[str]
) -> None:
    assert NO_THANKS.report
    assert NO_THANKS.report.decision
    told = NO_THANKS.report.decision.model_copy(update={"confirmation": confirmation, "shown": shown})
    assert broken(retold(NO_THANKS, decision=told)) == wrong


def _ended_as(run: Run, end: str) -> Run:
    """The run, closed with this status in all sources. The workflow reports the status that it had."""
    ended = traced(retold(run, workflow_status=end), end=end, result=None)
    return replace(ended, temporal_status=end)


WAITING = a_run(Status.PENDING_APPROVAL, PENDING)
PAYING = a_run(Status.PAYING, PAID, SCHEDULED, verdict=APPROVED)


@pytest.mark.parametrize("run", [WAITING, PAYING], ids=["waiting", "paying"])
@pytest.mark.parametrize(("end", "rules"), [("TERMINATED", []), ("FAILED", ["S7"]), ("TIMED_OUT", ["S7"])])
def test_s7_only_a_run_that_was_terminated_may_end_with_an_open_status(run: Run, end: str, rules: list[str]) -> None:
    assert broken(_ended_as(run, end)) == rules


def test_s7_a_run_that_reports_its_end_was_not_terminated() -> None:
    assert broken(_ended_as(NO_THANKS, "TERMINATED")) == ["S7"]


def test_s4_a_terminated_run_that_reports_a_payment_missing_in_the_ledger() -> None:
    assert broken(_ended_as(PAYING, "TERMINATED"), ledger=[]) == ["S4"]
    paid = a_run(Status.PAID, PAID, verdict=APPROVED)
    assert broken(_ended_as(paid, "TERMINATED"), ledger=[]) == ["S4", "S7"]


@pytest.mark.parametrize(("is_interrupted", "rules"), [(True, []), (False, ["S7"])])
def test_s7_only_an_interrupted_run_may_report_its_end_when_terminated(is_interrupted: bool, rules: list[str]) -> None:
    assert broken(traced(_ended_as(NO_THANKS, "TERMINATED"), is_interrupted=is_interrupted)) == rules


# A run that was reset while it paid, and the run that replaced it.
OLD = replace(_ended_as(traced(PAYING, ended_at=ENDED), "TERMINATED"), was_reset=True)
NEW = replace(a_run(Status.REJECTED, NOT_PAID, NOT_PAID, verdict=REJECTED, run_id="2"), first_run_id="1")
# With the additions of the tool.
_TOLD = [line.model_copy(update={"settled_before": line.line == 1}) for line in NEW.report.lines] if NEW.report else []
TOLD = replace(NEW, tool_report=NEW.report and NEW.report.model_copy(update={"lines": tuple(_TOLD), "summary": "more"}))


@requirement("ATTACK-RESET")
def test_a_reset_breaks_no_rule_by_itself() -> None:
    left = replace(OLD, open_children=("invoice-A-line-2",))
    assert broken(left, TOLD, ledger=[a_payment(at=ENDED)]) == []
    # Only a reset leaves lines open.
    assert broken(replace(left, was_reset=False), TOLD, ledger=[a_payment(at=ENDED)]) == ["S7"]


@requirement("ATTACK-RESET")
def test_s1_a_payment_that_only_a_run_wanted_which_was_reset_before() -> None:
    late = a_payment(2, at=ENDED + HOUR)
    assert broken(OLD, TOLD, ledger=[a_payment(), late]) == ["S1", "S7"]
    approved = replace(a_run(Status.PAYING, PAID, SCHEDULED, verdict=APPROVED, run_id="2"), first_run_id="1")
    assert broken(OLD, traced(approved, children={}), ledger=[a_payment(), late])[:1] == ["S1"]
    # Another run that waits for the same line requested it, too.
    shares = traced(approved, children=OLD.trace.children)
    assert "S1" not in broken(OLD, shares, ledger=[a_payment(), late])


@requirement("ATTACK-RESET")
def test_s7_a_report_without_the_payments_of_runs_before_a_reset() -> None:
    assert broken(OLD, NEW, ledger=[a_payment()]) == ["S7"]
    assert broken(OLD, replace(NEW, first_run_id="2"), ledger=[a_payment()]) == []


@requirement("ATTACK-RESET")
def test_s7_the_tool_adds_nothing_else_to_a_report_after_a_reset() -> None:
    assert TOLD.tool_report is not None
    otherwise = TOLD.tool_report.model_copy(update={"customer": "Another"})
    assert broken(OLD, replace(TOLD, tool_report=otherwise), ledger=[a_payment()]) == ["S7"]
