"""Normalizes a fetched history: removes traces of the machine it ran on, and of skipped time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from google.protobuf.descriptor import FieldDescriptor
from temporalio.api.enums.v1 import TaskQueueKind
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.taskqueue.v1 import TaskQueue

from temporal_replay.commands.protobuf import walk
from temporal_replay.commands.recorded import attributes

# The real server's experimental time skipping writes these events. Workers ignore them, production histories have none,
# and other SDK versions might not accept them.
_TIME_SKIPPING_EVENTS = frozenset(
    {"workflow_execution_options_updated", "workflow_execution_time_skipping_transitioned"}
)
_TIME_SKIPPING_FIELDS = ("time_skipping_config", "time_skipping_state_propagation")
# Event ids in the history of another workflow.
_FOREIGN_EVENT_IDS = frozenset({"parent_initiated_event_id", "external_initiated_event_id"})
_IDENTITY = "worker"
_SERVER_FIELDS = ("task_id", "version", "links", "principal")


def normalize(events: Sequence[HistoryEvent], queues: Mapping[str, str] | None = None) -> tuple[HistoryEvent, ...]:
    """Copy events without machine-specific values (identities, stack traces, sticky queues) and time skipping.

    Events that only skip time are dropped, and the others renumbered. Timestamps are kept.

    Args:
        queues: New names of task queues, by old name.

    Example:
        recording = replace(recording, events=normalize(recording.events, {"test-queue-17": "orders"}))
    """
    kept = [event for event in events if not _only_moves_clock(event)]
    numbers = _renumber(events, kept)
    return tuple(_normalize_event(event, numbers, queues or {}) for event in kept)


def _only_moves_clock(event: HistoryEvent) -> bool:
    kind, attrs = attributes(event)
    if kind == "workflow_execution_options_updated":
        return bool(attrs.time_skipping_config_updated)
    return kind in _TIME_SKIPPING_EVENTS


def _renumber(events: Sequence[HistoryEvent], kept: Sequence[HistoryEvent]) -> dict[int, int]:
    """New id of each event; a dropped event gets the id of the event before it."""
    found, latest = {0: 0}, 0
    kept_ids = {event.event_id for event in kept}
    for event in events:
        latest += event.event_id in kept_ids
        found[event.event_id] = latest
    return found


def _normalize_event(event: HistoryEvent, numbers: Mapping[int, int], queues: Mapping[str, str]) -> HistoryEvent:
    copy = HistoryEvent()
    copy.CopyFrom(event)
    for name in _SERVER_FIELDS:
        copy.ClearField(name)  # type: ignore[arg-type]
    for message in walk(copy):
        for field, value in message.ListFields():
            if field.name == "identity":
                message.identity = _IDENTITY  # type: ignore[attr-defined]
            elif field.name in _TIME_SKIPPING_FIELDS:
                message.ClearField(field.name)
            elif _is_event_id(field):
                setattr(message, field.name, numbers.get(value, value))
        if isinstance(message, Failure):
            message.ClearField("stack_trace")
        if isinstance(message, TaskQueue):
            is_sticky = message.kind == TaskQueueKind.TASK_QUEUE_KIND_STICKY
            message.name = "sticky" if is_sticky else queues.get(message.name, message.name)
            message.normal_name = queues.get(message.normal_name, message.normal_name)
    return copy


def _is_event_id(field: FieldDescriptor) -> bool:
    is_number = field.type == FieldDescriptor.TYPE_INT64
    return is_number and field.name.endswith("event_id") and field.name not in _FOREIGN_EVENT_IDS
