"""Activities as the server keeps them: attempts, heartbeats, timeouts, retries and cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import RetryState, TimeoutType
from temporalio.api.failure.v1 import Failure
from temporalio.bridge.proto.workflow_activation import ResolveActivity, WorkflowActivationJob
from temporalio.bridge.proto.workflow_commands import ActivityCancellationType, ScheduleActivity

from temporal_simulator.event_queue import Action, Event
from temporal_simulator.protocol.events import CANCEL_REQUESTED, to_nanoseconds
from temporal_simulator.protocol.interfaces import AttemptResult
from temporal_simulator.server import activity_events as events
from temporal_simulator.server.activity_events import (
    HEARTBEAT,
    NO_TIMEOUT,
    SCHEDULE_TO_CLOSE,
    SCHEDULE_TO_START,
    START_TO_CLOSE,
)
from temporal_simulator.server.retries import IN_PROGRESS, TIMEOUT, next_retry, with_defaults

if TYPE_CHECKING:
    from temporal_simulator.server.execution import Execution


class Activity:
    """One activity of one run.

    Attributes:
        command: The command that scheduled it.
        attempt: Number of the current or next attempt, from 1.
        policy: Its retry policy, complete.
        scheduled_at, attempt_scheduled_at, started_at: Virtual times; the last two are of the current attempt.
        is_started: Whether the current attempt has started.
        cancel_event_id: Id of the event that requested cancellation; 0 if there is none.
        is_cancel_delivered: Whether the worker has cancelled the activity's code.
        is_closed: Whether there is no further attempt.
        last_failure: Of the previous attempt.
        details: Of the last heartbeat, for the next attempt.
    """

    def __init__(self, run: Execution, command: ScheduleActivity, task_completed: int, *, scheduled: int = 0) -> None:
        """Schedule an activity.

        Args:
            task_completed: Id of the event that completed the workflow task with the command.
            scheduled: Id of the event that scheduled it, if that is in the history already.
        """
        self.run = run
        self.command = command
        self.attempt = 1
        self.is_closed = False
        # Whether workflow code has its resolution already, because it does not wait for the cancellation.
        self._is_resolved = False
        self.cancel_event_id = 0
        self.last_failure: Failure | None = None
        self.started_at = 0
        self.is_started = self.is_cancel_delivered = False
        self._events: list[Event] = []
        self._heartbeat_timer: Event | None = None
        self.details: tuple[Payload, ...] = ()
        self._attempt_task: asyncio.Task[AttemptResult] | None = None
        self._report: Event | None = None
        self._close_timer: Event | None = None
        self.scheduled_at = self.attempt_scheduled_at = run.now
        self.policy = with_defaults(command.retry_policy)
        self._scheduled = scheduled or run.record(events.scheduled(command, self.policy, task_completed))
        if span := to_nanoseconds(command.schedule_to_close_timeout):
            self._close_timer = self._schedule(
                run.now + span, "activity schedule-to-close timeout", lambda: self._expire(SCHEDULE_TO_CLOSE)
            )
        self._schedule_attempt()

    # -- attempts ------------------------------------------------------------------------------------------

    def _schedule_attempt(self) -> None:
        self.attempt_scheduled_at, attempt = self.run.now, self.attempt
        self._events.append(self._enable("activity starts", self._start_attempt))
        if span := to_nanoseconds(self.command.schedule_to_start_timeout):
            self._schedule(
                self.run.now + span, "activity schedule-to-start timeout", lambda: self._expire_unstarted(attempt)
            )

    async def _start_attempt(self) -> None:
        self.is_started, self.started_at, attempt = True, self.run.now, self.attempt
        span = to_nanoseconds(self.command.start_to_close_timeout)
        span = span or to_nanoseconds(self.command.schedule_to_close_timeout)
        self._schedule(self.run.now + span, "activity times out", lambda: self._time_out(attempt, START_TO_CLOSE))
        self._restart_heartbeat_timer()
        worker = self.run.simulation.workers[self.command.task_queue]
        task = self._attempt_task = worker.execute(self)
        await self.run.simulation.yield_to_activity(task)
        if task.done() and not self.run.simulation.interleaves_tasks:
            self._process_report(attempt, task)
        elif task.done():
            self._enable_report(attempt, task)
        else:
            task.add_done_callback(lambda done: self._enable_report(attempt, done))

    def _enable_report(self, attempt: int, task: asyncio.Task[AttemptResult]) -> None:
        # A cancelled task means that the worker has crashed.
        if self._attempt_task is task and not task.cancelled():
            self._report = self._enable("activity reports", lambda: self._process_report(attempt, task))
            self.run.simulation.wake()

    def lose_attempt(self) -> None:
        """Ignore the current attempt: its worker has crashed, or it has timed out."""
        if self._report is not None:
            self.run.simulation.event_queue.cancel(self._report)
        self._attempt_task = self._report = None

    def _process_report(self, attempt: int, task: asyncio.Task[AttemptResult]) -> None:
        if self.is_closed or attempt != self.attempt or not self.is_started:
            return
        if not self.run.simulation.workers[self.command.task_queue].release(task):
            # The worker that ran it crashed before it could report.
            return
        if self.run.simulation.scheduler.loses_report():
            return
        result = task.result()
        if result.is_cancelled and not self.cancel_event_id:
            # A server rejects this report, and the attempt times out.
            return
        if result.is_cancelled:
            self._close_cancelled()
        elif result.failure is not None:
            self._fail(result.failure)
        else:
            self._close(events.completed(self._scheduled, result.result))

    def heartbeat(self, attempt: int, details: tuple[Payload, ...]) -> bool:
        """Record a heartbeat; returns whether cancellation was requested."""
        if self.is_closed or attempt != self.attempt:
            return False
        self.details = details
        self._restart_heartbeat_timer()
        return bool(self.cancel_event_id)

    def _restart_heartbeat_timer(self) -> None:
        if self._heartbeat_timer is not None:
            self.run.simulation.event_queue.cancel(self._heartbeat_timer)
            self._events.remove(self._heartbeat_timer)
        if span := to_nanoseconds(self.command.heartbeat_timeout):
            attempt = self.attempt
            self._heartbeat_timer = self._schedule(
                self.run.now + span, "activity heartbeat timeout", lambda: self._time_out(attempt, HEARTBEAT)
            )

    # -- timeouts and retries ------------------------------------------------------------------------------

    def _expire_unstarted(self, attempt: int) -> None:
        if attempt == self.attempt and not self.is_started:
            self._expire(SCHEDULE_TO_START)

    def _time_out(self, attempt: int, kind: TimeoutType.ValueType) -> None:
        """Fail an attempt that took too long."""
        if attempt == self.attempt and self.is_started and not self.is_closed:
            self._fail(events.late(kind, self.details), kind)

    def _expire(self, kind: TimeoutType.ValueType) -> None:
        """Close the activity with a timeout that allows no retry."""
        if not self.is_closed:
            failure = events.late(kind, self.details, self.last_failure)
            self._close(events.failed(self._scheduled, self.command, failure, TIMEOUT, kind))

    def _fail(self, failure: Failure, kind: TimeoutType.ValueType = NO_TIMEOUT) -> None:
        state, backoff = self._next_retry(failure)
        if state == TIMEOUT and kind:
            # An attempt timed out, and no time is left for another one: servers report the latter.
            self._expire(SCHEDULE_TO_CLOSE)
        elif state != IN_PROGRESS:
            self._close(events.failed(self._scheduled, self.command, failure, state, kind))
        else:
            self._retry(failure, backoff)

    def _retry(self, failure: Failure, backoff: int) -> None:
        self.attempt += 1
        self.is_started, self.last_failure = False, failure
        self.lose_attempt()
        self._cancel_events(keep=self._close_timer)
        self._schedule(self.run.now + backoff, "activity retry", self._schedule_attempt)

    def _next_retry(self, failure: Failure) -> tuple[RetryState.ValueType, int]:
        if self.cancel_event_id:
            return CANCEL_REQUESTED, 0
        limit = to_nanoseconds(self.command.schedule_to_close_timeout)
        remaining = self.scheduled_at + limit - self.run.now if limit else None
        return next_retry(self.policy, self.attempt, failure, remaining)

    # -- cancellation and close ----------------------------------------------------------------------------

    def request_cancel(self, task_completed: int) -> None:
        """Request cancellation; whether the code waits for it is in the command. A repeated request has no effect."""
        kind = self.command.cancellation_type
        if self._is_resolved or self.cancel_event_id:
            return
        if kind != ActivityCancellationType.WAIT_CANCELLATION_COMPLETED:
            self._is_resolved = True
            self.run.tasks.resolve_buffered(self._is_resolution)
        if kind == ActivityCancellationType.ABANDON:
            return
        self.cancel_event_id = self.run.record(events.cancel_requested(self._scheduled, task_completed))
        if not self.is_started and not self.is_closed:
            self._close_cancelled()

    def _is_resolution(self, job: WorkflowActivationJob) -> bool:
        return job.HasField("resolve_activity") and job.resolve_activity.seq == self.command.seq

    def cancelled_failure(self) -> Failure:
        """The failure that workflow code gets if the activity is cancelled."""
        return events.cancelled_failure(self._scheduled, self.command)

    def _close_cancelled(self) -> None:
        self._close(events.cancelled(self._scheduled, self.command, self.cancel_event_id))

    def _close(self, closing: events.Closing) -> None:
        last, resolution = closing
        self.is_closed = True
        self._cancel_events()
        job = WorkflowActivationJob(resolve_activity=ResolveActivity(seq=self.command.seq, result=resolution))
        # As on servers, the start is written only now: until the activity closes, another attempt may start.
        started = [events.started(self._scheduled, self.attempt, self.last_failure)] if self.is_started else []
        self.run.deliver(*started, last, job=None if self._is_resolved else job)
        self.run.prune_closed()

    def abandon(self) -> None:
        """The workflow has closed: ignore what the activity does from now on."""
        self.is_closed = True
        self._cancel_events()

    def digest(self) -> Hashable:
        """Everything on which its future depends, and that workflow code does not know."""
        task = self._attempt_task
        result = repr(task.result()) if task and task.done() and not task.cancelled() else ""
        times = self.scheduled_at, self.attempt_scheduled_at, self.started_at
        command = self.command.SerializeToString(deterministic=True)
        details = tuple(detail.SerializeToString(deterministic=True) for detail in self.details)
        is_cancelling = bool(self.cancel_event_id)
        return command, self.attempt, self.is_started, times, is_cancelling, self._is_resolved, result, details

    def _enable(self, label: str, action: Action) -> Event:
        return self.run.enable(label, action, task_queue=self.command.task_queue, detail=str(self.command.seq))

    def _schedule(self, time: int, label: str, action: Callable[[], None]) -> Event:
        self._events.append(self.run.schedule(time, label, action, detail=str(self.command.seq)))
        return self._events[-1]

    def _cancel_events(self, keep: Event | None = None) -> None:
        for event in self._events:
            if event is not keep:
                self.run.simulation.event_queue.cancel(event)
        self._events = [] if keep is None else [keep]
        self._heartbeat_timer = None
