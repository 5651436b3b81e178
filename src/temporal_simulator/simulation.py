"""The simulation: workflow runs, workers and virtual time in one process."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from temporalio.api.common.v1 import SearchAttributes
from temporalio.api.enums.v1 import WorkflowExecutionStatus, WorkflowIdReusePolicy
from temporalio.worker import WorkflowInstance

from temporal_simulator.event_queue import SECOND, Event, EventQueue
from temporal_simulator.protocol.events import NAMESPACE, application_failure, to_datetime
from temporal_simulator.protocol.interfaces import AttemptResult, RunView
from temporal_simulator.protocol.start import Start
from temporal_simulator.scheduler import FifoScheduler, Scheduler
from temporal_simulator.server.commands import NotSimulated
from temporal_simulator.server.execution import Execution
from temporal_simulator.server.workflow_tasks import EndlessTaskFailureError
from temporal_simulator.virtual_time_loop import VirtualTimeLoop
from temporal_simulator.worker.fingerprint import hash_state
from temporal_simulator.worker.replay import WorkflowTaskFailedError
from temporal_simulator.worker.worker import Worker

START_TIME = datetime(2026, 1, 1, tzinfo=UTC)
"""The virtual time at which a simulation starts by default."""

# Turns of the event loop after which an activity that has not finished counts as waiting.
_ACTIVITY_TURNS = 8
# Virtual time between two requests of a client, in nanoseconds.
_REQUEST_INTERVAL = 1_000_000
# Search attributes that every server has.
_BUILT_IN_ATTRIBUTES = frozenset({"TemporalChangeVersion", "BuildIds", "BatcherUser"})
# Seconds of the event loop until events that were left for later are processed.
_RESUME_DELAY = 0.001
_MAX_EVENTS_WITHOUT_TIME = 1_000_000


class LivelockError(AssertionError):
    """A million events were processed without virtual time passing."""


class Simulation:
    """A Temporal server and its workers.

    Virtual time moves only in `advance`, from one scheduled event to the next. `run` processes all events that are
    enabled without time passing. If more than one event is enabled, the scheduler chooses.

    Args:
        scheduler: `FifoScheduler` by default.
        start_time: The initial virtual time.
        search_attributes: Names of those that workflows may set; others are rejected, as by servers.
        manual: Process no event by itself, not even when an activity finishes. The caller passes events from
            `enabled_events` to `process`.

    Attributes:
        event_queue: The virtual clock, and the events.
        workers: By task queue.
        event_count: The number of history events written so far, over all runs.
        error: What ended the simulation; None while it can go on. It was raised once, where it may have been caught.

    Example:
        simulation = Simulation(scheduler=RandomScheduler(seed))
        simulation.start_worker("queue", Worker([Greeting], [greet]))
        handle = await connect(simulation).start_workflow(Greeting.run, "Ann", id="greet-ann", task_queue="queue")
        simulation.crash_worker("queue")
        simulation.start_worker("queue", Worker([Greeting], [greet]))
        await simulation.advance(timedelta(days=5))
    """

    def __init__(
        self,
        *,
        scheduler: Scheduler | None = None,
        start_time: datetime = START_TIME,
        search_attributes: tuple[str, ...] = (),
        manual: bool = False,
    ) -> None:
        self._start_time = int(start_time.timestamp() * 1_000_000_000)
        self.event_queue = EventQueue(self._start_time)
        self.workers: dict[str, Worker] = {}
        self.search_attributes = frozenset(search_attributes)
        self._registered_attributes = self.search_attributes | _BUILT_IN_ATTRIBUTES
        self.scheduler: Scheduler = scheduler or FifoScheduler()
        self._runs: dict[str, Execution] = {}
        self._runs_by_workflow_id: dict[str, list[Execution]] = {}
        self.event_count = 0
        self._manual = manual
        self._lock = asyncio.Lock()
        self._background_run: asyncio.Future[None] | None = None
        self.error: Exception | None = None
        self._unreported: EndlessTaskFailureError | None = None

    @property
    def interleaves_tasks(self) -> bool:
        """See `Scheduler.interleaves_tasks`."""
        return self.scheduler.interleaves_tasks

    @property
    def now(self) -> datetime:
        """The virtual time, in UTC."""
        return to_datetime(self.event_queue.now)

    # -- workers -------------------------------------------------------------------------------------------

    def start_worker(self, task_queue: str, worker: Worker) -> None:
        """Start a worker on a task queue."""
        self.workers[task_queue] = worker

    def crash_worker(self, task_queue: str) -> None:
        """Remove a worker and all that it has in memory. Workflows are replayed later; activities time out.

        Raises:
            EvictionError: Workflow code suppresses its eviction.
        """
        self.workers.pop(task_queue).crash()
        for run in self._runs.values():
            if run.start.task_queue == task_queue:
                run.tasks.crash()
            for activity in run.activities.values():
                if activity.command.task_queue == task_queue:
                    activity.lose_attempt()

    def evict(self, task_queue: str) -> None:
        """Evict every workflow of a task queue from its worker's cache, so that each is replayed."""
        for run in self._runs.values():
            if run.start.task_queue == task_queue:
                run.tasks.replay.evict()

    def create_instance(self, run: RunView, first_task_at: int) -> WorkflowInstance:
        """Create a workflow instance on the worker of the run.

        Raises:
            WorkflowTaskFailedError: The workflow type is not registered.
        """
        worker = self.workers[run.start.task_queue]
        instance = worker.create_instance(run, first_task_at)
        if instance is None:
            message = f"Workflow class {run.start.workflow_type} is not registered on this worker"
            raise WorkflowTaskFailedError(
                application_failure(f"{message}, available workflows: {worker.workflow_types}", "NotFoundError")
            )
        return instance

    # -- workflow runs -------------------------------------------------------------------------------------

    def start(self, start: Start) -> Execution:
        """Start a run, whatever else has its workflow id."""
        return self._add(Execution(self, start, self._next_run_id(start.workflow_id)))

    def create_reset_run(self, base: Execution) -> Execution:
        """Create a run with an empty history, to continue `base` after a reset."""
        return self._add(Execution(self, base.start, self._next_run_id(base.workflow_id), base.origin))

    def _next_run_id(self, workflow_id: str) -> str:
        # Independent of what other workflows were started before.
        number = len(self._runs_by_workflow_id.get(workflow_id, ()))
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{workflow_id}#{number}"))

    def _add(self, run: Execution) -> Execution:
        self._runs[run.run_id] = run
        self._runs_by_workflow_id.setdefault(run.workflow_id, []).append(run)
        return run

    def start_if_allowed(self, start: Start, reuse: WorkflowIdReusePolicy.ValueType) -> Execution | None:
        """Start a run unless the id reuse policy forbids it."""
        before = self.find(start.workflow_id)
        if before is not None:
            failed = before.status not in {
                WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING,
                WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED,
            }
            only_failed = reuse == WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY
            never = reuse == WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE
            if before.is_open and reuse == WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING:
                before.terminate("terminated by a new run")
            if before.is_open or never or (only_failed and not failed):
                return None
        return self.start(start)

    def find(self, workflow_id: str, run_id: str = "") -> Execution | None:
        """Find a run; the newest one if no run id is given."""
        runs = self._runs_by_workflow_id.get(workflow_id, [])
        if not run_id:
            return runs[-1] if runs else None
        run = self._runs.get(run_id)
        return run if run is not None and run.workflow_id == workflow_id else None

    def runs_of(self, workflow_id: str) -> list[Execution]:
        """The runs of a workflow id, oldest first."""
        return list(self._runs_by_workflow_id.get(workflow_id, ()))

    def runs(self) -> list[Execution]:
        """Every run, oldest first."""
        return list(self._runs.values())

    def clear(self) -> None:
        """Forget all runs and events, and set the clock back. Workers stay. Cheaper than a new simulation."""
        for worker in self.workers.values():
            worker.crash()
        for run in self._runs.values():
            for activity in run.activities.values():
                activity.abandon()
            run.tasks.replay.evict()
        self._runs.clear()
        self._runs_by_workflow_id.clear()
        self.event_count = 0
        self.event_queue = EventQueue(self._start_time)

    def next_event_number(self) -> int:
        """Number a new history event; as on servers, numbers grow over all histories."""
        self.event_count += 1
        return self.event_count

    def search_attribute_error(self, attributes: SearchAttributes) -> str:
        """The server's message if a search attribute is not registered; else ""."""
        name = next((name for name in attributes.indexed_fields if name not in self._registered_attributes), "")
        return f"Namespace {NAMESPACE} has no mapping defined for search attribute {name}" if name else ""

    def raise_not_simulated(self, what: str) -> NoReturn:
        """Raise NotSimulated."""
        raise NotSimulated(f"{what} is not simulated")

    def digest(self) -> bytes:
        """A hash of everything in the simulation on which the future depends.

        Where the state of workflow code can be inspected, it replaces the history: two histories that lead to the same
        state have the same digest. Assumes that no update is requested again after it was answered.
        """
        runs = tuple(run.digest() for _, run in sorted(self._runs.items()))
        return hash_state((self.event_queue.digest(), runs, tuple(sorted(self.workers))))

    # -- processing events ---------------------------------------------------------------------------------

    def enabled_events(self) -> list[Event]:
        """The events that can be processed now, in the order in which they became enabled."""
        return self.event_queue.enabled(self.workers)

    async def process(self, event: Event) -> None:
        """Process an enabled event."""
        self.event_queue.take(event)
        if (done := event.action()) is not None:
            await done

    async def run(self, until: Callable[[], bool] | None = None) -> None:
        """Process enabled events until there are none, without virtual time passing.

        Args:
            until: Checked before each event; stops when true.

        Raises:
            NotSimulated: A workflow needs what is not simulated. Every later call raises it again.
            LivelockError: A million events were processed.
            EndlessTaskFailureError: The tasks of a workflow do not stop failing.
        """
        async with self._lock:
            if self.error is not None:
                raise self.error
            try:
                await self._run(until)
            except Exception as error:
                self.error = error
                raise

    async def _run(self, until: Callable[[], bool] | None) -> None:
        count = 0
        while (until is None or not until()) and (options := self.enabled_events()):
            event = self.scheduler.choose(options)
            count += 1
            if count > _MAX_EVENTS_WITHOUT_TIME:
                raise LivelockError(
                    f"{_MAX_EVENTS_WITHOUT_TIME} events without virtual time passing; the next would be {event.label}"
                )
            await self.process(event)

    async def run_before_reply(self) -> None:
        """Process events before a client gets its response: all of them, unless the scheduler replies early."""
        await self.run(self.scheduler.replies_early)
        if self.enabled_events():
            asyncio.get_running_loop().call_later(_RESUME_DELAY, self.wake)

    async def advance(self, span: timedelta) -> None:
        """Let virtual time pass, and process all events on the way.

        Raises:
            NotSimulated, LivelockError, EndlessTaskFailureError: As `run`.
        """
        target = self.event_queue.now + int(span / timedelta(microseconds=1)) * 1000
        await self.run()
        while (due := self.event_queue.next_time()) is not None and due <= target:
            self.event_queue.advance_to(due)
            await self.run()
        self.event_queue.advance_to(target)

    def tick(self) -> None:
        """Let the time pass that lies between two requests of a client: one millisecond."""
        self.event_queue.advance_to(self.event_queue.now + _REQUEST_INTERVAL)

    async def yield_to_activity(self, attempt: asyncio.Task[AttemptResult]) -> None:
        """Let the code of an activity run until it ends or waits."""
        for _ in range(_ACTIVITY_TURNS):
            if attempt.done():
                return
            await asyncio.sleep(0)

    def wake(self) -> None:
        """Process enabled events in the background, unless somebody already does."""
        if self._manual or self._lock.locked():
            return
        if self._background_run is None or self._background_run.done():
            self._background_run = asyncio.ensure_future(self.run())
            self._background_run.add_done_callback(self._background_run_ended)

    def _background_run_ended(self, background_run: asyncio.Future[None]) -> None:
        """Keep an endless failure for `due_in`, because nobody awaits the background run."""
        if not background_run.cancelled() and isinstance(error := background_run.exception(), EndlessTaskFailureError):
            self._unreported = error

    # -- as the clock of an event loop ---------------------------------------------------------------------

    @property
    def is_attached_to_loop(self) -> bool:
        """Whether virtual time passes here while a task waits in the running event loop."""
        loop = asyncio.get_running_loop()
        return isinstance(loop, VirtualTimeLoop) and loop.is_attached(self)

    def due_in(self) -> float | None:
        """See `AttachedClock.due_in`.

        Raises:
            EndlessTaskFailureError: The tasks of a workflow do not stop failing; raised once.
        """
        if self._unreported is not None:
            # Once only: the loop runs again when it is closed.
            error, self._unreported = self._unreported, None
            raise error
        due = self.event_queue.next_time()
        return None if due is None else (due - self.event_queue.now) / SECOND

    def pass_time(self, seconds: float) -> None:
        """See `AttachedClock.pass_time`."""
        target = self.event_queue.now + round(seconds * SECOND)
        due = self.event_queue.next_time()
        # Within a microsecond counts as due, because seconds are floating-point numbers.
        is_due = due is not None and due <= target + 1000
        self.event_queue.advance_to(due if is_due and due is not None else target)
        if self.enabled_events():
            self.wake()

    async def close(self) -> None:
        """Crash all workers, and wait for background work."""
        if self._background_run is not None:
            await asyncio.gather(self._background_run, return_exceptions=True)
        for task_queue in list(self.workers):
            self.crash_worker(task_queue)
