"""Puts what code emits in the place of what was recorded: a scrubbed recording becomes one that the code has made.

What the code makes of scrubbed inputs is not guessed: the code itself is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent

from temporal_replay.commands.protobuf import below
from temporal_replay.commands.recorded import attributes
from temporal_replay.recording import Recording


def filled_in(recording: Recording, sources: Mapping[int, Any]) -> Recording:
    """With what the code emits in the place of what was recorded.

    Args:
        sources: Of each event that records a command, the command as it is emitted now.
    """
    events = []
    for event in recording.events:
        copy = HistoryEvent()
        copy.CopyFrom(event)
        if event.event_id in sources:
            _fill(copy, sources[event.event_id])
        events.append(copy)
    return replace(recording, events=tuple(events))


def _fill(event: HistoryEvent, command: Any) -> None:
    kind, held = attributes(event)
    message = getattr(command, command.WhichOneof("variant"))
    match kind:
        case "workflow_execution_update_completed":
            _fill_outcome(held.outcome, message)
        case "workflow_execution_failed":
            _fill_failure(held.failure, message.failure)
        case "workflow_properties_modified":
            held.upserted_memo.CopyFrom(message.upserted_memo)
        case "upsert_workflow_search_attributes":
            held.search_attributes.CopyFrom(message.search_attributes)
        case "workflow_execution_completed":
            _put(held.result.payloads, [message.result])
        case "request_cancel_external_workflow_execution_initiated":
            held.reason = message.reason
        case _:
            _fill_input(held, message)


def _fill_outcome(outcome: Any, answer: Any) -> None:
    outcome.Clear()
    if answer.HasField("completed"):
        outcome.success.payloads.append(answer.completed)
    else:
        _fill_failure(outcome.failure, answer.rejected)


def _fill_failure(place: Failure, failure: Failure) -> None:
    place.CopyFrom(failure)
    for message in below(place):
        if isinstance(message, Failure):
            message.ClearField("stack_trace")


def _fill_input(held: Any, message: Any) -> None:
    """Of activities, children, signals, the next run: what commands list, events wrap; a Nexus operation has one."""
    given = next((name for name in ("arguments", "input", "args") if hasattr(message, name)), "")
    if given and hasattr(held, "input"):
        payloads = getattr(message, given)
        if isinstance(payloads, Payload):
            held.input.CopyFrom(payloads)
        else:
            _put(held.input.payloads, payloads)
    if hasattr(message, "memo") and hasattr(held, "memo"):
        for name, payload in message.memo.items():
            held.memo.fields[name].CopyFrom(payload)


def _put(place: Any, payloads: Sequence[Payload]) -> None:
    del place[:]
    place.extend(payloads)
