"""A command, read from a history or emitted by workflow code on replay, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from temporal_replay.commands.values import Plain

CLOSING_KINDS = frozenset({"CompleteWorkflow", "FailWorkflow", "CancelWorkflow", "ContinueAsNewWorkflow"})
"""The kinds of command that close a run."""


@dataclass(frozen=True)
class Command:
    """One command as plain values.

    Attributes:
        kind: Kind of command, as Temporal calls it: StartTimer, ScheduleActivity, StartChildWorkflow, ...
        name: Activity type, workflow type, signal or update; may be empty.
        key: Tells the command from others of its kind: activity id, timer number, workflow id, update id; may be empty.
        fields: Attributes as the server stores them, with the server's defaults filled in.
        event_id: Id of the event that records it; 0 for an emitted command.
        source: The emitted protobuf message; None for a recorded command.
    """

    kind: str
    name: str = ""
    key: str = ""
    fields: Mapping[str, Plain] = field(default_factory=dict)
    event_id: int = 0
    source: Any = field(default=None, compare=False, repr=False)

    @property
    def title(self) -> str:
        """Kind, name and key for display; for a timer also its duration."""
        of_timer = self.fields.get("start_to_fire_timeout", "")
        return " ".join(part for part in (self.kind, self.name, self.key and f"({self.key})", of_timer) if part)

    @property
    def identity(self) -> tuple[str, str, str]:
        """Kind, name and key: more than Temporal's own replay compares."""
        return self.kind, self.name, self.key

    @property
    def is_update_response(self) -> bool:
        """Whether the command answers an update. Update responses are ordered among themselves only."""
        return self.kind in {"AcceptUpdate", "CompleteUpdate"}


LOCAL_ACTIVITIES = 0
"""Key of `Tasks` for local activities: their markers may belong to a later task than the one that ran them."""

Tasks = Mapping[int, tuple[Command, ...]]
"""The commands of each workflow task, in order, by the event id of its WorkflowTaskStarted."""


class UnknownCommandError(Exception):
    """A command or event that this version can't compare. Failing is safer than ignoring it."""
