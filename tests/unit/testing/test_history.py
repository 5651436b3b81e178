"""Parsing histories made of hand-written events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent
from temporalio.contrib.pydantic import pydantic_data_converter

from invoice_mcp.domain.names import VALIDATE_AGAINST_ERP
from invoice_mcp.domain.report import InvoiceReport, InvoiceRequest, LineStatus, Policy, Status, Verdict
from invoice_mcp.testing.checker.history import ReceivedDecision, Trace, parse_history
from invoice_mcp.testing.checker.observations import parse_product_request
from tests.unit.testing.run_builders import a_run, an_invoice

BEGAN = datetime(2026, 11, 23, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
_CONVERTER = pydantic_data_converter.payload_converter


def decode(payloads: Sequence[Payload], kind: type[Any]) -> Any:
    with suppress(ValidationError, LookupError, RuntimeError, TypeError, ValueError):
        return _CONVERTER.from_payloads(payloads[:1], [kind])[0]
    return None


def payload(value: object) -> Payload:
    return _CONVERTER.to_payloads([value])[0]


class History:
    """Builds a history event by event, one second apart."""

    def __init__(self) -> None:
        self.events: list[HistoryEvent] = []

    def add(self, kind: str) -> HistoryEvent:
        event = HistoryEvent(event_id=len(self.events) + 1, event_type=EventType.Value(f"EVENT_TYPE_{kind}"))
        event.event_time.FromDatetime(self.at(event.event_id))
        self.events.append(event)
        return event

    def at(self, event_id: int) -> datetime:
        """The time of the event with this number."""
        return BEGAN + event_id * SECOND

    def started(self, *inputs: Payload) -> History:
        attributes = self.add("WORKFLOW_EXECUTION_STARTED").workflow_execution_started_event_attributes
        attributes.input.payloads.extend(inputs)
        return self

    def task(self, end: str = "COMPLETED") -> History:
        self.add("WORKFLOW_TASK_STARTED")
        self.add(f"WORKFLOW_TASK_{end}")
        return self

    def failed_task(self, message: str, cause: str = "WORKFLOW_WORKER_UNHANDLED_FAILURE") -> History:
        self.add("WORKFLOW_TASK_STARTED")
        attributes = self.add("WORKFLOW_TASK_FAILED").workflow_task_failed_event_attributes
        attributes.cause = WorkflowTaskFailedCause.Value(f"WORKFLOW_TASK_FAILED_CAUSE_{cause}")
        attributes.failure.message = message
        return self

    def signal(self, name: str) -> History:
        self.add("WORKFLOW_EXECUTION_SIGNALED").workflow_execution_signaled_event_attributes.signal_name = name
        return self

    def update(self, name: str) -> History:
        event = self.add("WORKFLOW_EXECUTION_UPDATE_ACCEPTED")
        event.workflow_execution_update_accepted_event_attributes.accepted_request.input.name = name
        return self

    def indexed(self, attribute: str, value: str) -> History:
        event = self.add("UPSERT_WORKFLOW_SEARCH_ATTRIBUTES")
        fields = event.upsert_workflow_search_attributes_event_attributes.search_attributes.indexed_fields
        fields[attribute].data = json.dumps(value).encode()
        return self

    def child(self, workflow_id: str, run_id: str) -> History:
        event = self.add("CHILD_WORKFLOW_EXECUTION_STARTED")
        child = event.child_workflow_execution_started_event_attributes.workflow_execution
        child.workflow_id, child.run_id = workflow_id, run_id
        return self

    def then(self, kind: str) -> History:
        self.add(kind)
        return self

    def validated(self, activity: str = VALIDATE_AGAINST_ERP) -> History:
        scheduled = self.add("ACTIVITY_TASK_SCHEDULED")
        scheduled.activity_task_scheduled_event_attributes.activity_type.name = activity
        completed = self.add("ACTIVITY_TASK_COMPLETED")
        completed.activity_task_completed_event_attributes.scheduled_event_id = scheduled.event_id
        return self

    def read(self) -> Trace:
        return parse_history(self.events, decode, parse_product_request)


def begun() -> History:
    return History().started(
        payload(
            InvoiceRequest(invoice=an_invoice(2), policy=Policy(approval_timeout=SECOND * 60, signals_approve=True))
        )
    )


def test_an_empty_history_has_no_facts() -> None:
    assert History().read() == Trace()


def test_the_input_has_the_invoice_and_the_approval_timeout() -> None:
    trace = begun().read()
    assert trace.invoice == an_invoice(2)
    assert trace.approval_timeout == SECOND * 60
    assert (trace.end, trace.ended_at, trace.deadline, trace.effective_decision) == ("RUNNING", None, None, None)


@pytest.mark.parametrize(
    "garbage",
    [
        [],
        [payload(None)],
        [payload(5)],
        [payload([1])],
        [payload({"invoice": 5})],
        [payload("text")],
        [Payload(metadata={"encoding": b"json/plain"}, data=b"{not json")],
        [Payload(metadata={"encoding": b"unknown/encoding"}, data=b"\xff")],
        [Payload()],
    ],
)
def test_an_input_that_is_no_invoice_is_none(garbage: list[Payload]) -> None:
    trace = History().started(*garbage).task().read()
    assert (trace.invoice, trace.approval_timeout) == (None, timedelta())


def test_a_signal_is_seen_by_the_next_task_that_completes() -> None:
    trace = begun().signal("ApproveInvoice").task().read()
    assert trace.decisions == (ReceivedDecision(Verdict.APPROVED, BEGAN + 3 * SECOND, by_signal=True),)


def test_a_signal_that_arrives_while_a_task_runs_is_seen_by_the_next_one() -> None:
    history = begun().then("WORKFLOW_TASK_STARTED").signal("RejectInvoice").then("WORKFLOW_TASK_COMPLETED")
    assert history.read().decisions == ()
    (received,) = history.task().read().decisions
    # If a query is answered from a replay first, the signal may have the time of the task before.
    assert received == ReceivedDecision(Verdict.REJECTED, history.at(5), by_signal=True, replayed_at=(history.at(2),))


@pytest.mark.parametrize("end", ["FAILED", "TIMED_OUT"])
def test_a_task_that_does_not_complete_sees_nothing(end: str) -> None:
    history = begun().signal("ApproveInvoice").task(end)
    assert history.read().decisions == ()
    assert history.task().read().decisions == (ReceivedDecision(Verdict.APPROVED, history.at(5), by_signal=True),)


def test_a_signal_of_an_idle_task_may_be_seen_with_the_next_on_replay() -> None:
    history = begun().task().signal("ApproveInvoice").then("WORKFLOW_TASK_SCHEDULED").task()
    at = history.at(len(history.events) - 1)
    (received,) = history.read().decisions
    assert (received.at, len(received.replayed_at)) == (at, 1)
    for _ in range(2):
        history.then("WORKFLOW_TASK_SCHEDULED").task()
    (received,) = history.read().decisions
    assert received.replayed_at[1:] == (at + 3 * SECOND, at + 6 * SECOND)
    assert [seconds for seconds in range(8) if received.is_seen_at(at + seconds * SECOND)] == [0, 3, 6]


@pytest.mark.parametrize("happens", ["TIMER_STARTED", "WORKFLOW_EXECUTION_SIGNALED"])
def test_after_a_task_with_commands_or_before_other_news_it_may_not(happens: str) -> None:
    history = begun().task().signal("ApproveInvoice").then("WORKFLOW_TASK_SCHEDULED").task()
    history.then(happens).then("WORKFLOW_TASK_SCHEDULED").task().then("WORKFLOW_TASK_SCHEDULED").task()
    received = history.read().decisions[0]
    assert [each for each in received.replayed_at if each > received.at] == []


def test_signals_of_other_names_are_no_decisions() -> None:
    assert begun().signal("approveinvoice").signal("Else").update("else").task().read().decisions == ()


def test_an_update_is_seen_by_the_task_that_accepts_it() -> None:
    history = begun().task().update("reject").update("approve")
    at = history.at(2)
    first, second = (
        ReceivedDecision(Verdict.REJECTED, at, accepted=4),
        ReceivedDecision(Verdict.APPROVED, at, accepted=5),
    )
    assert history.read().decisions == (first, second)
    assert history.read().effective_decision == first


def test_of_a_signal_and_an_update_in_one_task_the_workflow_sees_the_signal_first() -> None:
    decisions = begun().signal("RejectInvoice").task().update("approve").read().decisions
    assert [(received.verdict, received.by_signal) for received in decisions] == [
        (Verdict.REJECTED, True),
        (Verdict.APPROVED, False),
    ]


def test_a_failed_task_is_recorded_with_the_first_line_of_its_failure() -> None:
    trace = begun().failed_task("ValueError: boom\n  at line 1").failed_task("again").read()
    assert trace.failed_tasks == ("ValueError: boom", "again")


def test_a_task_that_is_only_done_again_is_no_failure() -> None:
    assert begun().failed_task("UnhandledCommand", "UNHANDLED_COMMAND").read().failed_tasks == ()


def test_the_time_to_decide_begins_with_the_task_that_learns_of_the_validation() -> None:
    history = begun().task().validated()
    assert history.read().validated_at is None
    trace = history.task().task().validated().task().read()
    assert trace.validated_at == history.at(6)
    assert trace.deadline == history.at(6) + 60 * SECOND


def test_a_validation_that_ends_while_a_task_runs_is_learnt_by_the_next_one() -> None:
    history = begun().then("WORKFLOW_TASK_STARTED").validated().then("WORKFLOW_TASK_COMPLETED")
    assert history.read().validated_at is None
    assert history.task().read().validated_at == history.at(6)


def test_the_last_task_has_its_first_scheduled_time_however_often_it_was_retried() -> None:
    history = begun().then("WORKFLOW_TASK_SCHEDULED").task().then("WORKFLOW_TASK_SCHEDULED")
    history.failed_task("again", "UNHANDLED_COMMAND")
    assert history.read().last_task_at == BEGAN + 2 * SECOND
    history.then("WORKFLOW_TASK_SCHEDULED").task()
    assert history.read().last_task_at == BEGAN + 5 * SECOND


def test_any_timer_for_the_deadline_begins_when_the_task_is_over_that_learns_of_the_validation() -> None:
    read = begun().validated().task().read()
    assert read.deadline
    assert read.expires_by == read.deadline + SECOND


def test_another_activity_says_nothing_of_the_validation() -> None:
    assert begun().task().validated("notify_somebody").task().read().validated_at is None


def test_a_validation_that_failed_begins_no_time_to_decide() -> None:
    assert begun().then("ACTIVITY_TASK_FAILED").task().read().deadline is None


def test_an_input_that_is_no_invoice_has_no_deadline() -> None:
    """Without an approval timeout the first decision counts, also one after the validation."""
    trace = (
        History().started(payload({"no": "invoice"})).task().validated().task().signal("ApproveInvoice").task().read()
    )
    assert trace.validated_at is not None
    assert (trace.deadline, trace.expires_by) == (None, None)
    assert trace.effective_decision is not None


def test_only_a_decision_before_the_deadline_decides() -> None:
    early, late = ReceivedDecision(Verdict.APPROVED, BEGAN), ReceivedDecision(Verdict.REJECTED, BEGAN + 60 * SECOND)
    known: dict[str, Any] = {"validated_at": BEGAN, "approval_timeout": 60 * SECOND}
    assert Trace(decisions=(late,), **known).effective_decision is None
    assert Trace(decisions=(late, early), **known).effective_decision == early
    assert Trace(decisions=(late,)).effective_decision == late


def test_an_accepted_update_counts_until_the_deadlines_timer_and_a_refused_one_in_the_last_second_does_not() -> None:
    known: dict[str, Any] = {
        "validated_at": BEGAN,
        "validation_seen_by": BEGAN + 3 * SECOND,
        "approval_timeout": 60 * SECOND,
    }
    signal = ReceivedDecision(Verdict.APPROVED, BEGAN + 61 * SECOND, by_signal=True)
    update = replace(signal, by_signal=False, accepted=7)
    late, refused = replace(update, at=BEGAN + 63 * SECOND), replace(update, at=BEGAN + 59 * SECOND, is_refused=True)
    in_time = replace(refused, at=BEGAN + 58.9 * SECOND)
    assert [
        Trace(decisions=(each,), **known).effective_decision for each in (signal, update, late, refused, in_time)
    ] == [*(None, update, None, None, in_time)]


def test_an_update_that_failed_is_refused() -> None:
    history = begun().task().update("approve").update("reject")
    event = history.add("WORKFLOW_EXECUTION_UPDATE_COMPLETED")
    completed = event.workflow_execution_update_completed_event_attributes
    completed.accepted_event_id = event.event_id - 1
    completed.outcome.failure.message = "the time to decide has ended"
    assert [(received.verdict, received.is_refused) for received in history.read().decisions] == [
        (Verdict.APPROVED, False),
        (Verdict.REJECTED, True),
    ]


def test_children_and_indexed_values_are_recorded() -> None:
    history = begun().child("A-line-1", "r1").child("A-line-2", "r2")
    history.indexed("InvoiceStatus", "PENDING-APPROVAL").indexed("Else", "x").indexed("InvoiceStatus", "PAID")
    trace = history.read()
    assert trace.children == {"r1": "A-line-1", "r2": "A-line-2"}
    assert trace.indexed == ("PENDING-APPROVAL", "PAID")


def test_the_first_request_to_cancel_counts() -> None:
    asked = "WORKFLOW_EXECUTION_CANCEL_REQUESTED"
    assert begun().then(asked).then(asked).read().cancelled_at == BEGAN + 2 * SECOND


@pytest.mark.parametrize("end", ["COMPLETED", "FAILED", "CANCELED", "TERMINATED", "TIMED_OUT", "CONTINUED_AS_NEW"])
def test_every_closing_status_has_temporals_name(end: str) -> None:
    trace = begun().then(f"WORKFLOW_EXECUTION_{end}").read()
    assert (trace.end, trace.ended_at, trace.result) == (end, BEGAN + 2 * SECOND, None)


def test_the_report_it_ended_with_is_read() -> None:
    report = a_run(Status.REJECTED, LineStatus.NOT_PAID, verdict=Verdict.REJECTED).report
    assert isinstance(report, InvoiceReport)
    assert ended_with(report).result == report


@pytest.mark.parametrize("result", ["PAID", None, {"status": "PAID"}])
def test_a_result_that_is_no_report_is_none(result: object) -> None:
    assert ended_with(result).result is None


def ended_with(result: object) -> Trace:
    history = begun()
    ended = history.add("WORKFLOW_EXECUTION_COMPLETED").workflow_execution_completed_event_attributes
    ended.result.payloads.append(payload(result))
    return history.read()


def test_a_run_that_continues_after_a_reset_has_failed_no_task() -> None:
    history = begun().then("WORKFLOW_TASK_SCHEDULED").failed_task("reset", "RESET_WORKFLOW")
    trace = history.then("WORKFLOW_TASK_SCHEDULED").task().read()
    assert (trace.failed_tasks, trace.is_failing, trace.has_completed_task) == ((), False, True)
    assert trace.last_task_at == history.at(5)
    assert not begun().failed_task("reset", "RESET_WORKFLOW").read().has_completed_task


def test_reapplied_decisions_keep_the_order_of_their_events() -> None:
    history = begun().signal("ApproveInvoice")
    admitted = history.add("WORKFLOW_EXECUTION_UPDATE_ADMITTED").workflow_execution_update_admitted_event_attributes
    admitted.request.meta.update_id, admitted.request.input.name = "again", "reject"
    admitted.request.input.args.payloads.append(payload({"by": "Bob"}))
    history.signal("ApproveInvoice").task()
    accepted = history.add("WORKFLOW_EXECUTION_UPDATE_ACCEPTED").workflow_execution_update_accepted_event_attributes
    accepted.protocol_instance_id = "again"
    decisions = history.update("approve").read().decisions
    assert [(each.verdict, each.by, each.by_signal) for each in decisions] == [
        (Verdict.APPROVED, "", True),
        (Verdict.REJECTED, "Bob", False),
        (Verdict.APPROVED, "", True),
        (Verdict.APPROVED, "", False),
    ]
    assert {each.at for each in decisions} == {history.at(5)}
