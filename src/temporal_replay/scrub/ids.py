"""Gives the ids in a recording other names: the same id the same one in every place, and in what code makes of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from temporal_replay.commands.protobuf import below
from temporal_replay.commands.recorded import attributes
from temporal_replay.recording import Recording

_OF_UPDATES = frozenset({"update_id", "protocol_instance_id", "inbound_update_id"})
# A client may choose these, or a server makes them of what a client chose.
_OF_REQUESTS = frozenset({"request_id", "attached_request_id", "operation_token", "operation_id"})
# The server makes these of the ids of updates.
_OF_MESSAGES = frozenset({"accepted_request_message_id", "rejected_request_message_id"})
_NAMED_BY_CODE = frozenset(
    {
        "start_child_workflow_execution_initiated",
        "signal_external_workflow_execution_initiated",
        "request_cancel_external_workflow_execution_initiated",
    }
)

Names = Sequence[tuple[str, str]]
"""Old and new, the longest first."""


@dataclass(frozen=True)
class Renaming:
    """Other names for the ids of one recording.

    Attributes:
        kin: Of the workflow, its parent and its root: replaced within every text.
        updates: Of updates: replaced in what may be made of them too, ids of activities and of workflows.
        codes: Ids of workflows that the code names in commands. Replaced in them is what they have of other ids; the
            rest is the code's own, and strict replay compares it.
        text: Makes another text of one.
    """

    kin: Names
    updates: Names
    codes: frozenset[str]
    text: Callable[[str], str]

    @classmethod
    def of(cls, recording: Recording, text: Callable[[str], str]) -> Renaming:
        """The names for a recording, each made by `text`."""
        kin = _kin(recording, text)
        codes, updates = set(), set()
        for event in recording.events:
            kind, _ = attributes(event)
            for message in below(event):
                for field, value in message.ListFields():
                    if field.name in _OF_UPDATES:
                        updates.add(value)
                    elif field.name == "workflow_id" and kind in _NAMED_BY_CODE:
                        codes.add(value)
        names = _longest_first([(each, _given(each, kin, text)) for each in updates])
        return cls(kin, names, frozenset(codes), text)

    def new(self, field: str, value: str) -> str:
        """What stands in a field of that name instead."""
        if field in _OF_UPDATES or field in _OF_REQUESTS or (field == "workflow_id" and value not in self.codes):
            return _given(value, self.kin, self.text)
        if field in _OF_MESSAGES:
            made = next((value.replace(old, new) for old, new in self.updates if old in value), None)
            return made if made is not None else _given(value, self.kin, self.text)
        if field == "workflow_id" or (field == "activity_id" and not value.isdigit()):
            for old, new in self.updates:
                # Of a short one, `1`, nothing is made where it is but part of a word or a number.
                found = re.compile(rf"(?<![^\W_]){re.escape(old)}(?![^\W_])")
                if found.search(value):
                    value = new.join(found.split(value))
                    break
        return _within(value, self.kin)


def _kin(recording: Recording, text: Callable[[str], str]) -> Names:
    """Of the workflow and its parents; one whose id begins with another's keeps the rest of it."""
    started = recording.events[0].workflow_execution_started_event_attributes
    ids = {
        recording.workflow_id,
        started.parent_workflow_execution.workflow_id,
        started.root_workflow_execution.workflow_id,
    }
    names: list[tuple[str, str]] = []
    for each in sorted(ids - {""}, key=len):
        names.append((each, next((new + each[len(old) :] for old, new in names if each.startswith(old)), text(each))))
    return _longest_first(names)


def _longest_first(names: Sequence[tuple[str, str]]) -> Names:
    return sorted(names, key=lambda pair: (-len(pair[0]), pair[0]))


def _within(text: str, names: Names) -> str:
    return next((text.replace(old, new) for old, new in names if old in text), text)


def _given(value: str, kin: Names, text: Callable[[str], str]) -> str:
    """Of an id that somebody else gave: nothing of it stays, and what it has of kin is renamed as kin is."""
    for old, new in kin:
        if old in value:
            return new.join(text(part) for part in value.split(old))
    return text(value)
