"""Reads a run's event history: its input, the decisions it received and when, and how it ended. Pure."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.update.v1 import Request

from invoice_mcp.domain.names import INVOICE_STATUS, VALIDATE_AGAINST_ERP
from invoice_mcp.domain.report import AcceptedInvoice, InvoiceReport, Verdict

Decode = Callable[[Sequence[Payload], type[Any]], Any]
"""Decodes the first payload as a type, as the workflow would; returns None if it can't."""

_SIGNALS = {"ApproveInvoice": Verdict.APPROVED, "RejectInvoice": Verdict.REJECTED}
_UPDATES = {"approve": Verdict.APPROVED, "reject": Verdict.REJECTED}
_ENDS = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: "COMPLETED",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: "FAILED",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: "CANCELED",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: "TERMINATED",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: "TIMED_OUT",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW: "CONTINUED_AS_NEW",
}

# A possibly late update is confirmed by the next task, or refused if the deadline's timer fires first.
_CONFIRMATION_TIME = timedelta(seconds=1)


@dataclass(frozen=True)
class ReceivedDecision:
    """A decision that reached the workflow, by signal or update.

    Attributes:
        at: When the workflow received it: the workflow's time in that task.
        by: Who decided, if the message says so.
        replayed_at: Other times at which a replay may receive it. The SDK's core takes a task without commands that is
            followed by another one at once for a heartbeat, and replays its messages in the next task, at that task's
            time (temporalio/sdk-rust#1606). On the time-skipping server queries and refused updates leave such tasks
            in the history; a real server drops them. A signal may also be delivered with the time of the task before
            its own: see docs/upstream/query-before-task.md.
        accepted: Id of the event that accepted an update; 0 for a signal.
        is_refused: Whether an update failed after it was accepted.
    """

    verdict: Verdict
    at: datetime
    by_signal: bool = False
    by: str = ""
    replayed_at: tuple[datetime, ...] = ()
    accepted: int = 0
    is_refused: bool = False

    def is_seen_at(self, time: datetime) -> bool:
        """Whether the workflow, or a replay of it, received the decision at that time."""
        return any(is_same_time(time, each) for each in (self.at, *self.replayed_at))


@dataclass(frozen=True)
class Trace:
    """The facts that the checker takes from the history of one run.

    Attributes:
        invoice: The invoice to pay; None if the input is no invoice.
        approval_timeout: How long the invoice waits for a decision; 0 if the input is no invoice.
        decisions: Received decisions, accepted or not, in the order in which the workflow received them.
        validated_at: When the workflow learned that the ERP accepts the invoice; None if it did not.
        previous_task_at: When the task before that one started. If a query was answered from a replay first, the
            workflow may have learned it in that task, and counts the deadline from there until it is replayed.
        validation_seen_by: When that task ended. The timer of the deadline does not start earlier.
        cancelled_at: When a cancellation was first requested.
        ended_at: When the run closed; None while it is open.
        last_task_at: When the last workflow task was first scheduled, however long it waited for a worker.
        end: Temporal's name of the closing status, such as COMPLETED; RUNNING while the run is open.
        result: The report that the run returned, if any.
        text_result: The text that the run returned, if any, as the original sample's workflow does.
        children: Run id of every child workflow -> its workflow id.
        failed_tasks: The message of each failed workflow task.
        is_failing: Whether the run is open, and no workflow task has completed since the last one failed.
        indexed: Every value of the search attribute InvoiceStatus, in order.
        is_interrupted: Whether the run was terminated with unprocessed events. Queries of the closed run are answered
            from a replay that processes them, and may show any later status; this has no further effect.
        has_completed_task: Whether any workflow task completed. Otherwise a closed run can't be queried.
        started_after_cancel: Workflow ids of the lines that started after the task that received a cancellation.
    """

    invoice: AcceptedInvoice | None = None
    approval_timeout: timedelta = timedelta()
    decisions: tuple[ReceivedDecision, ...] = ()
    validated_at: datetime | None = None
    previous_task_at: datetime | None = None
    validation_seen_by: datetime | None = None
    cancelled_at: datetime | None = None
    ended_at: datetime | None = None
    last_task_at: datetime | None = None
    end: str = "RUNNING"
    result: InvoiceReport | None = None
    text_result: str | None = None
    children: dict[str, str] = field(default_factory=dict)
    failed_tasks: tuple[str, ...] = ()
    is_failing: bool = False
    indexed: tuple[str, ...] = ()
    is_interrupted: bool = False
    started_after_cancel: tuple[str, ...] = ()
    has_completed_task: bool = False

    @property
    def deadline(self) -> datetime | None:
        """When the approval timeout ends; None if it never started."""
        return self.validated_at + self.approval_timeout if self.validated_at and self.approval_timeout else None

    def is_possible_deadline(self, time: datetime) -> bool:
        """Whether the workflow, or a replay of it, may report this deadline."""
        times = (self.validated_at, self.previous_task_at)
        return any(is_same_time(time, each + self.approval_timeout) for each in times if each is not None)

    @property
    def expires_by(self) -> datetime | None:
        """When the deadline's timer fires at the latest: it counts from the end of the task that starts it."""
        validation_seen_by = self.validation_seen_by or self.validated_at
        return validation_seen_by + self.approval_timeout if validation_seen_by and self.approval_timeout else None

    @property
    def effective_decision(self) -> ReceivedDecision | None:
        """The first decision in time: the one that must count."""
        return next((received for received in self.decisions if self._is_in_time(received)), None)

    def _is_in_time(self, received: ReceivedDecision) -> bool:
        if self.deadline is None or self.expires_by is None:
            return True
        if received.is_refused:
            return received.at < self.deadline - _CONFIRMATION_TIME
        # The deadline's timer starts at the end of the task that requests it.
        return received.at < (self.expires_by if received.accepted else self.deadline)


def is_same_time(one: datetime, other: datetime | None) -> bool:
    """Whether two times are equal up to rounding: histories have nanoseconds, the SDK converts them to floats."""
    return other is not None and abs(one - other) < timedelta(milliseconds=1)


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(UTC)


class _HistoryParser:
    """Processes the events of a history in order."""

    def __init__(self, decode: Decode, validation: str) -> None:
        self._decode = decode
        self._task_started = datetime.min.replace(tzinfo=UTC)
        self._last_task_started: datetime | None = None
        self._last_seen_event_id = 0
        self._task_scheduled_at: datetime | None = None
        self._pending_signals: list[tuple[int, Verdict]] = []
        # Indexes of the signals in the last task, and in the tasks that a replay merges with it.
        self._replayable_signals: list[int] = []
        self._task_just_completed = False
        self._validation = validation
        self._validations: set[int] = set()
        # If the policy in the input forbids it, an approving signal does not count as a decision.
        self._signals_approve = True
        self._validation_event_id = 0
        self.decisions: list[ReceivedDecision] = []
        self.validated_at: datetime | None = None
        self.failed_tasks: list[str] = []
        self.is_failing = False
        self.children: dict[str, str] = {}
        self.indexed: list[str] = []
        self._admitted: dict[str, tuple[int, Request]] = {}
        # For each decision, the id of its event.
        self._decision_event_ids: list[int] = []
        # Id of the event that requests a cancellation; whether the last task, and one before that, received it.
        self._cancel_event_id = 0
        self._knows_of_cancel = self._knew_of_cancel = False
        self.started_after_cancel: list[str] = []
        self.facts: dict[str, Any] = {}

    def read(self, event: HistoryEvent) -> None:
        kind = event.event_type
        if self._task_just_completed and kind != EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED:
            self._replayable_signals.clear()
        self._task_just_completed = kind == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
        if kind in _ENDS:
            self.facts |= {"end": _ENDS[kind], "ended_at": _time(event.event_time)}
            self.is_failing = False
            if kind == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED and self._task_scheduled_at:
                self.facts["is_interrupted"], self._last_seen_event_id = True, event.event_id
                self._complete_task(_time(event.event_time))
            if kind == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
                result = event.workflow_execution_completed_event_attributes.result
                self.facts["result"] = self._decode_first(result, InvoiceReport)
                self.facts["text_result"] = self._decode_first(result, str)
        elif kind in _TASKS:
            self._read_task(event)
        else:
            self._read_event(event)

    def _read_task(self, event: HistoryEvent) -> None:
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED:
                # A failed or timed-out task is scheduled again for the same reason, so the first time counts.
                self._task_scheduled_at = self._task_scheduled_at or _time(event.event_time)
            case EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED:
                self._task_started, self._last_seen_event_id = _time(event.event_time), event.event_id
            case EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                self._complete_task(_time(event.event_time))
                self.is_failing, self.facts["has_completed_task"] = False, True
            case EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
                failed = event.workflow_task_failed_event_attributes
                if failed.cause == _RESET:
                    # A reset run starts here.
                    self._task_scheduled_at = None
                if failed.cause not in _HARMLESS:
                    self.failed_tasks.append(failed.failure.message.partition("\n")[0])
                    self.is_failing = True

    def _complete_task(self, over: datetime) -> None:
        """A task completed: it received every event that was in the history when it started."""
        self._knew_of_cancel, self._knows_of_cancel = (
            self._knows_of_cancel,
            0 < self._cancel_event_id < self._last_seen_event_id,
        )
        if self._task_scheduled_at:
            self.facts["last_task_at"], self._task_scheduled_at = self._task_scheduled_at, None
        for index in self._replayable_signals:
            received = self.decisions[index]
            self.decisions[index] = replace(received, replayed_at=(*received.replayed_at, self._task_started))
        seen = [
            (number, verdict)
            for number, verdict in self._pending_signals
            if number < self._last_seen_event_id and (verdict is not Verdict.APPROVED or self._signals_approve)
        ]
        known = len(self.decisions)
        before = () if self._last_task_started is None else (self._last_task_started,)
        self.decisions += [
            ReceivedDecision(verdict, self._task_started, by_signal=True, replayed_at=before) for _, verdict in seen
        ]
        self._decision_event_ids += [number for number, _ in seen]
        self._replayable_signals += range(known, len(self.decisions))
        self._pending_signals = [
            (number, verdict) for number, verdict in self._pending_signals if number >= self._last_seen_event_id
        ]
        if self.validated_at is None and 0 < self._validation_event_id < self._last_seen_event_id:
            self.validated_at = self._task_started
            self.facts |= {"validation_seen_by": over, "previous_task_at": self._last_task_started}
        self._last_task_started = self._task_started

    def _read_event(self, event: HistoryEvent) -> None:
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
                self._read_input(event.workflow_execution_started_event_attributes.input)
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED:
                self.facts.setdefault("cancelled_at", _time(event.event_time))
                self._cancel_event_id = self._cancel_event_id or event.event_id
            case EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
                if self._knew_of_cancel:
                    begun = event.start_child_workflow_execution_initiated_event_attributes.workflow_id
                    self.started_after_cancel.append(begun)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED | EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                self._read_activity(event)
            case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
                child = event.child_workflow_execution_started_event_attributes.workflow_execution
                self.children[child.run_id] = child.workflow_id
            case EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES:
                fields = event.upsert_workflow_search_attributes_event_attributes.search_attributes.indexed_fields
                if INVOICE_STATUS in fields:
                    self.indexed.append(fields[INVOICE_STATUS].data.decode().strip('"'))
            case _:
                self._read_decision(event)

    def _read_decision(self, event: HistoryEvent) -> None:
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
                name = event.workflow_execution_signaled_event_attributes.signal_name
                if name in _SIGNALS:
                    self._pending_signals.append((event.event_id, _SIGNALS[name]))
            case kind if kind in {_ADMITTED, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED}:
                self._read_update(event)
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED:
                completed = event.workflow_execution_update_completed_event_attributes
                if completed.outcome.HasField("failure"):
                    self._mark_refused(completed.accepted_event_id)

    def _mark_refused(self, accepted: int) -> None:
        self.decisions = [
            replace(each, is_refused=True) if each.accepted == accepted else each for each in self.decisions
        ]

    def _read_update(self, event: HistoryEvent) -> None:
        if event.event_type == _ADMITTED:
            # A reset reapplies an update with an event of its own.
            request = event.workflow_execution_update_admitted_event_attributes.request
            self._admitted[request.meta.update_id] = event.event_id, request
            return
        accepted = event.workflow_execution_update_accepted_event_attributes
        first = event.event_id, accepted.accepted_request
        number, request = self._admitted.get(accepted.protocol_instance_id, first)
        if request.input.name in _UPDATES:
            # Keep the order of events: signals of the same task may come before or after the update.
            place = bisect(self._decision_event_ids, number)
            verdict, by = _UPDATES[request.input.name], self._approver(request)
            received = ReceivedDecision(verdict, self._task_started, by=by, accepted=event.event_id)
            self.decisions.insert(place, received)
            self._decision_event_ids.insert(place, number)

    def _read_activity(self, event: HistoryEvent) -> None:
        if event.activity_task_scheduled_event_attributes.activity_type.name == self._validation:
            self._validations.add(event.event_id)
        if event.activity_task_completed_event_attributes.scheduled_event_id in self._validations:
            self._validation_event_id = self._validation_event_id or event.event_id

    def _approver(self, request: Request) -> str:
        argument = self._decode_first(request.input.args, dict)
        return str(argument.get("by", "")) if isinstance(argument, dict) else ""

    def _read_input(self, payloads: Payloads) -> None:
        request = self._decode_first(payloads, dict)
        if isinstance(request, dict):
            self.facts["request"] = request
            policy = request.get("policy")
            # Inputs without this field are those of release 0.1.0 and of the original sample, where signals approved.
            self._signals_approve = not isinstance(policy, dict) or policy.get("signals_approve", True) is True

    def _decode_first(self, payloads: Payloads, kind: type[Any]) -> Any:
        return self._decode(payloads.payloads, kind) if payloads.payloads else None


_ADMITTED = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED
_RESET = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW
# No faults of the code: an event arrived while the task closed the workflow, so the task is repeated; the workflow was
# closed during the task; or the failure marks the start of a reset run.
_HARMLESS = frozenset(
    {
        WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND,
        WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_FORCE_CLOSE_COMMAND,
        _RESET,
    }
)
_TASKS = frozenset(
    {
        EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED,
    }
)


def parse_history(
    events: Iterable[HistoryEvent],
    decode: Decode,
    read_request: Callable[[dict[str, Any]], tuple[AcceptedInvoice, timedelta] | None],
    *,
    validation: str = VALIDATE_AGAINST_ERP,
) -> Trace:
    """Read one history.

    Args:
        read_request: Returns the invoice and the approval timeout in the workflow's input; None if it is no invoice.
        validation: Type of the activity that asks the ERP. The approval timeout starts with its result.
    """
    reader = _HistoryParser(decode, validation)
    for event in events:
        reader.read(event)
    request = reader.facts.pop("request", None)
    found = read_request(request) if request is not None else None
    invoice, approval_timeout = found or (None, timedelta())
    return Trace(
        invoice=invoice,
        approval_timeout=approval_timeout,
        decisions=tuple(reader.decisions),
        validated_at=reader.validated_at,
        children=reader.children,
        failed_tasks=tuple(reader.failed_tasks),
        is_failing=reader.is_failing,
        indexed=tuple(reader.indexed),
        started_after_cancel=tuple(reader.started_after_cancel),
        **reader.facts,
    )
