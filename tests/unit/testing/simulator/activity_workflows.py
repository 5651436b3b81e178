"""Small workflows about activities that beat, give up and are late, and about what cancels what."""

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

UNHEARD_OF = SearchAttributeKey.for_keyword("UnheardOf")
_MINUTE = timedelta(minutes=1)
_SECOND = timedelta(seconds=1)


def told(error: BaseException | None) -> str:
    """An error and its causes, in words."""
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
async def goes_on_from_page_7() -> str:
    """Fails once, after it has told how far it is."""
    details = list(activity.info().heartbeat_details)
    if not details:
        activity.heartbeat("page", 7)
        raise ApplicationError("again")
    info = activity.info()
    waited = info.current_attempt_scheduled_time - info.scheduled_time
    return f"{details} {waited.total_seconds():.0f}"


@activity.defn
async def beats() -> str:
    """Beats until it is told to stop, or for a minute."""
    try:
        for _ in range(600):
            activity.heartbeat()
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        workflows.Gate.tries.append("told to stop")
        raise
    return "went to its end"


@activity.defn
async def gives_up() -> None:
    """As if it had been cancelled."""
    raise CancelledError("gives up")


@activity.defn
async def breaks_off() -> None:
    """As if its task had been cancelled."""
    raise asyncio.CancelledError


@activity.defn
async def fails_for_ever() -> None:
    raise ApplicationError("once more")


@activity.defn
async def hangs() -> None:
    await asyncio.Event().wait()


@activity.defn
async def hangs_on() -> None:
    await asyncio.Event().wait()


@activity.defn
async def fails_then_hangs() -> None:
    if activity.info().attempt == 1:
        raise ApplicationError("first")
    await asyncio.Event().wait()


# -- workflows -------------------------------------------------------------------------------------------------


@workflow.defn
class Busy:
    """Does one activity, and tells how it ended."""

    @workflow.run
    async def run(self, what: str) -> str:
        once = RetryPolicy(maximum_attempts=1)
        every_2 = RetryPolicy(initial_interval=2 * _SECOND, backoff_coefficient=1)
        match what:
            case "gives_up" | "breaks_off":
                doing = workflow.execute_activity(what, start_to_close_timeout=2 * _SECOND, retry_policy=once)
            case "hangs":
                doing = workflow.execute_activity(
                    hangs,
                    start_to_close_timeout=_SECOND,
                    schedule_to_close_timeout=2 * _SECOND,
                    retry_policy=every_2,
                )
            case "fails_then_hangs":
                doing = workflow.execute_activity(
                    fails_then_hangs,
                    start_to_close_timeout=_MINUTE,
                    schedule_to_close_timeout=3 * _SECOND,
                    retry_policy=RetryPolicy(initial_interval=_SECOND),
                )
            case "stops beating":
                doing = workflow.execute_activity(
                    hangs, start_to_close_timeout=_MINUTE, heartbeat_timeout=_SECOND, retry_policy=once
                )
            case "fails_for_ever":
                doing = workflow.execute_activity(fails_for_ever, start_to_close_timeout=_MINUTE)
            case _:
                doing = workflow.execute_activity(what, start_to_close_timeout=_MINUTE, retry_policy=every_2)
        try:
            return str(await doing)
        except ActivityError as error:
            return told(error)


@workflow.defn
class Stops:
    """Cancels an activity that beats, and waits for what becomes of it."""

    @workflow.run
    async def run(self) -> str:
        doing = workflow.start_activity(
            beats,
            start_to_close_timeout=_MINUTE,
            heartbeat_timeout=_SECOND,
            cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        await workflow.sleep(_SECOND)
        doing.cancel()
        try:
            return await doing
        except ActivityError as error:
            return told(error)


@workflow.defn
class Marks:
    """Sets a search attribute that nobody has registered."""

    @workflow.run
    async def run(self) -> None:
        workflow.upsert_search_attributes([UNHEARD_OF.value_set("x")])


@workflow.defn
class Notes:
    """Changes its memo, and takes a note back."""

    @workflow.run
    async def run(self) -> str:
        workflow.upsert_memo({"kept": 1, "taken back": 2})
        await workflow.sleep(_SECOND)
        workflow.upsert_memo({"taken back": None})
        return f"{workflow.info().execution_timeout}"


@workflow.defn
class LetsGo:
    """Cancels an activity without waiting for it, when it is told to."""

    def __init__(self) -> None:
        self.is_told = False

    @workflow.signal
    def go(self) -> None:
        self.is_told = True

    @workflow.run
    async def run(self, kind: str) -> str:
        doing = workflow.start_activity(
            workflows.echo,
            "late",
            start_to_close_timeout=_MINUTE,
            cancellation_type=ActivityCancellationType[kind],
        )
        await workflow.wait_condition(lambda: self.is_told)
        doing.cancel()
        try:
            await doing
        except ActivityError as error:
            return told(error)
        finally:
            await workflow.sleep(_SECOND)
        return "was done all the same"


@workflow.defn
class LetsChildGo:
    """Cancels a child before it knows that it has begun, when it is told to."""

    def __init__(self) -> None:
        self.is_told = False

    @workflow.signal
    def go(self) -> None:
        self.is_told = True

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
        await workflow.wait_condition(lambda: self.is_told)
        child.cancel()
        try:
            await child
        except ChildWorkflowError as error:
            return told(error)
        finally:
            await workflow.sleep(_SECOND)
        return "was done all the same"


@workflow.defn
class Wavers:
    """Cancels its child after an hour without waiting for it, unless it is told to keep it."""

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
            return told(error)


@workflow.defn
class Sleeps:
    @workflow.run
    async def run(self) -> str:
        await workflow.sleep(timedelta(hours=2))
        return "slept"


@workflow.defn
class Measures:
    """Goes by the length of its history."""

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
    """Has a patch: new, deprecated or gone; and an activity."""

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


WORKFLOWS: tuple[type, ...] = (Busy, LetsChildGo, LetsGo, Marks, Measures, Notes, Sleeps, Stops, Versioned, Wavers)
ACTIVITIES = (beats, breaks_off, fails_for_ever, fails_then_hangs, gives_up, goes_on_from_page_7, hangs, hangs_on)
