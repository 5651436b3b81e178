"""Reads the commands that a history records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from temporalio.api.history.v1 import HistoryEvent, MarkerRecordedEventAttributes

from temporal_replay.commands import values
from temporal_replay.commands.command import LOCAL_ACTIVITIES, Command, Tasks, UnknownCommandError
from temporal_replay.commands.schema import COMMAND_SCHEMAS, CommandSchema, RunDefaults

_SUFFIX = "_event_attributes"
_BY_EVENT: Mapping[str, CommandSchema] = {schema.event: schema for schema in COMMAND_SCHEMAS}
# Results of a command. These events refer to the task of the command a second time.
_RESULT_EVENTS = frozenset(
    {
        "request_cancel_external_workflow_execution_failed",
        "start_child_workflow_execution_failed",
        "signal_external_workflow_execution_failed",
        "nexus_operation_cancel_request_completed",
        "nexus_operation_cancel_request_failed",
    }
)
_CLOSING_EVENTS = frozenset(
    f"workflow_execution_{how}" for how in ("completed", "failed", "canceled", "continued_as_new")
)
# The SDK upserts this search attribute beside each patch marker.
_CHANGE_VERSION_ATTRIBUTE = "TemporalChangeVersion"


def attributes(event: HistoryEvent) -> tuple[str, Any]:
    """Kind and attributes of an event: `("timer_started", ...)`."""
    field = event.WhichOneof("attributes")
    return (field.removesuffix(_SUFFIX), getattr(event, field)) if field else ("", None)


def run_defaults_of(events: Sequence[HistoryEvent]) -> RunDefaults:
    """The defaults of a history's commands."""
    upserts = (
        attrs.search_attributes.indexed_fields
        for kind, attrs in map(attributes, events)
        if kind == "upsert_workflow_search_attributes"
    )
    return RunDefaults.of(events[0].workflow_execution_started_event_attributes, upserts)


def completed_tasks(events: Iterable[HistoryEvent]) -> dict[int, int]:
    """Event id of WorkflowTaskStarted, by event id of WorkflowTaskCompleted."""
    found = {}
    for event in events:
        kind, attrs = attributes(event)
        if kind == "workflow_task_completed":
            found[event.event_id] = int(attrs.started_event_id)
    return found


def quiescent_tasks(events: Sequence[HistoryEvent]) -> frozenset[int]:
    """The completed tasks after which, immediately or later, no local activity was running.

    While a local activity runs, the worker completes a task only to receive the next one at once, or to close the run.
    """
    found: set[int] = set()
    pending: set[int] = set()
    completion, completed_at, tasks = 0, 0, completed_tasks(events)
    for event in events:
        kind, attrs = attributes(event)
        if kind == "workflow_task_completed":
            completion, completed_at = event.event_id, event.event_time.ToNanoseconds()
            pending.add(tasks[completion])
            continue
        is_command_event = getattr(attrs, "workflow_task_completed_event_id", 0) == completion
        is_command_event |= kind.startswith("workflow_execution_update_")
        # Events that arrived while the task ran are written after its completion, with an earlier time.
        was_buffered = kind != "workflow_task_scheduled" and event.event_time.ToNanoseconds() <= completed_at
        if completion and (kind in _CLOSING_EVENTS or not (is_command_event or was_buffered)):
            if kind != "workflow_task_scheduled" and kind not in _CLOSING_EVENTS:
                found |= pending
                pending = set()
            completion = 0
    return frozenset(found | pending if completion else found)


def recorded_commands(events: Sequence[HistoryEvent]) -> Tasks:
    """The commands of every completed workflow task.

    Raises:
        UnknownCommandError: An event records a command of an unknown kind.
    """
    defaults, started = run_defaults_of(events), completed_tasks(events)
    tasks: dict[int, list[Command]] = {task: [] for task in started.values()}
    latest, activity_ids, update_ids = 0, {}, {}
    for event in events:
        kind, attrs = attributes(event)
        task = started.get(getattr(attrs, "workflow_task_completed_event_id", 0), latest)
        if kind == "workflow_task_completed":
            latest = started[event.event_id]
        elif kind == "workflow_execution_update_accepted":
            update_ids[event.event_id] = attrs.protocol_instance_id
            name = attrs.accepted_request.input.name
            tasks[task].append(Command("AcceptUpdate", name, attrs.protocol_instance_id, {}, event.event_id))
        elif kind == "workflow_execution_update_completed":
            key = update_ids.get(attrs.accepted_event_id, attrs.meta.update_id)
            tasks[task].append(
                Command("CompleteUpdate", "", key, {"answer": _update_outcome(attrs.outcome)}, event.event_id)
            )
        elif kind == "marker_recorded":
            if local := _local_activity(attrs, event.event_id):
                tasks.setdefault(LOCAL_ACTIVITIES, []).append(local)
        elif kind not in _RESULT_EVENTS and hasattr(attrs, "workflow_task_completed_event_id"):
            if kind == "activity_task_scheduled":
                activity_ids[event.event_id] = attrs.activity_id
            if command := _command(kind, attrs, defaults, event.event_id, activity_ids):
                tasks[task].append(command)
    return {task: tuple(commands) for task, commands in tasks.items()}


def _command(
    kind: str, attrs: Any, defaults: RunDefaults, event_id: int, activity_ids: Mapping[int, str]
) -> Command | None:
    match kind:
        case "timer_canceled":
            return Command("CancelTimer", "", attrs.timer_id, {}, event_id)
        case "activity_task_cancel_requested":
            return Command("CancelActivity", "", activity_ids.get(attrs.scheduled_event_id, ""), {}, event_id)
        case "nexus_operation_cancel_requested":
            return Command("CancelNexusOperation", "", "", {}, event_id)
        case "request_cancel_external_workflow_execution_initiated" if attrs.child_workflow_only:
            fields = {"reason": values.cancel_reason(attrs.reason)}
            return Command("CancelChildWorkflow", "", attrs.workflow_execution.workflow_id, fields, event_id)
        case "upsert_workflow_search_attributes" if set(attrs.search_attributes.indexed_fields) == {
            _CHANGE_VERSION_ATTRIBUTE
        }:
            return None
    schema = _BY_EVENT.get(kind)
    if schema is None:
        raise UnknownCommandError(f"event {event_id}, {kind}, records a command that strict replay does not know")
    return Command(schema.kind, schema.name(attrs), schema.key(attrs), schema.fields(attrs, defaults), event_id)


def _update_outcome(outcome: Any) -> values.Plain:
    if outcome.HasField("failure"):
        return {"failure": values.failure(outcome.failure)}
    return values.payloads(outcome.success.payloads)


def _local_activity(marker: MarkerRecordedEventAttributes, event_id: int) -> Command | None:
    if marker.marker_name != "core_local_activity":
        return None
    data = json.loads(marker.details["data"].payloads[0].data)
    return Command("LocalActivity", data["activity_type"], data["activity_id"], {}, event_id)


def patch_markers(events: Iterable[HistoryEvent]) -> dict[str, bool]:
    """Patches with a marker in the history, and whether each was deprecated when it was recorded."""
    found = {}
    for event in events:
        kind, attrs = attributes(event)
        if kind == "marker_recorded" and attrs.marker_name == "core_patch":
            data = json.loads(attrs.details["patch-data"].payloads[0].data)
            found[str(data["id"])] = bool(data.get("deprecated", False))
    return found
