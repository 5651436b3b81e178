"""The workflow tasks of one run: what it has not been told yet, what a worker is busy with, and how that ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType, UpdateAdmittedEventOrigin, WorkflowTaskFailedCause
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.query.v1 import WorkflowQuery
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.update.v1 import Outcome, Request
from temporalio.bridge.proto.workflow_activation import UpdateRandomSeed, WorkflowActivationJob
from temporalio.bridge.proto.workflow_commands import WorkflowCommand

from temporal_simulator.event_queue import SECOND, Event
from temporal_simulator.protocol.command_kinds import is_last
from temporal_simulator.protocol.events import IDENTITY, application, event, link, moment
from temporal_simulator.server.commands import carry_out
from temporal_simulator.server.updates import Update, told_again, updates_in
from temporal_simulator.worker.replay import NONDETERMINISTIC, CompletedTask, WorkflowReplay, WorkflowTaskFailedError
from temporal_simulator.worker.workflow_info import seed_of

if TYPE_CHECKING:
    from temporal_simulator.server.execution import Execution
    from temporal_simulator.worker.worker import Worker

# How long a failing workflow task waits for its next try; twice as long each time.
_TRIES_AGAIN_AFTER = SECOND
_LONGEST_PAUSE = 600 * SECOND
MOST_FAILURES = 2_000
"""So many times in a row a workflow task may fail: about two weeks. A server tries for ever, and so would a test."""
# Ways of the SDK's core that temporalio 1.35 takes; with the second one it indexes patches.
_CORE_FLAGS: tuple[int, ...] = (1, 2, 3, 4)
_TOO_LATE = application("the workflow ended before the update did", "AcceptedUpdateCompletedWorkflow")


class EndlessTaskFailureError(AssertionError):
    """A workflow task failed so often in a row that nobody is expected to mend it."""


@dataclass(eq=False)
class _Arrival:
    """What has happened: the events, of which the last refers to the first, and how the code learns of it."""

    events: tuple[HistoryEvent, ...]
    job: WorkflowActivationJob | None


@dataclass(eq=False)
class _Task:
    """A workflow task that a worker is busy with."""

    worker: Worker
    scheduled: int
    started: int
    jobs: list[WorkflowActivationJob]
    updates: list[Update]
    is_queried_first: bool = False
    past: CompletedTask | None = None
    failure: WorkflowTaskFailedError | None = None


def _told(jobs: Iterable[WorkflowActivationJob]) -> tuple[bytes, ...]:
    told = []
    for job in jobs:
        known = WorkflowActivationJob()
        known.CopyFrom(job)
        if job.HasField("signal_workflow"):
            # The number of its event the code does not see.
            known.signal_workflow.originating_event_id = 0
        told.append(known.SerializeToString(deterministic=True))
    return tuple(told)


def _attribute_refused(run: Execution, commands: Iterable[WorkflowCommand]) -> str:
    """Which search attribute the server does not know, in its words; "" if none."""
    for command in commands:
        for wanted in (command.upsert_workflow_search_attributes, command.start_child_workflow_execution):
            if bad := run.simulation.search_attribute_error(wanted.search_attributes):
                return bad
    return ""


def _ids(updates: Iterable[Update]) -> tuple[str, ...]:
    return tuple(update.id for update in updates)


class Tasks:
    """Tells the code of a workflow what happened, and carries out what it wants.

    Attributes:
        code: The code.
        is_failing: Its last task failed.
    """

    def __init__(self, execution: Execution, code: WorkflowReplay) -> None:
        self._execution = execution
        self.code = code
        self.is_failing = False
        self._jobs: list[WorkflowActivationJob] = []
        # All that the code was or is to be told, by the numbers of the events.
        self._arrived: list[tuple[int, WorkflowActivationJob]] = []
        self._asked: list[Update] = []
        self._buffered: list[_Arrival] = []
        self._updates: dict[str, Update] = {}
        self._wanted: Event | None = None
        self._ends: Event | None = None
        self._task: _Task | None = None
        self._scheduled = 0
        # Written with the first task that completes.
        self._core_flags = _CORE_FLAGS
        self._attempt = 1
        self._failing_since = 0
        self._is_resting = False

    # -- what there is to tell -----------------------------------------------------------------------------

    def begin(self, job: WorkflowActivationJob) -> None:
        """The first thing there is to tell."""
        self._tell(1, job)
        self._want()

    def _tell(self, number: int, job: WorkflowActivationJob) -> None:
        self._arrived.append((number, job))
        self._jobs.append(job)

    def arrive(self, *new: HistoryEvent, job: WorkflowActivationJob | None) -> None:
        """Events, and how the code learns of them; None: it knows already, but the server wants it told all the same.

        While a worker is busy they wait.
        """
        self._arrive(_Arrival(new, job))

    def _arrive(self, arrival: _Arrival) -> None:
        if self._task is not None:
            self._buffered.append(arrival)
            return
        number = 0
        for new in arrival.events:
            if number:
                link(new, started=number)
            number = self._execution.record(new)
        if arrival.job is not None:
            if arrival.job.HasField("signal_workflow"):
                arrival.job.signal_workflow.originating_event_id = number
            self._tell(number, arrival.job)
        self._want()

    def take_back(self, is_it: Callable[[WorkflowActivationJob], bool]) -> None:
        """What arrived while the worker was busy need not be told any more: it never happened."""
        self._buffered = [each for each in self._buffered if each.job is None or not is_it(each.job)]

    def leave_untold(self, is_it: Callable[[WorkflowActivationJob], bool]) -> None:
        """What arrived while the worker was busy has happened, but the code does not wait for it any more."""
        for each in self._buffered:
            if each.job is not None and is_it(each.job):
                each.job = None

    def ask(self, request: Request) -> Update:
        """Ask for an update; with an id that is known already: that one."""
        for update in self._every_update():
            if update.id == request.meta.update_id:
                return update
        update = Update(request, asyncio.get_running_loop().create_future())
        self._asked.append(update)
        self._want()
        return update

    def admit(self, request: Request) -> None:
        """Ask for an update again, by a reset: other than the first time, its request is an event of its own."""
        origin = UpdateAdmittedEventOrigin.UPDATE_ADMITTED_EVENT_ORIGIN_REAPPLY
        kind = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED
        number = self._execution.record(event(kind, request=request, origin=origin))
        update = Update(request, asyncio.get_running_loop().create_future(), admitted=number)
        self._asked.append(update)
        # Unlike other updates it has its place among what happened.
        self._tell(number, update.job())
        self._want()

    def find(self, update_id: str) -> Update | None:
        """The update of this id, unless it was rejected."""
        return next((update for update in self._every_update() if update.id == update_id), None)

    def _every_update(self) -> Iterator[Update]:
        yield from self._asked
        yield from self._task.updates if self._task else ()
        yield from self._updates.values()

    @property
    def is_thinking(self) -> bool:
        """Whether the code was told something, and what it wants is not done yet."""
        return self._task is not None

    @property
    def has_told_all(self) -> bool:
        """Whether the code knows, or is going to learn with the next task, of everything that has ended."""
        return self._task is None and not self._buffered

    def digest(self) -> Hashable:
        """What the code has not been told yet, or has only just been."""
        task = self._task
        now = (_told(task.jobs), _ids(task.updates), task.past and task.past.time) if task is not None else None
        buffered = tuple(_told([each.job]) if each.job else len(each.events) for each in self._buffered)
        unanswered = tuple(sorted(_ids(each for each in self._every_update() if not each.outcome.done())))
        next_one = self._wanted is not None, self._attempt, self._is_resting
        return now, _told(self._jobs), buffered, _ids(self._asked), unanswered, next_one

    # -- after a reset -------------------------------------------------------------------------------------

    @property
    def has_buffered(self) -> bool:
        """Whether something came while a worker was busy."""
        return bool(self._buffered)

    def go_on_from(self, base: Tasks, started: int) -> None:
        """Know what another run's code was told before the task that this event began; be told the rest up to there.

        No task is wanted before `go_on`. The history must be there already.
        """
        self._is_resting = True
        run, known = self._execution, self.code.go_on_from(base.code, started)
        self._arrived = [each for each in base._arrived if each[0] < started]
        self._jobs = [told_again(job) for number, job in self._arrived if number > known]
        # From here on its chance is its own.
        self._tell(
            started + 1, WorkflowActivationJob(update_random_seed=UpdateRandomSeed(randomness_seed=seed_of(run.run_id)))
        )
        self._core_flags = () if known else _CORE_FLAGS
        asked = updates_in(run.history)
        self._updates = {update.id: update for update in asked if update.accepted}
        self._asked = [update for update in asked if not update.accepted]

    def go_on(self) -> None:
        """Begin the first task after a reset."""
        self._is_resting = False
        self._want()

    # -- a task begins and ends ----------------------------------------------------------------------------

    @property
    def is_behind(self) -> bool:
        """Whether there is something that the code has not been told, or that it wants and is not done yet."""
        return self._wanted is not None or self._task is not None

    def _want(self) -> None:
        run = self._execution
        if not run.is_open or self._wanted is not None or self._task is not None or self._is_resting:
            return
        self._scheduled = run.record(
            event(
                EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
                task_queue=TaskQueue(name=run.start.task_queue),
                attempt=self._attempt,
            )
        )
        self._wanted = run.soon("workflow task", self._start, queue=run.start.task_queue)

    def _start(self) -> None:
        run, self._wanted = self._execution, None
        started = run.record(
            event(EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED, scheduled_event_id=self._scheduled, identity=IDENTITY)
        )
        worker = run.simulation.workers[run.start.task_queue]
        is_queried_first = self.may_follow_query and run.simulation.scheduler.queries_before_task()
        task = self._task = _Task(worker, self._scheduled, started, self._jobs, self._asked, is_queried_first)
        self._jobs, self._asked = [], []
        try:
            task.past = self._thought_of_early(task) or self.code.think(
                [*task.jobs, *(update.job() for update in task.updates if not update.admitted)]
            )
        except WorkflowTaskFailedError as failure:
            if failure.cause == NONDETERMINISTIC and worker.lets_nondeterminism_fail(run.start.workflow_type):
                task.past = self.code.give_up(application(str(failure), "NondeterminismError"))
            task.failure = failure
        if run.simulation.interleaves_tasks:
            self._ends = run.soon("workflow task ends", lambda: self._end(task), queue=run.start.task_queue)
        else:
            self._end(task)

    @property
    def may_follow_query(self) -> bool:
        """Whether a query may be answered from a replay before the next task; see `Scheduler.queries_before_task`.

        Not simulated together with updates: they are in no history, and come with the task itself.
        """
        return self.code.may_fall_behind and bool(self._jobs) and not (self._asked or self.is_failing)

    def query(self, query: WorkflowQuery) -> Payload:
        """What the code answers.

        Of a workflow that somebody ended over its head also the events are replayed that no task has told it, as a
        worker does. What it wants then is not done.

        Raises:
            WorkflowTaskFailedError: It can't.
        """
        if not self._execution.is_open and self._jobs:
            self.code.evict()
            self.code.think(list(self._jobs), after_a_query=not self.code.is_new)
        return self.code.query(query.query_type, query.query_args.payloads, query.header.fields)

    def _thought_of_early(self, task: _Task) -> CompletedTask | None:
        """What it wants, if a query was answered from a replay just before this task; None if none was."""
        if not task.is_queried_first:
            return None
        try:
            return self.code.think(task.jobs, after_a_query=True)
        except WorkflowTaskFailedError:
            # The query fails, and the task comes to an instance that is replayed anew.
            self.code.evict()
            return None

    def _end(self, task: _Task) -> None:
        run = self._execution
        if self._task is not task or run.simulation.workers[run.start.task_queue] is not task.worker:
            # The worker crashed meanwhile, or somebody ended the workflow.
            return
        if task.past is None:
            assert task.failure is not None  # noqa: S101 (one or the other)
            self._fail(task, task.failure.cause, task.failure.failure)
            return
        commands = task.past.commands()
        if (self._buffered or self._asked) and any(is_last(command) for command in commands):
            cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND
            self._fail(task, cause, Failure(message="UnhandledCommand"))
            return
        if bad := _attribute_refused(run, commands):
            cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_SEARCH_ATTRIBUTES
            self._fail(task, cause, Failure(message=f"BadSearchAttributes: {bad}"))
            return
        self._task, self._attempt, self.is_failing = None, 1, False
        if self._leaves_no_trace(task, commands):
            self._execution.unrecord(task.scheduled)
            for update, command in zip(task.updates, commands, strict=True):
                update.outcome.set_result(Outcome(failure=command.update_response.rejected))
        else:
            self._complete(task, task.past, commands)
        self._go_on()

    def _leaves_no_trace(self, task: _Task, commands: list[WorkflowCommand]) -> bool:
        """Whether it only refused updates, and nothing else has been written since it was wanted."""
        return (
            bool(task.updates)
            and not task.jobs
            and len(commands) == len(task.updates)
            and all(command.update_response.HasField("rejected") for command in commands)
            and not any(update.admitted for update in task.updates)
            and len(self._execution.history) == task.started == task.scheduled + 1
        )

    def _complete(self, task: _Task, past: CompletedTask, commands: list[WorkflowCommand]) -> None:
        self._updates.update({update.id: update for update in task.updates})
        number = self._execution.record(
            event(
                EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
                scheduled_event_id=task.scheduled,
                started_event_id=task.started,
                identity=IDENTITY,
                sdk_metadata={"lang_used_flags": past.flags, "core_used_flags": self._core_flags},
            )
        )
        self._core_flags = ()
        refused = carry_out(self._execution, self._updates, commands, number)
        for update_id in refused:
            del self._updates[update_id]
        self.code.remember(past, refused)
        if not self._execution.is_open:
            # A worker would keep it for a while. Put out of memory, whoever asks it shows that it can come back.
            self.code.evict()

    # -- a task fails --------------------------------------------------------------------------------------

    def _fail(self, task: _Task, cause: WorkflowTaskFailedCause.ValueType, failure: Failure) -> None:
        run = self._execution
        is_harmless = cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND
        # Of several in a row only the first is written, unless something else was in between.
        is_latest = len(run.history) == task.started == task.scheduled + 1
        if self._attempt > 1 and is_latest:
            run.unrecord(task.scheduled)
        else:
            run.record(
                event(
                    EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED,
                    scheduled_event_id=task.scheduled,
                    started_event_id=task.started,
                    cause=cause,
                    failure=failure,
                    identity=IDENTITY,
                )
            )
        self._undo(task)
        if not is_harmless:
            self.is_failing = self._is_resting = True
            pause = min(_TRIES_AGAIN_AFTER << min(self._attempt - 1, 20), _LONGEST_PAUSE)
            if self._attempt == MOST_FAILURES:
                which = f"{run.start.workflow_type} {run.workflow_id} (run {run.run_id})"
                often = f"failed {self._attempt} times in a row, since {moment(self._failing_since)}"
                raise EndlessTaskFailureError(f"The workflow task of {which} {often}: {failure.message}")
            self._failing_since = self._failing_since if self._attempt > 1 else run.now
            self._attempt += 1
            run.later(run.now + pause, "workflow task again", self._try_again)
        self._go_on()

    def _try_again(self) -> None:
        self._is_resting = False
        self._want()

    def _undo(self, task: _Task) -> None:
        """What it was told, it has to be told again; what it thought of it is forgotten."""
        self.code.evict()
        self._jobs = [*task.jobs, *self._jobs]
        self._asked = [*task.updates, *self._asked]
        self._task = None

    def _go_on(self) -> None:
        buffered, self._buffered = self._buffered, []
        for arrival in buffered:
            self._arrive(arrival)
        if buffered:
            self._execution.forget_ended()
        if self._jobs or self._asked:
            self._want()

    def crash(self) -> None:
        """The worker is gone, and with it what it was about to say."""
        self.code.evict()
        run, task = self._execution, self._task
        if self._ends is not None:
            run.simulation.event_queue.cancel(self._ends)
        if task is not None and run.is_open:
            run.later(run.now + run.start.task_timeout, "workflow task times out", lambda: self._lose(task))

    def _lose(self, task: _Task) -> None:
        if self._task is not task:
            return
        self._execution.record(
            event(
                EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
                scheduled_event_id=task.scheduled,
                started_event_id=task.started,
            )
        )
        self._undo(task)
        self._go_on()

    def end(self) -> None:
        """The workflow has ended: there are no more tasks, and no answers to updates."""
        if self._wanted is not None:
            self._execution.simulation.event_queue.cancel(self._wanted)
        if self._task is not None:
            # What the code made of that task is in no history; what it was told is.
            self.code.evict()
            self._jobs = [*self._task.jobs, *self._jobs]
        for update in self._every_update():
            if not update.outcome.done():
                update.outcome.set_result(Outcome(failure=_TOO_LATE) if update.accepted else None)
        self._wanted, self._task, self._asked, self._buffered = None, None, [], []
