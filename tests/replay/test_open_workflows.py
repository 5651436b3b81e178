"""Histories of open workflows, truncated wherever a worker may receive the next task."""

from __future__ import annotations

from dataclasses import replace

import pytest

from invoice_mcp.testing.recordings import TARGET
from temporal_replay import Recording, read_corpus, read_recording
from temporal_replay.commands.recorded import attributes
from tests.nightly import at_night
from tests.replay.recorder import replay
from tests.replay.test_corpus import CORPUS, RECORDINGS
from tests.requirements import requirement


def cut(recording: Recording) -> dict[str, Recording]:
    """The recording as of each WorkflowTaskScheduled after the first task."""
    kinds = [attributes(event)[0] for event in recording.events]
    first = kinds.index("workflow_task_completed")
    ends = [place for place, kind in enumerate(kinds, 1) if kind == "workflow_task_scheduled" and place > first]
    return {f"{end} events": replace(recording, events=tuple(recording.events[:end])) for end in ends}


@requirement("HISTORY-STRICT")
@pytest.mark.parametrize("strict", [True, at_night(False)])
async def test_commands_of_a_scheduled_task_are_not_assigned_to_the_task_before(strict: bool) -> None:
    every = {f"{name}, {at}": each for name in RECORDINGS for at, each in cut(read_recording(CORPUS / name)).items()}
    assert len(every) > len(RECORDINGS)
    outcomes = await replay(every, TARGET.load(), strict=strict)
    assert len(outcomes) == len(every)
    accepted = read_corpus(CORPUS).accepted
    drifts = [(name, each) for name, outcome in outcomes.items() for each in outcome.drift]
    assert {name: outcome.problem for name, outcome in outcomes.items() if outcome.problem} == {}
    assert [(name, each) for name, each in drifts if not any(entry.matches(name, each) for entry in accepted)] == []
