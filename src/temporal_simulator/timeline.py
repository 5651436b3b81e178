"""What happened in a simulation, in the order in which it did, for people to read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent

from temporal_simulator.protocol.events import attributes_of

if TYPE_CHECKING:
    from temporal_simulator.server.execution import Execution
    from temporal_simulator.simulation import Simulation

# Of a payload, so many characters are shown.
_LONGEST = 160


@dataclass(frozen=True)
class TimelineEntry:
    """Something that happened.

    Attributes:
        number: Its place in the order of all that happened.
        at: Virtual time.
        who: The type of a workflow, or what the id of a child has more than its parent's; which run, if not the first.
        what: What happened to it, or what it wanted.
    """

    number: int
    at: datetime
    who: str
    what: str


def timeline(simulation: Simulation) -> list[TimelineEntry]:
    """What all runs of a simulation wanted, and what happened to them."""
    moments = [moment for run in simulation.runs() for moment in _of_run(simulation, run)]
    return sorted(moments, key=lambda moment: moment.number)


def _of_run(simulation: Simulation, run: Execution) -> Iterator[TimelineEntry]:
    who, told = _name(simulation, run), _Names()
    for each in run.history:
        if (what := told.words(each)) and each.event_id > run.inherited:
            yield TimelineEntry(each.task_id, each.event_time.ToDatetime(UTC), who, what)


def _name(simulation: Simulation, run: Execution) -> str:
    parent = run.start.parent
    name = run.start.workflow_type
    if parent is not None:
        name = run.workflow_id.removeprefix(parent.owner.workflow_id).strip("-/_ ") or run.workflow_id
    runs = simulation.runs_of(run.workflow_id)
    return name if runs[0] is run else f"{name}, run {runs.index(run) + 1}"


class _Names:
    """Puts the events of one run in words, and knows what those are called that later ones refer to by number."""

    def __init__(self) -> None:
        self._activities: dict[int, str] = {}
        self._timers: dict[int, str] = {}

    def words(self, event: HistoryEvent) -> str:
        """What an event says; nothing for those that only say that a worker was busy."""
        about = getattr(event, attributes_of(event.event_type))
        match event.event_type:
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                name = self._activities[event.event_id] = about.activity_type.name
                return f"wants activity {name}{_shown(about.input.payloads)}"
            case EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
                again = f", after {_failure(about.last_failure)}" if about.attempt > 1 else ""
                return f"{self._activities[about.scheduled_event_id]}: attempt {about.attempt}{again}" if again else ""
            case kind if kind in _ACTIVITY_ENDS:
                return f"{self._activities[about.scheduled_event_id]} {_ACTIVITY_ENDS[kind](about)}"
            case EventType.EVENT_TYPE_TIMER_STARTED:
                summary = _text(event.user_metadata.summary)
                name = self._timers[event.event_id] = summary or f"timer {about.timer_id}"
                return f"waits {about.start_to_fire_timeout.ToTimedelta()} for {name}"
            case EventType.EVENT_TYPE_TIMER_FIRED:
                return f"{self._timers[about.started_event_id]}: that time is over"
            case EventType.EVENT_TYPE_TIMER_CANCELED:
                return f"{self._timers[about.started_event_id]}: is not waited for any more"
            case kind:
                return _WORDS[kind](about) if kind in _WORDS else ""


def _text(payload: Payload) -> str:
    text = payload.data.decode("utf-8", "replace")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _shown(payloads: Any) -> str:
    return "".join(f" {_text(payload)}" for payload in payloads)


def _failure(failure: Failure) -> str:
    return failure.message.partition("\n")[0] or (failure.WhichOneof("failure_info") or "nothing").replace("_", " ")


_ACTIVITY_ENDS: Mapping[int, Callable[[Any], str]] = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: lambda about: f"answers{_shown(about.result.payloads)}",
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: lambda about: f"fails: {_failure(about.failure)}",
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: lambda about: f"times out: {_failure(about.failure)}",
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED: lambda about: "is cancelled",  # noqa: ARG005 (nothing more to say)
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED: lambda about: "is to be cancelled",  # noqa: ARG005
}

_WORDS: Mapping[int, Callable[[Any], str]] = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED: lambda about: f"begins{_shown(about.input.payloads)}",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED: lambda about: f"is sent signal {about.signal_name}",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED: lambda about: (
        f"is asked again for update {about.request.input.name}{_shown(about.request.input.args.payloads)}"
    ),
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED: lambda about: (
        f"accepts update {about.accepted_request.input.name}{_shown(about.accepted_request.input.args.payloads)}"
    ),
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED: lambda about: (
        f"answers update{_shown(about.outcome.success.payloads)}"
        if about.outcome.HasField("success")
        else f"refuses update: {_failure(about.outcome.failure)}"
    ),
    EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES: lambda about: ", ".join(
        f"{name} is {_text(value)}" for name, value in about.search_attributes.indexed_fields.items()
    ),
    EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED: lambda about: f"wants child {about.workflow_id}",
    EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED: lambda about: f"child {about.workflow_id}: id is taken",
    EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED: lambda about: (
        f"wants {about.workflow_execution.workflow_id} cancelled"
    ),
    EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED: lambda about: (
        f"signals {about.workflow_execution.workflow_id}: {about.signal_name}"
    ),
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED: lambda about: (
        f"is asked to stop{f': {about.cause}' if about.cause else ''}"
    ),
    EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED: lambda about: (
        f"goes on after a reset: {about.failure.message}"
        if about.new_run_id
        else f"fails its task: {_failure(about.failure)}"
    ),
    EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT: lambda about: "its worker has not come back",  # noqa: ARG005
    EventType.EVENT_TYPE_MARKER_RECORDED: lambda about: f"marks {about.marker_name}",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: lambda about: f"ends: {_shown(about.result.payloads).strip()}",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: lambda about: f"ends, failed: {_failure(about.failure)}",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: lambda about: "ends, cancelled",  # noqa: ARG005
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: lambda about: f"is terminated: {about.reason}",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: lambda about: "ends: its time is over",  # noqa: ARG005
}
