"""What the next workflow task delivers to a run: activation jobs and updates, and events buffered while a task runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from temporalio.api.enums.v1 import EventType, UpdateAdmittedEventOrigin
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.update.v1 import Request
from temporalio.bridge.proto.workflow_activation import WorkflowActivationJob

from temporal_simulator.protocol.events import new_event, set_started_event_id
from temporal_simulator.server.updates import Update, updates_of, with_validation

if TYPE_CHECKING:
    from temporal_simulator.server.execution import Execution


@dataclass(eq=False)
class Delivery:
    """Events, of which the last refers to the first, and the job for workflow code; None if the code has it already."""

    events: tuple[HistoryEvent, ...]
    job: WorkflowActivationJob | None


def serialized(jobs: Iterable[WorkflowActivationJob]) -> tuple[bytes, ...]:
    """Jobs as workflow code sees them: without the event ids of signals."""
    found = []
    for job in jobs:
        visible = WorkflowActivationJob()
        visible.CopyFrom(job)
        if job.HasField("signal_workflow"):
            visible.signal_workflow.originating_event_id = 0
        found.append(visible.SerializeToString(deterministic=True))
    return tuple(found)


def ids_of(updates: Iterable[Update]) -> tuple[str, ...]:
    """The ids of updates."""
    return tuple(update.id for update in updates)


class TaskInput:
    """The input of the next workflow task of one run.

    Attributes:
        jobs: Not delivered yet.
        updates: Requested, and not delivered yet.
        buffered: Arrived while a workflow task was running. They are written to the history when that task ends.
        known_updates: Updates that a completed task has accepted, by id.
    """

    def __init__(self, run: Execution) -> None:
        self._run = run
        self.jobs: list[WorkflowActivationJob] = []
        self.updates: list[Update] = []
        self.buffered: list[Delivery] = []
        self.known_updates: dict[str, Update] = {}
        # Every job since the run started, with the id of its event.
        self._log: list[tuple[int, WorkflowActivationJob]] = []

    def __bool__(self) -> bool:
        return bool(self.jobs or self.updates)

    def add(self, event_id: int, job: WorkflowActivationJob) -> None:
        """Add a job whose event is in the history."""
        self._log.append((event_id, job))
        self.jobs.append(job)

    def write(self, delivery: Delivery) -> None:
        """Write events to the history, and add their job."""
        event_id = 0
        for new in delivery.events:
            if event_id:
                set_started_event_id(new, started=event_id)
            event_id = self._run.record(new)
        if delivery.job is not None:
            if delivery.job.HasField("signal_workflow"):
                delivery.job.signal_workflow.originating_event_id = event_id
            self.add(event_id, delivery.job)

    def take(self) -> tuple[list[WorkflowActivationJob], list[Update]]:
        """Remove and return the jobs and updates, for a task that starts."""
        taken = self.jobs, self.updates
        self.jobs, self.updates = [], []
        return taken

    def put_back(self, jobs: Sequence[WorkflowActivationJob], updates: Sequence[Update] = ()) -> None:
        """Return the input of a task that did not complete: it comes first in the next task."""
        self.jobs = [*jobs, *self.jobs]
        self.updates = [*updates, *self.updates]

    def take_buffered(self) -> list[Delivery]:
        """Remove and return what was buffered."""
        buffered, self.buffered = self.buffered, []
        return buffered

    def discard_buffered(self, matches: Callable[[WorkflowActivationJob], bool]) -> None:
        """Drop buffered deliveries together with their events, as if they had not happened."""
        self.buffered = [each for each in self.buffered if each.job is None or not matches(each.job)]

    def resolve_buffered(self, matches: Callable[[WorkflowActivationJob], bool]) -> None:
        """Drop buffered jobs that the code no longer waits for; their events are still written."""
        for each in self.buffered:
            if each.job is not None and matches(each.job):
                each.job = None

    # -- updates -------------------------------------------------------------------------------------------

    def add_update(self, request: Request) -> Update:
        """Add an update for the next task. Its request is in no history until the workflow accepts it."""
        update = Update(request, asyncio.get_running_loop().create_future())
        self.updates.append(update)
        return update

    def admit_update(self, request: Request) -> None:
        """Add an update that a reset reapplies. Unlike the first time, its request is an event of its own."""
        origin = UpdateAdmittedEventOrigin.UPDATE_ADMITTED_EVENT_ORIGIN_REAPPLY
        kind = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED
        event_id = self._run.record(new_event(kind, request=request, origin=origin))
        update = Update(request, asyncio.get_running_loop().create_future(), admitted=event_id)
        self.updates.append(update)
        # Unlike other updates it has a position among the other jobs.
        self.add(event_id, update.job())

    def all_updates(self, running: Iterable[Update]) -> Iterator[Update]:
        """Every update that was not rejected, with those of the running task."""
        yield from self.updates
        yield from running
        yield from self.known_updates.values()

    # -- after a reset -------------------------------------------------------------------------------------

    def restore_from(self, base: TaskInput, started: int, replayed_to: int) -> None:
        """Take over the jobs and updates of another run. The history must have been copied already.

        Args:
            started: Id of the event that started the task to which the run is reset.
            replayed_to: Jobs up to this event id belong to completed tasks, and come back by replay.
        """
        self._log = [each for each in base._log if each[0] < started]
        self.jobs = [with_validation(job) for event_id, job in self._log if event_id > replayed_to]
        updates = updates_of(self._run.history)
        self.known_updates = {update.id: update for update in updates if update.accepted}
        self.updates = [update for update in updates if not update.accepted]

    def digest(self, running: Iterable[Update]) -> Hashable:
        """Everything in here on which the future depends."""
        buffered = tuple(serialized([each.job]) if each.job else len(each.events) for each in self.buffered)
        unanswered = tuple(sorted(ids_of(each for each in self.all_updates(running) if not each.outcome.done())))
        return serialized(self.jobs), buffered, ids_of(self.updates), unanswered
