"""History events, failures, and times, as Temporal writes them."""

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
def attributes_field(kind: EventType.ValueType) -> str:
    """The name of the field that has the attributes of an event of this type."""
    return f"{EventType.Name(kind).removeprefix('EVENT_TYPE_').lower()}_event_attributes"


def new_event(kind: EventType.ValueType, **attributes: Any) -> HistoryEvent:
    """An event that is not in a history yet, so without id and time."""
    about: dict[str, Any] = {attributes_field(kind): attributes}
    return HistoryEvent(event_type=kind, **about)


def set_started_event_id(last: HistoryEvent, *, started: int) -> None:
    """Let a closing event refer to the event that started what it closes."""
    getattr(last, attributes_field(last.event_type)).started_event_id = started


@lru_cache(maxsize=16)
def to_timestamp(time: int) -> Timestamp:
    """A time as protobuf. Cached, because many events have the same time; callers must not change it."""
    seconds, nanos = divmod(time, SECOND)
    return Timestamp(seconds=seconds, nanos=nanos)


def to_datetime(time: int) -> datetime:
    """A time as datetime, in UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + to_timedelta(time)


def to_timedelta(span: int) -> timedelta:
    """A duration as timedelta."""
    return timedelta(microseconds=span // 1000)


def to_duration(span: int) -> Duration:
    """A duration as protobuf."""
    seconds, nanos = divmod(span, SECOND)
    return Duration(seconds=seconds, nanos=nanos)


def to_nanoseconds(span: Duration | Timestamp) -> int:
    """A protobuf duration or time, in nanoseconds."""
    return span.seconds * SECOND + span.nanos


CANCEL_REQUESTED = RetryState.RETRY_STATE_CANCEL_REQUESTED


def activity_failure(
    cause: Failure, *, activity_id: str, activity_type: str, scheduled: int, started: int, state: RetryState.ValueType
) -> Failure:
    """The failure that workflow code gets from an activity.

    Args:
        scheduled, started: Event ids.
    """
    return Failure(
        message="Activity cancelled" if state == CANCEL_REQUESTED else "Activity task failed",
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
    """The failure that workflow code gets from a child workflow.

    Args:
        initiated, started: Event ids.
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


def canceled_failure() -> Failure:
    """The cause of a cancellation."""
    return Failure(message="", canceled_failure_info=CanceledFailureInfo())


def terminated_failure() -> Failure:
    """The cause of a termination."""
    return Failure(message="", terminated_failure_info=TerminatedFailureInfo())


def timeout_failure(kind: TimeoutType.ValueType, message: str, cause: Failure | None = None) -> Failure:
    """The cause of a timeout."""
    return Failure(message=message, cause=cause, timeout_failure_info=TimeoutFailureInfo(timeout_type=kind))


def application_failure(message: str, kind: str = "") -> Failure:
    """A non-retryable application failure."""
    return Failure(message=message, application_failure_info=ApplicationFailureInfo(type=kind, non_retryable=True))


CANCEL_TARGET_NOT_FOUND = CancelExternalWorkflowExecutionFailedCause.Value(
    "CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND"
)
"""The cause if a workflow that is to be cancelled does not exist."""

NAMESPACE = "default"
IDENTITY = "simulator"
