"""One recorded history in a file: reading, validation and writing."""

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

_MAX_BYTES = 256 * 1024 * 1024  # bytes; Temporal terminates a workflow long before its history is this large


class RecordingError(Exception):
    """A recording can't be used. The message says why, and what to do."""


@dataclass(frozen=True)
class Recording:
    """The history of one workflow run, with what its replay needs.

    Attributes:
        workflow_id: Id of the run. Workflow code may derive ids of child workflows from it.
        workflow_type: Name of the workflow type.
        events: The history.
        recorded_with: Provenance: release, path, versions.

    Example:
        recording = Recording.of(await client.get_workflow_handle("order-1").fetch_history())
        write_recording(recording, Path("histories/from_1.0/order.json"))
    """

    workflow_id: str
    workflow_type: str
    events: Sequence[HistoryEvent]
    recorded_with: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, history: WorkflowHistory, **recorded_with: str) -> Self:
        """Make a recording of a fetched history.

        Raises:
            RecordingError: The history is incomplete, or no workflow task has completed.
        """
        if not history.events or attributes(history.events[0])[0] != "workflow_execution_started":
            raise RecordingError("it does not begin with the start of a workflow: export the whole history")
        if not any(attributes(event)[0] == "workflow_task_completed" for event in history.events):
            raise RecordingError("no workflow task has completed, so there is nothing to replay: record it later")
        started = history.events[0].workflow_execution_started_event_attributes
        return cls(history.workflow_id, started.workflow_type.name, tuple(history.events), recorded_with)

    @property
    def history(self) -> WorkflowHistory:
        """The history as `temporalio.worker.Replayer` takes it."""
        return WorkflowHistory(self.workflow_id, self.events)

    @classmethod
    def parse(cls, text: bytes | str) -> Self:
        """Parse what `dump` returns, or a history exported by Temporal's CLI or Web UI.

        Raises:
            RecordingError: The text is neither, or is incomplete.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RecordingError(f"it is not JSON, or it is truncated: {error}") from None
        if not isinstance(content, dict) or not isinstance(content.get("events"), list):
            raise RecordingError("it is not a recording: expected a JSON object with workflow_id and events")
        workflow_id = content.get("workflow_id") or _started(content).get("workflowId")
        if not isinstance(workflow_id, str) or not workflow_id:
            raise RecordingError(
                "it does not say which workflow_id it was recorded under, and can't be replayed without"
            )
        try:
            history = WorkflowHistory.from_json(workflow_id, {"events": content["events"]})
        except (ParseError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise RecordingError(f"its events are not Temporal events: {error}") from None
        recording = cls.of(history)
        named = content.get("workflow_type", recording.workflow_type)
        if named != recording.workflow_type:
            raise RecordingError(f"workflow_type is {named}, but the history started as {recording.workflow_type}")
        given = content.get("recorded_with")
        return replace(
            recording,
            recorded_with={str(k): str(v) for k, v in given.items()} if isinstance(given, dict) else {},
        )

    def dump(self) -> str:
        """JSON with sorted keys and one value a line, so that version control shows readable differences."""
        events = json.dumps(self.history.to_json_dict()["events"], sort_keys=True)
        content = {
            "workflow_id": self.workflow_id,
            "workflow_type": self.workflow_type,
            "recorded_with": dict(sorted(self.recorded_with.items())),
            "events": json.loads(events),
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"

    async def decoded(self, codec: PayloadCodec | None) -> Recording:
        """Decode every payload; without a codec, return the recording unchanged.

        Raises:
            RecordingError: The codec raised an error.
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
                except Exception as error:  # noqa: BLE001 (the codec is user code)
                    why = f"{type(error).__name__}: {error}"
                    raise RecordingError(f"the codec of the data converter can't decode it: {why}") from None
            events.append(copy)
        return replace(self, events=tuple(events))


def _started(content: Mapping[str, Any]) -> Mapping[str, Any]:
    first = content["events"][0] if content["events"] else {}
    held = first.get("workflowExecutionStartedEventAttributes") if isinstance(first, dict) else {}
    return held if isinstance(held, dict) else {}


def read_recording(path: Path) -> Recording:
    """Read a recording from a file.

    Raises:
        RecordingError: The file can't be read, or is not a recording.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise RecordingError(f"it is larger than {_MAX_BYTES // 1024**2} MiB, which no history is")
        text = path.read_bytes()
    except OSError as error:
        raise RecordingError(f"it can't be read: {error.strerror or error}") from None
    return Recording.parse(text)


def write_recording(recording: Recording, path: Path) -> None:
    """Write a recording to a new file, and create its folder.

    Raises:
        FileExistsError: The file exists. Recordings are never overwritten.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(recording.dump())
