"""What activity code can know about its own attempt: `activity.Info`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from temporalio import activity
from temporalio.common import Priority, RetryPolicy

from temporal_simulator.protocol.events import NAMESPACE, to_datetime
from temporal_simulator.protocol.interfaces import ActivityView


def activity_info(attempt: ActivityView, details: Sequence[Any]) -> activity.Info:
    """The info of an activity attempt.

    Args:
        details: Of the last heartbeat, decoded.
    """
    command, run = attempt.command, attempt.run
    return activity.Info(
        activity_id=command.activity_id,
        activity_type=command.activity_type,
        attempt=attempt.attempt,
        current_attempt_scheduled_time=to_datetime(attempt.attempt_scheduled_at),
        heartbeat_details=details,
        heartbeat_timeout=command.heartbeat_timeout.ToTimedelta() if command.HasField("heartbeat_timeout") else None,
        is_local=False,
        namespace=NAMESPACE,
        schedule_to_close_timeout=command.schedule_to_close_timeout.ToTimedelta(),
        scheduled_time=to_datetime(attempt.scheduled_at),
        start_to_close_timeout=command.start_to_close_timeout.ToTimedelta(),
        started_time=to_datetime(attempt.started_at),
        task_queue=command.task_queue,
        task_token=f"{run.run_id}/{command.seq}".encode(),
        workflow_id=run.workflow_id,
        workflow_namespace=NAMESPACE,
        workflow_run_id=run.run_id,
        workflow_type=run.start.workflow_type,
        priority=Priority.default,
        retry_policy=RetryPolicy.from_proto(attempt.policy),
    )
