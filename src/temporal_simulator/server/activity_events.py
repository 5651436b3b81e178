"""The history events of an activity, and the resolutions that workflow code gets."""

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
    CANCEL_REQUESTED,
    IDENTITY,
    activity_failure,
    canceled_failure,
    new_event,
    timeout_failure,
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

Closing = tuple[HistoryEvent, ActivityResolution]
"""The event that closes an activity, and the resolution that workflow code gets."""


def scheduled(command: ScheduleActivity, policy: RetryPolicy, task_completed: int) -> HistoryEvent:
    """An activity was scheduled.

    Args:
        task_completed: Id of the event that completed the workflow task with the command.
    """
    return new_event(
        EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
        activity_id=command.activity_id,
        activity_type=ActivityType(name=command.activity_type),
        task_queue=TaskQueue(name=command.task_queue),
        header={"fields": command.headers},
        input=Payloads(payloads=command.arguments),
        schedule_to_close_timeout=command.schedule_to_close_timeout,
        schedule_to_start_timeout=command.schedule_to_start_timeout,
        start_to_close_timeout=command.start_to_close_timeout,
        heartbeat_timeout=command.heartbeat_timeout,
        retry_policy=policy,
        workflow_task_completed_event_id=task_completed,
    )


def cancel_requested(scheduled_event_id: int, task_completed: int) -> HistoryEvent:
    """Its cancellation was requested.

    Args:
        task_completed: Id of the event that completed the workflow task with the command.
    """
    return new_event(
        EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED,
        scheduled_event_id=scheduled_event_id,
        workflow_task_completed_event_id=task_completed,
    )


def started(scheduled_event_id: int, attempt: int, last_failure: Failure | None) -> HistoryEvent:
    """Its last attempt started."""
    return new_event(
        EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED,
        scheduled_event_id=scheduled_event_id,
        identity=IDENTITY,
        attempt=attempt,
        last_failure=last_failure,
    )


def completed(scheduled_event_id: int, result: Payload | None) -> Closing:
    """It completed."""
    last = new_event(
        EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED,
        result=Payloads(payloads=[result]) if result is not None else None,
        scheduled_event_id=scheduled_event_id,
        identity=IDENTITY,
    )
    return last, ActivityResolution(completed=ActivityDone(result=result))


def cancelled(scheduled_event_id: int, command: ScheduleActivity, requested: int) -> Closing:
    """It was cancelled.

    Args:
        requested: Id of the event that requested it.
    """
    last = new_event(
        EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED,
        latest_cancel_requested_event_id=requested,
        scheduled_event_id=scheduled_event_id,
        identity=IDENTITY,
    )
    return last, ActivityResolution(cancelled=Cancellation(failure=cancelled_failure(scheduled_event_id, command)))


def failed(
    scheduled_event_id: int,
    command: ScheduleActivity,
    failure: Failure,
    state: RetryState.ValueType,
    kind: TimeoutType.ValueType,
) -> Closing:
    """It failed or timed out.

    Args:
        state: Why it is not retried.
        kind: Which timeout; `NO_TIMEOUT` if it failed.
    """
    what = EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT if kind else EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED
    last = new_event(what, failure=failure, scheduled_event_id=scheduled_event_id, retry_state=state)
    return last, ActivityResolution(
        failed=ActivityFailed(failure=_wrapped(scheduled_event_id, command, failure, state))
    )


def cancelled_failure(scheduled_event_id: int, command: ScheduleActivity) -> Failure:
    """The failure that workflow code gets if the activity is cancelled."""
    return _wrapped(scheduled_event_id, command, canceled_failure(), CANCEL_REQUESTED)


def late(kind: TimeoutType.ValueType, details: Sequence[Payload], cause: Failure | None = None) -> Failure:
    """The cause of a timeout.

    Args:
        details: Of the last heartbeat.
        cause: The failure of the previous attempt.
    """
    failure = timeout_failure(kind, f"activity {_NAMES[kind]} timeout", cause)
    failure.timeout_failure_info.last_heartbeat_details.payloads.extend(details)
    return failure


def _wrapped(
    scheduled_event_id: int, command: ScheduleActivity, cause: Failure, state: RetryState.ValueType
) -> Failure:
    return activity_failure(
        cause,
        activity_id=command.activity_id,
        activity_type=command.activity_type,
        scheduled=scheduled_event_id,
        started=0,
        state=state,
    )
