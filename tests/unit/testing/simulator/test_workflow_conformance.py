"""What workflows can do goes on the simulator as it does on Temporal's real server."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
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
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from tests.unit.testing.simulator import workflows
from tests.unit.testing.simulator.backends import QUEUE, WORKFLOWS, Place

_numbers = count(1)


async def start(place: Place, workflow: Any, *args: Any, **options: Any) -> WorkflowHandle[Any, Any]:
    return await place.client.start_workflow(
        workflow.run, args=args, id=options.pop("id", f"toy-{next(_numbers)}"), task_queue=QUEUE, **options
    )


async def events(handle: WorkflowHandle[Any, Any]) -> Counter[str]:
    return Counter([EventType.Name(event.event_type)[11:] async for event in handle.fetch_history_events()])


async def until_ended(place: Place, handle: WorkflowHandle[Any, Any]) -> Any:
    """Its result, however much time must pass."""
    for _ in range(40):
        if (await handle.describe()).status is not WorkflowExecutionStatus.RUNNING:
            break
        await place.advance(handle, timedelta(hours=1))
    return await asyncio.wait_for(handle.result(), 10)


async def replays(handle: WorkflowHandle[Any, Any]) -> None:
    """Temporal's own replayer takes its history."""
    replayer = Replayer(workflows=WORKFLOWS, workflow_runner=UnsandboxedWorkflowRunner())
    result = await asyncio.wait_for(replayer.replay_workflow(await handle.fetch_history()), 10)
    assert result.replay_failure is None


async def test_timers_fire_in_the_order_of_time(place: Place) -> None:
    handle = await start(place, workflows.Timers)
    assert await until_ended(place, handle) == ["1h", "2h", "3h", "cancelled"]
    seen = await events(handle)
    assert (seen["TIMER_STARTED"], seen["TIMER_FIRED"], seen["TIMER_CANCELED"]) == (4, 3, 1)
    await replays(handle)


async def test_activities_are_retried_by_their_policies(place: Place) -> None:
    handle = await start(place, workflows.Activities)
    assert await until_ended(place, handle) == [
        "a",
        "b",
        "attempts: NEVER: never MAXIMUM_ATTEMPTS_REACHED",
        "final: NEVER: never NON_RETRYABLE_FAILURE",
        "late: TIMEOUT",
        "missing: NotFoundError",
    ]
    assert Counter(workflows.Gate.tries) == {"a": 1, "b": 3, "attempts": 2, "final": 1, "late": 5}
    await replays(handle)


async def test_signals_queries_and_updates_reach_a_workflow(place: Place) -> None:
    handle = await start(place, workflows.Inbox)
    await handle.signal(workflows.Inbox.note, "first")
    assert await handle.execute_update(workflows.Inbox.add, args=["second", 0]) == 2
    assert await handle.query(workflows.Inbox.notes) == ["first", "second"]
    with pytest.raises(WorkflowQueryFailedError, match="no answer"):
        await handle.query(workflows.Inbox.fails)
    with pytest.raises(WorkflowQueryFailedError, match="unheard"):
        await handle.query("unheard")
    await handle.signal(workflows.Inbox.finish)
    assert await until_ended(place, handle) == ["first", "second"]
    await replays(handle)


async def test_an_update_that_is_refused_leaves_no_trace(place: Place) -> None:
    handle = await start(place, workflows.Inbox)
    await handle.query(workflows.Inbox.notes)
    before = await events(handle)
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await handle.execute_update(workflows.Inbox.add, args=["", 0])
    assert "empty" in str(refused.value.cause)
    assert await events(handle) == before
    assert await handle.execute_update(workflows.Inbox.add, args=["later", 0]) == 1
    await handle.signal(workflows.Inbox.finish)
    await until_ended(place, handle)
    await replays(handle)


async def test_an_update_may_take_its_time_and_may_fail(place: Place) -> None:
    handle = await start(place, workflows.Inbox)
    slow = await handle.start_update(
        workflows.Inbox.add, args=["slow", 2], id="slow", wait_for_stage=WorkflowUpdateStage.ACCEPTED
    )
    again = await handle.start_update(
        workflows.Inbox.add, args=["slow", 2], id="slow", wait_for_stage=WorkflowUpdateStage.ACCEPTED
    )
    with pytest.raises(WorkflowUpdateFailedError):
        await handle.execute_update(workflows.Inbox.add, args=["bad", 0])
    await handle.signal(workflows.Inbox.finish)
    await place.advance(handle, timedelta(hours=3))
    assert (await slow.result(), await again.result()) == (1, 1)
    assert await until_ended(place, handle) == ["slow"]
    await replays(handle)


async def test_what_comes_after_the_end_is_refused(place: Place) -> None:
    handle = await start(place, workflows.Inbox)
    await handle.signal(workflows.Inbox.finish)
    await until_ended(place, handle)
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


async def test_children_end_fail_and_are_cancelled(place: Place) -> None:
    handle = await start(place, workflows.Parent)
    assert await until_ended(place, handle) == [
        "child ends",
        "fails: CHILD: child failed",
        "WorkflowAlreadyStartedError",
        "cancelled: CancelledError",
        "asked to stop: CancelledError",
        "nobody: ApplicationError",
    ]
    statuses = {}
    for name in "efg":
        child = place.client.get_workflow_handle(f"{handle.id}-{name}")
        async with asyncio.timeout(10):
            while name != "e" and (await child.describe()).status is WorkflowExecutionStatus.RUNNING:
                await asyncio.sleep(0.01)
        statuses[name] = (await child.describe()).status
    assert statuses == {
        "e": WorkflowExecutionStatus.RUNNING,
        "f": WorkflowExecutionStatus.CANCELED,
        "g": WorkflowExecutionStatus.TERMINATED,
    }
    await place.client.get_workflow_handle(f"{handle.id}-e").cancel()
    await replays(handle)


async def test_a_child_is_cancelled_as_its_parent_wants_to_wait_for_it(place: Place) -> None:
    handle = await start(place, workflows.ChildCanceller)
    assert await until_ended(place, handle) == [
        "ABANDON: CancelledError",
        "TRY_CANCEL: CancelledError",
        "WAIT_CANCELLATION_COMPLETED: CancelledError",
        "WAIT_CANCELLATION_REQUESTED: CancelledError",
    ]
    await replays(handle)


async def test_a_workflow_signals_another(place: Place) -> None:
    inbox = await start(place, workflows.Inbox)
    assert await until_ended(place, await start(place, workflows.Reporter, inbox.id)) == "told"
    ended = await start(place, workflows.Child, "ends")
    await until_ended(place, ended)
    assert await until_ended(place, await start(place, workflows.Reporter, ended.id)) == "ApplicationError"
    assert await until_ended(place, await start(place, workflows.Reporter, "nobody")) == "ApplicationError"
    await inbox.signal(workflows.Inbox.finish)
    assert await until_ended(place, inbox) == ["from a workflow"]
    await replays(inbox)


async def test_activities_and_workflows_are_cancelled(place: Place) -> None:
    workflows.Gate.closed = asyncio.Event()
    handle = await start(place, workflows.Canceller)
    for tries in (1, 2):
        async with asyncio.timeout(10):
            while len(workflows.Gate.tries) < tries:
                await asyncio.sleep(0.01)
        await handle.signal(workflows.Canceller.give_up)
    await handle.query(workflows.Canceller.seen_so_far)
    await handle.cancel(reason="enough")
    assert await until_ended(place, handle) == [
        "TRY_CANCEL: CancelledError",
        "ABANDON: CancelledError",
        "unsent",
        "stopped: enough",
    ]
    assert "unsent" not in workflows.Gate.tries
    await replays(handle)


async def test_a_cancelled_workflow_ends_as_such(place: Place) -> None:
    handle = await start(place, workflows.Child, "waits")
    await handle.cancel()
    with pytest.raises(WorkflowFailureError) as ended:
        await handle.result()
    assert isinstance(ended.value.cause, CancelledError)
    assert (await handle.describe()).status is WorkflowExecutionStatus.CANCELED
    await replays(handle)


async def test_a_workflow_that_fails_tells_why(place: Place) -> None:
    handle = await start(place, workflows.Child, "fails")
    with pytest.raises(WorkflowFailureError) as ended:
        await handle.result()
    assert isinstance(ended.value.cause, ApplicationError)
    assert ended.value.cause.type == "CHILD"


async def test_memo_search_attributes_and_patches_are_kept(place: Place) -> None:
    handle = await start(place, workflows.Told, memo={"size": 3})
    assert await until_ended(place, handle) == ["{'size': 3, 'shape': 'round'}", "2", "True", "Told", "1"]
    described = await handle.describe()
    assert await described.memo() == {"size": 3, "shape": "round"}
    assert described.typed_search_attributes.get(workflows.COLOUR) == "red"
    await replays(handle)


async def test_an_id_is_taken_while_its_workflow_runs_and_as_its_policy_says(place: Place) -> None:
    first = await start(place, workflows.Child, "waits")
    with pytest.raises(WorkflowAlreadyStartedError):
        await start(place, workflows.Child, "ends", id=first.id)
    same = await start(
        place, workflows.Child, "ends", id=first.id, id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING
    )
    assert same.result_run_id == first.result_run_id
    await first.cancel()
    await until_ended_anyhow(place.client, first.id)
    second = await start(
        place, workflows.Child, "ends", id=first.id, id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY
    )
    assert await until_ended(place, second) == "child ends"
    for policy in (WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY, WorkflowIDReusePolicy.REJECT_DUPLICATE):
        with pytest.raises(WorkflowAlreadyStartedError):
            await start(place, workflows.Child, "ends", id=first.id, id_reuse_policy=policy)
    assert await until_ended(place, await start(place, workflows.Child, "ends", id=first.id)) == "child ends"


async def until_ended_anyhow(client: Client, workflow_id: str) -> None:
    with pytest.raises(WorkflowFailureError):
        await asyncio.wait_for(client.get_workflow_handle(workflow_id).result(), 10)


async def test_a_signal_starts_a_workflow_that_is_not_there(place: Place) -> None:
    signals = {"start_signal": "note", "start_signal_args": ["with start"]}
    handle = await start(place, workflows.Inbox, id=f"toy-{next(_numbers)}", **signals)
    assert await handle.query(workflows.Inbox.notes) == ["with start"]
    await handle.signal(workflows.Inbox.finish)
    assert await until_ended(place, handle) == ["with start"]


async def test_what_no_task_has_told_a_workflow_that_was_terminated_its_queries_tell(place: Place) -> None:
    # Nobody polls there: nothing is told before it ends.
    handle = await start(place, workflows.Inbox)
    assert await handle.query(workflows.Inbox.notes) == []
    async with place.away():
        await handle.signal(workflows.Inbox.note, "late")
        await handle.terminate()
        never = await start(place, workflows.Inbox)
        await never.terminate()
    assert await handle.query(workflows.Inbox.notes) == ["late"]
    with pytest.raises(RPCError, match="closed before WorkflowTaskStarted") as refused:
        await never.query(workflows.Inbox.notes)
    assert refused.value.status is RPCStatusCode.FAILED_PRECONDITION
    await replays(handle)


async def test_a_terminated_workflow_takes_its_children_with_it_and_never_hears_of_its_activity(place: Place) -> None:
    workflows.Gate.closed = asyncio.Event()
    handle = await start(place, workflows.Family)
    async with asyncio.timeout(10):
        while workflows.Gate.tries != ["under way"]:
            await asyncio.sleep(0.01)
    before = await events(handle)
    await handle.terminate(reason="enough")
    with pytest.raises(WorkflowFailureError, match="Workflow execution failed") as ended:
        await asyncio.wait_for(handle.result(), 10)
    assert isinstance(ended.value.cause, TerminatedError)
    children = {name: place.client.get_workflow_handle(f"{handle.id}-{name}") for name in _BY_POLICY}
    async with asyncio.timeout(10):
        while {name: (await child.describe()).status for name, child in children.items()} != _BY_POLICY:
            await asyncio.sleep(0.01)
    workflows.Gate.closed.set()
    await place.advance(children["ABANDON"], timedelta(hours=1))
    left = (await handle.describe()).raw_description
    assert {child.workflow_id for child in left.pending_children} == {child.id for child in children.values()}
    assert [activity.activity_type.name for activity in left.pending_activities] == ["waits"]
    assert await events(handle) - before == {"WORKFLOW_EXECUTION_TERMINATED": 1}
    assert await handle.query(workflows.Family.children) == list(_BY_POLICY)
    assert workflows.Gate.tries == ["under way"]
    with pytest.raises(RPCError) as refused:
        await handle.signal(workflows.Family.note, "late")
    assert refused.value.status is RPCStatusCode.NOT_FOUND
    await replays(handle)
    # The ids are free again, but for the one that was left alone.
    again = await start(place, workflows.Child, "ends", id=handle.id)
    assert await until_ended(place, again) == "child ends"
    with pytest.raises(WorkflowAlreadyStartedError):
        await start(place, workflows.Child, "ends", id=children["ABANDON"].id)
    await children["ABANDON"].cancel()


_BY_POLICY = {
    "TERMINATE": WorkflowExecutionStatus.TERMINATED,
    "REQUEST_CANCEL": WorkflowExecutionStatus.CANCELED,
    "ABANDON": WorkflowExecutionStatus.RUNNING,
}
