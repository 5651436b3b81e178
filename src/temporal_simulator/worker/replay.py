"""The workflow code of one run: an instance in the worker's cache, and the completed tasks that it is replayed from.

Built on what `temporalio.worker` exports for workflow runners, and on the protocol between the SDK's core and its
Python part. tests/unit/testing/simulator/test_surface.py names all of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

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

from temporal_simulator.protocol.command_kinds import closes_workflow
from temporal_simulator.protocol.events import to_timestamp
from temporal_simulator.protocol.interfaces import CreateInstance, RunView
from temporal_simulator.worker.activation import activate
from temporal_simulator.worker.cancellation import resolve_local_cancellations
from temporal_simulator.worker.fingerprint import fingerprint
from temporal_simulator.worker.memoize import MemoizedInstance
from temporal_simulator.worker.nondeterminism import describe_difference

_UNHANDLED = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE
NONDETERMINISTIC = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR
"""The cause of a task failure when a replay gave other commands."""


class WorkflowTaskFailedError(Exception):
    """Workflow code raised what fails its workflow task, or a replay gave other commands.

    Attributes:
        cause: As Temporal has it.
        failure: What was raised.
    """

    def __init__(self, failure: Failure, cause: WorkflowTaskFailedCause.ValueType = _UNHANDLED) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.cause = cause


class EvictionError(AssertionError):
    """A workflow instance cannot be evicted, because its code suppresses the cancellation that eviction causes."""


@dataclass(eq=False)
class _Activation:
    """The jobs of one activation, and the commands it gave."""

    jobs: list[WorkflowActivationJob]
    commands: list[WorkflowCommand]


@dataclass(eq=False)
class CompletedTask:
    """What workflow code did in one workflow task.

    Attributes:
        time: When the task started; the workflow's clock during it.
        history_length: The number of events at its start.
        activations: More than one if the code cancelled something that is resolved locally.
        flags: The SDK's internal flags that were used.
        follows_query: Whether the jobs had the time of the previous task; see `WorkflowReplay.activate`.
    """

    time: int
    history_length: int
    activations: list[_Activation] = field(default_factory=list)
    flags: list[int] = field(default_factory=list)
    follows_query: bool = False

    def commands(self) -> list[WorkflowCommand]:
        """The commands of all activations."""
        return [command for activation in self.activations for command in activation.commands]


class WorkflowReplay:
    """The workflow code of one run, cached or not."""

    def __init__(self, run: RunView, create_instance: CreateInstance) -> None:
        self._run = run
        self._create_instance = create_instance
        self._completed: list[CompletedTask] = []
        self._instance: WorkflowInstance | None = None
        # If any task followed a query, times in its commands differ from those on replay.
        self._has_followed_query = False
        # The number of completed tasks, and the fingerprint after them.
        self._fingerprint: tuple[int, bytes | None] | None = None

    def restore_from(self, base: WorkflowReplay, started: int) -> int:
        """Take over the tasks that another run completed before the task that this event started.

        Returns:
            Id of the event that started the last of these tasks; 0 if there are none.
        """
        self._completed = [task for task in base._completed if task.history_length < started]
        self._has_followed_query = any(task.follows_query for task in self._completed)
        return self._completed[-1].history_length if self._completed else 0

    def commands(self) -> list[WorkflowCommand]:
        """The commands of all completed tasks."""
        return [command for task in self._completed for command in task.commands()]

    @property
    def is_new(self) -> bool:
        """Whether no task has completed."""
        return not self._completed

    # -- activations ---------------------------------------------------------------------------------------

    @property
    def clock_would_lag(self) -> bool:
        """Whether the instance is not cached, and its clock would be behind the present after a replay."""
        return self._instance is None and bool(self._completed) and self._completed[-1].time < self._run.now

    def activate(self, jobs: list[WorkflowActivationJob], *, after_query: bool = False) -> CompletedTask:
        """Process a workflow task. The result takes effect with `commit`.

        Args:
            after_query: The instance is replayed for a query just before its worker takes the workflow task. Core then
                replays all events, including those of the task that has not started. It delivers these with the time
                of the previous task, and later takes the resulting commands for those of the new task. See
                docs/upstream/query-before-task.md.

        Raises:
            WorkflowTaskFailedError: The code, or a replay, failed.
        """
        task = CompletedTask(self._run.now, self._run.history_length, follows_query=after_query)
        delivered_as = CompletedTask(self._completed[-1].time, task.history_length) if after_query else task
        instance = self._cached_instance(task)
        while jobs:
            completion = self._activate(instance, jobs, delivered_as, is_replaying=False)
            commands = list(completion.successful.commands)
            task.flags += completion.successful.used_internal_flags
            task.activations.append(_Activation(jobs, commands))
            has_closed = any(closes_workflow(command) for command in commands)
            jobs = [] if has_closed else resolve_local_cancellations(self._run, task.commands(), commands)
        return task

    def fail_workflow(self, failure: Failure) -> CompletedTask:
        """A task whose only command fails the workflow."""
        command = WorkflowCommand(fail_workflow_execution=FailWorkflowExecution(failure=failure))
        return CompletedTask(self._run.now, self._run.history_length, activations=[_Activation([], [command])])

    def commit(self, task: CompletedTask, rejected: Collection[str]) -> None:
        """Add a task to those that are replayed, because the server has applied its commands.

        Args:
            rejected: Ids of rejected updates. They are in no history, and are not replayed.
        """
        for activation in task.activations:
            if rejected:
                activation.jobs = [
                    job for job in activation.jobs if job.do_update.id not in rejected or not job.HasField("do_update")
                ]
                activation.commands = [
                    command
                    for command in activation.commands
                    if command.update_response.protocol_instance_id not in rejected
                ]
            for job in activation.jobs:
                if job.HasField("do_update"):
                    job.do_update.run_validator = False
        patches = [
            WorkflowActivationJob(notify_has_patch=NotifyHasPatch(patch_id=command.set_patch_marker.patch_id))
            for command in task.commands()
            if command.HasField("set_patch_marker")
        ]
        if task.activations:
            task.activations[0].jobs[:0] = patches
            self._completed.append(task)
            self._has_followed_query |= task.follows_query

    def query(self, kind: str, arguments: Iterable[Payload], header: Mapping[str, Payload]) -> Payload:
        """Answer a query.

        Raises:
            WorkflowTaskFailedError: The query, or a replay for it, failed.
        """
        last = self._completed[-1] if self._completed else None
        task = CompletedTask(last.time if last else self._run.now, last.history_length if last else 0)
        job = QueryWorkflow(query_id="query", query_type=kind, arguments=arguments, headers=header)
        instance = self._cached_instance(task)
        completion = self._activate(instance, [WorkflowActivationJob(query_workflow=job)], task, is_replaying=False)
        answer = completion.successful.commands[0].respond_to_query
        if answer.HasField("failed"):
            raise WorkflowTaskFailedError(answer.failed)
        return answer.succeeded.response

    def _activate(
        self, instance: WorkflowInstance, jobs: list[WorkflowActivationJob], task: CompletedTask, *, is_replaying: bool
    ) -> WorkflowActivationCompletion:
        completion = activate(
            instance,
            WorkflowActivation(
                run_id=self._run.run_id,
                timestamp=to_timestamp(task.time),
                is_replaying=is_replaying,
                history_length=task.history_length,
                jobs=jobs,
                available_internal_flags=task.flags,
            ),
        )
        if completion.HasField("failed"):
            raise WorkflowTaskFailedError(completion.failed.failure)
        return completion

    # -- replay and eviction -------------------------------------------------------------------------------

    def _cached_instance(self, task: CompletedTask) -> WorkflowInstance:
        """The cached instance; replayed if there is none. `task` gives the start time if no task has completed."""
        if self._instance is None:
            self._instance = self._replayed_instance(self._completed[0] if self._completed else task)
        return self._instance

    def _replayed_instance(self, first: CompletedTask) -> WorkflowInstance:
        """A new instance that has replayed all completed tasks."""
        instance = self._create_instance(first.time)
        try:
            for task in self._completed:
                self._replay(instance, task)
        except WorkflowTaskFailedError:
            # That the instance cannot be evicted either is the lesser problem.
            with suppress(EvictionError):
                self._evict(instance)
            raise
        return instance

    def _replay(self, instance: WorkflowInstance, task: CompletedTask) -> None:
        for activation in task.activations:
            if not activation.jobs:
                continue
            completion = self._activate(instance, activation.jobs, task, is_replaying=True)
            commands = list(completion.successful.commands)
            difference = describe_difference(commands, activation.commands, in_kind_only=self._has_followed_query)
            if difference:
                message = f"[TMPRL1100] Nondeterminism: on replay the workflow emitted {difference}"
                raise WorkflowTaskFailedError(Failure(message=message), NONDETERMINISTIC)

    def evict(self) -> None:
        """Evict the instance from the cache.

        Raises:
            EvictionError: The code suppresses its cancellation.
        """
        if self._instance is not None:
            instance, self._instance = self._instance, None
            self._evict(instance)

    def _evict(self, instance: WorkflowInstance) -> None:
        activation = WorkflowActivation(
            run_id=self._run.run_id,
            timestamp=to_timestamp(self._run.now),
            jobs=[WorkflowActivationJob(remove_from_cache=RemoveFromCache(message="simulated"))],
        )
        try:
            activate(instance, activation)
        except RuntimeError as error:
            raise EvictionError(f"{self._run.workflow_id}: {error}") from error

    # -- state hashing -------------------------------------------------------------------------------------

    def digest(self, *, has_running_task: bool) -> bytes | None:
        """The fingerprint of the code after its last completed task; None if its state cannot be inspected.

        Args:
            has_running_task: Whether the cached instance has already processed a later task.
        """
        if self._fingerprint is None or self._fingerprint[0] != len(self._completed):
            self._fingerprint = len(self._completed), self._compute_digest(has_running_task=has_running_task)
        return self._fingerprint[1]

    def _compute_digest(self, *, has_running_task: bool) -> bytes | None:
        if not self._completed:
            return b"nothing yet"
        try:
            if not has_running_task:
                return _fingerprint(self._cached_instance(self._completed[0]))
            instance = self._replayed_instance(self._completed[0])
        except WorkflowTaskFailedError:
            return None
        try:
            return _fingerprint(instance)
        finally:
            self._evict(instance)


def _fingerprint(instance: WorkflowInstance) -> bytes | None:
    return instance.fingerprint() if isinstance(instance, MemoizedInstance) else fingerprint(instance)
