"""Events of histories, as Temporal writes them, and what is built of them for the code of workflows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import ActivityType, WorkflowExecution, WorkflowType
from temporalio.api.enums.v1 import (
    CancelExternalWorkflowExecutionFailedCause,
    EventType,
    RetryState,
    TimeoutType,
)
from temporalio.api.failure.v1 import (
    ActivityFailureInfo,
    ApplicationFailureInfo,
    CanceledFailureInfo,
    ChildWorkflowExecutionFailureInfo,
    Failure,
    TerminatedFailureInfo,
    TimeoutFailureInfo,
)
from temporalio.api.history.v1 import HistoryEvent

from temporal_simulator.event_queue import SECOND


@cache
def attributes_of(kind: EventType.ValueType) -> str:
    """The name of the field that says more about an event of this kind."""
    return f"{EventType.Name(kind).removeprefix('EVENT_TYPE_').lower()}_event_attributes"


def event(kind: EventType.ValueType, **attributes: Any) -> HistoryEvent:
    """An event that is not in a history yet: it has neither number nor time."""
    about: dict[str, Any] = {attributes_of(kind): attributes}
    return HistoryEvent(event_type=kind, **about)


def link(last: HistoryEvent, *, started: int) -> None:
    """Let the event that ends something refer to the one that began it, by number."""
    getattr(last, attributes_of(last.event_type)).started_event_id = started


@lru_cache(maxsize=16)
def timestamp(time: int) -> Timestamp:
    """A time as protobuf has it; the same one for all that happens then: messages copy it, nobody changes it."""
    seconds, nanos = divmod(time, SECOND)
    return Timestamp(seconds=seconds, nanos=nanos)


def moment(time: int) -> datetime:
    """A time as Python has it, in UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + length(time)


def length(span: int) -> timedelta:
    """A duration as Python has it."""
    return timedelta(microseconds=span // 1000)


def duration(span: int) -> Duration:
    """A duration as protobuf has it."""
    seconds, nanos = divmod(span, SECOND)
    return Duration(seconds=seconds, nanos=nanos)


def nanoseconds(span: Duration | Timestamp) -> int:
    """A duration, or a time, in nanoseconds."""
    return span.seconds * SECOND + span.nanos


CANCELLED = RetryState.RETRY_STATE_CANCEL_REQUESTED


def activity_failure(
    cause: Failure, *, activity_id: str, activity_type: str, scheduled: int, started: int, state: RetryState.ValueType
) -> Failure:
    """How the code of a workflow learns that an activity failed.

    Args:
        scheduled, started: Numbers of the events.
    """
    return Failure(
        message="Activity cancelled" if state == CANCELLED else "Activity task failed",
        cause=cause,
        activity_failure_info=ActivityFailureInfo(
            scheduled_event_id=scheduled,
            started_event_id=started,
            identity=IDENTITY,
            activity_type=ActivityType(name=activity_type),
            activity_id=activity_id,
            retry_state=state,
        ),
    )


def child_failure(
    cause: Failure, *, workflow_id: str, run_id: str, workflow_type: str, initiated: int, started: int, message: str
) -> Failure:
    """How the code of a workflow learns that a child failed.

    Args:
        initiated, started: Numbers of the events.
    """
    return Failure(
        message=message,
        cause=cause,
        child_workflow_execution_failure_info=ChildWorkflowExecutionFailureInfo(
            namespace=NAMESPACE,
            workflow_execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
            workflow_type=WorkflowType(name=workflow_type),
            initiated_event_id=initiated,
            started_event_id=started,
            retry_state=RetryState.RETRY_STATE_RETRY_POLICY_NOT_SET,
        ),
    )


def canceled() -> Failure:
    """The cause of what was cancelled."""
    return Failure(message="", canceled_failure_info=CanceledFailureInfo())


def terminated() -> Failure:
    """The cause of what was terminated."""
    return Failure(message="", terminated_failure_info=TerminatedFailureInfo())


def timed_out(kind: TimeoutType.ValueType, message: str, cause: Failure | None = None) -> Failure:
    """The cause of what took too long."""
    return Failure(message=message, cause=cause, timeout_failure_info=TimeoutFailureInfo(timeout_type=kind))


def application(message: str, kind: str = "") -> Failure:
    """The cause of what was refused."""
    return Failure(message=message, application_failure_info=ApplicationFailureInfo(type=kind, non_retryable=True))


NOBODY_TO_CANCEL = CancelExternalWorkflowExecutionFailedCause.Value(
    "CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND"
)
"""Why another workflow could not be cancelled."""

NAMESPACE = "default"
IDENTITY = "simulator"
