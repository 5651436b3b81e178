"""What the history of one run tells: what was asked for, which decisions arrived when, how it ended. Pure."""

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
"""Decodes the first payload as a type, as the workflow would; None where it can't be."""

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

# An update that may be late is confirmed by the next task, or refused if the deadline's timer fires before that.
_CONFIRMED_WITHIN = timedelta(seconds=1)


@dataclass(frozen=True)
class Arrival:
    """A decision that reached the workflow.

    Attributes:
        at: When the workflow saw it: its own time in that task.
        by: Who decided, where the message says so.
        replayed_at: Other times at which it may be seen on replay. The SDK's core takes a task that commanded nothing,
            and after which another was scheduled at once, for a heartbeat, and replays what it brought in the next
            task, at that one's time (temporalio/sdk-rust#1606). On the time-skipping server queries and refused
            updates leave such tasks in the history; a real server drops them. And a signal may be delivered with the
            time of the task before its own: see docs/upstream/query-before-task.md.
        accepted: For an update, the id of the event that accepted it; 0 for a signal.
        is_refused: Whether it is an update that failed after it was accepted.
    """

    verdict: Verdict
    at: datetime
    by_signal: bool = False
    by: str = ""
    replayed_at: tuple[datetime, ...] = ()
    accepted: int = 0
    is_refused: bool = False

    def is_at(self, moment: datetime) -> bool:
        """Whether the workflow, or a replay of it, saw it at that time."""
        return any(is_same_time(moment, each) for each in (self.at, *self.replayed_at))


@dataclass(frozen=True)
class Trace:
    """What a history tells of one run.

    Attributes:
        invoice: What was to be paid; None if the input is no invoice.
        approval_timeout: How long it was to wait; 0 if the input is no invoice, for which nobody has promised anything.
        arrivals: Decisions, in the order in which the workflow saw them, whether it took them or not.
        validated_at: When the workflow learnt that the ERP accepts; None if it did not.
        before_validated: When the task before that one began: a workflow that learnt it early, as a query was answered
            from a replay, counts the deadline from there until it is replayed.
        learnt_by: When the task in which it learnt that was over: only then did any timer of its begin.
        cancelled_at: When a cancellation was first asked for.
        ended_at: When it ended; None while it runs.
        roused_at: When there was a reason for the last task it had, however long that waited for a worker.
        end: How Temporal calls the end, such as COMPLETED; RUNNING while it runs.
        result: The report it ended with, if it did.
        returned: The text it ended with, as the seed's workflow does, if it did.
        children: Run id of every child workflow -> its workflow id.
        failed_tasks: Why workflow tasks failed, one text each.
        is_failing: Whether it runs, and no workflow task has gone well since the last one failed.
        indexed: Every value that InvoiceStatus was set to, in order.
        is_cut_off: Whether somebody terminated it when something had happened that no task had told it yet. Who asks it
            then is answered from a replay that tells it, and may go on to any status; nothing else comes of that.
        has_begun: Whether any task of it has gone well: else it can't be asked anything once it has ended.
        begun_after_cancel: Workflow ids of the lines that it began after the task that told it of a cancellation.
    """

    invoice: AcceptedInvoice | None = None
    approval_timeout: timedelta = timedelta()
    arrivals: tuple[Arrival, ...] = ()
    validated_at: datetime | None = None
    before_validated: datetime | None = None
    learnt_by: datetime | None = None
    cancelled_at: datetime | None = None
    ended_at: datetime | None = None
    roused_at: datetime | None = None
    end: str = "RUNNING"
    result: InvoiceReport | None = None
    returned: str | None = None
    children: dict[str, str] = field(default_factory=dict)
    failed_tasks: tuple[str, ...] = ()
    is_failing: bool = False
    indexed: tuple[str, ...] = ()
    is_cut_off: bool = False
    begun_after_cancel: tuple[str, ...] = ()
    has_begun: bool = False

    @property
    def deadline(self) -> datetime | None:
        """When the time to decide ended, by what was promised; None if it never began."""
        return self.validated_at + self.approval_timeout if self.validated_at and self.approval_timeout else None

    def may_tell_deadline(self, moment: datetime) -> bool:
        """Whether the workflow, or a replay of it, may give this as its deadline."""
        times = (self.validated_at, self.before_validated)
        return any(is_same_time(moment, each + self.approval_timeout) for each in times if each is not None)

    @property
    def expires_by(self) -> datetime | None:
        """When a timer for that has fired at the latest, as a server counts from the end of the task that sets it."""
        learnt_by = self.learnt_by or self.validated_at
        return learnt_by + self.approval_timeout if learnt_by and self.approval_timeout else None

    @property
    def decided(self) -> Arrival | None:
        """The first decision in time: the one that has to count."""
        return next((arrival for arrival in self.arrivals if self._is_in_time(arrival)), None)

    def _is_in_time(self, arrival: Arrival) -> bool:
        if self.deadline is None or self.expires_by is None:
            return True
        if arrival.is_refused:
            return arrival.at < self.deadline - _CONFIRMED_WITHIN
        # The deadline's timer begins when the task that starts it is over.
        return arrival.at < (self.expires_by if arrival.accepted else self.deadline)


def is_same_time(one: datetime, other: datetime | None) -> bool:
    """Histories count in nanoseconds, and the SDK takes them for floats on their way into a workflow."""
    return other is not None and abs(one - other) < timedelta(milliseconds=1)


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(UTC)


class _Reader:
    """Reads events one after another."""

    def __init__(self, decode: Decode, validation: str) -> None:
        self._decode = decode
        self._task = datetime.min.replace(tzinfo=UTC)
        self._last_task: datetime | None = None
        self._seen = 0
        self._roused: datetime | None = None
        self._unseen: list[tuple[int, Verdict]] = []
        # Signals of the last task, and of those before it that a replay takes for one with it.
        self._signals_at_once: list[int] = []
        self._task_is_over = False
        self._validation = validation
        self._validations: set[int] = set()
        # Where the policy in the input forbids it, an approving signal is none of the decisions that count.
        self._signals_approve = True
        self._validation_ended = 0
        self.arrivals: list[Arrival] = []
        self.validated_at: datetime | None = None
        self.failed_tasks: list[str] = []
        self.is_failing = False
        self.children: dict[str, str] = {}
        self.indexed: list[str] = []
        self._admitted: dict[str, tuple[int, Request]] = {}
        # Numbers of the events by which the arrivals came.
        self._arrived: list[int] = []
        # The event that asks for a cancellation; whether the last task has seen it, and whether one before that has.
        self._cancel = 0
        self._has_heard = self._had_heard = False
        self.begun_after_cancel: list[str] = []
        self.facts: dict[str, Any] = {}

    def read(self, event: HistoryEvent) -> None:
        kind = event.event_type
        if self._task_is_over and kind != EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED:
            self._signals_at_once.clear()
        self._task_is_over = kind == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
        if kind in _ENDS:
            self.facts |= {"end": _ENDS[kind], "ended_at": _time(event.event_time)}
            self.is_failing = False
            if kind == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED and self._roused:
                self.facts["is_cut_off"], self._seen = True, event.event_id
                self._learn(_time(event.event_time))
            if kind == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
                result = event.workflow_execution_completed_event_attributes.result
                self.facts["result"] = self._first(result, InvoiceReport)
                self.facts["returned"] = self._first(result, str)
        elif kind in _TASKS:
            self._read_task(event)
        else:
            self._read_happening(event)

    def _read_task(self, event: HistoryEvent) -> None:
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED:
                # One that failed, or that no worker came for, is scheduled again: for the same reason.
                self._roused = self._roused or _time(event.event_time)
            case EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED:
                self._task, self._seen = _time(event.event_time), event.event_id
            case EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                self._learn(_time(event.event_time))
                self.is_failing, self.facts["has_begun"] = False, True
            case EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
                failed = event.workflow_task_failed_event_attributes
                if failed.cause == _RESET:
                    # The tasks of this run begin here.
                    self._roused = None
                if failed.cause not in _HARMLESS:
                    self.failed_tasks.append(failed.failure.message.partition("\n")[0])
                    self.is_failing = True

    def _learn(self, over: datetime) -> None:
        """A completed task has seen all that was in the history when it started."""
        self._had_heard, self._has_heard = self._has_heard, 0 < self._cancel < self._seen
        if self._roused:
            self.facts["roused_at"], self._roused = self._roused, None
        for index in self._signals_at_once:
            arrival = self.arrivals[index]
            self.arrivals[index] = replace(arrival, replayed_at=(*arrival.replayed_at, self._task))
        seen = [
            (number, verdict)
            for number, verdict in self._unseen
            if number < self._seen and (verdict is not Verdict.APPROVED or self._signals_approve)
        ]
        known = len(self.arrivals)
        before = () if self._last_task is None else (self._last_task,)
        self.arrivals += [Arrival(verdict, self._task, by_signal=True, replayed_at=before) for _, verdict in seen]
        self._arrived += [number for number, _ in seen]
        self._signals_at_once += range(known, len(self.arrivals))
        self._unseen = [(number, verdict) for number, verdict in self._unseen if number >= self._seen]
        if self.validated_at is None and 0 < self._validation_ended < self._seen:
            self.validated_at = self._task
            self.facts |= {"learnt_by": over, "before_validated": self._last_task}
        self._last_task = self._task

    def _read_happening(self, event: HistoryEvent) -> None:
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
                self._read_input(event.workflow_execution_started_event_attributes.input)
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED:
                self.facts.setdefault("cancelled_at", _time(event.event_time))
                self._cancel = self._cancel or event.event_id
            case EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
                if self._had_heard:
                    begun = event.start_child_workflow_execution_initiated_event_attributes.workflow_id
                    self.begun_after_cancel.append(begun)
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
                    self._unseen.append((event.event_id, _SIGNALS[name]))
            case kind if kind in {_ADMITTED, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED}:
                self._read_update(event)
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED:
                completed = event.workflow_execution_update_completed_event_attributes
                if completed.outcome.HasField("failure"):
                    self._refuse(completed.accepted_event_id)

    def _refuse(self, accepted: int) -> None:
        self.arrivals = [
            replace(each, is_refused=True) if each.accepted == accepted else each for each in self.arrivals
        ]

    def _read_update(self, event: HistoryEvent) -> None:
        if event.event_type == _ADMITTED:
            # What a reset applies again is asked for by an event of its own.
            request = event.workflow_execution_update_admitted_event_attributes.request
            self._admitted[request.meta.update_id] = event.event_id, request
            return
        accepted = event.workflow_execution_update_accepted_event_attributes
        first = event.event_id, accepted.accepted_request
        number, request = self._admitted.get(accepted.protocol_instance_id, first)
        if request.input.name in _UPDATES:
            # Its place among the signals of the same task: others come after them.
            place = bisect(self._arrived, number)
            verdict, by = _UPDATES[request.input.name], self._decider(request)
            arrival = Arrival(verdict, self._task, by=by, accepted=event.event_id)
            self.arrivals.insert(place, arrival)
            self._arrived.insert(place, number)

    def _read_activity(self, event: HistoryEvent) -> None:
        if event.activity_task_scheduled_event_attributes.activity_type.name == self._validation:
            self._validations.add(event.event_id)
        if event.activity_task_completed_event_attributes.scheduled_event_id in self._validations:
            self._validation_ended = self._validation_ended or event.event_id

    def _decider(self, request: Request) -> str:
        told = self._first(request.input.args, dict)
        return str(told.get("by", "")) if isinstance(told, dict) else ""

    def _read_input(self, payloads: Payloads) -> None:
        request = self._first(payloads, dict)
        if isinstance(request, dict):
            self.facts["request"] = request
            policy = request.get("policy")
            # An input without the word is release 0.1.0's, or the original sample's, where signals approved.
            self._signals_approve = not isinstance(policy, dict) or policy.get("signals_approve", True) is True

    def _first(self, payloads: Payloads, kind: type[Any]) -> Any:
        return self._decode(payloads.payloads, kind) if payloads.payloads else None


_ADMITTED = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED
_RESET = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW
# A task that wanted to end the workflow just as something else arrived is done again; one that was under way when
# somebody ended the workflow has nothing to say any more; and a reset begins with one.
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


def trace_of(
    events: Iterable[HistoryEvent],
    decode: Decode,
    read_request: Callable[[dict[str, Any]], tuple[AcceptedInvoice, timedelta] | None],
    *,
    validation: str = VALIDATE_AGAINST_ERP,
) -> Trace:
    """Read one history.

    Args:
        read_request: What the workflow's input asks for: the invoice, and how long it may wait; None if it is none.
        validation: The activity that asks the ERP; with its answer the time to decide begins.
    """
    reader = _Reader(decode, validation)
    for event in events:
        reader.read(event)
    request = reader.facts.pop("request", None)
    asked = read_request(request) if request is not None else None
    invoice, approval_timeout = asked or (None, timedelta())
    return Trace(
        invoice=invoice,
        approval_timeout=approval_timeout,
        arrivals=tuple(reader.arrivals),
        validated_at=reader.validated_at,
        children=reader.children,
        failed_tasks=tuple(reader.failed_tasks),
        is_failing=reader.is_failing,
        indexed=tuple(reader.indexed),
        begun_after_cancel=tuple(reader.begun_after_cancel),
        **reader.facts,
    )
