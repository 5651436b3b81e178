"""Reads the commands that a history has recorded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from temporalio.api.history.v1 import HistoryEvent, MarkerRecordedEventAttributes

from temporal_replay.commands import values
from temporal_replay.commands.command import LOCAL_ACTIVITIES, Command, Tasks, UnknownCommand
from temporal_replay.commands.schema import SHAPES, Run, Shape

_SUFFIX = "_event_attributes"
_BY_EVENT: Mapping[str, Shape] = {shape.event: shape for shape in SHAPES}
# What came of a command: these name its task once more.
_CAME_OF_IT = frozenset(
    {
        "request_cancel_external_workflow_execution_failed",
        "start_child_workflow_execution_failed",
        "signal_external_workflow_execution_failed",
        "nexus_operation_cancel_request_completed",
        "nexus_operation_cancel_request_failed",
    }
)
_ENDS = frozenset(f"workflow_execution_{how}" for how in ("completed", "failed", "canceled", "continued_as_new"))
# The SDK writes this by itself beside each patch marker.
_CHANGE_VERSION = "TemporalChangeVersion"


def attributes(event: HistoryEvent) -> tuple[str, Any]:
    """Kind and attributes of an event: `("timer_started", ...)`."""
    field = event.WhichOneof("attributes")
    return (field.removesuffix(_SUFFIX), getattr(event, field)) if field else ("", None)


def run_of(events: Sequence[HistoryEvent]) -> Run:
    """What the defaults of a history's commands are taken from."""
    upserts = (
        held.search_attributes.indexed_fields
        for kind, held in map(attributes, events)
        if kind == "upsert_workflow_search_attributes"
    )
    return Run.of(events[0].workflow_execution_started_event_attributes, upserts)


def completed_tasks(events: Iterable[HistoryEvent]) -> dict[int, int]:
    """Of each workflow task that was completed: event id of its start, by the event id of its completion."""
    found = {}
    for event in events:
        kind, held = attributes(event)
        if kind == "workflow_task_completed":
            found[event.event_id] = int(held.started_event_id)
    return found


def settled_tasks(events: Sequence[HistoryEvent]) -> frozenset[int]:
    """The completed tasks after which, at once or later, no local activity was running.

    While one runs, the worker completes a task only to be given the next at once; or the run ends.
    """
    found: set[int] = set()
    pending: set[int] = set()
    completion, at, tasks = 0, 0, completed_tasks(events)
    for event in events:
        kind, held = attributes(event)
        if kind == "workflow_task_completed":
            completion, at = event.event_id, event.event_time.ToNanoseconds()
            pending.add(tasks[completion])
            continue
        is_its_command = getattr(held, "workflow_task_completed_event_id", 0) == completion
        is_its_command |= kind.startswith("workflow_execution_update_")
        # What came while the task was under way is written after it.
        was_waiting = kind != "workflow_task_scheduled" and event.event_time.ToNanoseconds() <= at
        if completion and (kind in _ENDS or not (is_its_command or was_waiting)):
            if kind != "workflow_task_scheduled" and kind not in _ENDS:
                found |= pending
                pending = set()
            completion = 0
    return frozenset(found | pending if completion else found)


def recorded_commands(events: Sequence[HistoryEvent]) -> Tasks:
    """The commands of every completed workflow task.

    Raises:
        UnknownCommand: An event records a command of a kind that nobody here knows.
    """
    run, started = run_of(events), completed_tasks(events)
    tasks: dict[int, list[Command]] = {task: [] for task in started.values()}
    latest, activity_ids, update_ids = 0, {}, {}
    for event in events:
        kind, held = attributes(event)
        task = started.get(getattr(held, "workflow_task_completed_event_id", 0), latest)
        if kind == "workflow_task_completed":
            latest = started[event.event_id]
        elif kind == "workflow_execution_update_accepted":
            update_ids[event.event_id] = held.protocol_instance_id
            name = held.accepted_request.input.name
            tasks[task].append(Command("AcceptUpdate", name, held.protocol_instance_id, {}, event.event_id))
        elif kind == "workflow_execution_update_completed":
            key = update_ids.get(held.accepted_event_id, held.meta.update_id)
            tasks[task].append(Command("CompleteUpdate", "", key, {"answer": _answer(held.outcome)}, event.event_id))
        elif kind == "marker_recorded":
            if local := _local_activity(held, event.event_id):
                tasks.setdefault(LOCAL_ACTIVITIES, []).append(local)
        elif kind not in _CAME_OF_IT and hasattr(held, "workflow_task_completed_event_id"):
            if kind == "activity_task_scheduled":
                activity_ids[event.event_id] = held.activity_id
            if command := _command(kind, held, run, event.event_id, activity_ids):
                tasks[task].append(command)
    return {task: tuple(commands) for task, commands in tasks.items()}


def _command(kind: str, held: Any, run: Run, event_id: int, activity_ids: Mapping[int, str]) -> Command | None:
    match kind:
        case "timer_canceled":
            return Command("CancelTimer", "", held.timer_id, {}, event_id)
        case "activity_task_cancel_requested":
            return Command("CancelActivity", "", activity_ids.get(held.scheduled_event_id, ""), {}, event_id)
        case "nexus_operation_cancel_requested":
            return Command("CancelNexusOperation", "", "", {}, event_id)
        case "request_cancel_external_workflow_execution_initiated" if held.child_workflow_only:
            fields = {"reason": values.cancel_reason(held.reason)}
            return Command("CancelChildWorkflow", "", held.workflow_execution.workflow_id, fields, event_id)
        case "upsert_workflow_search_attributes" if set(held.search_attributes.indexed_fields) == {_CHANGE_VERSION}:
            return None
    shape = _BY_EVENT.get(kind)
    if shape is None:
        raise UnknownCommand(f"event {event_id}, {kind}, records a command that strict replay does not know")
    return Command(shape.kind, shape.name(held), shape.key(held), shape.fields(held, run), event_id)


def _answer(outcome: Any) -> values.Plain:
    if outcome.HasField("failure"):
        return {"failure": values.failure(outcome.failure)}
    return values.payloads(outcome.success.payloads)


def _local_activity(marker: MarkerRecordedEventAttributes, event_id: int) -> Command | None:
    if marker.marker_name != "core_local_activity":
        return None
    data = json.loads(marker.details["data"].payloads[0].data)
    return Command("LocalActivity", data["activity_type"], data["activity_id"], {}, event_id)


def patch_markers(events: Iterable[HistoryEvent]) -> dict[str, bool]:
    """The patches that a history has markers of, and whether each was deprecated when it was recorded."""
    found = {}
    for event in events:
        kind, held = attributes(event)
        if kind == "marker_recorded" and held.marker_name == "core_patch":
            data = json.loads(held.details["patch-data"].payloads[0].data)
            found[str(data["id"])] = bool(data.get("deprecated", False))
    return found
