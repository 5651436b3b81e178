"""Activities: attempts, retries and time-outs as the server keeps them; the code itself runs for real."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from temporalio.api.common.v1 import ActivityType, Payload, Payloads
from temporalio.api.enums.v1 import EventType, RetryState, TimeoutType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.bridge.proto.activity_result import ActivityResolution, Cancellation
from temporalio.bridge.proto.activity_result import Failure as ActivityFailed
from temporalio.bridge.proto.activity_result import Success as ActivityDone
from temporalio.bridge.proto.workflow_activation import ResolveActivity, WorkflowActivationJob
from temporalio.bridge.proto.workflow_commands import ActivityCancellationType, ScheduleActivity

from invoice_mcp.testing.simulator._agenda import Step
from invoice_mcp.testing.simulator._history import (
    CANCELLED,
    IDENTITY,
    activity_failure,
    canceled,
    event,
    nanoseconds,
    timed_out,
)
from invoice_mcp.testing.simulator._retrying import back_off, filled

if TYPE_CHECKING:
    from invoice_mcp.testing.simulator._execution import Doing, Execution
    from invoice_mcp.testing.simulator._worker import Outcome

_START_TO_CLOSE = TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE
_SCHEDULE_TO_CLOSE = TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE
_SCHEDULE_TO_START = TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START
_NONE = TimeoutType.TIMEOUT_TYPE_UNSPECIFIED
_HEARTBEAT = TimeoutType.TIMEOUT_TYPE_HEARTBEAT
_NAMES = {
    _START_TO_CLOSE: "StartToClose",
    _SCHEDULE_TO_CLOSE: "ScheduleToClose",
    _SCHEDULE_TO_START: "ScheduleToStart",
    _HEARTBEAT: "Heartbeat",
}
_TOO_LATE = RetryState.RETRY_STATE_TIMEOUT


class Activity:
    """One activity of one run.

    Attributes:
        order: What the code wanted.
        attempt: The one that is under way, or comes next; from 1.
        policy: How it is retried.
        scheduled_at, offered_at, started_at: When it was wanted, when this attempt was, and when that began.
        is_started: This attempt has begun.
        is_cancelling: Number of the event; 0 if it is not to be cancelled.
        is_told_to_stop: Its code has been.
        is_over: There is no other attempt, and nothing is under way.
        last_failure: The attempt's before this one.
        details: What its code told with its last heartbeat, for its next attempt.
    """

    def __init__(self, run: Execution, order: ScheduleActivity, completed: int) -> None:
        self.run = run
        self.order = order
        self.attempt = 1
        self.is_over = False
        self._is_told = False
        self.is_cancelling = 0
        self.last_failure: Failure | None = None
        self.started_at = 0
        self.is_started = self.is_told_to_stop = False
        self._steps: list[Step] = []
        self._beats: Step | None = None
        self.details: tuple[Payload, ...] = ()
        self._doing: asyncio.Task[Outcome] | None = None
        self._reports: Step | None = None
        self._too_late: Step | None = None
        self.scheduled_at = self.offered_at = run.now
        self.policy = filled(order.retry_policy)
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
                retry_policy=self.policy,
                workflow_task_completed_event_id=completed,
            )
        )
        if span := nanoseconds(order.schedule_to_close_timeout):
            self._too_late = self._later(
                run.now + span, "activity is too late", lambda: self._run_out(_SCHEDULE_TO_CLOSE)
            )
        self._offer()

    # -- attempts ------------------------------------------------------------------------------------------

    def _offer(self) -> None:
        self.offered_at, attempt = self.run.now, self.attempt
        self._steps.append(self._soon("activity starts", self._begin))
        if span := nanoseconds(self.order.schedule_to_start_timeout):
            self._later(self.run.now + span, "activity is not taken", lambda: self._not_taken(attempt))

    async def _begin(self) -> None:
        self.is_started, self.started_at, attempt = True, self.run.now, self.attempt
        span = nanoseconds(self.order.start_to_close_timeout) or nanoseconds(self.order.schedule_to_close_timeout)
        self._later(self.run.now + span, "activity times out", lambda: self._time_out(attempt, _START_TO_CLOSE))
        self._expect_a_beat()
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
        if self._doing is doing and not doing.cancelled():
            self._reports = self._soon("activity reports", lambda: self._report(attempt, doing))
            self.run.simulation.wake()

    def lose(self) -> None:
        """Whoever has it under way has crashed, or is too late: nobody is told how it ends, or has ended."""
        if self._reports is not None:
            self.run.simulation.agenda.drop(self._reports)
        self._doing = self._reports = None

    def _report(self, attempt: int, doing: asyncio.Task[Outcome]) -> None:
        if self.is_over or attempt != self.attempt or not self.is_started:
            return
        if not self.run.simulation.workers[self.order.task_queue].did(doing):
            # Whoever did it has crashed before it could say so.
            return
        if self.run.simulation.chooser.loses():
            return
        outcome = doing.result()
        if outcome.is_cancelled and not self.is_cancelling:
            # A server refuses that report, and nobody hears of the attempt again: its time runs out.
            return
        if outcome.is_cancelled:
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

    def beat(self, attempt: int, details: tuple[Payload, ...]) -> bool:
        """The code says that it is still there; whether it is told to stop."""
        if self.is_over or attempt != self.attempt:
            return False
        self.details = details
        self._expect_a_beat()
        return bool(self.is_cancelling)

    def _expect_a_beat(self) -> None:
        if self._beats is not None:
            self.run.simulation.agenda.drop(self._beats)
            self._steps.remove(self._beats)
        if span := nanoseconds(self.order.heartbeat_timeout):
            attempt = self.attempt
            self._beats = self._later(
                self.run.now + span, "activity stops beating", lambda: self._time_out(attempt, _HEARTBEAT)
            )

    def _not_taken(self, attempt: int) -> None:
        if attempt == self.attempt and not self.is_started:
            self._run_out(_SCHEDULE_TO_START)

    def _time_out(self, attempt: int, kind: TimeoutType.ValueType) -> None:
        if attempt == self.attempt and self.is_started and not self.is_over:
            self._fail(self._late(kind), kind)

    def _run_out(self, kind: TimeoutType.ValueType) -> None:
        """There is no time for another attempt."""
        if not self.is_over:
            self._end_failed(self._late(kind, self.last_failure), _TOO_LATE, kind)

    def _late(self, kind: TimeoutType.ValueType, cause: Failure | None = None) -> Failure:
        failure = timed_out(kind, f"activity {_NAMES[kind]} timeout", cause)
        failure.timeout_failure_info.last_heartbeat_details.payloads.extend(self.details)
        return failure

    # -- retries -------------------------------------------------------------------------------------------

    def _fail(self, failure: Failure, kind: TimeoutType.ValueType = _NONE) -> None:
        state, pause = self._next(failure)
        if state == _TOO_LATE and kind:
            # That there is no time left for another attempt is what is told then.
            self._end_failed(self._late(_SCHEDULE_TO_CLOSE, self.last_failure), state, _SCHEDULE_TO_CLOSE)
            return
        if state != RetryState.RETRY_STATE_IN_PROGRESS:
            self._end_failed(failure, state, kind)
            return
        self.attempt += 1
        self.is_started, self.last_failure = False, failure
        self.lose()
        self._drop_steps(self._too_late)
        self._later(self.run.now + pause, "activity again", self._offer)

    def _next(self, failure: Failure) -> tuple[RetryState.ValueType, int]:
        """Whether there is another attempt, and after which pause."""
        told, policy = failure.application_failure_info, self.policy
        if self.is_cancelling:
            return CANCELLED, 0
        if told.non_retryable or (told.type and told.type in policy.non_retryable_error_types):
            return RetryState.RETRY_STATE_NON_RETRYABLE_FAILURE, 0
        if policy.maximum_attempts and self.attempt >= policy.maximum_attempts:
            return RetryState.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED, 0
        pause = nanoseconds(told.next_retry_delay) or back_off(self.policy, self.attempt)
        limit = nanoseconds(self.order.schedule_to_close_timeout)
        if limit and self.run.now + pause >= self.scheduled_at + limit:
            return _TOO_LATE, 0
        return RetryState.RETRY_STATE_IN_PROGRESS, pause

    # -- the end -------------------------------------------------------------------------------------------

    def request_cancel(self, completed: int) -> None:
        """The code wants it cancelled; whether it waits for that is in the order."""
        kind = self.order.cancellation_type
        if self._is_told or self.is_cancelling:
            # Cancelled again.
            return
        if kind != ActivityCancellationType.WAIT_CANCELLATION_COMPLETED:
            self._is_told = True
            self.run.tasks.leave_untold(self._is_about_it)
        if kind == ActivityCancellationType.ABANDON:
            return
        self.is_cancelling = self.run.record(
            event(
                EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED,
                scheduled_event_id=self._scheduled,
                workflow_task_completed_event_id=completed,
            )
        )
        if not self.is_started and not self.is_over:
            self._end_cancelled()

    def _is_about_it(self, job: WorkflowActivationJob) -> bool:
        return job.HasField("resolve_activity") and job.resolve_activity.seq == self.order.seq

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
            latest_cancel_requested_event_id=self.is_cancelling,
            scheduled_event_id=self._scheduled,
            identity=IDENTITY,
        )
        self._end(last, ActivityResolution(cancelled=Cancellation(failure=self.cancelled_failure())))

    def _end_failed(self, failure: Failure, state: RetryState.ValueType, kind: TimeoutType.ValueType) -> None:
        what = EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT if kind else EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED
        last = event(what, failure=failure, scheduled_event_id=self._scheduled, retry_state=state)
        self._end(last, ActivityResolution(failed=ActivityFailed(failure=self._wrapped(failure, state))))

    def _end(self, last: HistoryEvent, resolution: ActivityResolution) -> None:
        self.is_over = True
        self._drop_steps()
        job = WorkflowActivationJob(resolve_activity=ResolveActivity(seq=self.order.seq, result=resolution))
        started = [self._start_event()] if self.is_started else []
        self.run.arrive(*started, last, job=None if self._is_told else job)
        self.run.forget_ended()

    def _start_event(self) -> HistoryEvent:
        # Written when the activity ends, as servers do: until then it may start again.
        return event(
            EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED,
            scheduled_event_id=self._scheduled,
            identity=IDENTITY,
            attempt=self.attempt,
            last_failure=self.last_failure,
        )

    def abandon(self) -> None:
        """Its workflow has ended. What its code does now, nobody waits for."""
        self.is_over = True
        self._drop_steps()

    def digest(self) -> Hashable:
        """What its workflow's code does not know of it, or need not."""
        told = repr(self._doing.result()) if self._doing and self._doing.done() and not self._doing.cancelled() else ""
        times = self.scheduled_at, self.offered_at, self.started_at
        order = self.order.SerializeToString(deterministic=True)
        beats = tuple(detail.SerializeToString(deterministic=True) for detail in self.details)
        return order, self.attempt, self.is_started, times, bool(self.is_cancelling), self._is_told, told, beats

    def _soon(self, label: str, do: Doing) -> Step:
        return self.run.soon(label, do, queue=self.order.task_queue, about=str(self.order.seq))

    def _later(self, time: int, label: str, do: Callable[[], None]) -> Step:
        self._steps.append(self.run.later(time, label, do, about=str(self.order.seq)))
        return self._steps[-1]

    def _drop_steps(self, kept: Step | None = None) -> None:
        for step in self._steps:
            if step is not kept:
                self.run.simulation.agenda.drop(step)
        self._steps = [] if kept is None else [kept]
        self._beats = None
