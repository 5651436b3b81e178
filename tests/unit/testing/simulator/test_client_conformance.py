"""What clients ask and what activities do goes on the simulator as it does on Temporal's real server."""

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
from tests.unit.testing.simulator.backends import Place
from tests.unit.testing.simulator.test_workflow_conformance import events, replays, start, until_ended

SECOND = timedelta(seconds=1)


# -- activities ------------------------------------------------------------------------------------------------


async def test_what_an_activity_told_with_its_last_heartbeat_its_next_attempt_knows(place: Place) -> None:
    handle = await start(place, activity_workflows.Busy, "goes_on_from_page_7")
    assert await until_ended(place, handle) == "['page', 7] 2"
    await replays(handle)


@pytest.mark.parametrize(
    ("what", "how"),
    [
        # Servers take no such report: nobody hears of the attempt again.
        ("gives_up", "ActivityError MAXIMUM_ATTEMPTS_REACHED < TimeoutError START_TO_CLOSE"),
        ("breaks_off", "ActivityError MAXIMUM_ATTEMPTS_REACHED < ApplicationError Application error"),
        ("hangs", "ActivityError TIMEOUT < TimeoutError SCHEDULE_TO_CLOSE"),
        ("fails_then_hangs", "ActivityError TIMEOUT < TimeoutError SCHEDULE_TO_CLOSE < ApplicationError first"),
        ("stops beating", "ActivityError MAXIMUM_ATTEMPTS_REACHED < TimeoutError HEARTBEAT"),
    ],
)
async def test_an_activity_that_ends_badly_is_told_as_it_ended(place: Place, what: str, how: str) -> None:
    handle = await start(place, activity_workflows.Busy, what)
    assert await until_ended(place, handle) == how
    await replays(handle)


# -- requests --------------------------------------------------------------------------------------------------


async def test_whoever_stops_waiting_for_an_update_takes_it_from_nobody(place: Place) -> None:
    handle = await start(place, workflows.Inbox)
    with pytest.raises(WorkflowUpdateRPCTimeoutOrCancelledError):
        async with asyncio.timeout(0.3):
            await handle.execute_update(workflows.Inbox.add, args=["slow", 1], id="slow")
    await place.advance(handle, timedelta(hours=2))
    assert await asyncio.wait_for(handle.get_update_handle("slow").result(), 10) == 1
    await handle.signal(workflows.Inbox.finish)
    assert await until_ended(place, handle) == ["slow"]


async def test_who_means_an_earlier_run_does_not_end_a_later_one(place: Place) -> None:
    first = await start(place, workflows.Inbox, id="twice")
    await first.signal(workflows.Inbox.finish)
    await until_ended(place, first)
    second = await start(place, workflows.Inbox, id="twice")
    chain = place.client.get_workflow_handle("twice", first_execution_run_id=first.first_execution_run_id)
    for late in (chain.cancel(), chain.terminate()):
        with pytest.raises(RPCError) as refused:
            await late
        assert refused.value.status is RPCStatusCode.NOT_FOUND
    assert (await second.describe()).status is WorkflowExecutionStatus.RUNNING
    await place.client.get_workflow_handle("twice", first_execution_run_id=second.first_execution_run_id).cancel()
    with pytest.raises(WorkflowFailureError):
        await until_ended(place, second)


async def test_a_new_run_may_end_the_one_that_runs(place: Place) -> None:
    first = await start(place, workflows.Inbox, id="instead")
    second = await start(
        place, workflows.Inbox, id="instead", id_reuse_policy=WorkflowIDReusePolicy.TERMINATE_IF_RUNNING
    )
    old = place.client.get_workflow_handle("instead", run_id=first.first_execution_run_id)
    assert (await old.describe()).status is WorkflowExecutionStatus.TERMINATED
    assert (await second.describe()).status is WorkflowExecutionStatus.RUNNING
    await second.terminate()


async def test_the_shorter_of_two_time_outs_counts(place: Place) -> None:
    handle = await start(place, workflows.Inbox, execution_timeout=2 * SECOND, run_timeout=timedelta(hours=9))
    await place.advance(handle, 3 * SECOND)
    with pytest.raises(WorkflowFailureError):
        await until_ended(place, handle)
    assert (await handle.describe()).status is WorkflowExecutionStatus.TIMED_OUT


async def test_a_workflow_knows_its_execution_time_out_and_a_note_of_nothing_is_taken_back(place: Place) -> None:
    handle = await start(place, activity_workflows.Notes, execution_timeout=timedelta(days=3))
    assert await until_ended(place, handle) == "3 days, 0:00:00"
    assert await (await handle.describe()).memo() == {"kept": 1}
    await replays(handle)


async def test_a_search_attribute_that_nobody_registered_is_refused(place: Place) -> None:
    given = TypedSearchAttributes([SearchAttributePair(activity_workflows.UNHEARD_OF, "x")])
    with pytest.raises(RPCError, match="has no mapping defined for search attribute UnheardOf"):
        await start(place, workflows.Inbox, search_attributes=given)
    handle = await start(place, activity_workflows.Marks)
    async with asyncio.timeout(10):
        while not (await events(handle))["WORKFLOW_TASK_FAILED"]:
            await asyncio.sleep(0.02)
    assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
    await handle.terminate()


async def test_a_history_can_be_followed_while_it_is_written(place: Place) -> None:
    handle = await start(place, workflows.Inbox)
    following = handle.fetch_history_events(wait_new_event=True)
    first = await asyncio.wait_for(anext(following), 10)
    await handle.signal(workflows.Inbox.finish)
    async with asyncio.timeout(10):
        kinds = [first.event_type, *[event.event_type async for event in following]]
    assert kinds == [event.event_type async for event in handle.fetch_history_events()]


async def test_activities_under_way_are_told(place: Place) -> None:
    handle = await start(place, activity_workflows.Busy, "hangs_on")
    async with asyncio.timeout(10):
        while not (pending := (await handle.describe()).raw_description.pending_activities):
            await asyncio.sleep(0.02)
    [doing] = pending
    assert (doing.activity_type.name, doing.attempt) == ("hangs_on", 1)
    await handle.terminate()
