"""Small workflows, one for each feature. Most return a list of what they observed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import ClassVar

from temporalio import activity, workflow
from temporalio.common import RetryPolicy, SearchAttributeKey
from temporalio.exceptions import ActivityError, ApplicationError, ChildWorkflowError, FailureError
from temporalio.workflow import ActivityCancellationType, ChildWorkflowCancellationType, ParentClosePolicy

SECONDS_5 = timedelta(seconds=5)
COLOUR = SearchAttributeKey.for_keyword("Colour")


class ActivityLog:
    """The attempts of all activities, and a gate that blocks some of them."""

    attempts: ClassVar[list[str]] = []
    closed: ClassVar[asyncio.Event | None] = None

    @classmethod
    def reset(cls) -> None:
        cls.attempts, cls.closed = [], None


@activity.defn
async def echo(text: str) -> str:
    ActivityLog.attempts.append(text)
    return text


@activity.defn
async def succeeds_at_third_attempt(text: str) -> str:
    ActivityLog.attempts.append(text)
    if activity.info().attempt < 3:
        raise ApplicationError(f"not yet: {activity.info().attempt}", type="NOT_YET")
    return text


@activity.defn
async def never(text: str) -> str:
    ActivityLog.attempts.append(text)
    raise ApplicationError("never", type="NEVER")


@activity.defn
async def waits(text: str) -> str:
    ActivityLog.attempts.append(text)
    if ActivityLog.closed is not None:
        await ActivityLog.closed.wait()
    return text


@workflow.defn
class Timers:
    @workflow.run
    async def run(self) -> list[str]:
        began, seen = workflow.now(), []

        async def after(hours: int) -> None:
            await workflow.sleep(timedelta(hours=hours))
            passed = workflow.now() - began
            seen.append(f"{hours}h" if passed >= timedelta(hours=hours) else f"too early: {passed}")

        cancelled = asyncio.create_task(after(400))
        await asyncio.gather(after(3), after(1), after(2))
        cancelled.cancel()
        await workflow.wait([cancelled])
        return [*seen, "cancelled" if cancelled.cancelled() else "late"]


@workflow.defn
class Activities:
    @workflow.run
    async def run(self) -> list[str]:
        seen = [await workflow.execute_activity(echo, "a", start_to_close_timeout=SECONDS_5)]
        seen.append(await workflow.execute_activity(succeeds_at_third_attempt, "b", start_to_close_timeout=SECONDS_5))
        for kind, policy in {
            "attempts": RetryPolicy(maximum_attempts=2),
            "final": RetryPolicy(non_retryable_error_types=["NEVER"]),
        }.items():
            try:
                await workflow.execute_activity(never, kind, start_to_close_timeout=SECONDS_5, retry_policy=policy)
            except ActivityError as error:
                seen.append(f"{kind}: {error.cause} {error.retry_state and error.retry_state.name}")
        try:
            await workflow.execute_activity(
                never, "late", start_to_close_timeout=SECONDS_5, schedule_to_close_timeout=timedelta(seconds=20)
            )
        except ActivityError as error:
            seen.append(f"late: {error.retry_state and error.retry_state.name}")
        try:
            await workflow.execute_activity(
                "missing", start_to_close_timeout=SECONDS_5, retry_policy=RetryPolicy(maximum_attempts=1)
            )
        except ActivityError as error:
            seen.append(f"missing: {isinstance(error.cause, ApplicationError) and error.cause.type}")
        return seen


@workflow.defn
class Inbox:
    def __init__(self) -> None:
        self.seen: list[str] = []
        self.is_done = False

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: self.is_done and workflow.all_handlers_finished())
        return self.seen

    @workflow.signal
    def note(self, text: str) -> None:
        self.seen.append(text)

    @workflow.signal
    def finish(self) -> None:
        self.is_done = True

    @workflow.query
    def notes(self) -> list[str]:
        return self.seen

    @workflow.query
    def fails(self) -> str:
        raise ApplicationError("no answer")

    @workflow.update
    async def add(self, text: str, pause: int = 0) -> int:
        if pause:
            await workflow.sleep(timedelta(hours=pause))
        if text == "bad":
            raise ApplicationError("bad text")
        self.seen.append(text)
        return len(self.seen)

    @add.validator
    def _may_add(self, text: str, pause: int = 0) -> None:
        if not text:
            raise ValueError("empty")


@workflow.defn
class Child:
    @workflow.run
    async def run(self, how: str) -> str:
        if how == "fails":
            raise ApplicationError("child failed", type="CHILD")
        if how == "waits":
            await workflow.sleep(timedelta(days=30))
        return f"child {how}"


@workflow.defn
class Parent:
    @workflow.run
    async def run(self) -> list[str]:
        me, seen = workflow.info().workflow_id, []
        seen.append(await workflow.execute_child_workflow(Child.run, "ends", id=f"{me}-a"))
        try:
            await workflow.execute_child_workflow(Child.run, "fails", id=f"{me}-b")
        except ChildWorkflowError as error:
            seen.append(f"fails: {error.cause}")
        waiting = await workflow.start_child_workflow(Child.run, "waits", id=f"{me}-c")
        try:
            _ = await workflow.start_child_workflow(Child.run, "ends", id=f"{me}-c")
        except FailureError as error:
            seen.append(type(error).__name__)
        waiting.cancel()
        try:
            await waiting
        except ChildWorkflowError as error:
            seen.append(f"cancelled: {type(error.cause).__name__}")
        external = await workflow.start_child_workflow(Child.run, "waits", id=f"{me}-d")
        await workflow.get_external_workflow_handle(f"{me}-d").cancel()
        try:
            await external
        except ChildWorkflowError as error:
            seen.append(f"asked to stop: {type(error.cause).__name__}")
        await workflow.get_external_workflow_handle(f"{me}-d").cancel()
        try:
            await workflow.get_external_workflow_handle("nobody").cancel()
        except FailureError as error:
            seen.append(f"nobody: {type(error).__name__}")
        _ = await workflow.start_child_workflow(
            Child.run, "waits", id=f"{me}-e", parent_close_policy=ParentClosePolicy.ABANDON
        )
        _ = await workflow.start_child_workflow(
            Child.run, "waits", id=f"{me}-f", parent_close_policy=ParentClosePolicy.REQUEST_CANCEL
        )
        _ = await workflow.start_child_workflow(Child.run, "waits", id=f"{me}-g")
        return seen


@workflow.defn
class SignalsAnother:
    """Signals another workflow, which may not exist."""

    @workflow.run
    async def run(self, other: str) -> str:
        handle: workflow.ExternalWorkflowHandle[Inbox] = workflow.get_external_workflow_handle_for(Inbox.run, other)
        try:
            await handle.signal(Inbox.note, "from a workflow")
        except FailureError as error:
            return type(error).__name__
        return "told"


@workflow.defn
class Canceller:
    """Cancels an activity with each cancellation type, and is cancelled itself at the end."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.raises_cancelled_error = False

    @workflow.signal
    def give_up(self) -> None:
        self.raises_cancelled_error = True

    @workflow.query
    def seen_so_far(self) -> list[str]:
        return self.seen

    @workflow.run
    async def run(self) -> list[str]:
        seen = self.seen
        for kind in (ActivityCancellationType.TRY_CANCEL, ActivityCancellationType.ABANDON):
            handle: workflow.ActivityHandle[str] = workflow.start_activity(
                waits, kind.name, start_to_close_timeout=timedelta(days=1), cancellation_type=kind
            )
            await workflow.wait_condition(lambda: self.raises_cancelled_error)
            self.raises_cancelled_error = False
            handle.cancel()
            try:
                await handle
            except ActivityError as error:
                seen.append(f"{kind.name}: {type(error.cause).__name__}")
        unsent = workflow.start_activity(echo, "unsent", start_to_close_timeout=SECONDS_5)
        unsent.cancel()
        await workflow.wait([unsent])
        seen.append("unsent")
        try:
            await workflow.sleep(timedelta(days=30))
        except asyncio.CancelledError:
            if workflow.cancellation_reason() is None:
                raise
            seen.append(f"stopped: {workflow.cancellation_reason()}")
        return seen


@workflow.defn
class Metadata:
    """Uses memo, search attributes, info, random numbers and a patch."""

    @workflow.run
    async def run(self) -> list[str]:
        workflow.upsert_memo({"shape": "round"})
        workflow.upsert_search_attributes([COLOUR.value_set("red")])
        first = workflow.random().random(), str(workflow.uuid4())
        patched = workflow.patched("a patch")
        await workflow.sleep(timedelta(days=1))
        info = workflow.info()
        return [str(workflow.memo()), str(len(first)), str(patched), info.workflow_type, str(info.attempt)]


@workflow.defn(sandboxed=False)
class Nondeterministic:
    """Emits other commands on replay."""

    instances: ClassVar[int] = 0

    @workflow.run
    async def run(self) -> str:
        Nondeterministic.instances += 1
        await workflow.sleep(timedelta(days=Nondeterministic.instances))
        return "ended"


@workflow.defn
class FailsTasks:
    """Fails its workflow tasks until it is fixed."""

    is_fixed: ClassVar[bool] = False

    @workflow.run
    async def run(self) -> str:
        if not FailsTasks.is_fixed:
            raise RuntimeError("a bug")
        return "mended"


@workflow.defn
class SuppressesCancellation:
    """Suppresses every cancellation, so that it cannot be evicted."""

    @workflow.run
    async def run(self) -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue


@workflow.defn
class ContinuesAsNew:
    @workflow.run
    async def run(self) -> None:
        workflow.continue_as_new()


@workflow.defn
class CallsLocalActivity:
    @workflow.run
    async def run(self) -> str:
        return await workflow.execute_local_activity(echo, "local", start_to_close_timeout=SECONDS_5)


@workflow.defn
class ClosesAfterActivity:
    """Completes as soon as its activity has, without waiting for signals."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.execute_activity(echo, "eager", start_to_close_timeout=SECONDS_5)
        return self.seen

    @workflow.signal
    def note(self, text: str) -> None:
        self.seen.append(text)


@workflow.defn
class ChildCanceller:
    """Cancels a child with each cancellation type."""

    @workflow.run
    async def run(self) -> list[str]:
        me, seen = workflow.info().workflow_id, []
        for kind in ChildWorkflowCancellationType:
            child = await workflow.start_child_workflow(
                Child.run, "waits", id=f"{me}-{kind.name}", cancellation_type=kind
            )
            child.cancel()
            try:
                await child
            except ChildWorkflowError as error:
                seen.append(f"{kind.name}: {type(error.cause).__name__}")
        return seen


@workflow.defn
class ParentWithPolicies:
    """Has a child for each parent close policy, and a running activity."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @workflow.run
    async def run(self) -> str:
        for policy in (ParentClosePolicy.TERMINATE, ParentClosePolicy.REQUEST_CANCEL, ParentClosePolicy.ABANDON):
            name = f"{workflow.info().workflow_id}-{policy.name}"
            _ = await workflow.start_child_workflow(Child.run, "waits", id=name, parent_close_policy=policy)
            self.seen.append(policy.name)
        return await workflow.execute_activity(waits, "under way", start_to_close_timeout=timedelta(days=1))

    @workflow.query
    def children(self) -> list[str]:
        return self.seen

    @workflow.signal
    def note(self, text: str) -> None:
        self.seen.append(text)


WORKFLOWS: tuple[type, ...] = (
    Activities,
    CallsLocalActivity,
    Canceller,
    Child,
    ChildCanceller,
    ClosesAfterActivity,
    ContinuesAsNew,
    FailsTasks,
    Inbox,
    Metadata,
    Nondeterministic,
    Parent,
    ParentWithPolicies,
    SignalsAnother,
    SuppressesCancellation,
    Timers,
)
ACTIVITIES = (echo, never, succeeds_at_third_attempt, waits)
