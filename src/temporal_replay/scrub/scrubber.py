"""Takes what people wrote out of a recording, by rule: the same text becomes the same other text of the same shape."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import string
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent

from temporal_replay.commands.protobuf import Held, below, payload_holders
from temporal_replay.commands.recorded import attributes
from temporal_replay.recording import Recording, Unreadable
from temporal_replay.scrub.ids import Renaming
from temporal_replay.scrub.normalize import tidied

# Dates, times, spans of time, ids that machines make: the code calculates with them.
_NO_WORDS = re.compile(
    r"|\d{4}-\d\d-\d\d([T ][\d:.]+(Z|[-+][\d:]+)?)?|-?P[\dDHMSTWY.]+|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
)
# Search attributes of the SDK's and the server's own: ids of patches and of builds.
_OF_SDK = frozenset({"TemporalChangeVersion", "BuildIds", "TemporalWorkerDeploymentVersion"})
# What the SDK's core keeps in its markers beside results: ids of patches and of local activities.
_OF_MARKERS = frozenset({"patch-data", "data"})
_WRITTEN = frozenset({"reason", "cause", "details", "control"})
# Who is told of the end, and with which token; what it has to do with elsewhere; what Nexus is sent with; how events
# are shown: replay has no use for them.
_OF_NO_USE = frozenset(
    {"completion_callbacks", "attached_completion_callbacks", "links", "nexus_header", "event_group_markers"}
)
_LETTERS = {True: string.ascii_uppercase, False: string.ascii_lowercase}


@dataclass(frozen=True)
class Scrub:
    """How texts are replaced.

    Attributes:
        key: Whoever has it could try out texts; so make a new one each time, and forget it.
        keep: Names of fields, in any payload, whose values steer the code: states, codes, currencies; or of activities,
            signals, updates and workflow types, all of whose values do.
    """

    key: bytes
    keep: Collection[str] = ()

    def text(self, text: str) -> str:
        """Another text of the same shape: letters for letters, digits for digits, the rest as it is."""
        if _NO_WORDS.fullmatch(text):
            return text
        noise = hmac.digest(self.key, text.encode(errors="surrogatepass"), hashlib.sha256)
        stream = b"".join(
            hashlib.sha256(noise + bytes([n % 256, n // 256])).digest() for n in range(len(text) // 32 + 1)
        )
        return "".join(_like(char, number) for char, number in zip(text, stream, strict=False))

    def plain(self, value: Any, under: str = "") -> Any:
        """A JSON value with every text replaced, but under the names that are kept."""
        if under in self.keep:
            return value
        if isinstance(value, dict):
            return {key: self.plain(each, key) for key, each in value.items()}
        if isinstance(value, list):
            return [self.plain(each, under) for each in value]
        return self.text(value) if isinstance(value, str) else value

    def payload(self, payload: Payload, under: str) -> Payload:
        """A payload with every text in it replaced.

        Raises:
            Unreadable: It is no JSON: nobody knows what is in it.
        """
        encoding = payload.metadata.get("encoding", b"").decode(errors="replace")
        if encoding == "binary/null" or under in _OF_SDK:
            return payload
        if not encoding.startswith("json/"):
            raise Unreadable(f"a payload of encoding {encoding!r} can't be scrubbed; give your --data-converter")
        try:
            value = json.loads(payload.data)
        except (ValueError, RecursionError) as error:
            raise Unreadable(f"a payload of encoding {encoding!r} is no JSON, and can't be scrubbed: {error}") from None
        data = json.dumps(self.plain(value, under), ensure_ascii=False, separators=(",", ":"))
        return Payload(metadata=dict(payload.metadata), data=data.encode())


def _like(char: str, number: int) -> str:
    if char.isdigit():
        return str(1 + number % 9)  # never zero: an amount stays one
    return _LETTERS[char.isupper()][number % 26] if char.isalpha() else char


def scrubbed(recording: Recording, scrub: Scrub) -> Recording:
    """A tidied copy, with what comes from outside scrubbed. What the code made of it is to be filled in.

    Types of errors stay, as code depends on them, and ids of workflows that the code names in commands.

    Raises:
        Unreadable: There is something in it that can't be scrubbed.
    """
    names, subjects = Renaming.of(recording, scrub.text), _subjects(recording.events)
    events = []
    for event in tidied(recording.events):
        event.ClearField("user_metadata")
        for held in _written_in(event):
            # A value that is a field of nothing goes by what it is given to, or comes from.
            under = subjects.get(event.event_id, "") if held.under == "payloads" else held.under
            held.put([scrub.payload(payload, under) for payload in held.all()])
        for message in below(event):
            _scrub_texts(message, scrub, names)
        events.append(event)
    return replace(recording, workflow_id=names.new("workflow_id", recording.workflow_id), events=tuple(events))


_BEGUN_BY = ("scheduled_event_id", "initiated_event_id", "accepted_event_id")


def _subjects(events: Sequence[HistoryEvent]) -> dict[int, str]:
    """Of each event that speaks of an activity, a workflow, a signal or an update: its name."""
    found: dict[int, str] = {}
    for event in events:
        _, held = attributes(event)
        begun = [getattr(held, name) for name in _BEGUN_BY if hasattr(held, name)]
        if hasattr(held, "accepted_request"):
            found[event.event_id] = held.accepted_request.input.name
        elif begun and begun[0] in found:
            found[event.event_id] = found[begun[0]]
        else:
            name = getattr(held, "activity_type", None) or getattr(held, "workflow_type", None)
            found[event.event_id] = name.name if name else getattr(held, "signal_name", "")
    return found


def _written_in(event: HistoryEvent) -> list[Held]:
    """The places that hold payloads of people."""
    if not event.HasField("marker_recorded_event_attributes"):
        return payload_holders(event)
    marker = event.marker_recorded_event_attributes
    written = [marker.details[key] for key in sorted(set(marker.details) - _OF_MARKERS)]
    return [held for message in (*written, marker.failure) for held in payload_holders(message)]


def _scrub_texts(message: Any, scrub: Scrub, names: Renaming) -> None:
    if isinstance(message, Payload):
        return
    if isinstance(message, Failure):
        message.message = scrub.text(message.message)
        message.ClearField("encoded_attributes")
    if "header" in message.DESCRIPTOR.fields_by_name and message.DESCRIPTOR.name.endswith("EventAttributes"):
        message.ClearField("header")
    if message.DESCRIPTOR.name == "WorkflowExecutionStartedEventAttributes" and message.priority.fairness_key:
        message.priority.fairness_key = scrub.text(message.priority.fairness_key)  # whoever started it gave it
    for field, value in message.ListFields():
        if field.name in _OF_NO_USE:
            message.ClearField(field.name)
        elif field.type == FieldDescriptor.TYPE_STRING and isinstance(value, str):
            written = field.name in _WRITTEN
            setattr(message, field.name, scrub.text(value) if written else names.new(field.name, value))
