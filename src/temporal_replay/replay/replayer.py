"""Replays recordings in this process, one after another."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from temporalio.client import WorkflowHistory
from temporalio.workflow import NondeterminismError

from temporal_replay.commands.command import LOCAL_ACTIVITIES, Tasks, UnknownCommandError
from temporal_replay.commands.diff import Mismatch, compare
from temporal_replay.commands.emitted import EmittedCommands
from temporal_replay.commands.endings import Endings
from temporal_replay.commands.recorded import (
    attributes,
    patch_markers,
    quiescent_tasks,
    recorded_commands,
    run_defaults_of,
)
from temporal_replay.outcome import Fault, Outcome, Problem
from temporal_replay.recording import Recording, RecordingError
from temporal_replay.replay.advice import advise, core_message
from temporal_replay.replay.target import LoadedTarget


@dataclass
class _CurrentReplay:
    """The replay in progress."""

    name: str
    recording: Recording
    began: float
    captures_commands: bool


class InProcessReplayer:
    """Replays recordings with one `temporalio.worker.Replayer`, and compares commands.

    There is no time limit: code that hangs blocks this process. Use `ReplayPool` for a time limit.

    Example:
        async def recordings():
            yield "order", read_recording(Path("histories/from_1.0/order.json"))

        await InProcessReplayer(Target("my_app.worker:WORKFLOWS").load(), strict=True).replay(recordings(), print)
    """

    def __init__(self, target: LoadedTarget, *, strict: bool) -> None:
        self._target = target
        self._strict = strict
        self._current: _CurrentReplay | None = None
        self._needs_second_pass = False

    async def replay(
        self, recordings: AsyncIterator[tuple[str, Recording]], on_outcome: Callable[[Outcome], None]
    ) -> None:
        """Replay recordings, one after another.

        Args:
            recordings: Names and recordings. The next one is requested after the last outcome was passed on.
            on_outcome: Called with each outcome.
        """
        async with self._target.replayer.workflow_replay_iterator(self._histories(recordings, on_outcome)) as results:
            async for result in results:
                outcome = self._outcome(result.replay_failure)
                if outcome is not None:
                    on_outcome(outcome)

    async def _histories(
        self, recordings: AsyncIterator[tuple[str, Recording]], on_outcome: Callable[[Outcome], None]
    ) -> AsyncIterator[WorkflowHistory]:
        async for name, recording in recordings:
            if not self._target.handles(recording.workflow_type):
                on_outcome(_missing_workflow(name, recording, self._target))
                continue
            try:
                decoded = await recording.decoded(self._target.codec)
            except RecordingError as error:
                on_outcome(_undecodable(name, recording, error))
                continue
            self._current = _CurrentReplay(name, decoded, time.perf_counter(), self._strict)
            self._capture(decoded if self._strict else None)
            yield decoded.history
            if self._needs_second_pass:
                # The replay failed without capturing commands. Repeat it, to see which commands the code emits instead.
                self._current.captures_commands = True
                self._capture(decoded)
                yield decoded.history

    @property
    def emitted(self) -> EmittedCommands | None:
        """The commands emitted in the current or last replay; None if they were not captured."""
        return next((runner.emitted for runner in self._target.runners if runner.emitted), None)

    def _capture(self, recording: Recording | None) -> None:
        for runner in self._target.runners:
            runner.captured_run = run_defaults_of(recording.events) if recording is not None else None
            runner.emitted = None

    def _outcome(self, failure: Exception | None) -> Outcome | None:
        """The outcome of the current replay; None if it needs a second pass."""
        current = self._current
        assert current is not None  # noqa: S101 (each result belongs to a replay)
        self._needs_second_pass = failure is not None and not current.captures_commands
        if self._needs_second_pass:
            return None
        recording = current.recording
        outcome = Outcome(
            recording=current.name,
            workflow_id=recording.workflow_id,
            workflow_type=recording.workflow_type,
            events=len(recording.events),
        )
        result: dict[str, object] = {}
        if current.captures_commands:
            result = self._evaluate(recording, failure)
        return outcome.model_copy(update={**result, "seconds": time.perf_counter() - current.began})

    def _evaluate(self, recording: Recording, failure: Exception | None) -> dict[str, object]:
        emitted = self.emitted
        if failure is not None and emitted is not None and emitted.failures:
            return {"problem": _workflow_failure(emitted.failures[0])}
        if failure is not None and not isinstance(failure, NondeterminismError):
            return {"problem": _workflow_failure(core_message(failure))}
        try:
            mismatch, drift = compare(*commands_by_task(recording, emitted)) if emitted is not None else (None, [])
        except UnknownCommandError as unknown:
            if failure is None:
                advice = "Replay with --no-strict, and report this command to the maintainers"
                return {"problem": Problem(fault=Fault.FAILS, message=str(unknown), advice=advice)}
            mismatch, drift = None, []
        if failure is not None or mismatch is not None:
            asked = emitted.patches if emitted is not None else set()
            markers = patch_markers(recording.events)
            missing_patches = [
                each for each, is_deprecated in markers.items() if not is_deprecated and each not in asked
            ]
            return {"problem": _nondeterminism(failure, mismatch, missing_patches)}
        return {"drift": tuple(drift)}


def commands_by_task(recording: Recording, emitted: EmittedCommands) -> tuple[Tasks, Tasks]:
    """Recorded and emitted commands, by workflow task.

    Raises:
        UnknownCommandError: See `recorded_commands` and `EmittedCommands.tasks`.
    """
    recorded = recorded_commands(recording.events)
    starts = [event.event_id for event in recording.events if attributes(event)[0] == "workflow_task_started"]
    # A task that failed or timed out was retried later. The last task may still be open.
    open_tasks = [start for start in starts if start in recorded or start == starts[-1]]
    scheduled = [event.event_id for event in recording.events if attributes(event)[0] == "workflow_task_scheduled"]
    if scheduled and starts and scheduled[-1] > starts[-1]:
        # The last task is scheduled but not started. Its commands must not be assigned to the task before.
        open_tasks.append(scheduled[-1])
    local = [command.key for command in recorded.get(LOCAL_ACTIVITIES, ())]
    quiescent = quiescent_tasks(recording.events)
    tasks = emitted.tasks(open_tasks, local, quiescent, Endings(recording.events))
    return {LOCAL_ACTIVITIES: (), **recorded}, tasks


def _missing_workflow(name: str, recording: Recording, target: LoadedTarget) -> Outcome:
    known = ", ".join(sorted(str(each) for each in target.workflow_types))
    problem = Problem(
        fault=Fault.NO_CODE,
        message=f"no workflow handles type {recording.workflow_type} (types in the code: {known})",
        advice="Keep a class for the recorded type, @workflow.defn(name=...), as long as such a workflow may be open",
    )
    return Outcome(
        recording=name,
        workflow_id=recording.workflow_id,
        workflow_type=recording.workflow_type,
        events=len(recording.events),
        problem=problem,
    )


def _undecodable(name: str, recording: Recording, error: RecordingError) -> Outcome:
    advice = "Pass the data converter that it was recorded with, with its keys: --data-converter"
    return Outcome(
        recording=name,
        workflow_id=recording.workflow_id,
        workflow_type=recording.workflow_type,
        events=len(recording.events),
        problem=Problem(fault=Fault.UNREADABLE, message=str(error), advice=advice),
    )


def _workflow_failure(error: str) -> Problem:
    first, _, rest = error.partition("\n")
    return Problem(
        fault=Fault.FAILS,
        message=f"workflow code fails on replay: {first}",
        detail=rest,
        advice="An open workflow would get stuck at this task. Make the code accept the recorded values",
    )


def _nondeterminism(failure: Exception | None, mismatch: Mismatch | None, missing_patches: Sequence[str]) -> Problem:
    """Describe a replay that emitted other commands.

    Args:
        missing_patches: Patches with a recorded marker that the code has not asked for, at least so far.
    """
    message = core_message(failure) if failure is not None else "the code emits other commands than recorded"
    patch = missing_patches[0] if missing_patches and "patch" in message.lower() else ""
    return Problem(
        fault=Fault.NONDETERMINISM,
        message=message,
        detail=mismatch.description if mismatch is not None else "",
        advice=advise(mismatch, patch),
    )
