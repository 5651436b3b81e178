"""What is told of an activity: to its own code, and to whoever asks the server about its workflow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from temporalio import activity
from temporalio.api.common.v1 import ActivityType, Payloads
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.common import Priority, RetryPolicy

from temporal_simulator.protocol.events import NAMESPACE, moment, timestamp

if TYPE_CHECKING:
    from temporal_simulator.server.activities import Activity


def info(doing: Activity, details: Sequence[Any]) -> activity.Info:
    """What its code can know about itself.

    Args:
        details: Its last heartbeat's.
    """
    order, run = doing.order, doing.run
    return activity.Info(
        activity_id=order.activity_id,
        activity_type=order.activity_type,
        attempt=doing.attempt,
        current_attempt_scheduled_time=moment(doing.offered_at),
        heartbeat_details=details,
        heartbeat_timeout=order.heartbeat_timeout.ToTimedelta() if order.HasField("heartbeat_timeout") else None,
        is_local=False,
        namespace=NAMESPACE,
        schedule_to_close_timeout=order.schedule_to_close_timeout.ToTimedelta(),
        scheduled_time=moment(doing.scheduled_at),
        start_to_close_timeout=order.start_to_close_timeout.ToTimedelta(),
        started_time=moment(doing.started_at),
        task_queue=order.task_queue,
        task_token=f"{run.run_id}/{order.seq}".encode(),
        workflow_id=run.workflow_id,
        workflow_namespace=NAMESPACE,
        workflow_run_id=run.run_id,
        workflow_type=run.start.workflow_type,
        priority=Priority.default,
        retry_policy=RetryPolicy.from_proto(doing.policy),
    )


def pending(doing: Activity) -> PendingActivityInfo:
    """What a server tells of it while it is not over."""
    state = PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
    if doing.is_started:
        state = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
    if doing.is_started and doing.is_cancelling:
        state = PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED
    return PendingActivityInfo(
        activity_id=doing.order.activity_id,
        activity_type=ActivityType(name=doing.order.activity_type),
        state=state,
        attempt=doing.attempt,
        maximum_attempts=doing.policy.maximum_attempts,
        scheduled_time=timestamp(doing.offered_at),
        last_started_time=timestamp(doing.started_at) if doing.started_at else None,
        last_failure=doing.last_failure,
        heartbeat_details=Payloads(payloads=doing.details) if doing.details else None,
    )
