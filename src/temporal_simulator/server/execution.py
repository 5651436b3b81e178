"""One workflow run as the server keeps it: its history, and everything that it waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING

from temporalio.api.common.v1 import Payload, Payloads, WorkflowExecution, WorkflowType
from temporalio.api.enums.v1 import EventType, WorkflowExecutionStatus
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.bridge.proto.workflow_activation import CancelWorkflow, SignalWorkflow, WorkflowActivationJob

from temporal_simulator.event_queue import Action, Event
from temporal_simulator.protocol.events import IDENTITY, new_event, to_duration, to_timestamp
from temporal_simulator.protocol.start import ParentLink, Start
from temporal_simulator.server.interfaces import SimulationContext
from temporal_simulator.server.workflow_tasks import WorkflowTasks
from temporal_simulator.worker.replay import WorkflowReplay
from temporal_simulator.worker.workflow_info import initialize_job

if TYPE_CHECKING:
    from temporal_simulator.server.activities import Activity
    from temporal_simulator.server.children import ChildWorkflow
    from temporal_simulator.server.commands import Timer

RUNNING = WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING


class Execution:
    """One workflow run.

    Attributes:
        history: Every event.
        status: As Temporal has it.
        started_at, ended_at: Virtual times; `ended_at` is 0 while the run is open.
        memo, search_attributes: Their current values.
        timers, activities, children: Open ones, by the sequence number of their commands.
        is_cancel_requested: Whether cancellation was requested.
        closed: Set when the run has closed.
        origin: The first run of its chain of resets; itself if it was not reset.
        reset_to: Run id of the run that continues this one after a reset.
        inherited: The number of events that were copied from the run before it.
        awaited_by: How its parent learns that it has closed. After a reset of the parent this is another one than
            `start.parent`.
    """

    def __init__(
        self, simulation: SimulationContext, start: Start, run_id: str, origin: Execution | None = None
    ) -> None:
        self.simulation = simulation
        self.start = start
        self.workflow_id = start.workflow_id
        self.run_id = run_id
        self.origin = origin or self
        self.reset_to, self.inherited = "", 0
        self.awaited_by: ParentLink | None = start.parent
        self.started_at = simulation.event_queue.now
        self.ended_at = 0
        self.status = RUNNING
        self.history: list[HistoryEvent] = []
        self._digests: list[int] = []
        self.memo: dict[str, Payload] = dict(start.memo.fields)
        self.search_attributes: dict[str, Payload] = dict(start.search_attributes.indexed_fields)
        self.timers: dict[int, Timer] = {}
        self.activities: dict[int, Activity] = {}
        self.children: dict[int, ChildWorkflow] = {}
        self.closed = asyncio.Event()
        self._event_waiters: list[asyncio.Future[None]] = []
        self._pending_at_close: tuple[tuple[Activity, ...], tuple[ChildWorkflow, ...]] | None = None
        self.is_cancel_requested = False
        self.tasks = WorkflowTasks(
            self, WorkflowReplay(self, lambda first_task_at: simulation.create_instance(self, first_task_at))
        )
        if origin is None:
            self._begin()

    def _begin(self) -> None:
        start, parent = self.start, self.start.parent
        first = new_event(
            EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
            workflow_type=WorkflowType(name=start.workflow_type),
            task_queue=TaskQueue(name=start.task_queue),
            input=start.input,
            workflow_task_timeout=to_duration(start.task_timeout),
            original_execution_run_id=self.run_id,
            first_execution_run_id=self.run_id,
            identity=IDENTITY,
            attempt=1,
            memo=start.memo,
            search_attributes=start.search_attributes,
            workflow_id=self.workflow_id,
            parent_workflow_execution=parent.parent_ref if parent else None,
            parent_initiated_event_id=parent.initiated if parent else 0,
            root_workflow_execution=parent.root_ref if parent else None,
        )
        if start.user_metadata is not None:
            first.user_metadata.CopyFrom(start.user_metadata)
        self.record(first)
        self.tasks.begin(initialize_job(self))
        if limit := min(filter(None, (start.run_timeout, start.execution_timeout)), default=0):
            self.schedule(self.now + limit, "workflow times out", self._time_out)

    @property
    def ref(self) -> WorkflowExecution:
        """Its workflow id and run id."""
        return WorkflowExecution(workflow_id=self.workflow_id, run_id=self.run_id)

    @property
    def root_ref(self) -> WorkflowExecution:
        """The topmost ancestor; the run itself if it has no parent."""
        return self.start.parent.root_ref if self.start.parent else self.ref

    @property
    def is_open(self) -> bool:
        """Whether the run has not closed."""
        return self.status == RUNNING

    @property
    def pending(self) -> tuple[tuple[Activity, ...], tuple[ChildWorkflow, ...]]:
        """The pending activities and children that a server describes; of a closed run, those at its close."""
        return self._pending_at_close or (tuple(self.activities.values()), tuple(self.children.values()))

    @property
    def now(self) -> int:
        """The virtual time."""
        return self.simulation.event_queue.now

    # -- history -------------------------------------------------------------------------------------------

    @property
    def history_length(self) -> int:
        """The number of events in its history."""
        return len(self.history)

    def record(self, new: HistoryEvent) -> int:
        """Append an event to the history, and return its id."""
        new.event_id = len(self.history) + 1
        new.task_id = self.simulation.next_event_number()
        new.event_time.CopyFrom(to_timestamp(self.now))
        self.history.append(new)
        while self._event_waiters:
            self._event_waiters.pop().set_result(None)
        return new.event_id

    def copy_history(self, history: list[HistoryEvent]) -> None:
        """Start with these events of another run, after a reset."""
        self.history, self.inherited = list(history), len(history)

    async def wait_for_event(self) -> None:
        """Wait for the next event."""
        waiter = asyncio.get_running_loop().create_future()
        self._event_waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._event_waiters:
                self._event_waiters.remove(waiter)

    def discard_from(self, event_id: int) -> None:
        """Remove the events from this id on."""
        del self.history[event_id - 1 :]
        del self._digests[event_id - 1 :]

    # -- state hashing -------------------------------------------------------------------------------------

    def digest(self) -> Hashable:
        """Everything on which the future of the run depends, including the state of its code."""
        if not self.is_open:
            return self.workflow_id, self.run_id, self.status
        awaited = (
            tuple((seq, activity.digest()) for seq, activity in sorted(self.activities.items())),
            tuple((seq, child.digest()) for seq, child in sorted(self.children.items())),
        )
        visible = tuple(str(sorted(each.items())) for each in (self.memo, self.search_attributes))
        # The history stands in for code whose state cannot be inspected.
        code = self.tasks.replay.digest(has_running_task=self.tasks.has_running_task) or self.history_digest()
        return self.workflow_id, self.run_id, self.is_cancel_requested, code, self.tasks.digest(), awaited, visible

    def history_digest(self) -> Hashable:
        """A hash of the history, computed incrementally."""
        for new in self.history[len(self._digests) :]:
            before = self._digests[-1] if self._digests else 0
            # The position among the events of all runs is for display; nothing depends on it.
            number, new.task_id = new.task_id, 0
            self._digests.append(hash((before, new.SerializeToString())))
            new.task_id = number
        return self._digests[-1]

    def close_summary(self) -> str:
        """Status, result and failure of a closed run."""
        last = self.history[-1]
        attributes = getattr(last, last.WhichOneof("attributes") or "")
        return f"{self.status} {getattr(attributes, 'result', '')} {getattr(attributes, 'failure', '')}"

    # -- what comes next -----------------------------------------------------------------------------------

    def deliver(self, *new: HistoryEvent, job: WorkflowActivationJob | None) -> None:
        """See `WorkflowTasks.deliver`. A closed run ignores it."""
        if self.is_open:
            self.tasks.deliver(*new, job=job)

    def prune_closed(self) -> None:
        """Drop closed timers, activities and children. Not while a task is running, which may still cancel them."""
        if self.tasks.has_delivered_all:
            self.timers = {seq: each for seq, each in self.timers.items() if not each.is_closed}
            self.activities = {seq: each for seq, each in self.activities.items() if not each.is_closed}
            self.children = {seq: each for seq, each in self.children.items() if not each.is_closed}

    def enable(self, label: str, action: Action, *, task_queue: str | None = None, detail: str = "") -> Event:
        """Enable an event of this run now."""
        return self.simulation.event_queue.enable(Event(label, self.run_id, action, task_queue, detail))

    def schedule(self, time: int, label: str, action: Action, *, detail: str = "") -> Event:
        """Enable an event of this run at a later time."""
        return self.simulation.event_queue.schedule(time, Event(label, self.run_id, action, detail=detail))

    # -- requests ------------------------------------------------------------------------------------------

    def signal(
        self, name: str, payloads: Payloads, header: Mapping[str, Payload], *, sender: Execution | None = None
    ) -> None:
        """Send a signal."""
        self.deliver(
            new_event(
                EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
                signal_name=name,
                input=payloads,
                identity=IDENTITY,
                header={"fields": header},
                external_workflow_execution=sender.ref if sender else None,
            ),
            job=WorkflowActivationJob(
                signal_workflow=SignalWorkflow(
                    signal_name=name, input=payloads.payloads, identity=IDENTITY, headers=header
                )
            ),
        )

    def request_cancel(self, reason: str, *, sender: Execution | None = None) -> None:
        """Request cancellation. No effect, and no error, on a repeated request or a closed run."""
        if self.is_cancel_requested or not self.is_open:
            return
        self.is_cancel_requested = True
        self.deliver(
            new_event(
                EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED,
                cause=reason,
                identity=IDENTITY,
                external_workflow_execution=sender.ref if sender else None,
            ),
            job=WorkflowActivationJob(cancel_workflow=CancelWorkflow(reason=reason)),
        )

    def terminate(self, reason: str) -> None:
        """Terminate the run."""
        self.close(
            WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TERMINATED,
            new_event(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED, reason=reason, identity=IDENTITY),
        )

    def _time_out(self) -> None:
        self.close(
            WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TIMED_OUT,
            new_event(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT),
        )

    def close(
        self, status: WorkflowExecutionStatus.ValueType, last: HistoryEvent, *, keeps_children: bool = False
    ) -> None:
        """Close the run with its last event.

        Args:
            keeps_children: Do not apply the parent close policies.
        """
        if not self.is_open:
            return
        self.record(last)
        self._pending_at_close = self.pending
        self.status, self.ended_at = status, self.now
        for timer in self.timers.values():
            self.simulation.event_queue.cancel(timer.event)
        for activity in self.activities.values():
            activity.abandon()
        self.tasks.close()
        self.closed.set()
        if self.awaited_by is not None:
            self.awaited_by.report_closed()
        for child in () if keeps_children else self.children.values():
            child.on_parent_closed()
