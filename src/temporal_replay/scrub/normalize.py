"""Makes a fetched history fit to be kept: nothing of the machine it ran on, nothing of a clock that was moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from google.protobuf.descriptor import FieldDescriptor
from temporalio.api.enums.v1 import TaskQueueKind
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.taskqueue.v1 import TaskQueue

from temporal_replay.commands.protobuf import below
from temporal_replay.commands.recorded import attributes

# Events by which the real server's experimental time skipping moves a clock. Workers pay no attention to them; a
# history in production has none, and whether other versions of the SDK read them nobody promises.
_CLOCK = frozenset({"workflow_execution_options_updated", "workflow_execution_time_skipping_transitioned"})
_CLOCK_FIELDS = ("time_skipping_config", "time_skipping_state_propagation")
# Event ids of another workflow's history.
_OF_OTHERS = frozenset({"parent_initiated_event_id", "external_initiated_event_id"})
_MACHINE = "worker"
_OF_SERVER = ("task_id", "version", "links", "principal")


def tidied(events: Sequence[HistoryEvent], queues: Mapping[str, str] | None = None) -> tuple[HistoryEvent, ...]:
    """Copies of the events, without what names the machine (identities, stack traces, sticky queues) or moved a clock.

    Events that only moved a clock are left out, and the others numbered anew; what happened when stays as it was.

    Args:
        queues: Other names for task queues.
    """
    kept = [event for event in events if not _is_of_a_clock(event)]
    numbers = _numbers(events, kept)
    return tuple(_tidied(event, numbers, queues or {}) for event in kept)


def _is_of_a_clock(event: HistoryEvent) -> bool:
    kind, held = attributes(event)
    if kind == "workflow_execution_options_updated":
        return bool(held.time_skipping_config_updated)
    return kind in _CLOCK


def _numbers(events: Sequence[HistoryEvent], kept: Sequence[HistoryEvent]) -> dict[int, int]:
    """The new number of each event; of one that is gone, that of the one before."""
    found, latest = {0: 0}, 0
    stays = {event.event_id for event in kept}
    for event in events:
        latest += event.event_id in stays
        found[event.event_id] = latest
    return found


def _tidied(event: HistoryEvent, numbers: Mapping[int, int], queues: Mapping[str, str]) -> HistoryEvent:
    copy = HistoryEvent()
    copy.CopyFrom(event)
    for name in _OF_SERVER:
        copy.ClearField(name)  # type: ignore[arg-type]
    for message in below(copy):
        for field, value in message.ListFields():
            if field.name == "identity":
                message.identity = _MACHINE  # type: ignore[attr-defined]
            elif field.name in _CLOCK_FIELDS:
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
    return is_number and field.name.endswith("event_id") and field.name not in _OF_OTHERS
