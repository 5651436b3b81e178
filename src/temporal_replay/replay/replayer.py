"""Replays recordings in this process, one after another."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from temporalio.client import WorkflowHistory
from temporalio.workflow import NondeterminismError

from temporal_replay.commands.command import LOCAL_ACTIVITIES, Tasks, UnknownCommand
from temporal_replay.commands.diff import Drift, Mismatch, compare
from temporal_replay.commands.emitted import Emitted
from temporal_replay.commands.endings import Endings
from temporal_replay.commands.recorded import attributes, patch_markers, recorded_commands, run_of, settled_tasks
from temporal_replay.outcome import Fault, Outcome, Problem
from temporal_replay.recording import Recording, Unreadable
from temporal_replay.replay.advice import advice_on, words_of
from temporal_replay.replay.target import Code


@dataclass
class _Turn:
    """The replay that goes on now."""

    name: str
    recording: Recording
    began: float
    is_watched: bool


class Replaying:
    """Replays recordings with one `Replayer`, as Temporal's own would, and says what came of each.

    It has no time limit: code that hangs, hangs the process. `Pool` has one.
    """

    def __init__(self, code: Code, *, strict: bool) -> None:
        self._code = code
        self._strict = strict
        self._turn: _Turn | None = None
        self._again = False

    async def replay(self, recordings: AsyncIterator[tuple[str, Recording]], told: Callable[[Outcome], None]) -> None:
        """Replay recordings, one after another.

        Args:
            recordings: Names and recordings; the next one is asked for when the last one's outcome is told.
            told: Called with each outcome.
        """
        async with self._code.replayer.workflow_replay_iterator(self._histories(recordings, told)) as results:
            async for result in results:
                outcome = self._outcome(result.replay_failure)
                if outcome is not None:
                    told(outcome)

    async def _histories(
        self, recordings: AsyncIterator[tuple[str, Recording]], told: Callable[[Outcome], None]
    ) -> AsyncIterator[WorkflowHistory]:
        async for name, recording in recordings:
            if not self._code.answers_to(recording.workflow_type):
                told(_no_code(name, recording, self._code))
                continue
            try:
                decoded = await recording.decoded(self._code.codec)
            except Unreadable as why:
                told(_not_decoded(name, recording, why))
                continue
            self._turn = _Turn(name, decoded, time.perf_counter(), self._strict)
            self._watch(decoded if self._strict else None)
            yield decoded.history
            if self._again:
                # It failed, and nobody watched: once more, to see what the code does instead.
                self._turn.is_watched = True
                self._watch(decoded)
                yield decoded.history

    @property
    def emitted(self) -> Emitted | None:
        """What the code emitted in the replay that is under way, or has just been told; None if nobody watched."""
        return next((runner.emitted for runner in self._code.watching if runner.emitted), None)

    def _watch(self, recording: Recording | None) -> None:
        for runner in self._code.watching:
            runner.watched = run_of(recording.events) if recording is not None else None
            runner.emitted = None

    def _outcome(self, failure: Exception | None) -> Outcome | None:
        """What came of the turn; None if it has to be replayed once more."""
        turn = self._turn
        assert turn is not None  # noqa: S101 (a result is of a turn)
        self._again = failure is not None and not turn.is_watched
        if self._again:
            return None
        recording = turn.recording
        outcome = Outcome(
            recording=turn.name,
            workflow_id=recording.workflow_id,
            workflow_type=recording.workflow_type,
            events=len(recording.events),
        )
        found: dict[str, object] = {}
        if turn.is_watched:
            found = self._judged(recording, failure)
        return outcome.model_copy(update={**found, "seconds": time.perf_counter() - turn.began})

    def _judged(self, recording: Recording, failure: Exception | None) -> dict[str, object]:
        emitted = self.emitted
        if failure is not None and emitted is not None and emitted.failures:
            return {"problem": _fails(emitted.failures[0])}
        if failure is not None and not isinstance(failure, NondeterminismError):
            return {"problem": _fails(words_of(failure))}
        try:
            mismatch, drift = _compared(recording, emitted) if emitted is not None else (None, [])
        except UnknownCommand as unknown:
            if failure is None:
                advice = "Replay with --no-strict, and tell the maintainers of the harness"
                return {"problem": Problem(fault=Fault.FAILS, told=str(unknown), advice=advice)}
            mismatch, drift = None, []
        if failure is not None or mismatch is not None:
            asked = emitted.patches if emitted is not None else set()
            markers = patch_markers(recording.events)
            gone = [each for each, is_deprecated in markers.items() if not is_deprecated and each not in asked]
            return {"problem": _nondeterminism(failure, mismatch, gone)}
        return {"drift": tuple(drift)}


def _compared(recording: Recording, emitted: Emitted) -> tuple[Mismatch | None, list[Drift]]:
    return compare(*tasks_of(recording, emitted))


def tasks_of(recording: Recording, emitted: Emitted) -> tuple[Tasks, Tasks]:
    """What was recorded, and what is emitted in its place.

    Raises:
        UnknownCommand: See `recorded_commands` and `Emitted.tasks`.
    """
    recorded = recorded_commands(recording.events)
    starts = [event.event_id for event in recording.events if attributes(event)[0] == "workflow_task_started"]
    # A task that failed or timed out was tried again later. The last one may be under way.
    kept = [start for start in starts if start in recorded or start == starts[-1]]
    scheduled = [event.event_id for event in recording.events if attributes(event)[0] == "workflow_task_scheduled"]
    if scheduled and starts and scheduled[-1] > starts[-1]:
        # It waits to be started: what is emitted for it was not in place of the one before.
        kept.append(scheduled[-1])
    local = [command.key for command in recorded.get(LOCAL_ACTIVITIES, ())]
    emitted_tasks = emitted.tasks(kept, local, settled_tasks(recording.events), Endings(recording.events))
    return {LOCAL_ACTIVITIES: (), **recorded}, emitted_tasks


def _no_code(name: str, recording: Recording, code: Code) -> Outcome:
    known = ", ".join(sorted(str(each) for each in code.names))
    problem = Problem(
        fault=Fault.NO_CODE,
        told=f"no code answers to workflow type {recording.workflow_type} (there is {known})",
        advice="Keep the workflow class under its recorded name, @workflow.defn(name=...), as long as one may be open",
    )
    return Outcome(
        recording=name,
        workflow_id=recording.workflow_id,
        workflow_type=recording.workflow_type,
        events=len(recording.events),
        problem=problem,
    )


def _not_decoded(name: str, recording: Recording, why: Unreadable) -> Outcome:
    advice = "Give the data converter that it was recorded with, with its keys: --data-converter"
    return Outcome(
        recording=name,
        workflow_id=recording.workflow_id,
        workflow_type=recording.workflow_type,
        events=len(recording.events),
        problem=Problem(fault=Fault.UNREADABLE, told=str(why), advice=advice),
    )


def _fails(why: str) -> Problem:
    first, _, rest = why.partition("\n")
    return Problem(
        fault=Fault.FAILS,
        told=f"workflow code fails on replay: {first}",
        detail=rest,
        advice="A workflow that is open would be stuck at this task. Let the code take what was recorded",
    )


def _nondeterminism(failure: Exception | None, mismatch: Mismatch | None, gone: Sequence[str]) -> Problem:
    """Args: gone: patches whose markers were recorded, and that the code did not ask for; maybe not yet."""
    told = words_of(failure) if failure is not None else "the code emits other commands than were recorded"
    patch = gone[0] if gone and "patch" in told.lower() else ""
    return Problem(
        fault=Fault.NONDETERMINISM,
        told=told,
        detail=mismatch.told if mismatch is not None else "",
        advice=advice_on(mismatch, patch),
    )
