"""Compares emitted with recorded commands: other commands (nondeterminism) or other values in them (drift).

The simulator compares commands too, in a module of its own. That is intended: both packages can be used alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from pydantic import BaseModel, ConfigDict

from temporal_replay.commands.command import LOCAL_ACTIVITIES, Command, Tasks
from temporal_replay.commands.values import differences


class Drift(BaseModel):
    """A value of a command that differs from the recording.

    Attributes:
        command: Kind and name of the command: `ScheduleActivity pay`.
        field: Path of the value in the command's attributes: `input[0].amount`.
        old, new: The recorded and the emitted value.
        event_id: Id of the event that recorded the command.
    """

    model_config = ConfigDict(frozen=True)

    command: str
    field: str
    old: str
    new: str
    event_id: int


@dataclass(frozen=True)
class Mismatch:
    """The first position at which another command was emitted than recorded. A side without a command is None."""

    recorded: Command | None
    emitted: Command | None
    task: int

    @property
    def description(self) -> str:
        """The recorded and the emitted command, in two lines."""
        was = f"event {self.recorded.event_id}: {self.recorded.title}" if self.recorded else "no (further) command"
        now = self.emitted.title if self.emitted else "no (further) command"
        return f"recorded: {was}\nnow:      {now}"


def compare(recorded: Tasks, emitted: Tasks) -> tuple[Mismatch | None, list[Drift]]:
    """Compare recorded with emitted commands.

    Args:
        recorded: The commands of every completed task.
        emitted: The commands of at least these tasks.

    Returns:
        The first mismatch and no drift, or no mismatch and all drift.
    """
    drift: list[Drift] = []
    for task, old, new in align_commands(recorded, emitted):
        if old is None or new is None or not _is_same_command(old, new):
            return Mismatch(old, new, task), []
        drift += _value_drift(old, new)
    return None, drift


def align_commands(recorded: Tasks, emitted: Tasks) -> Iterator[tuple[int, Command | None, Command | None]]:
    """Yield task, recorded command and emitted command for each position of each completed task."""
    # Local activities last: if an earlier command mismatches, local activities may be missing only because of it.
    for task in sorted(recorded, key=lambda task: (task == LOCAL_ACTIVITIES, task)):
        for is_of_updates in (True, False):
            old, new = (_select(tasks.get(task, ()), is_of_updates) for tasks in (recorded, emitted))
            if task == LOCAL_ACTIVITIES:
                # Markers are recorded in order of completion, but emitted in order of start.
                old, new = (sorted(lane, key=lambda command: command.key) for lane in (old, new))
            for one, other in zip_longest(old, new):
                yield task, one, other


def _select(commands: Sequence[Command], is_of_updates: bool) -> list[Command]:
    """Select update responses or all other commands. Either is in order; the two are not ordered with each other."""
    return [command for command in commands if command.is_update_response is is_of_updates]


def _is_same_command(recorded: Command, emitted: Command) -> bool:
    have_names = recorded.name and emitted.name
    is_same_kind = (recorded.kind, recorded.key) == (emitted.kind, emitted.key)
    return is_same_kind and (recorded.name == emitted.name or not have_names)


def _value_drift(recorded: Command, emitted: Command) -> list[Drift]:
    command = " ".join(part for part in (recorded.kind, recorded.name) if part)
    return [
        Drift(command=command, field=where, old=old, new=new, event_id=recorded.event_id)
        for where, old, new in differences(dict(recorded.fields), dict(emitted.fields))
    ]
