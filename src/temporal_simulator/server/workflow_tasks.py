"""The workflow tasks of one run: scheduled, started, completed, failed, timed out, and lost in a worker crash."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.query.v1 import WorkflowQuery
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.update.v1 import Outcome, Request
from temporalio.bridge.proto.workflow_activation import UpdateRandomSeed, WorkflowActivationJob
from temporalio.bridge.proto.workflow_commands import WorkflowCommand

from temporal_simulator.event_queue import SECOND, Event
from temporal_simulator.protocol.command_kinds import closes_workflow
from temporal_simulator.protocol.events import IDENTITY, application_failure, new_event, to_datetime
from temporal_simulator.server.commands import apply_commands
from temporal_simulator.server.interfaces import WorkerView
from temporal_simulator.server.task_input import Delivery, TaskInput, ids_of, serialized
from temporal_simulator.server.updates import Update
from temporal_simulator.worker.replay import NONDETERMINISTIC, CompletedTask, WorkflowReplay, WorkflowTaskFailedError
from temporal_simulator.worker.workflow_info import randomness_seed

if TYPE_CHECKING:
    from temporal_simulator.server.execution import Execution

# Between a failed workflow task and its retry; doubled each time.
_INITIAL_BACKOFF = SECOND
_MAX_BACKOFF = 600 * SECOND
MAX_CONSECUTIVE_FAILURES = 2_000
"""About two weeks of retries. A server retries without limit; a test would not end."""
# The flags of the SDK's core that temporalio 1.35 sets. The second one makes it index patches.
_CORE_FLAGS: tuple[int, ...] = (1, 2, 3, 4)
_CLOSED_BEFORE_UPDATE = application_failure(
    "the workflow ended before the update did", "AcceptedUpdateCompletedWorkflow"
)


class EndlessTaskFailureError(AssertionError):
    """A workflow task failed `MAX_CONSECUTIVE_FAILURES` times in a row. The message names the workflow and failure."""


@dataclass(eq=False)
class _RunningTask:
    """A workflow task that a worker is processing.

    Attributes:
        scheduled, started: Event ids.
        completed: What the workflow code did; None if that failed.
    """

    worker: WorkerView
    scheduled: int
    started: int
    jobs: list[WorkflowActivationJob]
    updates: list[Update]
    follows_query: bool = False
    completed: CompletedTask | None = None
    failure: WorkflowTaskFailedError | None = None


def _search_attribute_error(run: Execution, commands: Iterable[WorkflowCommand]) -> str:
    """The server's message if a command sets a search attribute that is not registered; else ""."""
    for command in commands:
        for kind in (command.upsert_workflow_search_attributes, command.start_child_workflow_execution):
            if error := run.simulation.search_attribute_error(kind.search_attributes):
                return error
    return ""


class WorkflowTasks:
    """The workflow tasks of one run.

    Attributes:
        replay: The workflow code.
        is_failing: Whether the last task failed.
    """

    def __init__(self, run: Execution, replay: WorkflowReplay) -> None:
        self._run = run
        self.replay = replay
        self.is_failing = False
        self._input = TaskInput(run)
        self._task_event: Event | None = None
        self._completion_event: Event | None = None
        self._task: _RunningTask | None = None
        self._scheduled = 0
        # Written with the first task that completes.
        self._core_flags = _CORE_FLAGS
        self._attempt = 1
        self._failing_since = 0
        # No task is scheduled during a backoff, nor while a reset is under way.
        self._is_paused = False

    # -- input ---------------------------------------------------------------------------------------------

    def begin(self, job: WorkflowActivationJob) -> None:
        """Schedule the first task of a run, which delivers this job."""
        self._input.add(1, job)
        self._schedule()

    def deliver(self, *new: HistoryEvent, job: WorkflowActivationJob | None) -> None:
        """Write events, and deliver their job with the next task. Both are buffered while a task is running.

        Args:
            job: None if the workflow knows already; a task is scheduled all the same, as on servers.
        """
        self._deliver(Delivery(new, job))

    def _deliver(self, delivery: Delivery) -> None:
        if self._task is not None:
            self._input.buffered.append(delivery)
        else:
            self._input.write(delivery)
            self._schedule()

    def discard_buffered(self, matches: Callable[[WorkflowActivationJob], bool]) -> None:
        """See `TaskInput.discard_buffered`."""
        self._input.discard_buffered(matches)

    def resolve_buffered(self, matches: Callable[[WorkflowActivationJob], bool]) -> None:
        """See `TaskInput.resolve_buffered`."""
        self._input.resolve_buffered(matches)

    def request_update(self, request: Request) -> Update:
        """Request an update; if its id is known already, return that one."""
        if (known := self.find(request.meta.update_id)) is not None:
            return known
        update = self._input.add_update(request)
        self._schedule()
        return update

    def admit_update(self, request: Request) -> None:
        """See `TaskInput.admit_update`."""
        self._input.admit_update(request)
        self._schedule()

    def find(self, update_id: str) -> Update | None:
        """The update with this id, unless it was rejected."""
        return next(
            (update for update in self._input.all_updates(self._running_updates) if update.id == update_id), None
        )

    @property
    def _running_updates(self) -> list[Update]:
        return self._task.updates if self._task else []

    # -- state ---------------------------------------------------------------------------------------------

    @property
    def has_running_task(self) -> bool:
        """Whether a worker is processing a task."""
        return self._task is not None

    @property
    def has_open_task(self) -> bool:
        """Whether a task is scheduled or running."""
        return self._task_event is not None or self._task is not None

    @property
    def has_delivered_all(self) -> bool:
        """Whether workflow code knows of everything that has ended, or will know with the next task."""
        return self._task is None and not self._input.buffered

    @property
    def has_buffered(self) -> bool:
        """Whether something arrived while a task was running."""
        return bool(self._input.buffered)

    def digest(self) -> Hashable:
        """What workflow code has not processed yet, or is processing."""
        task = self._task
        running = (
            (serialized(task.jobs), ids_of(task.updates), task.completed and task.completed.time)
            if task is not None
            else None
        )
        next_task = self._task_event is not None, self._attempt, self._is_paused
        return running, self._input.digest(self._running_updates), next_task

    # -- reset ---------------------------------------------------------------------------------------------

    def restore_from(self, base: WorkflowTasks, started: int) -> None:
        """Take over the state that another run had before the task that this event started.

        The history must have been copied already. No task is scheduled before `resume`.
        """
        self._is_paused = True
        replayed_to = self.replay.restore_from(base.replay, started)
        self._input.restore_from(base._input, started, replayed_to)
        # From here on the run has random numbers of its own.
        seed = randomness_seed(self._run.run_id)
        self._input.add(started + 1, WorkflowActivationJob(update_random_seed=UpdateRandomSeed(randomness_seed=seed)))
        self._core_flags = () if replayed_to else _CORE_FLAGS

    def resume(self) -> None:
        """Schedule the next task, after a reset or a backoff."""
        self._is_paused = False
        self._schedule()

    # -- from schedule to completion -----------------------------------------------------------------------

    def _schedule(self) -> None:
        run = self._run
        if not run.is_open or self.has_open_task or self._is_paused:
            return
        self._scheduled = run.record(
            new_event(
                EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
                task_queue=TaskQueue(name=run.start.task_queue),
                attempt=self._attempt,
            )
        )
        self._task_event = run.enable("workflow task", self._start, task_queue=run.start.task_queue)

    def _start(self) -> None:
        run, self._task_event = self._run, None
        started = run.record(
            new_event(EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED, scheduled_event_id=self._scheduled, identity=IDENTITY)
        )
        worker = run.simulation.workers[run.start.task_queue]
        follows_query = self.may_follow_query and run.simulation.scheduler.queries_before_task()
        task = self._task = _RunningTask(worker, self._scheduled, started, *self._input.take(), follows_query)
        try:
            task.completed = self._activate_after_query(task) or self.replay.activate(
                [*task.jobs, *(update.job() for update in task.updates if not update.admitted)]
            )
        except WorkflowTaskFailedError as failure:
            if failure.cause == NONDETERMINISTIC and worker.fails_workflow_on_nondeterminism(run.start.workflow_type):
                task.completed = self.replay.fail_workflow(application_failure(str(failure), "NondeterminismError"))
            task.failure = failure
        if run.simulation.interleaves_tasks:
            self._completion_event = run.enable(
                "workflow task ends", lambda: self._end(task), task_queue=run.start.task_queue
            )
        else:
            self._end(task)

    @property
    def may_follow_query(self) -> bool:
        """Whether a query may be answered from a replay before the next task; see `Scheduler.queries_before_task`.

        Not simulated together with updates, which are in no history and come with the task itself.
        """
        return self.replay.clock_would_lag and bool(self._input.jobs) and not (self._input.updates or self.is_failing)

    def _activate_after_query(self, task: _RunningTask) -> CompletedTask | None:
        """Activate an instance that was replayed for a query just before this task; None if there was no query."""
        if not task.follows_query:
            return None
        try:
            return self.replay.activate(task.jobs, after_query=True)
        except WorkflowTaskFailedError:
            # Only the query fails. The task comes to an instance that is replayed once more.
            self.replay.evict()
            return None

    def query(self, query: WorkflowQuery) -> Payload:
        """Answer a query.

        If the run was closed from outside, such as by termination, the events are replayed that no task has
        delivered, as in a real worker. The resulting commands have no effect.

        Raises:
            WorkflowTaskFailedError: The query, or a replay for it, failed.
        """
        if not self._run.is_open and self._input.jobs:
            self.replay.evict()
            self.replay.activate(list(self._input.jobs), after_query=not self.replay.is_new)
        return self.replay.query(query.query_type, query.query_args.payloads, query.header.fields)

    def _end(self, task: _RunningTask) -> None:
        run = self._run
        if self._task is not task or run.simulation.workers[run.start.task_queue] is not task.worker:
            # Meanwhile the worker crashed, or the run was closed from outside.
            return
        if task.completed is None:
            assert task.failure is not None  # set whenever the code did not complete
            self._fail(task, task.failure.cause, task.failure.failure)
            return
        commands = task.completed.commands()
        if (self._input.buffered or self._input.updates) and any(closes_workflow(command) for command in commands):
            cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND
            self._fail(task, cause, Failure(message="UnhandledCommand"))
            return
        if error := _search_attribute_error(run, commands):
            cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_SEARCH_ATTRIBUTES
            self._fail(task, cause, Failure(message=f"BadSearchAttributes: {error}"))
            return
        self._task, self._attempt, self.is_failing = None, 1, False
        if self._is_speculative(task, commands):
            run.discard_from(task.scheduled)
            for update, command in zip(task.updates, commands, strict=True):
                update.outcome.set_result(Outcome(failure=command.update_response.rejected))
        else:
            self._complete(task, task.completed, commands)
        self._flush_buffered()

    def _is_speculative(self, task: _RunningTask, commands: list[WorkflowCommand]) -> bool:
        """Whether the task leaves no events: it only rejected updates, and nothing else was written meanwhile.

        Temporal calls such a task speculative.
        """
        return (
            bool(task.updates)
            and not task.jobs
            and len(commands) == len(task.updates)
            and all(command.update_response.HasField("rejected") for command in commands)
            and not any(update.admitted for update in task.updates)
            and self._is_last_written(task)
        )

    def _is_last_written(self, task: _RunningTask) -> bool:
        """Whether the history ends with the two events of this task, one after the other."""
        return self._run.history_length == task.started == task.scheduled + 1

    def _complete(self, task: _RunningTask, completed: CompletedTask, commands: list[WorkflowCommand]) -> None:
        run, updates = self._run, self._input.known_updates
        updates.update({update.id: update for update in task.updates})
        event_id = run.record(
            new_event(
                EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
                scheduled_event_id=task.scheduled,
                started_event_id=task.started,
                identity=IDENTITY,
                sdk_metadata={"lang_used_flags": completed.flags, "core_used_flags": self._core_flags},
            )
        )
        self._core_flags = ()
        rejected = apply_commands(run, updates, commands, event_id)
        for update_id in rejected:
            del updates[update_id]
        self.replay.commit(completed, rejected)
        if not run.is_open:
            # A real worker would cache it for a while. Evicted, its next query shows that it can be replayed.
            self.replay.evict()

    def _flush_buffered(self) -> None:
        buffered = self._input.take_buffered()
        for delivery in buffered:
            self._deliver(delivery)
        if buffered:
            self._run.prune_closed()
        if self._input:
            self._schedule()

    # -- failures ------------------------------------------------------------------------------------------

    def _fail(self, task: _RunningTask, cause: WorkflowTaskFailedCause.ValueType, failure: Failure) -> None:
        run = self._run
        is_unhandled = cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND
        # Of consecutive failures only the first is written, unless other events came in between.
        if self._attempt > 1 and self._is_last_written(task):
            run.discard_from(task.scheduled)
        else:
            run.record(
                new_event(
                    EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED,
                    scheduled_event_id=task.scheduled,
                    started_event_id=task.started,
                    cause=cause,
                    failure=failure,
                    identity=IDENTITY,
                )
            )
        self._undo(task)
        if not is_unhandled:
            self._back_off(failure)
        self._flush_buffered()

    def _back_off(self, failure: Failure) -> None:
        run = self._run
        self.is_failing = self._is_paused = True
        backoff = min(_INITIAL_BACKOFF << min(self._attempt - 1, 20), _MAX_BACKOFF)
        if self._attempt == MAX_CONSECUTIVE_FAILURES:
            which = f"{run.start.workflow_type} {run.workflow_id} (run {run.run_id})"
            often = f"failed {self._attempt} times in a row, since {to_datetime(self._failing_since)}"
            raise EndlessTaskFailureError(f"The workflow task of {which} {often}: {failure.message}")
        self._failing_since = self._failing_since if self._attempt > 1 else run.now
        self._attempt += 1
        run.schedule(run.now + backoff, "workflow task retry", self.resume)

    def _undo(self, task: _RunningTask) -> None:
        """Return the input of a task, and forget what the code did with it."""
        self.replay.evict()
        self._input.put_back(task.jobs, task.updates)
        self._task = None

    def crash(self) -> None:
        """The worker crashed: its instance is gone, and a running task times out."""
        self.replay.evict()
        run, task = self._run, self._task
        if self._completion_event is not None:
            run.simulation.event_queue.cancel(self._completion_event)
        if task is not None and run.is_open:
            run.schedule(run.now + run.start.task_timeout, "workflow task times out", lambda: self._time_out(task))

    def _time_out(self, task: _RunningTask) -> None:
        if self._task is not task:
            return
        self._run.record(
            new_event(
                EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
                scheduled_event_id=task.scheduled,
                started_event_id=task.started,
            )
        )
        self._undo(task)
        self._flush_buffered()

    def close(self) -> None:
        """The run has closed: there are no more tasks, and open updates get no answer."""
        if self._task_event is not None:
            self._run.simulation.event_queue.cancel(self._task_event)
        if self._task is not None:
            # The commands of that task are in no history; its jobs are.
            self.replay.evict()
            self._input.put_back(self._task.jobs)
        for update in self._input.all_updates(self._running_updates):
            if not update.outcome.done():
                update.outcome.set_result(Outcome(failure=_CLOSED_BEFORE_UPDATE) if update.accepted else None)
        self._input.updates, self._input.buffered = [], []
        self._task_event, self._task = None, None
