"""Workflow features behave the same on the simulator and on Temporal's real server."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateStage,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, CancelledError, TerminatedError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from tests.unit.testing.simulator import workflows
from tests.unit.testing.simulator.backends import QUEUE, Backend, assert_replays, event_types

_numbers = count(1)


async def start(backend: Backend, workflow: Any, *args: Any, **options: Any) -> WorkflowHandle[Any, Any]:
    return await backend.client.start_workflow(
        workflow.run, args=args, id=options.pop("id", f"toy-{next(_numbers)}"), task_queue=QUEUE, **options
    )


async def event_counts(handle: WorkflowHandle[Any, Any]) -> Counter[str]:
    return Counter(await event_types(handle))


async def result_of(backend: Backend, handle: WorkflowHandle[Any, Any]) -> Any:
    """Let time pass until the workflow has closed; returns its result."""
    for _ in range(40):
        if (await handle.describe()).status is not WorkflowExecutionStatus.RUNNING:
            break
        await backend.advance(handle, timedelta(hours=1))
    return await asyncio.wait_for(handle.result(), 10)


async def test_timers_fire_in_order(backend: Backend) -> None:
    handle = await start(backend, workflows.Timers)
    assert await result_of(backend, handle) == ["1h", "2h", "3h", "cancelled"]
    seen = await event_counts(handle)
    assert (seen["TIMER_STARTED"], seen["TIMER_FIRED"], seen["TIMER_CANCELED"]) == (4, 3, 1)
    await assert_replays(handle)


async def test_activities_are_retried_by_their_policies(backend: Backend) -> None:
    handle = await start(backend, workflows.Activities)
    assert await result_of(backend, handle) == [
        "a",
        "b",
        "attempts: NEVER: never MAXIMUM_ATTEMPTS_REACHED",
        "final: NEVER: never NON_RETRYABLE_FAILURE",
        "late: TIMEOUT",
        "missing: NotFoundError",
    ]
    assert Counter(workflows.ActivityLog.attempts) == {"a": 1, "b": 3, "attempts": 2, "final": 1, "late": 5}
    await assert_replays(handle)


async def test_signals_queries_and_updates_reach_a_workflow(backend: Backend) -> None:
    handle = await start(backend, workflows.Inbox)
    await handle.signal(workflows.Inbox.note, "first")
    assert await handle.execute_update(workflows.Inbox.add, args=["second", 0]) == 2
    assert await handle.query(workflows.Inbox.notes) == ["first", "second"]
    with pytest.raises(WorkflowQueryFailedError, match="no answer"):
        await handle.query(workflows.Inbox.fails)
    with pytest.raises(WorkflowQueryFailedError, match="unheard"):
        await handle.query("unheard")
    await handle.signal(workflows.Inbox.finish)
    assert await result_of(backend, handle) == ["first", "second"]
    await assert_replays(handle)


async def test_a_rejected_update_leaves_no_events(backend: Backend) -> None:
    handle = await start(backend, workflows.Inbox)
    await handle.query(workflows.Inbox.notes)
    before = await event_counts(handle)
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await handle.execute_update(workflows.Inbox.add, args=["", 0])
    assert "empty" in str(refused.value.cause)
    assert await event_counts(handle) == before
    assert await handle.execute_update(workflows.Inbox.add, args=["later", 0]) == 1
    await handle.signal(workflows.Inbox.finish)
    await result_of(backend, handle)
    await assert_replays(handle)


async def test_an_update_may_wait_and_may_fail(backend: Backend) -> None:
    handle = await start(backend, workflows.Inbox)
    slow = await handle.start_update(
        workflows.Inbox.add, args=["slow", 2], id="slow", wait_for_stage=WorkflowUpdateStage.ACCEPTED
    )
    again = await handle.start_update(
        workflows.Inbox.add, args=["slow", 2], id="slow", wait_for_stage=WorkflowUpdateStage.ACCEPTED
    )
    with pytest.raises(WorkflowUpdateFailedError):
        await handle.execute_update(workflows.Inbox.add, args=["bad", 0])
    await handle.signal(workflows.Inbox.finish)
    await backend.advance(handle, timedelta(hours=3))
    assert (await slow.result(), await again.result()) == (1, 1)
    assert await result_of(backend, handle) == ["slow"]
    await assert_replays(handle)


async def test_requests_to_a_closed_workflow_are_rejected(backend: Backend) -> None:
    handle = await start(backend, workflows.Inbox)
    await handle.signal(workflows.Inbox.finish)
    await result_of(backend, handle)
    for late in (
        handle.signal(workflows.Inbox.note, "late"),
        handle.execute_update(workflows.Inbox.add, args=["late", 0]),
        handle.terminate(),
    ):
        with pytest.raises(RPCError) as refused:
            await late
        assert refused.value.status is RPCStatusCode.NOT_FOUND
    await handle.cancel()
    assert (await handle.describe()).status is WorkflowExecutionStatus.COMPLETED
    assert await handle.query(workflows.Inbox.notes) == []


async def test_children_complete_fail_and_are_cancelled(backend: Backend) -> None:
    handle = await start(backend, workflows.Parent)
    assert await result_of(backend, handle) == [
        "child ends",
        "fails: CHILD: child failed",
        "WorkflowAlreadyStartedError",
        "cancelled: CancelledError",
        "asked to stop: CancelledError",
        "nobody: ApplicationError",
    ]
    statuses = {}
    for name in "efg":
        child = backend.client.get_workflow_handle(f"{handle.id}-{name}")
        async with asyncio.timeout(10):
            while name != "e" and (await child.describe()).status is WorkflowExecutionStatus.RUNNING:
                await asyncio.sleep(0.01)
        statuses[name] = (await child.describe()).status
    assert statuses == {
        "e": WorkflowExecutionStatus.RUNNING,
        "f": WorkflowExecutionStatus.CANCELED,
        "g": WorkflowExecutionStatus.TERMINATED,
    }
    await backend.client.get_workflow_handle(f"{handle.id}-e").cancel()
    await assert_replays(handle)


async def test_a_child_is_cancelled_with_each_cancellation_type(backend: Backend) -> None:
    handle = await start(backend, workflows.ChildCanceller)
    assert await result_of(backend, handle) == [
        "ABANDON: CancelledError",
        "TRY_CANCEL: CancelledError",
        "WAIT_CANCELLATION_COMPLETED: CancelledError",
        "WAIT_CANCELLATION_REQUESTED: CancelledError",
    ]
    await assert_replays(handle)


async def test_a_workflow_signals_another_one(backend: Backend) -> None:
    inbox = await start(backend, workflows.Inbox)
    assert await result_of(backend, await start(backend, workflows.SignalsAnother, inbox.id)) == "told"
    ended = await start(backend, workflows.Child, "ends")
    await result_of(backend, ended)
    assert await result_of(backend, await start(backend, workflows.SignalsAnother, ended.id)) == "ApplicationError"
    assert await result_of(backend, await start(backend, workflows.SignalsAnother, "nobody")) == "ApplicationError"
    await inbox.signal(workflows.Inbox.finish)
    assert await result_of(backend, inbox) == ["from a workflow"]
    await assert_replays(inbox)


async def test_activities_and_workflows_are_cancelled(backend: Backend) -> None:
    workflows.ActivityLog.closed = asyncio.Event()
    handle = await start(backend, workflows.Canceller)
    for attempts in (1, 2):
        async with asyncio.timeout(10):
            while len(workflows.ActivityLog.attempts) < attempts:
                await asyncio.sleep(0.01)
        await handle.signal(workflows.Canceller.give_up)
    await handle.query(workflows.Canceller.seen_so_far)
    await handle.cancel(reason="enough")
    assert await result_of(backend, handle) == [
        "TRY_CANCEL: CancelledError",
        "ABANDON: CancelledError",
        "unsent",
        "stopped: enough",
    ]
    assert "unsent" not in workflows.ActivityLog.attempts
    await assert_replays(handle)


async def test_a_cancelled_workflow_has_status_canceled(backend: Backend) -> None:
    handle = await start(backend, workflows.Child, "waits")
    await handle.cancel()
    with pytest.raises(WorkflowFailureError) as ended:
        await handle.result()
    assert isinstance(ended.value.cause, CancelledError)
    assert (await handle.describe()).status is WorkflowExecutionStatus.CANCELED
    await assert_replays(handle)


async def test_a_failed_workflow_reports_its_failure(backend: Backend) -> None:
    handle = await start(backend, workflows.Child, "fails")
    with pytest.raises(WorkflowFailureError) as ended:
        await handle.result()
    assert isinstance(ended.value.cause, ApplicationError)
    assert ended.value.cause.type == "CHILD"


async def test_memo_search_attributes_and_patches_are_kept(backend: Backend) -> None:
    handle = await start(backend, workflows.Metadata, memo={"size": 3})
    assert await result_of(backend, handle) == ["{'size': 3, 'shape': 'round'}", "2", "True", "Metadata", "1"]
    described = await handle.describe()
    assert await described.memo() == {"size": 3, "shape": "round"}
    assert described.typed_search_attributes.get(workflows.COLOUR) == "red"
    await assert_replays(handle)


async def test_workflow_ids_follow_the_reuse_and_conflict_policies(backend: Backend) -> None:
    first = await start(backend, workflows.Child, "waits")
    with pytest.raises(WorkflowAlreadyStartedError):
        await start(backend, workflows.Child, "ends", id=first.id)
    same = await start(
        backend, workflows.Child, "ends", id=first.id, id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING
    )
    assert same.result_run_id == first.result_run_id
    await first.cancel()
    await await_failure(backend.client, first.id)
    second = await start(
        backend, workflows.Child, "ends", id=first.id, id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY
    )
    assert await result_of(backend, second) == "child ends"
    for policy in (WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY, WorkflowIDReusePolicy.REJECT_DUPLICATE):
        with pytest.raises(WorkflowAlreadyStartedError):
            await start(backend, workflows.Child, "ends", id=first.id, id_reuse_policy=policy)
    assert await result_of(backend, await start(backend, workflows.Child, "ends", id=first.id)) == "child ends"


async def await_failure(client: Client, workflow_id: str) -> None:
    with pytest.raises(WorkflowFailureError):
        await asyncio.wait_for(client.get_workflow_handle(workflow_id).result(), 10)


async def test_signal_with_start_starts_a_workflow(backend: Backend) -> None:
    signals = {"start_signal": "note", "start_signal_args": ["with start"]}
    handle = await start(backend, workflows.Inbox, id=f"toy-{next(_numbers)}", **signals)
    assert await handle.query(workflows.Inbox.notes) == ["with start"]
    await handle.signal(workflows.Inbox.finish)
    assert await result_of(backend, handle) == ["with start"]


async def test_queries_of_a_terminated_workflow_see_events_that_no_task_delivered(backend: Backend) -> None:
    handle = await start(backend, workflows.Inbox)
    assert await handle.query(workflows.Inbox.notes) == []
    # Without a worker, no task delivers the signal before the termination.
    async with backend.worker_stopped():
        await handle.signal(workflows.Inbox.note, "late")
        await handle.terminate()
        never = await start(backend, workflows.Inbox)
        await never.terminate()
    assert await handle.query(workflows.Inbox.notes) == ["late"]
    with pytest.raises(RPCError, match="closed before WorkflowTaskStarted") as refused:
        await never.query(workflows.Inbox.notes)
    assert refused.value.status is RPCStatusCode.FAILED_PRECONDITION
    await assert_replays(handle)


async def test_termination_applies_parent_close_policies_and_ignores_activities(backend: Backend) -> None:
    workflows.ActivityLog.closed = asyncio.Event()
    handle = await start(backend, workflows.ParentWithPolicies)
    async with asyncio.timeout(10):
        while workflows.ActivityLog.attempts != ["under way"]:
            await asyncio.sleep(0.01)
    before = await event_counts(handle)
    await handle.terminate(reason="enough")
    with pytest.raises(WorkflowFailureError, match="Workflow execution failed") as ended:
        await asyncio.wait_for(handle.result(), 10)
    assert isinstance(ended.value.cause, TerminatedError)
    children = {name: backend.client.get_workflow_handle(f"{handle.id}-{name}") for name in _BY_POLICY}
    async with asyncio.timeout(10):
        while {name: (await child.describe()).status for name, child in children.items()} != _BY_POLICY:
            await asyncio.sleep(0.01)
    workflows.ActivityLog.closed.set()
    await backend.advance(children["ABANDON"], timedelta(hours=1))
    left = (await handle.describe()).raw_description
    assert {child.workflow_id for child in left.pending_children} == {child.id for child in children.values()}
    assert [activity.activity_type.name for activity in left.pending_activities] == ["waits"]
    assert await event_counts(handle) - before == {"WORKFLOW_EXECUTION_TERMINATED": 1}
    assert await handle.query(workflows.ParentWithPolicies.children) == list(_BY_POLICY)
    assert workflows.ActivityLog.attempts == ["under way"]
    with pytest.raises(RPCError) as refused:
        await handle.signal(workflows.ParentWithPolicies.note, "late")
    assert refused.value.status is RPCStatusCode.NOT_FOUND
    await assert_replays(handle)
    # The ids can be reused, except that of the abandoned child.
    again = await start(backend, workflows.Child, "ends", id=handle.id)
    assert await result_of(backend, again) == "child ends"
    with pytest.raises(WorkflowAlreadyStartedError):
        await start(backend, workflows.Child, "ends", id=children["ABANDON"].id)
    await children["ABANDON"].cancel()


_BY_POLICY = {
    "TERMINATE": WorkflowExecutionStatus.TERMINATED,
    "REQUEST_CANCEL": WorkflowExecutionStatus.CANCELED,
    "ABANDON": WorkflowExecutionStatus.RUNNING,
}
