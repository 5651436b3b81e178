"""Pseudonymizes the texts of a recording: the same text becomes the same other text of the same shape."""

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

# Dates, times, durations and generated ids: code calculates with them.
_MACHINE_VALUE = re.compile(
    r"|\d{4}-\d\d-\d\d([T ][\d:.]+(Z|[-+][\d:]+)?)?|-?P[\dDHMSTWY.]+|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
)
# Search attributes written by SDK and server: ids of patches and builds.
_SDK_SEARCH_ATTRIBUTES = frozenset({"TemporalChangeVersion", "BuildIds", "TemporalWorkerDeploymentVersion"})
# Data of the SDK core in markers: ids of patches and local activities.
_SDK_MARKER_DETAILS = frozenset({"patch-data", "data"})
_FREE_TEXT_FIELDS = frozenset({"reason", "cause", "details", "control"})
# Callbacks with tokens, links, Nexus headers, display settings: replay does not use them.
_UNUSED_FIELDS = frozenset(
    {"completion_callbacks", "attached_completion_callbacks", "links", "nexus_header", "event_group_markers"}
)
_LETTERS = {True: string.ascii_uppercase, False: string.ascii_lowercase}


@dataclass(frozen=True)
class Scrubber:
    """Replaces texts, keyed by a secret (HMAC-SHA256).

    Attributes:
        key: With the key, anyone could test guesses of the original texts. Use a new key each time, and do not keep it.
        keep: Names of payload fields whose values control the code, such as states, codes or currencies. Also names of
            activities, signals, updates and workflow types, to keep all of their values.
    """

    key: bytes
    keep: Collection[str] = ()

    def text(self, text: str) -> str:
        """Replace letters by letters and digits by digits. Other characters, dates, durations and UUIDs are kept."""
        if _MACHINE_VALUE.fullmatch(text):
            return text
        noise = hmac.digest(self.key, text.encode(errors="surrogatepass"), hashlib.sha256)
        stream = b"".join(
            hashlib.sha256(noise + bytes([n % 256, n // 256])).digest() for n in range(len(text) // 32 + 1)
        )
        return "".join(_substitute(char, number) for char, number in zip(text, stream, strict=False))

    def plain(self, value: Any, name: str = "") -> Any:
        """Replace every text in a JSON value, except under the names in `keep`."""
        if name in self.keep:
            return value
        if isinstance(value, dict):
            return {key: self.plain(each, key) for key, each in value.items()}
        if isinstance(value, list):
            return [self.plain(each, name) for each in value]
        return self.text(value) if isinstance(value, str) else value

    def payload(self, payload: Payload, name: str) -> Payload:
        """Replace every text in a payload.

        Raises:
            RecordingError: The payload is not JSON, so its content is unknown.
        """
        encoding = payload.metadata.get("encoding", b"").decode(errors="replace")
        if encoding == "binary/null" or name in _SDK_SEARCH_ATTRIBUTES:
            return payload
        if not encoding.startswith("json/"):
            raise RecordingError(f"a payload of encoding {encoding!r} can't be scrubbed: pass your --data-converter")
        try:
            value = json.loads(payload.data)
        except (ValueError, RecursionError) as error:
            raise RecordingError(
                f"a payload of encoding {encoding!r} is not JSON, and can't be scrubbed: {error}"
            ) from None
        data = json.dumps(self.plain(value, name), ensure_ascii=False, separators=(",", ":"))
        return Payload(metadata=dict(payload.metadata), data=data.encode())


def _substitute(char: str, number: int) -> str:
    if char.isdigit():
        return str(1 + number % 9)  # never zero, so that an amount stays an amount
    return _LETTERS[char.isupper()][number % 26] if char.isalpha() else char


def scrub_recording(recording: Recording, scrubber: Scrubber) -> Recording:
    """Normalize a recording and pseudonymize its external inputs. Outputs of the code are to be regenerated.

    Error types are kept, because code depends on them. So are workflow ids that the code chose in commands.

    Raises:
        RecordingError: The recording holds something that can't be scrubbed.
    """
    pseudonyms, owners = IdPseudonyms.of(recording, scrubber.text), _payload_owners(recording.events)
    events = []
    for event in normalize(recording.events):
        event.ClearField("user_metadata")
        for slot in _user_payload_slots(event):
            # A payload without a field name goes by the name of its activity, workflow, signal or update.
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
    """Name of the activity, workflow, signal or update that an event belongs to, by event id."""
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
    """The slots with payloads of the user; in markers, without the data of the SDK."""
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
        message.priority.fairness_key = scrubber.text(message.priority.fairness_key)  # chosen by the client
    for field, value in message.ListFields():
        if field.name in _UNUSED_FIELDS:
            message.ClearField(field.name)
        elif field.type == FieldDescriptor.TYPE_STRING and isinstance(value, str):
            is_free_text = field.name in _FREE_TEXT_FIELDS
            replaced = scrubber.text(value) if is_free_text else pseudonyms.pseudonym(field.name, value)
            setattr(message, field.name, replaced)
