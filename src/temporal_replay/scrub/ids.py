"""Gives the ids in a recording other names: the same id the same one in every place, and in what code makes of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from temporal_replay.commands.protobuf import walk
from temporal_replay.commands.recorded import attributes
from temporal_replay.recording import Recording

_UPDATE_ID_FIELDS = frozenset({"update_id", "protocol_instance_id", "inbound_update_id"})
# A client may choose these, or a server makes them of what a client chose.
_REQUEST_ID_FIELDS = frozenset({"request_id", "attached_request_id", "operation_token", "operation_id"})
# The server makes these of the ids of updates.
_MESSAGE_ID_FIELDS = frozenset({"accepted_request_message_id", "rejected_request_message_id"})
_CODE_CHOSEN_ID_EVENTS = frozenset(
    {
        "start_child_workflow_execution_initiated",
        "signal_external_workflow_execution_initiated",
        "request_cancel_external_workflow_execution_initiated",
    }
)

Pseudonyms = Sequence[tuple[str, str]]
"""Old and new, the longest first."""


@dataclass(frozen=True)
class IdPseudonyms:
    """Other names for the ids of one recording.

    Attributes:
        kin: Of the workflow, its parent and its root: replaced within every text.
        updates: Of updates: replaced in what may be made of them too, ids of activities and of workflows.
        codes: Ids of workflows that the code names in commands. Replaced in them is what they have of other ids; the
            rest is the code's own, and strict replay compares it.
        text: Makes another text of one.
    """

    workflow_ids: Pseudonyms
    update_ids: Pseudonyms
    code_chosen_ids: frozenset[str]
    text: Callable[[str], str]

    @classmethod
    def of(cls, recording: Recording, text: Callable[[str], str]) -> IdPseudonyms:
        """The names for a recording, each made by `text`."""
        workflow_ids = _workflow_id_pseudonyms(recording, text)
        code_chosen_ids, update_ids = set(), set()
        for event in recording.events:
            kind, _ = attributes(event)
            for message in walk(event):
                for field, value in message.ListFields():
                    if field.name in _UPDATE_ID_FIELDS:
                        update_ids.add(value)
                    elif field.name == "workflow_id" and kind in _CODE_CHOSEN_ID_EVENTS:
                        code_chosen_ids.add(value)
        names = _longest_first([(each, _replace_foreign(each, workflow_ids, text)) for each in update_ids])
        return cls(workflow_ids, names, frozenset(code_chosen_ids), text)

    def pseudonym(self, field: str, value: str) -> str:
        """What stands in a field of that name instead."""
        if (
            field in _UPDATE_ID_FIELDS
            or field in _REQUEST_ID_FIELDS
            or (field == "workflow_id" and value not in self.code_chosen_ids)
        ):
            return _replace_foreign(value, self.workflow_ids, self.text)
        if field in _MESSAGE_ID_FIELDS:
            made = next((value.replace(old, pseudonym) for old, pseudonym in self.update_ids if old in value), None)
            return made if made is not None else _replace_foreign(value, self.workflow_ids, self.text)
        if field == "workflow_id" or (field == "activity_id" and not value.isdigit()):
            for old, pseudonym in self.update_ids:
                # Of a short one, `1`, nothing is made where it is but part of a word or a number.
                found = re.compile(rf"(?<![^\W_]){re.escape(old)}(?![^\W_])")
                if found.search(value):
                    value = pseudonym.join(found.split(value))
                    break
        return _replace_known(value, self.workflow_ids)


def _workflow_id_pseudonyms(recording: Recording, text: Callable[[str], str]) -> Pseudonyms:
    """Of the workflow and its parents; one whose id begins with another's keeps the rest of it."""
    started = recording.events[0].workflow_execution_started_event_attributes
    ids = {
        recording.workflow_id,
        started.parent_workflow_execution.workflow_id,
        started.root_workflow_execution.workflow_id,
    }
    names: list[tuple[str, str]] = []
    for each in sorted(ids - {""}, key=len):
        names.append(
            (each, next((pseudonym + each[len(old) :] for old, pseudonym in names if each.startswith(old)), text(each)))
        )
    return _longest_first(names)


def _longest_first(names: Sequence[tuple[str, str]]) -> Pseudonyms:
    return sorted(names, key=lambda pair: (-len(pair[0]), pair[0]))


def _replace_known(text: str, names: Pseudonyms) -> str:
    return next((text.replace(old, pseudonym) for old, pseudonym in names if old in text), text)


def _replace_foreign(value: str, workflow_ids: Pseudonyms, text: Callable[[str], str]) -> str:
    """Of an id that somebody else gave: nothing of it stays, and what it has of kin is renamed as kin is."""
    for old, pseudonym in workflow_ids:
        if old in value:
            return pseudonym.join(text(part) for part in value.split(old))
    return text(value)
