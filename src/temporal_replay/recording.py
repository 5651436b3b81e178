"""One recorded history in a file: read, checked, written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from google.protobuf.json_format import ParseError
from temporalio.api.common.v1 import Payload
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory
from temporalio.converter import PayloadCodec

from temporal_replay.commands.protobuf import encoded_slots
from temporal_replay.commands.recorded import attributes

_LARGEST = 256 * 1024 * 1024  # bytes; Temporal ends a workflow long before its history is as large


class RecordingError(Exception):
    """A file is no recording. The message says why and what to do."""


@dataclass(frozen=True)
class Recording:
    """The history of one run, with what it takes to replay it.

    Attributes:
        workflow_id: Of the run. Replay needs it: ids of children are often made of it.
        workflow_type: Name of its workflow type.
        events: The history.
        recorded_with: Where it comes from: release, path, versions, in words.
    """

    workflow_id: str
    workflow_type: str
    events: Sequence[HistoryEvent]
    recorded_with: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, history: WorkflowHistory, **recorded_with: str) -> Self:
        """The recording of a history that was fetched.

        Raises:
            RecordingError: It is no whole history, or nothing has run yet.
        """
        if not history.events or attributes(history.events[0])[0] != "workflow_execution_started":
            raise RecordingError("it does not begin with the start of a workflow: it is no whole history")
        if not any(attributes(event)[0] == "workflow_task_completed" for event in history.events):
            raise RecordingError("no workflow task was completed yet, so there is nothing to replay: record it later")
        started = history.events[0].workflow_execution_started_event_attributes
        return cls(history.workflow_id, started.workflow_type.name, tuple(history.events), recorded_with)

    @property
    def history(self) -> WorkflowHistory:
        """As `temporalio.worker.Replayer` takes it."""
        return WorkflowHistory(self.workflow_id, self.events)

    @classmethod
    def parse(cls, text: bytes | str) -> Self:
        """Read what `dump` wrote, or a history as Temporal's CLI and Web UI export it.

        Raises:
            RecordingError: It is neither, or incomplete.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RecordingError(f"it is no JSON, or cut off: {error}") from None
        if not isinstance(content, dict) or not isinstance(content.get("events"), list):
            raise RecordingError("it is no recording: a JSON object with workflow_id and events")
        workflow_id = content.get("workflow_id") or _started(content).get("workflowId")
        if not isinstance(workflow_id, str) or not workflow_id:
            raise RecordingError(
                "it does not say which workflow_id it was recorded under, and can't be replayed without"
            )
        try:
            history = WorkflowHistory.from_json(workflow_id, {"events": content["events"]})
        except (ParseError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise RecordingError(f"its events are none of Temporal's: {error}") from None
        recording = cls.of(history)
        named = content.get("workflow_type", recording.workflow_type)
        if named != recording.workflow_type:
            raise RecordingError(f"it says it is a {named}, but its history began as {recording.workflow_type}")
        given = content.get("recorded_with")
        return replace(
            recording,
            recorded_with={str(k): str(v) for k, v in given.items()} if isinstance(given, dict) else {},
        )

    def dump(self) -> str:
        """As it is kept in a file: JSON with sorted keys, one line a value, so that it can be compared."""
        events = json.dumps(self.history.to_json_dict()["events"], sort_keys=True)
        content = {
            "workflow_id": self.workflow_id,
            "workflow_type": self.workflow_type,
            "recorded_with": dict(sorted(self.recorded_with.items())),
            "events": json.loads(events),
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"

    async def decoded(self, codec: PayloadCodec | None) -> Recording:
        """With every payload decoded; without a codec as it is.

        Raises:
            RecordingError: The codec can't decode it.
        """
        if codec is None:
            return self
        events = []
        for event in self.events:
            copy = HistoryEvent()
            copy.CopyFrom(event)
            for slot in encoded_slots(copy):
                try:
                    decoded = await codec.decode(list(slot.payloads()))
                    slot.replace([Payload.FromString(each.SerializeToString()) for each in decoded])
                except Exception as error:  # noqa: BLE001 (whatever that code does)
                    why = f"{type(error).__name__}: {error}"
                    raise RecordingError(f"the codec of the data converter can't decode it: {why}") from None
            events.append(copy)
        return replace(self, events=tuple(events))


def _started(content: Mapping[str, Any]) -> Mapping[str, Any]:
    first = content["events"][0] if content["events"] else {}
    held = first.get("workflowExecutionStartedEventAttributes") if isinstance(first, dict) else {}
    return held if isinstance(held, dict) else {}


def read_recording(path: Path) -> Recording:
    """Read a recording's file.

    Raises:
        RecordingError: It can't be read, or is no recording.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise RecordingError(f"it is larger than {_LARGEST // 1024**2} MiB: no history is")
        text = path.read_bytes()
    except OSError as error:
        raise RecordingError(f"it can't be read: {error.strerror or error}") from None
    return Recording.parse(text)


def write_recording(recording: Recording, path: Path) -> None:
    """Write a recording's file; its folder is made.

    Raises:
        FileExistsError: A recording is never written over.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(recording.dump())
