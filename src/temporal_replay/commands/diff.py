"""Compares what the code emits with what was recorded: another order of commands, or other values in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from pydantic import BaseModel, ConfigDict

from temporal_replay.commands.command import LOCAL_ACTIVITIES, Command, Tasks
from temporal_replay.commands.values import differences


class Drift(BaseModel):
    """One value of one command that is not what was recorded.

    Attributes:
        command: Kind and name of the command: `ScheduleActivity pay`.
        field: Which of its attributes, and where in it: `input[0].amount`.
        old, new: What was recorded, and what the code says now.
        event_id: The event that recorded it.
    """

    model_config = ConfigDict(frozen=True)

    command: str
    field: str
    old: str
    new: str
    event_id: int


@dataclass(frozen=True)
class Mismatch:
    """The first command that is another one than was recorded; None on the side that has none."""

    recorded: Command | None
    emitted: Command | None
    task: int

    @property
    def description(self) -> str:
        """What was recorded and what the code does now, in two lines."""
        was = f"event {self.recorded.event_id}: {self.recorded.title}" if self.recorded else "no (further) command"
        now = self.emitted.title if self.emitted else "no (further) command"
        return f"recorded: {was}\nnow:      {now}"


def compare(recorded: Tasks, emitted: Tasks) -> tuple[Mismatch | None, list[Drift]]:
    """The first command that is another one, or, if they are all the same ones, where their values differ.

    Args:
        recorded: Of every task that was completed.
        emitted: At least of these.
    """
    drift: list[Drift] = []
    for task, one, other in align_commands(recorded, emitted):
        if one is None or other is None or not _is_same_command(one, other):
            return Mismatch(one, other, task), []
        drift += _value_drift(one, other)
    return None, drift


def align_commands(recorded: Tasks, emitted: Tasks) -> Iterator[tuple[int, Command | None, Command | None]]:
    """Of each completed task: what was recorded, beside what is emitted in its place."""
    # Local activities last: where another command ended the replay, they are missing only because of it.
    for task in sorted(recorded, key=lambda task: (task == LOCAL_ACTIVITIES, task)):
        for is_of_updates in (True, False):
            old, new = (_select(tasks.get(task, ()), is_of_updates) for tasks in (recorded, emitted))
            if task == LOCAL_ACTIVITIES:
                # Recorded is the order in which they ended; emitted, that in which they began.
                old, new = (sorted(lane, key=lambda command: command.key) for lane in (old, new))
            for one, other in zip_longest(old, new):
                yield task, one, other


def _select(commands: Sequence[Command], is_of_updates: bool) -> list[Command]:
    """Answers of updates travel beside the commands: each of the two is in order, they are not with each other."""
    return [command for command in commands if command.is_update_response is is_of_updates]


def _is_same_command(one: Command, other: Command) -> bool:
    has_names = one.name and other.name
    return (one.kind, one.key) == (other.kind, other.key) and (one.name == other.name or not has_names)


def _value_drift(recorded: Command, emitted: Command) -> list[Drift]:
    command = " ".join(part for part in (recorded.kind, recorded.name) if part)
    return [
        Drift(command=command, field=where, old=old, new=new, event_id=recorded.event_id)
        for where, old, new in differences(dict(recorded.fields), dict(emitted.fields))
    ]
