"""The server's state as the worker sees it. The worker depends on these interfaces, not on the server's classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from temporalio.api.common.v1 import Payload, RetryPolicy, WorkflowExecution
from temporalio.api.failure.v1 import Failure
from temporalio.bridge.proto.workflow_commands import ScheduleActivity, StartChildWorkflowExecution
from temporalio.worker import WorkflowInstance

from temporal_simulator.protocol.start import Start

CreateInstance = Callable[[int], WorkflowInstance]
"""Creates a workflow instance, given the time at which its first workflow task started."""


@dataclass(frozen=True)
class AttemptResult:
    """How an activity attempt ended: with a result, with a failure, or cancelled."""

    result: Payload | None = None
    failure: Failure | None = None
    is_cancelled: bool = False


class RunView(Protocol):
    """A workflow run.

    Attributes:
        started_at: Virtual time.
    """

    workflow_id: str
    run_id: str
    start: Start
    started_at: int

    @property
    def origin(self) -> RunView:
        """The first run of its chain of resets."""
        ...

    @property
    def ref(self) -> WorkflowExecution:
        """Its workflow id and run id."""
        ...

    @property
    def root_ref(self) -> WorkflowExecution:
        """The topmost ancestor; the run itself if it has no parent."""
        ...

    @property
    def now(self) -> int:
        """The virtual time."""
        ...

    @property
    def history_length(self) -> int:
        """The number of events in its history."""
        ...

    @property
    def activities(self) -> Mapping[int, ActivityView]:
        """Its open activities, by sequence number."""
        ...

    @property
    def children(self) -> Mapping[int, ChildView]:
        """Its open children, by sequence number."""
        ...


class ActivityView(Protocol):
    """An activity and its current attempt.

    Attributes:
        command: The command that scheduled it.
        attempt: Number of the attempt, from 1.
        policy: Its retry policy, complete.
        scheduled_at, attempt_scheduled_at, started_at: Virtual times; the last two are of the attempt.
        details: Of the last heartbeat.
        is_cancel_delivered: Set by the worker once it cancels the activity's code.
    """

    command: ScheduleActivity
    attempt: int
    policy: RetryPolicy
    scheduled_at: int
    attempt_scheduled_at: int
    started_at: int
    details: tuple[Payload, ...]
    is_cancel_delivered: bool

    @property
    def run(self) -> RunView:
        """The run that scheduled it."""
        ...

    def heartbeat(self, attempt: int, details: tuple[Payload, ...]) -> bool:
        """Record a heartbeat; returns whether cancellation was requested."""
        ...

    def cancelled_failure(self) -> Failure:
        """The failure that workflow code gets if the activity is cancelled."""
        ...


class ChildView(Protocol):
    """A child workflow, as its parent knows it."""

    command: StartChildWorkflowExecution

    def failure(self, cause: Failure, outcome: str) -> Failure:
        """The failure that the parent's code gets, such as "cancelled"."""
        ...
