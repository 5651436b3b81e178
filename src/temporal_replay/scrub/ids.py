"""Replaces the ids in a recording: each id by the same pseudonym everywhere, also where code derives ids from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from temporal_replay.commands.protobuf import walk
from temporal_replay.commands.recorded import attributes
from temporal_replay.recording import Recording

_UPDATE_ID_FIELDS = frozenset({"update_id", "protocol_instance_id", "inbound_update_id"})
# Chosen by a client, or derived by a server from what a client chose.
_REQUEST_ID_FIELDS = frozenset({"request_id", "attached_request_id", "operation_token", "operation_id"})
# Derived by the server from update ids.
_MESSAGE_ID_FIELDS = frozenset({"accepted_request_message_id", "rejected_request_message_id"})
_CODE_CHOSEN_ID_EVENTS = frozenset(
    {
        "start_child_workflow_execution_initiated",
        "signal_external_workflow_execution_initiated",
        "request_cancel_external_workflow_execution_initiated",
    }
)

Pseudonyms = Sequence[tuple[str, str]]
"""Pairs of id and pseudonym, the longest id first."""


@dataclass(frozen=True)
class IdPseudonyms:
    """Pseudonyms for the ids of one recording.

    Attributes:
        workflow_ids: Of the workflow, its parent and its root. Replaced within every text.
        update_ids: Of updates. Also replaced in ids that code may derive from them: of activities and workflows.
        code_chosen_ids: Workflow ids that the code chose in commands. Only the parts taken from other ids are replaced:
            strict replay compares the rest.
        text: Makes the pseudonym of a text.
    """

    workflow_ids: Pseudonyms
    update_ids: Pseudonyms
    code_chosen_ids: frozenset[str]
    text: Callable[[str], str]

    @classmethod
    def of(cls, recording: Recording, text: Callable[[str], str]) -> IdPseudonyms:
        """Collect the ids of a recording, and make their pseudonyms with `text`."""
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
        """The replacement for the value of a field."""
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
                # Match whole words only: an id such as `1` also occurs within other words and numbers.
                found = re.compile(rf"(?<![^\W_]){re.escape(old)}(?![^\W_])")
                if found.search(value):
                    value = pseudonym.join(found.split(value))
                    break
        return _replace_known(value, self.workflow_ids)


def _workflow_id_pseudonyms(recording: Recording, text: Callable[[str], str]) -> Pseudonyms:
    """Pseudonyms of the workflow and its ancestors. An id that extends another id keeps its suffix."""
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
    """Replace an id that the code did not choose: all of it, and known workflow ids in it by their pseudonyms."""
    for old, pseudonym in workflow_ids:
        if old in value:
            return pseudonym.join(text(part) for part in value.split(old))
    return text(value)
