"""A readable trace of a simulation: the significant history events of all runs, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent

from temporal_simulator.protocol.events import attributes_field
from temporal_simulator.server.execution import Execution
from temporal_simulator.simulation import Simulation

# The longest text of a payload that is shown in full.
_MAX_LENGTH = 160


@dataclass(frozen=True)
class TimelineEntry:
    """One event of a simulation.

    Attributes:
        number: Its position among all events.
        at: Virtual time.
        who: The workflow type; for a child, the part of its id after the parent's id. With the number of the run, if it
            is not the first one.
        what: What happened.
    """

    number: int
    at: datetime
    who: str
    what: str


def timeline(simulation: Simulation) -> list[TimelineEntry]:
    """The timeline of all runs.

    Example:
        for entry in timeline(simulation):
            print(entry.at, entry.who, entry.what)
    """
    entries = [entry for run in simulation.runs() for entry in _entries(simulation, run)]
    return sorted(entries, key=lambda entry: entry.number)


def _entries(simulation: Simulation, run: Execution) -> Iterator[TimelineEntry]:
    who, formatter = _name(simulation, run), _Formatter()
    for each in run.history:
        if (what := formatter.format(each)) and each.event_id > run.inherited:
            yield TimelineEntry(each.task_id, each.event_time.ToDatetime(UTC), who, what)


def _name(simulation: Simulation, run: Execution) -> str:
    parent = run.start.parent
    name = run.start.workflow_type
    if parent is not None:
        name = run.workflow_id.removeprefix(parent.parent_ref.workflow_id).strip("-/_ ") or run.workflow_id
    runs = simulation.runs_of(run.workflow_id)
    return name if runs[0] is run else f"{name}, run {runs.index(run) + 1}"


class _Formatter:
    """Formats the events of one run. Keeps the names of activities and timers, to which later events refer by id."""

    def __init__(self) -> None:
        self._activities: dict[int, str] = {}
        self._timers: dict[int, str] = {}

    def format(self, event: HistoryEvent) -> str:
        """Format an event; "" for those that are not significant, such as a completed workflow task."""
        attrs = getattr(event, attributes_field(event.event_type))
        match event.event_type:
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                name = self._activities[event.event_id] = attrs.activity_type.name
                return f"schedules activity {name}{_shown(attrs.input.payloads)}"
            case EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
                if attrs.attempt == 1:
                    return ""
                name, failure = self._activities[attrs.scheduled_event_id], _failure(attrs.last_failure)
                return f"{name}: attempt {attrs.attempt}, after {failure}"
            case kind if kind in _ACTIVITY_CLOSED:
                return f"{self._activities[attrs.scheduled_event_id]} {_ACTIVITY_CLOSED[kind](attrs)}"
            case EventType.EVENT_TYPE_TIMER_STARTED:
                summary = _text(event.user_metadata.summary)
                name = self._timers[event.event_id] = summary or attrs.timer_id
                return f"starts timer {name}: {attrs.start_to_fire_timeout.ToTimedelta()}"
            case EventType.EVENT_TYPE_TIMER_FIRED:
                return f"timer {self._timers[attrs.started_event_id]} fires"
            case EventType.EVENT_TYPE_TIMER_CANCELED:
                return f"timer {self._timers[attrs.started_event_id]} is cancelled"
            case kind:
                return _FORMATS[kind](attrs) if kind in _FORMATS else ""


def _text(payload: Payload) -> str:
    text = payload.data.decode("utf-8", "replace")
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}…"


def _shown(payloads: Any) -> str:
    return "".join(f" {_text(payload)}" for payload in payloads)


def _failure(failure: Failure) -> str:
    return failure.message.partition("\n")[0] or (failure.WhichOneof("failure_info") or "nothing").replace("_", " ")


_ACTIVITY_CLOSED: Mapping[int, Callable[[Any], str]] = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: lambda attrs: f"returns{_shown(attrs.result.payloads)}",
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: lambda attrs: f"fails: {_failure(attrs.failure)}",
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: lambda attrs: f"times out: {_failure(attrs.failure)}",
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED: lambda _: "is cancelled",
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED: lambda _: "cancellation requested",
}

_FORMATS: Mapping[int, Callable[[Any], str]] = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED: lambda attrs: f"starts{_shown(attrs.input.payloads)}",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED: lambda attrs: f"receives signal {attrs.signal_name}",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED: lambda attrs: (
        f"update is reapplied: {attrs.request.input.name}{_shown(attrs.request.input.args.payloads)}"
    ),
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED: lambda attrs: (
        f"accepts update {attrs.accepted_request.input.name}{_shown(attrs.accepted_request.input.args.payloads)}"
    ),
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED: lambda attrs: (
        f"completes update{_shown(attrs.outcome.success.payloads)}"
        if attrs.outcome.HasField("success")
        else f"fails update: {_failure(attrs.outcome.failure)}"
    ),
    EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES: lambda attrs: ", ".join(
        f"{name} is {_text(value)}" for name, value in attrs.search_attributes.indexed_fields.items()
    ),
    EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED: lambda attrs: f"starts child {attrs.workflow_id}",
    EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED: lambda attrs: (
        f"child {attrs.workflow_id} cannot start: id is taken"
    ),
    EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED: lambda attrs: (
        f"requests cancellation of {attrs.workflow_execution.workflow_id}"
    ),
    EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED: lambda attrs: (
        f"signals {attrs.workflow_execution.workflow_id}: {attrs.signal_name}"
    ),
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED: lambda attrs: (
        f"cancellation requested{f': {attrs.cause}' if attrs.cause else ''}"
    ),
    EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED: lambda attrs: (
        f"continues after a reset: {attrs.failure.message}"
        if attrs.new_run_id
        else f"workflow task fails: {_failure(attrs.failure)}"
    ),
    EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT: lambda _: "workflow task times out",
    EventType.EVENT_TYPE_MARKER_RECORDED: lambda attrs: f"records marker {attrs.marker_name}",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: lambda attrs: (
        f"completes: {_shown(attrs.result.payloads).strip()}"
    ),
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: lambda attrs: f"fails: {_failure(attrs.failure)}",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: lambda _: "is cancelled",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: lambda attrs: f"is terminated: {attrs.reason}",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: lambda _: "times out",
}
