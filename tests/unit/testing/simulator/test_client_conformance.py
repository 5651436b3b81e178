"""Client requests and activities behave the same on the simulator and on Temporal's real server."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from temporalio.client import (
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from tests.unit.testing.simulator import activity_workflows, workflows
from tests.unit.testing.simulator.backends import Backend, assert_replays
from tests.unit.testing.simulator.test_workflow_conformance import event_counts, result_of, start

SECOND = timedelta(seconds=1)


# -- activities ------------------------------------------------------------------------------------------------


async def test_heartbeat_details_reach_the_next_attempt(backend: Backend) -> None:
    handle = await start(backend, activity_workflows.RunsActivity, "resumes_from_heartbeat")
    assert await result_of(backend, handle) == "['page', 7] 2"
    await assert_replays(handle)


@pytest.mark.parametrize(
    ("what", "how"),
    [
        # Servers reject this report, so the attempt times out.
        ("raises_cancelled_error", "ActivityError MAXIMUM_ATTEMPTS_REACHED < TimeoutError START_TO_CLOSE"),
        (
            "raises_asyncio_cancelled_error",
            "ActivityError MAXIMUM_ATTEMPTS_REACHED < ApplicationError Application error",
        ),
        ("hangs", "ActivityError TIMEOUT < TimeoutError SCHEDULE_TO_CLOSE"),
        ("fails_then_hangs", "ActivityError TIMEOUT < TimeoutError SCHEDULE_TO_CLOSE < ApplicationError first"),
        ("stops beating", "ActivityError MAXIMUM_ATTEMPTS_REACHED < TimeoutError HEARTBEAT"),
    ],
)
async def test_activity_failures_reach_the_workflow(backend: Backend, what: str, how: str) -> None:
    handle = await start(backend, activity_workflows.RunsActivity, what)
    assert await result_of(backend, handle) == how
    await assert_replays(handle)


# -- requests --------------------------------------------------------------------------------------------------


async def test_a_client_that_stops_waiting_does_not_cancel_the_update(backend: Backend) -> None:
    handle = await start(backend, workflows.Inbox)
    with pytest.raises(WorkflowUpdateRPCTimeoutOrCancelledError):
        async with asyncio.timeout(0.3):
            await handle.execute_update(workflows.Inbox.add, args=["slow", 1], id="slow")
    await backend.advance(handle, timedelta(hours=2))
    assert await asyncio.wait_for(handle.get_update_handle("slow").result(), 10) == 1
    await handle.signal(workflows.Inbox.finish)
    assert await result_of(backend, handle) == ["slow"]


async def test_a_request_for_an_earlier_chain_does_not_affect_a_later_run(backend: Backend) -> None:
    first = await start(backend, workflows.Inbox, id="twice")
    await first.signal(workflows.Inbox.finish)
    await result_of(backend, first)
    second = await start(backend, workflows.Inbox, id="twice")
    chain = backend.client.get_workflow_handle("twice", first_execution_run_id=first.first_execution_run_id)
    for late in (chain.cancel(), chain.terminate()):
        with pytest.raises(RPCError) as refused:
            await late
        assert refused.value.status is RPCStatusCode.NOT_FOUND
    assert (await second.describe()).status is WorkflowExecutionStatus.RUNNING
    await backend.client.get_workflow_handle("twice", first_execution_run_id=second.first_execution_run_id).cancel()
    with pytest.raises(WorkflowFailureError):
        await result_of(backend, second)


async def test_terminate_if_running_replaces_the_running_workflow(backend: Backend) -> None:
    first = await start(backend, workflows.Inbox, id="instead")
    second = await start(
        backend, workflows.Inbox, id="instead", id_reuse_policy=WorkflowIDReusePolicy.TERMINATE_IF_RUNNING
    )
    old = backend.client.get_workflow_handle("instead", run_id=first.first_execution_run_id)
    assert (await old.describe()).status is WorkflowExecutionStatus.TERMINATED
    assert (await second.describe()).status is WorkflowExecutionStatus.RUNNING
    await second.terminate()


async def test_the_shorter_workflow_timeout_applies(backend: Backend) -> None:
    handle = await start(backend, workflows.Inbox, execution_timeout=2 * SECOND, run_timeout=timedelta(hours=9))
    await backend.advance(handle, 3 * SECOND)
    with pytest.raises(WorkflowFailureError):
        await result_of(backend, handle)
    assert (await handle.describe()).status is WorkflowExecutionStatus.TIMED_OUT


async def test_info_has_the_execution_timeout_and_none_removes_a_memo_field(backend: Backend) -> None:
    handle = await start(backend, activity_workflows.ChangesMemo, execution_timeout=timedelta(days=3))
    assert await result_of(backend, handle) == "3 days, 0:00:00"
    assert await (await handle.describe()).memo() == {"kept": 1}
    await assert_replays(handle)


async def test_an_unregistered_search_attribute_is_rejected(backend: Backend) -> None:
    given = TypedSearchAttributes([SearchAttributePair(activity_workflows.UNREGISTERED, "x")])
    with pytest.raises(RPCError, match="has no mapping defined for search attribute UnheardOf"):
        await start(backend, workflows.Inbox, search_attributes=given)
    handle = await start(backend, activity_workflows.SetsUnregisteredAttribute)
    async with asyncio.timeout(10):
        while not (await event_counts(handle))["WORKFLOW_TASK_FAILED"]:
            await asyncio.sleep(0.02)
    assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
    await handle.terminate()


async def test_a_history_can_be_streamed(backend: Backend) -> None:
    handle = await start(backend, workflows.Inbox)
    following = handle.fetch_history_events(wait_new_event=True)
    first = await asyncio.wait_for(anext(following), 10)
    await handle.signal(workflows.Inbox.finish)
    async with asyncio.timeout(10):
        kinds = [first.event_type, *[event.event_type async for event in following]]
    assert kinds == [event.event_type async for event in handle.fetch_history_events()]


async def test_pending_activities_are_described(backend: Backend) -> None:
    handle = await start(backend, activity_workflows.RunsActivity, "blocks")
    async with asyncio.timeout(10):
        while not (pending := (await handle.describe()).raw_description.pending_activities):
            await asyncio.sleep(0.02)
    [activity] = pending
    assert (activity.activity_type.name, activity.attempt) == ("blocks", 1)
    await handle.terminate()
