"""Events of an activity as they stand in its workflow's history, and how the workflow's code learns its end."""

from __future__ import annotations

from collections.abc import Sequence

from temporalio.api.common.v1 import ActivityType, Payload, Payloads, RetryPolicy
from temporalio.api.enums.v1 import EventType, RetryState, TimeoutType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.bridge.proto.activity_result import ActivityResolution, Cancellation
from temporalio.bridge.proto.activity_result import Failure as ActivityFailed
from temporalio.bridge.proto.activity_result import Success as ActivityDone
from temporalio.bridge.proto.workflow_commands import ScheduleActivity

from temporal_simulator.protocol.events import (
    CANCELLED,
    IDENTITY,
    activity_failure,
    canceled,
    event,
    timed_out,
)

START_TO_CLOSE = TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE
SCHEDULE_TO_CLOSE = TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE
SCHEDULE_TO_START = TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START
HEARTBEAT = TimeoutType.TIMEOUT_TYPE_HEARTBEAT
NO_TIMEOUT = TimeoutType.TIMEOUT_TYPE_UNSPECIFIED
_NAMES = {
    START_TO_CLOSE: "StartToClose",
    SCHEDULE_TO_CLOSE: "ScheduleToClose",
    SCHEDULE_TO_START: "ScheduleToStart",
    HEARTBEAT: "Heartbeat",
}

Ended = tuple[HistoryEvent, ActivityResolution]
"""The event that ends an activity, and what the code is told then."""


def scheduled(order: ScheduleActivity, policy: RetryPolicy, completed: int) -> HistoryEvent:
    """The code wants it.

    Args:
        completed: Number of the event of the workflow task that ended with that.
    """
    return event(
        EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
        activity_id=order.activity_id,
        activity_type=ActivityType(name=order.activity_type),
        task_queue=TaskQueue(name=order.task_queue),
        header={"fields": order.headers},
        input=Payloads(payloads=order.arguments),
        schedule_to_close_timeout=order.schedule_to_close_timeout,
        schedule_to_start_timeout=order.schedule_to_start_timeout,
        start_to_close_timeout=order.start_to_close_timeout,
        heartbeat_timeout=order.heartbeat_timeout,
        retry_policy=policy,
        workflow_task_completed_event_id=completed,
    )


def cancel_requested(number: int, completed: int) -> HistoryEvent:
    """The code wants it cancelled.

    Args:
        number: Of the event by which it was scheduled; so everywhere below.
        completed: Number of the event of the workflow task that ended with that.
    """
    return event(
        EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED,
        scheduled_event_id=number,
        workflow_task_completed_event_id=completed,
    )


def started(number: int, attempt: int, last_failure: Failure | None) -> HistoryEvent:
    """Its last attempt began."""
    return event(
        EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED,
        scheduled_event_id=number,
        identity=IDENTITY,
        attempt=attempt,
        last_failure=last_failure,
    )


def completed(number: int, result: Payload | None) -> Ended:
    """It has done what it should."""
    last = event(
        EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED,
        result=Payloads(payloads=[result]) if result is not None else None,
        scheduled_event_id=number,
        identity=IDENTITY,
    )
    return last, ActivityResolution(completed=ActivityDone(result=result))


def cancelled(number: int, order: ScheduleActivity, requested: int) -> Ended:
    """It was cancelled.

    Args:
        requested: Number of the event by which that was wanted.
    """
    last = event(
        EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED,
        latest_cancel_requested_event_id=requested,
        scheduled_event_id=number,
        identity=IDENTITY,
    )
    return last, ActivityResolution(cancelled=Cancellation(failure=cancelled_failure(number, order)))


def failed(
    number: int,
    order: ScheduleActivity,
    failure: Failure,
    state: RetryState.ValueType,
    kind: TimeoutType.ValueType,
) -> Ended:
    """It failed, or its time ran out.

    Args:
        state: Why there is no other attempt.
        kind: Which time ran out, if any did.
    """
    what = EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT if kind else EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED
    last = event(what, failure=failure, scheduled_event_id=number, retry_state=state)
    return last, ActivityResolution(failed=ActivityFailed(failure=_wrapped(number, order, failure, state)))


def cancelled_failure(number: int, order: ScheduleActivity) -> Failure:
    """How the code learns that it is cancelled."""
    return _wrapped(number, order, canceled(), CANCELLED)


def late(kind: TimeoutType.ValueType, details: Sequence[Payload], cause: Failure | None = None) -> Failure:
    """Its time ran out.

    Args:
        details: Of its last heartbeat.
        cause: How an attempt failed before.
    """
    failure = timed_out(kind, f"activity {_NAMES[kind]} timeout", cause)
    failure.timeout_failure_info.last_heartbeat_details.payloads.extend(details)
    return failure


def _wrapped(number: int, order: ScheduleActivity, cause: Failure, state: RetryState.ValueType) -> Failure:
    return activity_failure(
        cause,
        activity_id=order.activity_id,
        activity_type=order.activity_type,
        scheduled=number,
        started=0,
        state=state,
    )
