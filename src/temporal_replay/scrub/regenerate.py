"""Replaces recorded outputs by those that the code emits, so that a scrubbed recording is consistent again.

The outputs for scrubbed inputs are taken from a replay, not computed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent

from temporal_replay.commands.protobuf import walk
from temporal_replay.commands.recorded import attributes
from temporal_replay.recording import Recording


def regenerate_outputs(recording: Recording, sources: Mapping[int, Any]) -> Recording:
    """Copy a recording, with the outputs that the code emits now.

    Args:
        sources: The emitted command, by id of the event that records it.
    """
    events = []
    for event in recording.events:
        copy = HistoryEvent()
        copy.CopyFrom(event)
        if event.event_id in sources:
            _replace_output(copy, sources[event.event_id])
        events.append(copy)
    return replace(recording, events=tuple(events))


def _replace_output(event: HistoryEvent, command: Any) -> None:
    kind, attrs = attributes(event)
    message = getattr(command, command.WhichOneof("variant"))
    match kind:
        case "workflow_execution_update_completed":
            _replace_outcome(attrs.outcome, message)
        case "workflow_execution_failed":
            _replace_failure(attrs.failure, message.failure)
        case "workflow_properties_modified":
            attrs.upserted_memo.CopyFrom(message.upserted_memo)
        case "upsert_workflow_search_attributes":
            attrs.search_attributes.CopyFrom(message.search_attributes)
        case "workflow_execution_completed":
            _set_payloads(attrs.result.payloads, [message.result])
        case "request_cancel_external_workflow_execution_initiated":
            attrs.reason = message.reason
        case _:
            _replace_input(attrs, message)


def _replace_outcome(outcome: Any, answer: Any) -> None:
    outcome.Clear()
    if answer.HasField("completed"):
        outcome.success.payloads.append(answer.completed)
    else:
        _replace_failure(outcome.failure, answer.rejected)


def _replace_failure(place: Failure, failure: Failure) -> None:
    place.CopyFrom(failure)
    for message in walk(place):
        if isinstance(message, Failure):
            message.ClearField("stack_trace")


def _replace_input(attrs: Any, message: Any) -> None:
    """Replace the input and memo of an activity, child workflow, signal, next run or Nexus operation.

    Commands list payloads, events wrap them; a Nexus operation has a single payload.
    """
    given = next((name for name in ("arguments", "input", "args") if hasattr(message, name)), "")
    if given and hasattr(attrs, "input"):
        payloads = getattr(message, given)
        if isinstance(payloads, Payload):
            attrs.input.CopyFrom(payloads)
        else:
            _set_payloads(attrs.input.payloads, payloads)
    if hasattr(message, "memo") and hasattr(attrs, "memo"):
        for name, payload in message.memo.items():
            attrs.memo.fields[name].CopyFrom(payload)


def _set_payloads(place: Any, payloads: Sequence[Payload]) -> None:
    del place[:]
    place.extend(payloads)
