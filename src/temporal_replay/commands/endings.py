"""Reads from a history what had ended when a workflow task started: to cancel that is no command."""

from __future__ import annotations

from collections.abc import Sequence

from temporalio.api.history.v1 import HistoryEvent

from temporal_replay.commands.recorded import attributes

# Event that begins it -> the kind of the command that cancels it, and the field that names it.
_BEGINS = {
    "activity_task_scheduled": ("CancelActivity", "activity_id"),
    "timer_started": ("CancelTimer", "timer_id"),
    "start_child_workflow_execution_initiated": ("CancelChildWorkflow", "workflow_id"),
}
# Event that ends it -> the field with the id of the event that began it.
_ENDS = {
    **{f"activity_task_{how}": "scheduled_event_id" for how in ("completed", "failed", "timed_out", "canceled")},
    "timer_fired": "started_event_id",
    "start_child_workflow_execution_failed": "initiated_event_id",
    **{
        f"child_workflow_execution_{how}": "initiated_event_id"
        for how in ("completed", "failed", "timed_out", "canceled", "terminated")
    },
}


class Endings:
    """When activities, timers and child workflows began and ended.

    An update or a signal that comes with the end of an activity, in one workflow task, is handled before that end is
    delivered. Code that cancels the activity then emits a command, which the SDK's core drops.
    """

    def __init__(self, events: Sequence[HistoryEvent] = ()) -> None:
        self._ended: dict[int, int] = {}
        self._begun: dict[tuple[str, str], list[int]] = {}
        for event in events:
            kind, held = attributes(event)
            if kind in _BEGINS:
                cancel, name = _BEGINS[kind]
                self._begun.setdefault((cancel, str(getattr(held, name))), []).append(event.event_id)
            elif kind in _ENDS:
                self._ended[int(getattr(held, _ENDS[kind]))] = event.event_id

    def had_ended(self, cancel: str, key: str, task: int) -> bool:
        """Whether what a command would cancel had ended when a workflow task started.

        Args:
            cancel: Kind of the command.
            key: Id of the activity or timer, or workflow id of the child.
            task: Event id of the task's start.
        """
        latest = max((begun for begun in self._begun.get((cancel, key), ()) if begun < task), default=0)
        return latest > 0 and self._ended.get(latest, task) < task
