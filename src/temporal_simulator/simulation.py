"""The simulation: runs of workflows, workers, and virtual time, in this process and without a server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from temporalio.api.common.v1 import SearchAttributes
from temporalio.api.enums.v1 import WorkflowExecutionStatus, WorkflowIdReusePolicy
from temporalio.worker import WorkflowInstance

from temporal_simulator.event_loop import VirtualTimeLoop
from temporal_simulator.event_queue import SECOND, Event, EventQueue
from temporal_simulator.protocol.events import NAMESPACE, application, moment
from temporal_simulator.protocol.start import Start
from temporal_simulator.scheduler import FifoScheduler, Scheduler
from temporal_simulator.server.commands import NotSimulated
from temporal_simulator.server.execution import Execution
from temporal_simulator.server.workflow_tasks import EndlessTaskFailureError
from temporal_simulator.worker.fingerprint import condensed
from temporal_simulator.worker.replay import WorkflowTaskFailedError
from temporal_simulator.worker.worker import Worker

START_TIME = datetime(2026, 1, 1, tzinfo=UTC)
"""When virtual time begins."""

# Turns of the event loop that the code of an activity is given before it counts as waiting for something.
_TURNS = 8
_TICK = 1_000_000
# These each server has.
_BUILT_IN_ATTRIBUTES = frozenset({"TemporalChangeVersion", "BuildIds", "BatcherUser"})
# Seconds until what was left for later goes on.
_SOON = 0.001
# Steps without time passing after which something goes round in circles.
_MOST_STEPS = 1_000_000


class LivelockError(AssertionError):
    """So much happened without time passing that it will not end."""


class Simulation:
    """A Temporal server with its workers, as far as the code of workflows and its clients can tell.

    Virtual time only moves in `advance`, and there from one thing that is due to the next. Everything else happens in
    `run`, until nothing can happen any more without time passing. Whenever more than one thing could happen next,
    the chooser decides.

    Args:
        manual: Somebody lets one thing after another happen, by `process`; nothing goes on by itself, not even when an
            activity has ended.

    Attributes:
        agenda: The clock, and what can happen.
        workers: By their task queues.
        search_attributes: Names of those that workflows may set; any other one is refused, as servers do.
        event_count: How many have been written, to all histories together.
        error: What ended it, if anything did: whoever asked was told, but may have told nobody.
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
        self._of_id: dict[str, list[Execution]] = {}
        self.event_count = 0
        self._by_hand = manual
        self._lock = asyncio.Lock()
        self._waking: asyncio.Future[None] | None = None
        self.error: Exception | None = None
        self._unreported: EndlessTaskFailureError | None = None

    @property
    def interleaves_tasks(self) -> bool:
        """See `Scheduler.interleaves_tasks`."""
        return self.scheduler.interleaves_tasks

    @property
    def now(self) -> datetime:
        """The virtual time, in UTC."""
        return moment(self.event_queue.now)

    # -- workers -------------------------------------------------------------------------------------------

    def start_worker(self, task_queue: str, worker: Worker) -> None:
        """From now on this worker polls the queue."""
        self.workers[task_queue] = worker

    def crash_worker(self, task_queue: str) -> None:
        """It is gone, with all it had in memory: workflows come back by replay, activities by their time-outs.

        Raises:
            EvictionError: The code of a workflow does not let itself be put out of memory.
        """
        self.workers.pop(task_queue).crash()
        for run in self._runs.values():
            if run.start.task_queue == task_queue:
                run.tasks.crash()
            for activity in run.activities.values():
                if activity.order.task_queue == task_queue:
                    activity.lose()

    def evict(self, task_queue: str) -> None:
        """Put every workflow of this queue out of memory."""
        for run in self._runs.values():
            if run.start.task_queue == task_queue:
                run.tasks.code.evict()

    def create_instance(self, run: Execution, begins: int) -> WorkflowInstance:
        """The code of a run, as its worker has it."""
        worker = self.workers[run.start.task_queue]
        instance = worker.instance_of(run, begins)
        if instance is None:
            message = f"Workflow class {run.start.workflow_type} is not registered on this worker"
            raise WorkflowTaskFailedError(
                application(f"{message}, available workflows: {worker.names}", "NotFoundError")
            )
        return instance

    # -- workflows -----------------------------------------------------------------------------------------

    def start(self, start: Start) -> Execution:
        """Start a run, whatever else runs under its id."""
        return self._add(Execution(self, start, self._next_run_id(start.workflow_id)))

    def create_reset_run(self, base: Execution) -> Execution:
        """Another run, for one that is reset; its history is still empty."""
        return self._add(Execution(self, base.start, self._next_run_id(base.workflow_id), base.origin))

    def _next_run_id(self, workflow_id: str) -> str:
        # The same whatever else was started before it.
        number = len(self._of_id.get(workflow_id, ()))
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{workflow_id}#{number}"))

    def _add(self, run: Execution) -> Execution:
        self._runs[run.run_id] = run
        self._of_id.setdefault(run.workflow_id, []).append(run)
        return run

    def start_if_allowed(self, start: Start, reuse: WorkflowIdReusePolicy.ValueType) -> Execution | None:
        """Start a run, unless what runs or ran under its id forbids that."""
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
        """A run; the newest one if none is named."""
        runs = self._of_id.get(workflow_id, [])
        if not run_id:
            return runs[-1] if runs else None
        run = self._runs.get(run_id)
        return run if run is not None and run.workflow_id == workflow_id else None

    def runs_of(self, workflow_id: str) -> list[Execution]:
        """Every run under an id, oldest first."""
        return list(self._of_id.get(workflow_id, ()))

    def runs(self) -> list[Execution]:
        """Every run, oldest first."""
        return list(self._runs.values())

    def clear(self) -> None:
        """As in the beginning: no run, nothing under way, the first time and the first run id; workers stay."""
        for worker in self.workers.values():
            worker.crash()
        for run in self._runs.values():
            for activity in run.activities.values():
                activity.abandon()
            run.tasks.code.evict()
        self._runs.clear()
        self._of_id.clear()
        self.event_count = 0
        self.event_queue = EventQueue(self._start_time)

    def search_attribute_error(self, given: SearchAttributes) -> str:
        """Which search attribute may not be set here, as a server tells it; "" if all may."""
        name = next((name for name in given.indexed_fields if name not in self._registered_attributes), "")
        return f"Namespace {NAMESPACE} has no mapping defined for search attribute {name}" if name else ""

    def raise_not_simulated(self, what: str) -> NoReturn:
        """Somebody wants what is not simulated."""
        raise NotSimulated(f"{what} is not simulated")

    def digest(self) -> bytes:
        """Everything on which the future depends, as far as it is in here.

        Not what led there: where the code of workflows can be looked into, two histories that left it knowing the same
        are one. Nobody is expected to ask for an update again that has been answered.
        """
        runs = tuple(run.digest() for _, run in sorted(self._runs.items()))
        return condensed((self.event_queue.digest(), runs, tuple(sorted(self.workers))))

    # -- what happens --------------------------------------------------------------------------------------

    def enabled_events(self) -> list[Event]:
        """Everything that could happen now, in the order in which it became possible."""
        return self.event_queue.enabled(self.workers)

    async def process(self, step: Event) -> None:
        """Let this happen."""
        self.event_queue.take(step)
        if (done := step.action()) is not None:
            await done

    async def run(self, until: Callable[[], bool] | None = None) -> None:
        """Let happen what can, without time passing; until nothing can any more, or as told.

        Raises:
            NotSimulated: A workflow wants what the simulator does not know; from then on every call raises it.
            LivelockError: It does not end.
            EndlessTaskFailureError: A workflow's tasks fail for ever.
        """
        async with self._lock:
            if self.error is not None:
                raise self.error
            try:
                await self._run_unlocked(until)
            except Exception as error:
                self.error = error
                raise

    async def _run_unlocked(self, until: Callable[[], bool] | None) -> None:
        steps = 0
        while (until is None or not until()) and (options := self.enabled_events()):
            step = self.scheduler.choose(options)
            steps += 1
            if steps > _MOST_STEPS:
                raise LivelockError(f"{_MOST_STEPS} steps without time passing; the next would be {step.label}")
            await self.process(step)

    async def run_before_reply(self) -> None:
        """As `run`, for a client that waits: the chooser may let it have its answer before all has happened."""
        await self.run(self.scheduler.replies_early)
        if self.enabled_events():
            asyncio.get_running_loop().call_later(_SOON, self.wake)

    async def advance(self, span: timedelta) -> None:
        """Let time pass, from one thing that is due to the next, and let happen what that makes possible."""
        target = self.event_queue.now + int(span / timedelta(microseconds=1)) * 1000
        await self.run()
        while (due := self.event_queue.next_time()) is not None and due <= target:
            self.event_queue.advance_to(due)
            await self.run()
        self.event_queue.advance_to(target)

    def tick(self) -> None:
        """So much time passes between one thing that a client does and the next."""
        self.event_queue.advance_to(self.event_queue.now + _TICK)

    async def yield_to_activity(self, doing: asyncio.Task[Any]) -> None:
        """Give the code of an activity its turns; if it has not ended then, it waits for something."""
        for _ in range(_TURNS):
            if doing.done():
                return
            await asyncio.sleep(0)

    def wake(self) -> None:
        """Something became possible; unless somebody is looking who sees it, go on by itself."""
        if self._by_hand or self._lock.locked():
            return
        if self._waking is None or self._waking.done():
            self._waking = asyncio.ensure_future(self.run())
            self._waking.add_done_callback(self._background_run_ended)

    def _background_run_ended(self, waking: asyncio.Future[None]) -> None:
        """Nobody awaits that: an endless failure is for whoever lets time pass next."""
        if not waking.cancelled() and isinstance(error := waking.exception(), EndlessTaskFailureError):
            self._unreported = error

    # -- as a follower of a loop on virtual time -----------------------------------------------------------

    @property
    def is_attached_to_loop(self) -> bool:
        """Whether time passes here while somebody waits in the event loop that runs."""
        loop = asyncio.get_running_loop()
        return isinstance(loop, VirtualTimeLoop) and loop.is_attached(self)

    def due_in(self) -> float | None:
        """Seconds until something is due; None if nothing is.

        Raises:
            EndlessTaskFailureError: Since it was asked last, a workflow's tasks have failed too often.
        """
        if self._unreported is not None:
            # Once: the loop goes on when it is closed.
            error, self._unreported = self._unreported, None
            raise error
        due = self.event_queue.next_time()
        return None if due is None else (due - self.event_queue.now) / SECOND

    def pass_time(self, seconds: float) -> None:
        """Let time pass, at most until something is due."""
        target = self.event_queue.now + round(seconds * SECOND)
        due = self.event_queue.next_time()
        # What is due within a microsecond is due: seconds are no exact numbers.
        is_due = due is not None and due <= target + 1000
        self.event_queue.advance_to(due if is_due and due is not None else target)
        if self.enabled_events():
            self.wake()

    async def close(self) -> None:
        """End it: nothing stays in memory, nothing is under way."""
        if self._waking is not None:
            await asyncio.gather(self._waking, return_exceptions=True)
        for queue in list(self.workers):
            self.crash_worker(queue)
