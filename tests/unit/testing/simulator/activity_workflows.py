"""Small workflows with heartbeats, timeouts, failures and cancellations of activities and children."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import ClassVar

from temporalio import activity, workflow
from temporalio.common import RetryPolicy, SearchAttributeKey
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, ChildWorkflowError
from temporalio.exceptions import TimeoutError as TookTooLong
from temporalio.workflow import ActivityCancellationType, ChildWorkflowCancellationType

from tests.unit.testing.simulator import workflows

UNREGISTERED = SearchAttributeKey.for_keyword("UnheardOf")
_MINUTE = timedelta(minutes=1)
_SECOND = timedelta(seconds=1)


def describe(error: BaseException | None) -> str:
    """The types of an error and its causes."""
    words = []
    while error is not None:
        kind = type(error).__name__
        if isinstance(error, ActivityError):
            kind += f" {error.retry_state.name if error.retry_state else ''}"
        elif isinstance(error, TookTooLong):
            kind += f" {error.type.name if error.type else ''}"
        elif isinstance(error, ApplicationError):
            kind += f" {error.message}"
        words.append(kind)
        error = error.__cause__
    return " < ".join(words)


# -- activities ------------------------------------------------------------------------------------------------


@activity.defn
async def resumes_from_heartbeat() -> str:
    """Fails once, after a heartbeat with details."""
    details = list(activity.info().heartbeat_details)
    if not details:
        activity.heartbeat("page", 7)
        raise ApplicationError("again")
    info = activity.info()
    waited = info.current_attempt_scheduled_time - info.scheduled_time
    return f"{details} {int(waited.total_seconds())}"


@activity.defn
async def heartbeats() -> str:
    """Heartbeats until it is cancelled, or for a minute."""
    try:
        for _ in range(600):
            activity.heartbeat()
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        workflows.ActivityLog.attempts.append("cancelled")
        raise
    return "went to its end"


@activity.defn
async def raises_cancelled_error() -> None:
    """Raises the SDK's CancelledError without having been cancelled."""
    raise CancelledError("gives up")


@activity.defn
async def raises_asyncio_cancelled_error() -> None:
    """Raises asyncio's CancelledError without having been cancelled."""
    raise asyncio.CancelledError


@activity.defn
async def always_fails() -> None:
    raise ApplicationError("once more")


@activity.defn
async def hangs() -> None:
    await asyncio.Event().wait()


@activity.defn
async def blocks() -> None:
    await asyncio.Event().wait()


@activity.defn
async def fails_then_hangs() -> None:
    if activity.info().attempt == 1:
        raise ApplicationError("first")
    await asyncio.Event().wait()


# -- workflows -------------------------------------------------------------------------------------------------


@workflow.defn
class RunsActivity:
    """Runs one activity, and returns how it ended."""

    @workflow.run
    async def run(self, what: str) -> str:
        once = RetryPolicy(maximum_attempts=1)
        every_2 = RetryPolicy(initial_interval=2 * _SECOND, backoff_coefficient=1)
        match what:
            case "raises_cancelled_error" | "raises_asyncio_cancelled_error":
                handle = workflow.execute_activity(what, start_to_close_timeout=2 * _SECOND, retry_policy=once)
            case "hangs":
                handle = workflow.execute_activity(
                    hangs,
                    start_to_close_timeout=_SECOND,
                    schedule_to_close_timeout=2 * _SECOND,
                    retry_policy=every_2,
                )
            case "fails_then_hangs":
                handle = workflow.execute_activity(
                    fails_then_hangs,
                    start_to_close_timeout=_MINUTE,
                    schedule_to_close_timeout=3 * _SECOND,
                    retry_policy=RetryPolicy(initial_interval=_SECOND),
                )
            case "stops beating":
                handle = workflow.execute_activity(
                    hangs, start_to_close_timeout=_MINUTE, heartbeat_timeout=_SECOND, retry_policy=once
                )
            case "always_fails":
                handle = workflow.execute_activity(always_fails, start_to_close_timeout=_MINUTE)
            case _:
                handle = workflow.execute_activity(what, start_to_close_timeout=_MINUTE, retry_policy=every_2)
        try:
            return str(await handle)
        except ActivityError as error:
            return describe(error)


@workflow.defn
class CancelsActivity:
    """Cancels an activity that heartbeats, and waits for it."""

    @workflow.run
    async def run(self) -> str:
        handle = workflow.start_activity(
            heartbeats,
            start_to_close_timeout=_MINUTE,
            heartbeat_timeout=_SECOND,
            cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        await workflow.sleep(_SECOND)
        handle.cancel()
        try:
            return await handle
        except ActivityError as error:
            return describe(error)


@workflow.defn
class SetsUnregisteredAttribute:
    """Sets a search attribute that is not registered."""

    @workflow.run
    async def run(self) -> None:
        workflow.upsert_search_attributes([UNREGISTERED.value_set("x")])


@workflow.defn
class ChangesMemo:
    """Changes its memo, and removes a field."""

    @workflow.run
    async def run(self) -> str:
        workflow.upsert_memo({"kept": 1, "taken back": 2})
        await workflow.sleep(_SECOND)
        workflow.upsert_memo({"taken back": None})
        return f"{workflow.info().execution_timeout}"


@workflow.defn
class AbandonsActivity:
    """On a signal, cancels an activity without waiting for it."""

    def __init__(self) -> None:
        self.is_signalled = False

    @workflow.signal
    def go(self) -> None:
        self.is_signalled = True

    @workflow.run
    async def run(self, kind: str) -> str:
        handle = workflow.start_activity(
            workflows.echo,
            "late",
            start_to_close_timeout=_MINUTE,
            cancellation_type=ActivityCancellationType[kind],
        )
        await workflow.wait_condition(lambda: self.is_signalled)
        handle.cancel()
        try:
            await handle
        except ActivityError as error:
            return describe(error)
        finally:
            await workflow.sleep(_SECOND)
        return "was done all the same"


@workflow.defn
class AbandonsChild:
    """On a signal, cancels a child whose start has not been reported."""

    def __init__(self) -> None:
        self.is_signalled = False

    @workflow.signal
    def go(self) -> None:
        self.is_signalled = True

    @workflow.run
    async def run(self, kind: str) -> str:
        child = asyncio.create_task(
            workflow.execute_child_workflow(
                workflows.Child.run,
                "waits",
                id=f"{workflow.info().workflow_id}-child",
                cancellation_type=ChildWorkflowCancellationType[kind],
            )
        )
        await workflow.wait_condition(lambda: self.is_signalled)
        child.cancel()
        try:
            await child
        except ChildWorkflowError as error:
            return describe(error)
        finally:
            await workflow.sleep(_SECOND)
        return "was done all the same"


@workflow.defn
class MayCancelChild:
    """Cancels its child after an hour without waiting for it, unless a signal prevents that."""

    def __init__(self) -> None:
        self.keeps = False

    @workflow.signal
    def keep(self) -> None:
        self.keeps = True

    @workflow.run
    async def run(self) -> str:
        child = await workflow.start_child_workflow(
            Sleeps.run,
            id=f"{workflow.info().workflow_id}-child",
            cancellation_type=ChildWorkflowCancellationType.TRY_CANCEL,
        )
        try:
            await workflow.wait_condition(lambda: self.keeps, timeout=timedelta(hours=1))
        except TimeoutError:
            child.cancel()
        try:
            return await child
        except ChildWorkflowError as error:
            return describe(error)


@workflow.defn
class Sleeps:
    @workflow.run
    async def run(self) -> str:
        await workflow.sleep(timedelta(hours=2))
        return "slept"


@workflow.defn
class ReadsHistoryLength:
    """Emits commands that depend on the length of its history."""

    @workflow.run
    async def run(self) -> int:
        for _ in range(4):
            if workflow.info().get_current_history_length() < 10:
                await workflow.sleep(_SECOND)
            else:
                await workflow.execute_activity(workflows.echo, "long", start_to_close_timeout=_MINUTE)
        return workflow.info().get_current_history_length()


@workflow.defn
class Versioned:
    """Has an activity, and a patch that is new, deprecated or removed."""

    patch: ClassVar[str] = "new"
    given: ClassVar[str] = "old"

    @workflow.run
    async def run(self) -> str:
        match Versioned.patch:
            case "new":
                workflow.patched("p")
            case "deprecated":
                workflow.deprecate_patch("p")
        await workflow.execute_activity(workflows.echo, Versioned.given, start_to_close_timeout=_MINUTE)
        await workflow.sleep(timedelta(days=1))
        return "ended"


WORKFLOWS: tuple[type, ...] = (
    AbandonsActivity,
    AbandonsChild,
    CancelsActivity,
    ChangesMemo,
    MayCancelChild,
    ReadsHistoryLength,
    RunsActivity,
    SetsUnregisteredAttribute,
    Sleeps,
    Versioned,
)
ACTIVITIES = (
    always_fails,
    blocks,
    fails_then_hangs,
    hangs,
    heartbeats,
    raises_asyncio_cancelled_error,
    raises_cancelled_error,
    resumes_from_heartbeat,
)
