"""The code of one run: instances of it in a worker's memory, and the past by which they come back.

Stands on what `temporalio.worker` exports for runners of workflows, and on the protocol between the SDK's core and its
Python part; tests/unit/testing/simulator/test_surface.py names all of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import WorkflowTaskFailedCause
from temporalio.api.failure.v1 import Failure
from temporalio.bridge.proto.workflow_activation import (
    NotifyHasPatch,
    QueryWorkflow,
    RemoveFromCache,
    WorkflowActivation,
    WorkflowActivationJob,
)
from temporalio.bridge.proto.workflow_commands import FailWorkflowExecution, WorkflowCommand
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import WorkflowInstance

from temporal_simulator.protocol.command_kinds import is_last
from temporal_simulator.protocol.events import timestamp
from temporal_simulator.worker.activation import activate
from temporal_simulator.worker.cancellation import resolved_at_once
from temporal_simulator.worker.fingerprint import fingerprint
from temporal_simulator.worker.memoize import MemoizedInstance
from temporal_simulator.worker.nondeterminism import difference

if TYPE_CHECKING:
    from temporal_simulator.server.execution import Execution

_UNHANDLED = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE
NONDETERMINISTIC = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR
"""The code did not do again what it had done."""


class WorkflowTaskFailedError(Exception):
    """The code of a workflow raised what fails its workflow task, or did not do again what it had done.

    Attributes:
        cause: How Temporal calls the cause.
        failure: What it raised.
    """

    def __init__(self, failure: Failure, cause: WorkflowTaskFailedCause.ValueType = _UNHANDLED) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.cause = cause


class EvictionError(AssertionError):
    """The code of a workflow can't be put out of memory: it goes on when it is cancelled for that."""


@dataclass(eq=False)
class _Turn:
    """What the code was told at once, and what it wanted then."""

    jobs: list[WorkflowActivationJob]
    commands: list[WorkflowCommand]


@dataclass(eq=False)
class CompletedTask:
    """A workflow task that has ended well.

    Attributes:
        time: When it began, by which the code's own clock goes.
        length: How many events there were then.
        flags: Which ways of the SDK the code took.
        is_early: Whether the code was told what happened with the time of the task before; see `WorkflowReplay.think`.
    """

    time: int
    length: int
    turns: list[_Turn] = field(default_factory=list)
    flags: list[int] = field(default_factory=list)
    is_early: bool = False

    def commands(self) -> list[WorkflowCommand]:
        """Everything it wanted."""
        return [command for turn in self.turns for command in turn.commands]


class WorkflowReplay:
    """The code of one run; in memory or not."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._past: list[CompletedTask] = []
        self._instance: WorkflowInstance | None = None
        # Whether it was ever told of a task with the time of the one before: what it says of times then differs.
        self._has_thought_early = False
        # Of which past what it knew was looked up.
        self._known: tuple[int, bytes | None] | None = None

    def go_on_from(self, base: WorkflowReplay, started: int) -> int:
        """Know what another one knew before the task that this event began; with which event its last task began."""
        self._past = [past for past in base._past if past.length < started]
        self._has_thought_early = any(past.is_early for past in self._past)
        return self._past[-1].length if self._past else 0

    def wanted(self) -> list[WorkflowCommand]:
        """Everything it has wanted so far."""
        return [command for past in self._past for command in past.commands()]

    @property
    def is_new(self) -> bool:
        """Whether no task has told it anything yet."""
        return not self._past

    # -- thinking ------------------------------------------------------------------------------------------

    @property
    def may_fall_behind(self) -> bool:
        """Whether it is in no memory, and a replay would leave its clock behind the time that it is now."""
        return self._instance is None and bool(self._past) and self._past[-1].time < self._execution.now

    def think(self, jobs: list[WorkflowActivationJob], *, after_a_query: bool = False) -> CompletedTask:
        """Tell it what happened; what it wants now, to be remembered once that is done.

        Args:
            after_a_query: It comes back by replay to answer a query, before its worker takes the workflow task. Core
                replays all events there are, also those of the task that has not begun. It delivers them with the time
                of the task before, and later takes the commands for those of the task.
                See docs/upstream/query-before-task.md.

        Raises:
            WorkflowTaskFailedError: It failed.
        """
        past = CompletedTask(self._execution.now, len(self._execution.history), is_early=after_a_query)
        told = CompletedTask(self._past[-1].time, past.length) if after_a_query else past
        instance = self._awake(past)
        while jobs:
            done = self._activate(instance, jobs, told, is_replaying=False)
            commands = list(done.successful.commands)
            past.flags += done.successful.used_internal_flags
            past.turns.append(_Turn(jobs, commands))
            # Whoever has ended is told nothing more.
            ended = any(is_last(command) for command in commands)
            jobs = [] if ended else resolved_at_once(self._execution, past.commands(), commands)
        return past

    def give_up(self, failure: Failure) -> CompletedTask:
        """As if it had wanted to fail."""
        failed = WorkflowCommand(fail_workflow_execution=FailWorkflowExecution(failure=failure))
        return CompletedTask(self._execution.now, len(self._execution.history), turns=[_Turn([], [failed])])

    def remember(self, past: CompletedTask, refused: Collection[str]) -> None:
        """It was done: from now on this is how the code got where it is.

        Args:
            refused: Ids of updates. What was refused is in no history, and does not come again.
        """
        for turn in past.turns:
            if refused:
                turn.jobs = [
                    job for job in turn.jobs if job.do_update.id not in refused or not job.HasField("do_update")
                ]
                turn.commands = [
                    command for command in turn.commands if command.update_response.protocol_instance_id not in refused
                ]
            for job in turn.jobs:
                if job.HasField("do_update"):
                    job.do_update.run_validator = False
        patches = [
            WorkflowActivationJob(notify_has_patch=NotifyHasPatch(patch_id=command.set_patch_marker.patch_id))
            for command in past.commands()
            if command.HasField("set_patch_marker")
        ]
        if past.turns:
            past.turns[0].jobs[:0] = patches
            self._past.append(past)
            self._has_thought_early |= past.is_early

    def query(self, kind: str, given: Iterable[Payload], header: Mapping[str, Payload]) -> Payload:
        """What it answers.

        Raises:
            WorkflowTaskFailedError: It can't.
        """
        last = self._past[-1] if self._past else None
        past = CompletedTask(last.time if last else self._execution.now, last.length if last else 0)
        job = QueryWorkflow(query_id="query", query_type=kind, arguments=given, headers=header)
        done = self._activate(self._awake(past), [WorkflowActivationJob(query_workflow=job)], past, is_replaying=False)
        answer = done.successful.commands[0].respond_to_query
        if answer.HasField("failed"):
            raise WorkflowTaskFailedError(answer.failed)
        return answer.succeeded.response

    def _activate(
        self, instance: WorkflowInstance, jobs: list[WorkflowActivationJob], past: CompletedTask, *, is_replaying: bool
    ) -> WorkflowActivationCompletion:
        done = activate(
            instance,
            WorkflowActivation(
                run_id=self._execution.run_id,
                timestamp=timestamp(past.time),
                is_replaying=is_replaying,
                history_length=past.length,
                jobs=jobs,
                available_internal_flags=past.flags,
            ),
        )
        if done.HasField("failed"):
            raise WorkflowTaskFailedError(done.failed.failure)
        return done

    # -- memory --------------------------------------------------------------------------------------------

    def digest(self, *, is_thinking: bool) -> bytes | None:
        """What it knew after the last task that was remembered; None if that can't be seen.

        Args:
            is_thinking: It was told something since then.
        """
        if self._known is None or self._known[0] != len(self._past):
            self._known = len(self._past), self._knows(is_thinking=is_thinking)
        return self._known[1]

    def _knows(self, *, is_thinking: bool) -> bytes | None:
        if not self._past:
            return b"nothing yet"
        try:
            if not is_thinking:
                return _known_to(self._awake(self._past[0]))
            instance = self._as_it_was(self._past[0])
        except WorkflowTaskFailedError:
            return None
        try:
            return _known_to(instance)
        finally:
            self._put_out(instance)

    def _as_it_was(self, begins: CompletedTask) -> WorkflowInstance:
        """Another one, that has been told what is remembered and nothing else."""
        instance = self._execution.simulation.create_instance(self._execution, begins.time)
        try:
            for each in self._past:
                self._replay(instance, each)
        except WorkflowTaskFailedError:
            # Halfway back it is of no use to anybody; that it will not leave either is not the worst about it.
            with suppress(EvictionError):
                self._put_out(instance)
            raise
        return instance

    def _awake(self, past: CompletedTask) -> WorkflowInstance:
        """It in memory: as it was, or by replay."""
        if self._instance is None:
            self._instance = self._as_it_was(self._past[0] if self._past else past)
        return self._instance

    def _replay(self, instance: WorkflowInstance, past: CompletedTask) -> None:
        for turn in past.turns:
            if not turn.jobs:
                continue
            done = self._activate(instance, turn.jobs, past, is_replaying=True)
            now, before = list(done.successful.commands), turn.commands
            if differs := difference(now, before, in_kind_only=self._has_thought_early):
                message = f"[TMPRL1100] Nondeterminism: replayed, the workflow wanted {differs}"
                raise WorkflowTaskFailedError(Failure(message=message), NONDETERMINISTIC)

    def evict(self) -> None:
        """Put it out of memory.

        Raises:
            EvictionError: It does not let itself be.
        """
        if self._instance is not None:
            instance, self._instance = self._instance, None
            self._put_out(instance)

    def _put_out(self, instance: WorkflowInstance) -> None:
        gone = WorkflowActivation(
            run_id=self._execution.run_id,
            timestamp=timestamp(self._execution.now),
            jobs=[WorkflowActivationJob(remove_from_cache=RemoveFromCache(message="simulated"))],
        )
        try:
            activate(instance, gone)
        except RuntimeError as error:
            raise EvictionError(f"{self._execution.workflow_id}: {error}") from error


def _known_to(instance: WorkflowInstance) -> bytes | None:
    return instance.knows() if isinstance(instance, MemoizedInstance) else fingerprint(instance)
