"""Activities: attempts, retries and time-outs as the server keeps them; the code itself runs for real."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from temporalio import activity
from temporalio.api.common.v1 import ActivityType, Payloads, RetryPolicy
from temporalio.api.enums.v1 import EventType, RetryState, TimeoutType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.bridge.proto.activity_result import ActivityResolution, Cancellation
from temporalio.bridge.proto.activity_result import Failure as ActivityFailed
from temporalio.bridge.proto.activity_result import Success as ActivityDone
from temporalio.bridge.proto.workflow_activation import ResolveActivity, WorkflowActivationJob
from temporalio.bridge.proto.workflow_commands import ActivityCancellationType, ScheduleActivity
from temporalio.common import Priority
from temporalio.common import RetryPolicy as PolicyOfActivity

from invoice_mcp.testing.simulator._agenda import SECOND, Step
from invoice_mcp.testing.simulator._history import (
    CANCELLED,
    IDENTITY,
    NAMESPACE,
    activity_failure,
    canceled,
    event,
    moment,
    nanoseconds,
    timed_out,
)

if TYPE_CHECKING:
    from invoice_mcp.testing.simulator._execution import Doing, Execution
    from invoice_mcp.testing.simulator._worker import Outcome

_START_TO_CLOSE = TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE
_SCHEDULE_TO_CLOSE = TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE
_SCHEDULE_TO_START = TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START
_NONE = TimeoutType.TIMEOUT_TYPE_UNSPECIFIED
_NAMES = {_START_TO_CLOSE: "StartToClose", _SCHEDULE_TO_CLOSE: "ScheduleToClose", _SCHEDULE_TO_START: "ScheduleToStart"}
# What a server fills in where a policy says nothing.
_FIRST_PAUSE, _COEFFICIENT, _LONGEST_PAUSE = SECOND, 2.0, 100
_TOO_LATE = RetryState.RETRY_STATE_TIMEOUT


class Activity:
    """One activity of one run.

    Attributes:
        order: What the code wanted.
        attempt: The one that is under way, or comes next; from 1.
    """

    def __init__(self, run: Execution, order: ScheduleActivity, completed: int) -> None:
        self.run = run
        self.order = order
        self.attempt = 1
        self._is_over = False
        self._is_told = False
        self._is_cancelling = 0
        self._last_failure: Failure | None = None
        self._started_at = 0
        self._is_started = False
        self._steps: list[Step] = []
        self._doing: asyncio.Task[Outcome] | None = None
        self._scheduled_at = run.now
        self._policy = _filled(order.retry_policy)
        self._scheduled = run.record(
            event(
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
                retry_policy=self._policy,
                workflow_task_completed_event_id=completed,
            )
        )
        if span := nanoseconds(order.schedule_to_close_timeout):
            self._later(run.now + span, "activity is too late", lambda: self._run_out(_SCHEDULE_TO_CLOSE))
        self._offer()

    # -- attempts ------------------------------------------------------------------------------------------

    def _offer(self) -> None:
        attempt = self.attempt
        self._steps.append(self._soon("activity starts", self._begin))
        if span := nanoseconds(self.order.schedule_to_start_timeout):
            self._later(self.run.now + span, "activity is not taken", lambda: self._not_taken(attempt))

    async def _begin(self) -> None:
        self._is_started, self._started_at, attempt = True, self.run.now, self.attempt
        span = nanoseconds(self.order.start_to_close_timeout) or nanoseconds(self.order.schedule_to_close_timeout)
        self._later(self.run.now + span, "activity times out", lambda: self._time_out(attempt, _START_TO_CLOSE))
        worker = self.run.simulation.workers[self.order.task_queue]
        doing = self._doing = worker.perform(self)
        await self.run.simulation.let_go_on(doing)
        if doing.done() and not self.run.simulation.splits_tasks:
            self._report(attempt, doing)
        elif doing.done():
            self._can_report(attempt, doing)
        else:
            doing.add_done_callback(lambda done: self._can_report(attempt, done))

    def _can_report(self, attempt: int, doing: asyncio.Task[Outcome]) -> None:
        """The code has ended, unless it was the worker that did."""
        if not doing.cancelled():
            self._soon("activity reports", lambda: self._report(attempt, doing))
            self.run.simulation.wake()

    def _report(self, attempt: int, doing: asyncio.Task[Outcome]) -> None:
        if self._is_over or attempt != self.attempt or not self._is_started:
            return
        if not self.run.simulation.workers[self.order.task_queue].did(doing):
            # Whoever did it has crashed before it could say so.
            return
        outcome = doing.result()
        if outcome.is_cancelled and self._is_cancelling:
            self._end_cancelled()
        elif outcome.failure is not None:
            self._fail(outcome.failure)
        else:
            result = outcome.result
            done = event(
                EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED,
                result=Payloads(payloads=[result]) if result is not None else None,
                scheduled_event_id=self._scheduled,
                identity=IDENTITY,
            )
            self._end(done, ActivityResolution(completed=ActivityDone(result=result)))

    def _not_taken(self, attempt: int) -> None:
        if attempt == self.attempt and not self._is_started:
            self._run_out(_SCHEDULE_TO_START)

    def _time_out(self, attempt: int, kind: TimeoutType.ValueType) -> None:
        if attempt == self.attempt and self._is_started and not self._is_over:
            self._fail(timed_out(kind, f"activity {_NAMES[kind]} timeout"), kind)

    def _run_out(self, kind: TimeoutType.ValueType) -> None:
        """There is no time for another attempt."""
        if not self._is_over:
            self._end_failed(timed_out(kind, f"activity {_NAMES[kind]} timeout"), _TOO_LATE, kind)

    # -- retries -------------------------------------------------------------------------------------------

    def _fail(self, failure: Failure, kind: TimeoutType.ValueType = _NONE) -> None:
        state, pause = self._next(failure)
        if state != RetryState.RETRY_STATE_IN_PROGRESS:
            self._end_failed(failure, state, kind)
            return
        self.attempt += 1
        self._is_started, self._last_failure = False, failure
        self._later(self.run.now + pause, "activity again", self._offer)

    def _next(self, failure: Failure) -> tuple[RetryState.ValueType, int]:
        """Whether there is another attempt, and after which pause."""
        told, policy = failure.application_failure_info, self._policy
        if self._is_cancelling:
            return CANCELLED, 0
        if told.non_retryable or (told.type and told.type in policy.non_retryable_error_types):
            return RetryState.RETRY_STATE_NON_RETRYABLE_FAILURE, 0
        if policy.maximum_attempts and self.attempt >= policy.maximum_attempts:
            return RetryState.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED, 0
        pause = int(nanoseconds(policy.initial_interval) * policy.backoff_coefficient ** (self.attempt - 1))
        pause = nanoseconds(told.next_retry_delay) or min(pause, nanoseconds(policy.maximum_interval))
        limit = nanoseconds(self.order.schedule_to_close_timeout)
        if limit and self.run.now + pause >= self._scheduled_at + limit:
            return _TOO_LATE, 0
        return RetryState.RETRY_STATE_IN_PROGRESS, pause

    # -- the end -------------------------------------------------------------------------------------------

    def request_cancel(self, completed: int) -> None:
        """The code wants it cancelled; whether it waits for that is in the order."""
        kind = self.order.cancellation_type
        self._is_told = self._is_told or kind != ActivityCancellationType.WAIT_CANCELLATION_COMPLETED
        if kind == ActivityCancellationType.ABANDON or self._is_over:
            return
        self._is_cancelling = self.run.record(
            event(
                EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED,
                scheduled_event_id=self._scheduled,
                workflow_task_completed_event_id=completed,
            )
        )
        if not self._is_started:
            self._end_cancelled()

    def cancelled_failure(self) -> Failure:
        """How the code learns that it is cancelled."""
        return self._wrapped(canceled(), CANCELLED)

    def _wrapped(self, cause: Failure, state: RetryState.ValueType) -> Failure:
        return activity_failure(
            cause,
            activity_id=self.order.activity_id,
            activity_type=self.order.activity_type,
            scheduled=self._scheduled,
            started=0,
            state=state,
        )

    def _end_cancelled(self) -> None:
        last = event(
            EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED,
            latest_cancel_requested_event_id=self._is_cancelling,
            scheduled_event_id=self._scheduled,
            identity=IDENTITY,
        )
        self._end(last, ActivityResolution(cancelled=Cancellation(failure=self.cancelled_failure())))

    def _end_failed(self, failure: Failure, state: RetryState.ValueType, kind: TimeoutType.ValueType) -> None:
        what = EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT if kind else EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED
        last = event(what, failure=failure, scheduled_event_id=self._scheduled, retry_state=state)
        self._end(last, ActivityResolution(failed=ActivityFailed(failure=self._wrapped(failure, state))))

    def _end(self, last: HistoryEvent, resolution: ActivityResolution) -> None:
        self._is_over = True
        self._drop_steps()
        job = WorkflowActivationJob(resolve_activity=ResolveActivity(seq=self.order.seq, result=resolution))
        started = [self._start_event()] if self._is_started else []
        self.run.arrive(*started, last, job=None if self._is_told else job)
        self.run.activities.pop(self.order.seq, None)

    def _start_event(self) -> HistoryEvent:
        # Written when the activity ends, as servers do: until then it may start again.
        return event(
            EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED,
            scheduled_event_id=self._scheduled,
            identity=IDENTITY,
            attempt=self.attempt,
            last_failure=self._last_failure,
        )

    def abandon(self) -> None:
        """Its workflow has ended. What its code does now, nobody waits for."""
        self._is_over = True
        self._drop_steps()

    def digest(self) -> Hashable:
        """What its workflow's code does not know of it, or need not."""
        told = repr(self._doing.result()) if self._doing and self._doing.done() and not self._doing.cancelled() else ""
        times = self._scheduled_at, self._started_at
        order = self.order.SerializeToString(deterministic=True)
        return order, self.attempt, self._is_started, times, bool(self._is_cancelling), self._is_told, told

    def _soon(self, label: str, do: Doing) -> Step:
        return self.run.soon(label, do, queue=self.order.task_queue, about=str(self.order.seq))

    def _later(self, time: int, label: str, do: Callable[[], None]) -> None:
        self._steps.append(self.run.later(time, label, do, about=str(self.order.seq)))

    def _drop_steps(self) -> None:
        for step in self._steps:
            self.run.simulation.agenda.drop(step)
        self._steps.clear()

    def info(self) -> activity.Info:
        """What its code can know about itself."""
        order, run = self.order, self.run
        return activity.Info(
            activity_id=order.activity_id,
            activity_type=order.activity_type,
            attempt=self.attempt,
            current_attempt_scheduled_time=moment(self._scheduled_at),
            heartbeat_details=[],
            heartbeat_timeout=None,
            is_local=False,
            namespace=NAMESPACE,
            schedule_to_close_timeout=order.schedule_to_close_timeout.ToTimedelta(),
            scheduled_time=moment(self._scheduled_at),
            start_to_close_timeout=order.start_to_close_timeout.ToTimedelta(),
            started_time=moment(self._started_at),
            task_queue=order.task_queue,
            task_token=f"{run.run_id}/{order.seq}".encode(),
            workflow_id=run.workflow_id,
            workflow_namespace=NAMESPACE,
            workflow_run_id=run.run_id,
            workflow_type=run.start.workflow_type,
            priority=Priority.default,
            retry_policy=PolicyOfActivity.from_proto(self._policy),
        )


def _filled(given: RetryPolicy) -> RetryPolicy:
    policy = RetryPolicy()
    policy.CopyFrom(given)
    if not nanoseconds(policy.initial_interval):
        policy.initial_interval.FromSeconds(_FIRST_PAUSE // SECOND)
    policy.backoff_coefficient = policy.backoff_coefficient or _COEFFICIENT
    if not nanoseconds(policy.maximum_interval):
        policy.maximum_interval.FromNanoseconds(nanoseconds(policy.initial_interval) * _LONGEST_PAUSE)
    return policy
