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

from temporal_replay.commands.protobuf import PayloadSlot, payload_slots, walk
from temporal_replay.commands.recorded import attributes
from temporal_replay.recording import Recording, RecordingError
from temporal_replay.scrub.ids import IdPseudonyms
from temporal_replay.scrub.normalize import normalize

# Dates, times, spans of time, ids that machines make: the code calculates with them.
_MACHINE_VALUE = re.compile(
    r"|\d{4}-\d\d-\d\d([T ][\d:.]+(Z|[-+][\d:]+)?)?|-?P[\dDHMSTWY.]+|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
)
# Search attributes of the SDK's and the server's own: ids of patches and of builds.
_SDK_SEARCH_ATTRIBUTES = frozenset({"TemporalChangeVersion", "BuildIds", "TemporalWorkerDeploymentVersion"})
# What the SDK's core keeps in its markers beside results: ids of patches and of local activities.
_SDK_MARKER_DETAILS = frozenset({"patch-data", "data"})
_FREE_TEXT_FIELDS = frozenset({"reason", "cause", "details", "control"})
# Who is told of the end, and with which token; what it has to do with elsewhere; what Nexus is sent with; how events
# are shown: replay has no use for them.
_UNUSED_FIELDS = frozenset(
    {"completion_callbacks", "attached_completion_callbacks", "links", "nexus_header", "event_group_markers"}
)
_LETTERS = {True: string.ascii_uppercase, False: string.ascii_lowercase}


@dataclass(frozen=True)
class Scrubber:
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
        if _MACHINE_VALUE.fullmatch(text):
            return text
        noise = hmac.digest(self.key, text.encode(errors="surrogatepass"), hashlib.sha256)
        stream = b"".join(
            hashlib.sha256(noise + bytes([n % 256, n // 256])).digest() for n in range(len(text) // 32 + 1)
        )
        return "".join(_substitute(char, number) for char, number in zip(text, stream, strict=False))

    def plain(self, value: Any, name: str = "") -> Any:
        """A JSON value with every text replaced, but under the names that are kept."""
        if name in self.keep:
            return value
        if isinstance(value, dict):
            return {key: self.plain(each, key) for key, each in value.items()}
        if isinstance(value, list):
            return [self.plain(each, name) for each in value]
        return self.text(value) if isinstance(value, str) else value

    def payload(self, payload: Payload, name: str) -> Payload:
        """A payload with every text in it replaced.

        Raises:
            RecordingError: It is no JSON: nobody knows what is in it.
        """
        encoding = payload.metadata.get("encoding", b"").decode(errors="replace")
        if encoding == "binary/null" or name in _SDK_SEARCH_ATTRIBUTES:
            return payload
        if not encoding.startswith("json/"):
            raise RecordingError(f"a payload of encoding {encoding!r} can't be scrubbed; give your --data-converter")
        try:
            value = json.loads(payload.data)
        except (ValueError, RecursionError) as error:
            raise RecordingError(
                f"a payload of encoding {encoding!r} is no JSON, and can't be scrubbed: {error}"
            ) from None
        data = json.dumps(self.plain(value, name), ensure_ascii=False, separators=(",", ":"))
        return Payload(metadata=dict(payload.metadata), data=data.encode())


def _substitute(char: str, number: int) -> str:
    if char.isdigit():
        return str(1 + number % 9)  # never zero: an amount stays one
    return _LETTERS[char.isupper()][number % 26] if char.isalpha() else char


def scrub_recording(recording: Recording, scrubber: Scrubber) -> Recording:
    """A tidied copy, with what comes from outside scrubbed. What the code made of it is to be filled in.

    Types of errors stay, as code depends on them, and ids of workflows that the code names in commands.

    Raises:
        RecordingError: There is something in it that can't be scrubbed.
    """
    pseudonyms, owners = IdPseudonyms.of(recording, scrubber.text), _payload_owners(recording.events)
    events = []
    for event in normalize(recording.events):
        event.ClearField("user_metadata")
        for slot in _user_payload_slots(event):
            # A value that is a field of nothing goes by what it is given to, or comes from.
            name = owners.get(event.event_id, "") if slot.name == "payloads" else slot.name
            slot.replace([scrubber.payload(payload, name) for payload in slot.payloads()])
        for message in walk(event):
            _scrub_texts(message, scrubber, pseudonyms)
        events.append(event)
    return replace(
        recording, workflow_id=pseudonyms.pseudonym("workflow_id", recording.workflow_id), events=tuple(events)
    )


_CAUSE_FIELDS = ("scheduled_event_id", "initiated_event_id", "accepted_event_id")


def _payload_owners(events: Sequence[HistoryEvent]) -> dict[int, str]:
    """Of each event that speaks of an activity, a workflow, a signal or an update: its name."""
    found: dict[int, str] = {}
    for event in events:
        _, attrs = attributes(event)
        causes = [getattr(attrs, name) for name in _CAUSE_FIELDS if hasattr(attrs, name)]
        if hasattr(attrs, "accepted_request"):
            found[event.event_id] = attrs.accepted_request.input.name
        elif causes and causes[0] in found:
            found[event.event_id] = found[causes[0]]
        else:
            name = getattr(attrs, "activity_type", None) or getattr(attrs, "workflow_type", None)
            found[event.event_id] = name.name if name else getattr(attrs, "signal_name", "")
    return found


def _user_payload_slots(event: HistoryEvent) -> list[PayloadSlot]:
    """The places that hold payloads of people."""
    if not event.HasField("marker_recorded_event_attributes"):
        return payload_slots(event)
    marker = event.marker_recorded_event_attributes
    user_details = [marker.details[key] for key in sorted(set(marker.details) - _SDK_MARKER_DETAILS)]
    return [slot for message in (*user_details, marker.failure) for slot in payload_slots(message)]


def _scrub_texts(message: Any, scrubber: Scrubber, pseudonyms: IdPseudonyms) -> None:
    if isinstance(message, Payload):
        return
    if isinstance(message, Failure):
        message.message = scrubber.text(message.message)
        message.ClearField("encoded_attributes")
    if "header" in message.DESCRIPTOR.fields_by_name and message.DESCRIPTOR.name.endswith("EventAttributes"):
        message.ClearField("header")
    if message.DESCRIPTOR.name == "WorkflowExecutionStartedEventAttributes" and message.priority.fairness_key:
        message.priority.fairness_key = scrubber.text(message.priority.fairness_key)  # whoever started it gave it
    for field, value in message.ListFields():
        if field.name in _UNUSED_FIELDS:
            message.ClearField(field.name)
        elif field.type == FieldDescriptor.TYPE_STRING and isinstance(value, str):
            is_free_text = field.name in _FREE_TEXT_FIELDS
            replaced = scrubber.text(value) if is_free_text else pseudonyms.pseudonym(field.name, value)
            setattr(message, field.name, replaced)
