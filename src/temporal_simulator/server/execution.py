"""One run of a workflow, as the server knows it: its history, what happens to it, and what it waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING

from temporalio.api.common.v1 import Payload, Payloads, WorkflowExecution, WorkflowType
from temporalio.api.enums.v1 import EventType, WorkflowExecutionStatus
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.bridge.proto.workflow_activation import CancelWorkflow, SignalWorkflow, WorkflowActivationJob

from temporal_simulator.event_queue import Event
from temporal_simulator.protocol.events import IDENTITY, duration, event, timestamp
from temporal_simulator.protocol.start import Doing, Start
from temporal_simulator.server.workflow_tasks import Tasks
from temporal_simulator.worker.replay import WorkflowReplay
from temporal_simulator.worker.workflow_info import beginning

if TYPE_CHECKING:
    from temporal_simulator.server.activities import Activity
    from temporal_simulator.server.children import Child
    from temporal_simulator.server.commands import Timer
    from temporal_simulator.simulation import Simulation

RUNNING = WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING


class Execution:
    """One run.

    Attributes:
        history: Every event.
        status: How Temporal calls the state it is in.
        started_at, ended_at: When; the latter 0 while it runs.
        memo, search_attributes: As they are now.
        timers, activities, children, requests: What it waits for, by the sequence number of its code.
        is_cancel_requested: Whether it was asked to stop.
        closed: Set when it has ended.
        origin: The run with which its history begins: itself, unless it goes on after a reset.
        reset_to: Id of the run that goes on instead of it, after a reset.
        inherited: How many of its events were written by runs before it.
        awaited_by: The child that it is, for whoever waits for its end.
    """

    def __init__(self, simulation: Simulation, start: Start, run_id: str, origin: Execution | None = None) -> None:
        self.simulation = simulation
        self.start = start
        self.workflow_id = start.workflow_id
        self.run_id = run_id
        self.origin = origin or self
        self.reset_to, self.inherited = "", 0
        self.awaited_by = start.parent
        self.started_at = simulation.event_queue.now
        self.ended_at = 0
        self.status = RUNNING
        self.history: list[HistoryEvent] = []
        self._digests: list[int] = []
        self.memo: dict[str, Payload] = dict(start.memo.fields)
        self.search_attributes: dict[str, Payload] = dict(start.search_attributes.indexed_fields)
        self.timers: dict[int, Timer] = {}
        self.activities: dict[int, Activity] = {}
        self.children: dict[int, Child] = {}
        self.closed = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._left: tuple[tuple[Activity, ...], tuple[Child, ...]] | None = None
        self.is_cancel_requested = False
        self.tasks = Tasks(self, WorkflowReplay(self))
        if origin is None:
            self._begin()

    def _begin(self) -> None:
        start, parent = self.start, self.start.parent
        first = event(
            EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
            workflow_type=WorkflowType(name=start.workflow_type),
            task_queue=TaskQueue(name=start.task_queue),
            input=start.input,
            workflow_task_timeout=duration(start.task_timeout),
            original_execution_run_id=self.run_id,
            first_execution_run_id=self.run_id,
            identity=IDENTITY,
            attempt=1,
            memo=start.memo,
            search_attributes=start.search_attributes,
            workflow_id=self.workflow_id,
            parent_workflow_execution=parent.owner.name if parent else None,
            parent_initiated_event_id=parent.initiated if parent else 0,
            root_workflow_execution=self.root.name if parent else None,
        )
        if start.user_metadata is not None:
            first.user_metadata.CopyFrom(start.user_metadata)
        self.record(first)
        self.tasks.begin(beginning(self))
        if limit := min(filter(None, (start.run_timeout, start.execution_timeout)), default=0):
            self.later(self.now + limit, "times out", self._run_out)

    @property
    def root(self) -> Execution:
        """The workflow at the top of its family."""
        return self.start.parent.owner.root if self.start.parent else self

    @property
    def is_open(self) -> bool:
        """Whether it runs."""
        return self.status == RUNNING

    @property
    def pending(self) -> tuple[tuple[Activity, ...], tuple[Child, ...]]:
        """The activities and children that a server tells of: when it has ended, those that it left."""
        return self._left or (tuple(self.activities.values()), tuple(self.children.values()))

    @property
    def name(self) -> WorkflowExecution:
        """As Temporal names it."""
        return WorkflowExecution(workflow_id=self.workflow_id, run_id=self.run_id)

    @property
    def now(self) -> int:
        """The virtual time."""
        return self.simulation.event_queue.now

    # -- its history, and what comes next ------------------------------------------------------------------

    def record(self, new: HistoryEvent) -> int:
        """Write an event, and return its number."""
        new.event_id = len(self.history) + 1
        # On servers too this grows with every event of all histories.
        self.simulation.event_count += 1
        new.task_id = self.simulation.event_count
        new.event_time.CopyFrom(timestamp(self.now))
        self.history.append(new)
        while self._waiting:
            self._waiting.pop().set_result(None)
        return new.event_id

    def inherit(self, history: list[HistoryEvent]) -> None:
        """Begin with these events of another run."""
        self.history, self.inherited = list(history), len(history)

    async def something_new(self) -> None:
        """Wait for the next event."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            await waiting
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    def unrecord(self, since: int) -> None:
        """Take back the events from this number on: they never were."""
        del self.history[since - 1 :]
        del self._digests[since - 1 :]

    def digest(self) -> Hashable:
        """Everything on which its future depends, its code's included."""
        if not self.is_open:
            return self.workflow_id, self.run_id, self.status
        awaited = (
            tuple((seq, activity.digest()) for seq, activity in sorted(self.activities.items())),
            tuple((seq, child.digest()) for seq, child in sorted(self.children.items())),
        )
        kept = tuple(str(sorted(each.items())) for each in (self.memo, self.search_attributes))
        # What can't be looked into has still only its history to go by.
        knows = self.tasks.code.digest(is_thinking=self.tasks.is_thinking) or self.history_digest()
        return self.workflow_id, self.run_id, self.is_cancel_requested, knows, self.tasks.digest(), awaited, kept

    def history_digest(self) -> Hashable:
        """All that has happened to it."""
        for new in self.history[len(self._digests) :]:
            before = self._digests[-1] if self._digests else 0
            # Its place among the events of all runs is for people to see; nothing depends on it.
            place, new.task_id = new.task_id, 0
            self._digests.append(hash((before, new.SerializeToString())))
            new.task_id = place
        return self._digests[-1]

    def ending(self) -> str:
        """How it ended, with what."""
        last = self.history[-1]
        told = getattr(last, last.WhichOneof("attributes") or "")
        return f"{self.status} {getattr(told, 'result', '')} {getattr(told, 'failure', '')}"

    def arrive(self, *new: HistoryEvent, job: WorkflowActivationJob | None) -> None:
        """Something happens to it that its code learns with the next workflow task."""
        if self.is_open:
            self.tasks.arrive(*new, job=job)

    def forget_ended(self) -> None:
        """What has ended; while the worker is busy its code may still want to cancel it."""
        if self.tasks.has_told_all:
            self.timers = {seq: each for seq, each in self.timers.items() if not each.is_over}
            self.activities = {seq: each for seq, each in self.activities.items() if not each.is_over}
            self.children = {seq: each for seq, each in self.children.items() if not each.is_over}

    def soon(self, label: str, do: Doing, *, queue: str | None = None, about: str = "") -> Event:
        """Something can happen to it from now on."""
        return self.simulation.event_queue.enable(Event(label, self.run_id, do, queue, about))

    def later(self, time: int, label: str, do: Doing, *, about: str = "") -> Event:
        """Something can happen to it from that time on."""
        return self.simulation.event_queue.schedule(time, Event(label, self.run_id, do, detail=about))

    # -- what is done to it --------------------------------------------------------------------------------

    def signal(
        self, name: str, given: Payloads, header: Mapping[str, Payload], *, sender: Execution | None = None
    ) -> None:
        """Send it a signal."""
        self.arrive(
            event(
                EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
                signal_name=name,
                input=given,
                identity=IDENTITY,
                header={"fields": header},
                external_workflow_execution=sender.name if sender else None,
            ),
            job=WorkflowActivationJob(
                signal_workflow=SignalWorkflow(
                    signal_name=name, input=given.payloads, identity=IDENTITY, headers=header
                )
            ),
        )

    def request_cancel(self, reason: str, *, sender: Execution | None = None) -> None:
        """Ask it to stop. A second time, or when it has ended, that changes nothing, and is no error either."""
        if self.is_cancel_requested or not self.is_open:
            return
        self.is_cancel_requested = True
        self.arrive(
            event(
                EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED,
                cause=reason,
                identity=IDENTITY,
                external_workflow_execution=sender.name if sender else None,
            ),
            job=WorkflowActivationJob(cancel_workflow=CancelWorkflow(reason=reason)),
        )

    def terminate(self, reason: str) -> None:
        """End it, whatever it does."""
        self.close(
            WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TERMINATED,
            event(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED, reason=reason, identity=IDENTITY),
        )

    def _run_out(self) -> None:
        self.close(
            WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TIMED_OUT,
            event(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT),
        )

    def close(
        self, status: WorkflowExecutionStatus.ValueType, last: HistoryEvent, *, keeps_children: bool = False
    ) -> None:
        """It has ended.

        Args:
            keeps_children: Its children do not learn that.
        """
        if not self.is_open:
            return
        self.record(last)
        self._left = self.pending
        self.status, self.ended_at = status, self.now
        for timer in self.timers.values():
            self.simulation.event_queue.cancel(timer.step)
        for activity in self.activities.values():
            activity.abandon()
        self.tasks.end()
        self.closed.set()
        if self.awaited_by is not None:
            self.awaited_by.tell_end(self, last)
        for child in () if keeps_children else self.children.values():
            child.lose_parent()
