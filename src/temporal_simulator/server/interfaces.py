"""The simulation as the server's parts see it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn, Protocol

from temporalio.api.common.v1 import SearchAttributes
from temporalio.api.enums.v1 import WorkflowIdReusePolicy
from temporalio.worker import WorkflowInstance

from temporal_simulator.event_queue import EventQueue
from temporal_simulator.protocol.interfaces import ActivityView, AttemptResult, RunView
from temporal_simulator.protocol.start import Start
from temporal_simulator.scheduler import Scheduler

if TYPE_CHECKING:
    from temporal_simulator.server.execution import Execution


class WorkerView(Protocol):
    """A worker that polls a task queue."""

    def execute(self, activity: ActivityView) -> asyncio.Task[AttemptResult]:
        """Start an activity attempt."""
        ...

    def release(self, attempt: asyncio.Task[AttemptResult]) -> bool:
        """Whether this worker ran a finished attempt and has not crashed since. Asked once per attempt."""
        ...

    def fails_workflow_on_nondeterminism(self, workflow_type: str) -> bool:
        """Whether nondeterminism fails the workflow instead of the workflow task."""
        ...


class SimulationContext(Protocol):
    """Other runs, workers, virtual time and the scheduler. See `temporal_simulator.simulation.Simulation`."""

    event_queue: EventQueue
    scheduler: Scheduler

    @property
    def workers(self) -> Mapping[str, WorkerView]:
        """The running workers, by task queue."""
        ...

    @property
    def interleaves_tasks(self) -> bool:
        """See `Scheduler.interleaves_tasks`."""
        ...

    def next_event_number(self) -> int:
        """Number a new history event; numbers grow over all histories."""
        ...

    def create_instance(self, run: RunView, first_task_at: int) -> WorkflowInstance:
        """Create a workflow instance on the worker of the run."""
        ...

    def find(self, workflow_id: str, run_id: str = "") -> Execution | None:
        """Find a run; the newest one if no run id is given."""
        ...

    def start_if_allowed(self, start: Start, reuse: WorkflowIdReusePolicy.ValueType) -> Execution | None:
        """Start a run unless the id reuse policy forbids it."""
        ...

    def create_reset_run(self, base: Execution) -> Execution:
        """Create a run with an empty history, to continue `base` after a reset."""
        ...

    def search_attribute_error(self, attributes: SearchAttributes) -> str:
        """The server's message if a search attribute is not registered; else ""."""
        ...

    def raise_not_simulated(self, what: str) -> NoReturn:
        """Raise NotSimulated."""
        ...

    async def yield_to_activity(self, attempt: asyncio.Task[AttemptResult]) -> None:
        """Let the code of an activity run until it ends or waits."""
        ...

    def wake(self) -> None:
        """Process enabled events in the background, unless somebody already does."""
        ...
