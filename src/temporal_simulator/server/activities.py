"""Activities: attempts, retries and time-outs as the server keeps them; the code itself runs for real."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import RetryState, TimeoutType
from temporalio.api.failure.v1 import Failure
from temporalio.bridge.proto.workflow_activation import ResolveActivity, WorkflowActivationJob
from temporalio.bridge.proto.workflow_commands import ActivityCancellationType, ScheduleActivity

from temporal_simulator.event_queue import Event
from temporal_simulator.protocol.events import CANCELLED, nanoseconds
from temporal_simulator.server import activity_events as events
from temporal_simulator.server.activity_events import (
    HEARTBEAT,
    NO_TIMEOUT,
    SCHEDULE_TO_CLOSE,
    SCHEDULE_TO_START,
    START_TO_CLOSE,
)
from temporal_simulator.server.retries import IN_PROGRESS, TOO_LATE, filled, next_attempt

if TYPE_CHECKING:
    from temporal_simulator.protocol.start import Doing
    from temporal_simulator.server.execution import Execution
    from temporal_simulator.worker.worker import Outcome


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

    def __init__(self, run: Execution, order: ScheduleActivity, completed: int, *, scheduled: int = 0) -> None:
        """Begin one.

        Args:
            completed: Number of the event of the workflow task that ended with that.
            scheduled: Number of its event, where that is written already.
        """
        self.run = run
        self.order = order
        self.attempt = 1
        self.is_over = False
        self._is_told = False
        self.is_cancelling = 0
        self.last_failure: Failure | None = None
        self.started_at = 0
        self.is_started = self.is_told_to_stop = False
        self._steps: list[Event] = []
        self._beats: Event | None = None
        self.details: tuple[Payload, ...] = ()
        self._doing: asyncio.Task[Outcome] | None = None
        self._reports: Event | None = None
        self._too_late: Event | None = None
        self.scheduled_at = self.offered_at = run.now
        self.policy = filled(order.retry_policy)
        self._scheduled = scheduled or run.record(events.scheduled(order, self.policy, completed))
        if span := nanoseconds(order.schedule_to_close_timeout):
            self._too_late = self._later(
                run.now + span, "activity is too late", lambda: self._run_out(SCHEDULE_TO_CLOSE)
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
        self._later(self.run.now + span, "activity times out", lambda: self._time_out(attempt, START_TO_CLOSE))
        self._expect_a_beat()
        worker = self.run.simulation.workers[self.order.task_queue]
        doing = self._doing = worker.perform(self)
        await self.run.simulation.yield_to_activity(doing)
        if doing.done() and not self.run.simulation.interleaves_tasks:
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
            self.run.simulation.event_queue.cancel(self._reports)
        self._doing = self._reports = None

    def _report(self, attempt: int, doing: asyncio.Task[Outcome]) -> None:
        if self.is_over or attempt != self.attempt or not self.is_started:
            return
        if not self.run.simulation.workers[self.order.task_queue].did(doing):
            # Whoever did it has crashed before it could say so.
            return
        if self.run.simulation.scheduler.loses_report():
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
            self._end(events.completed(self._scheduled, outcome.result))

    def beat(self, attempt: int, details: tuple[Payload, ...]) -> bool:
        """The code says that it is still there; whether it is told to stop."""
        if self.is_over or attempt != self.attempt:
            return False
        self.details = details
        self._expect_a_beat()
        return bool(self.is_cancelling)

    def _expect_a_beat(self) -> None:
        if self._beats is not None:
            self.run.simulation.event_queue.cancel(self._beats)
            self._steps.remove(self._beats)
        if span := nanoseconds(self.order.heartbeat_timeout):
            attempt = self.attempt
            self._beats = self._later(
                self.run.now + span, "activity stops beating", lambda: self._time_out(attempt, HEARTBEAT)
            )

    def _not_taken(self, attempt: int) -> None:
        if attempt == self.attempt and not self.is_started:
            self._run_out(SCHEDULE_TO_START)

    def _time_out(self, attempt: int, kind: TimeoutType.ValueType) -> None:
        if attempt == self.attempt and self.is_started and not self.is_over:
            self._fail(events.late(kind, self.details), kind)

    def _run_out(self, kind: TimeoutType.ValueType) -> None:
        """There is no time for another attempt."""
        if not self.is_over:
            failure = events.late(kind, self.details, self.last_failure)
            self._end(events.failed(self._scheduled, self.order, failure, TOO_LATE, kind))

    # -- retries -------------------------------------------------------------------------------------------

    def _fail(self, failure: Failure, kind: TimeoutType.ValueType = NO_TIMEOUT) -> None:
        state, pause = self._next(failure)
        if state == TOO_LATE and kind:
            # That there is no time left for another attempt is what is told then.
            self._run_out(SCHEDULE_TO_CLOSE)
        elif state != IN_PROGRESS:
            self._end(events.failed(self._scheduled, self.order, failure, state, kind))
        else:
            self._try_again(failure, pause)

    def _try_again(self, failure: Failure, pause: int) -> None:
        self.attempt += 1
        self.is_started, self.last_failure = False, failure
        self.lose()
        self._drop_steps(self._too_late)
        self._later(self.run.now + pause, "activity again", self._offer)

    def _next(self, failure: Failure) -> tuple[RetryState.ValueType, int]:
        if self.is_cancelling:
            return CANCELLED, 0
        limit = nanoseconds(self.order.schedule_to_close_timeout)
        left = self.scheduled_at + limit - self.run.now if limit else None
        return next_attempt(self.policy, self.attempt, failure, left)

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
        self.is_cancelling = self.run.record(events.cancel_requested(self._scheduled, completed))
        if not self.is_started and not self.is_over:
            self._end_cancelled()

    def _is_about_it(self, job: WorkflowActivationJob) -> bool:
        return job.HasField("resolve_activity") and job.resolve_activity.seq == self.order.seq

    def cancelled_failure(self) -> Failure:
        """How the code learns that it is cancelled."""
        return events.cancelled_failure(self._scheduled, self.order)

    def _end_cancelled(self) -> None:
        self._end(events.cancelled(self._scheduled, self.order, self.is_cancelling))

    def _end(self, ended: events.Ended) -> None:
        last, resolution = ended
        self.is_over = True
        self._drop_steps()
        job = WorkflowActivationJob(resolve_activity=ResolveActivity(seq=self.order.seq, result=resolution))
        # Written when the activity ends, as servers do: until then it may start again.
        began = [events.started(self._scheduled, self.attempt, self.last_failure)] if self.is_started else []
        self.run.arrive(*began, last, job=None if self._is_told else job)
        self.run.forget_ended()

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

    def _soon(self, label: str, do: Doing) -> Event:
        return self.run.soon(label, do, queue=self.order.task_queue, about=str(self.order.seq))

    def _later(self, time: int, label: str, do: Callable[[], None]) -> Event:
        self._steps.append(self.run.later(time, label, do, about=str(self.order.seq)))
        return self._steps[-1]

    def _drop_steps(self, kept: Event | None = None) -> None:
        for step in self._steps:
            if step is not kept:
                self.run.simulation.event_queue.cancel(step)
        self._steps = [] if kept is None else [kept]
        self._beats = None
