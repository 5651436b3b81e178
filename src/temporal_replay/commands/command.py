"""Commands: what a workflow asks of Temporal, as a history recorded it and as the code emits it on replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from temporal_replay.commands.values import Plain

CLOSING_KINDS = frozenset({"CompleteWorkflow", "FailWorkflow", "CancelWorkflow", "ContinueAsNewWorkflow"})
"""The kinds of command that end a run."""


@dataclass(frozen=True)
class Command:
    """One command, as plain values.

    Attributes:
        kind: What it does, as Temporal calls it: StartTimer, ScheduleActivity, StartChildWorkflow, ...
        name: Activity type, workflow type, signal or update; empty where there is none.
        key: What tells it from others of its kind: activity id, timer number, workflow id, update id; may be empty.
        fields: Its attributes, as the server keeps them (with what the server fills in).
        event_id: The event that records it; 0 for one that the code emits.
        source: The command as it is emitted; None for one that was recorded.
    """

    kind: str
    name: str = ""
    key: str = ""
    fields: Mapping[str, Plain] = field(default_factory=dict)
    event_id: int = 0
    source: Any = field(default=None, compare=False, repr=False)

    @property
    def title(self) -> str:
        """Kind, name and key, as a person reads it; of a timer also how long it is."""
        of_timer = self.fields.get("start_to_fire_timeout", "")
        return " ".join(part for part in (self.kind, self.name, self.key and f"({self.key})", of_timer) if part)

    @property
    def identity(self) -> tuple[str, str, str]:
        """What Temporal's own replay compares, and more: kind, name and key."""
        return self.kind, self.name, self.key

    @property
    def is_update_response(self) -> bool:
        """Whether it is an update's answer: those are ordered among themselves only."""
        return self.kind in {"AcceptUpdate", "CompleteUpdate"}


LOCAL_ACTIVITIES = 0
"""Where `Tasks` keep local activities: their markers come with a later task than the one that ran them."""

Tasks = Mapping[int, tuple[Command, ...]]
"""The commands of each workflow task, in order. A task goes by the event id of its WorkflowTaskStarted."""


class UnknownCommandError(Exception):
    """A command or event this version of the harness can't compare: better to stop than to pass it by."""
