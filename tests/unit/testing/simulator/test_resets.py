"""A reset does on the simulator what it does on Temporal's real server."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, ResetReapplyExcludeType, ResetReapplyType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from temporal_simulator import NotSimulated
from tests.requirements import requirement
from tests.unit.testing.simulator import backends, workflows
from tests.unit.testing.simulator.backends import QUEUE, WORKFLOWS, Place
from tests.unit.testing.simulator.reset_workflows import Household
from tests.unit.testing.simulator.workflows import Child, Inbox

Handle = WorkflowHandle[Any, Any]
_COMPLETED = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
_NONE, _SIGNAL = ResetReapplyType.RESET_REAPPLY_TYPE_NONE, ResetReapplyType.RESET_REAPPLY_TYPE_SIGNAL
_EVERYTHING = ResetReapplyType.RESET_REAPPLY_TYPE_UNSPECIFIED
_NO_SIGNAL = ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL
_TASK = ("WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_STARTED")
_numbers = count(1)


async def start(place: Place, workflow: Any, *args: Any) -> Handle:
    handle = await place.client.start_workflow(workflow.run, args=args, id=f"reset-{next(_numbers)}", task_queue=QUEUE)
    return place.client.get_workflow_handle(handle.id)


async def reset(
    place: Place, handle: Handle, finish: int, reapply: Any = _EVERYTHING, *, excluded: tuple[Any, ...] = ()
) -> Handle:
    """Reset it to the workflow task that ended with that event; the run that goes on."""
    answer = await place.client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=place.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=handle.id, run_id=handle.run_id or ""),
            reason="a test",
            workflow_task_finish_event_id=finish,
            request_id=str(uuid.uuid4()),
            reset_reapply_type=reapply,
            reset_reapply_exclude_types=excluded,
        )
    )
    return place.client.get_workflow_handle(handle.id, run_id=answer.run_id)


async def events(handle: Handle) -> list[str]:
    return [EventType.Name(event.event_type)[11:] async for event in handle.fetch_history_events()]


async def finished(handle: Handle) -> list[int]:
    """Numbers of the events with which its workflow tasks ended."""
    return [event.event_id async for event in handle.fetch_history_events() if event.event_type == _COMPLETED]


async def until(handle: Handle, kind: str, times: int = 1) -> None:
    """Wait until so many of these events are in its history, and no workflow task is under way."""
    async with asyncio.timeout(10):
        while (seen := await events(handle)).count(kind) < times or seen[-1] in _TASK:
            await asyncio.sleep(0.01)


async def replays(handle: Handle) -> None:
    """Temporal's own replayer takes its history."""
    replayer = Replayer(workflows=WORKFLOWS, workflow_runner=UnsandboxedWorkflowRunner())
    result = await asyncio.wait_for(replayer.replay_workflow(await handle.fetch_history()), 10)
    assert result.replay_failure is None


async def an_inbox(place: Place) -> Handle:
    """One that was sent a signal, an update and another signal."""
    handle = await start(place, Inbox)
    await handle.query(Inbox.notes)
    await handle.signal(Inbox.note, "first")
    assert await handle.execute_update(Inbox.add, args=["second", 0]) == 2
    await handle.signal(Inbox.note, "third")
    assert await handle.query(Inbox.notes) == ["first", "second", "third"]
    return handle


_BEGINS = ["WORKFLOW_EXECUTION_STARTED", *_TASK, "WORKFLOW_TASK_FAILED"]
_TOLD_AGAIN = ["WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_EXECUTION_UPDATE_ADMITTED", "WORKFLOW_EXECUTION_SIGNALED"]
_ANSWERS = [*_TASK, "WORKFLOW_TASK_COMPLETED", "WORKFLOW_EXECUTION_UPDATE_ACCEPTED"]


@requirement("SIMULATOR-RESET")
async def test_signals_and_updates_come_again(place: Place) -> None:
    handle = await an_inbox(place)
    old = place.client.get_workflow_handle(handle.id, run_id=(await handle.describe()).run_id)
    new = await reset(place, handle, 4)
    assert await handle.query(Inbox.notes) == ["first", "second", "third"]
    told = [*_BEGINS, *_TOLD_AGAIN, *_ANSWERS, "WORKFLOW_EXECUTION_UPDATE_COMPLETED"]
    assert await events(new) == told
    assert (await events(old))[-1] == "WORKFLOW_EXECUTION_TERMINATED"
    before, now = [await each.describe() for each in (old, new)]
    assert (before.status.name, now.status.name) == ("TERMINATED", "RUNNING")  # type: ignore[union-attr]
    assert before.raw_description.workflow_extended_info.reset_run_id == now.run_id
    assert not now.raw_description.workflow_extended_info.reset_run_id
    assert now.raw_description.workflow_execution_info.first_run_id == old.run_id
    assert now.start_time > before.start_time
    history = (await new.fetch_history()).events
    failed = history[3].workflow_task_failed_event_attributes
    assert (failed.failure.message, failed.identity) == ("a test", "history-service")
    assert failed.failure.HasField("reset_workflow_failure_info")
    assert (failed.base_run_id, failed.new_run_id) == (old.run_id, new.run_id)
    accepted = history[10].workflow_execution_update_accepted_event_attributes
    assert (accepted.accepted_request_sequencing_event_id, accepted.HasField("accepted_request")) == (6, False)
    await replays(new)
    # The run that goes on is reset once more, and after that is the newest again.
    again = await reset(place, handle, 4)
    assert await handle.query(Inbox.notes) == ["first", "second", "third"]
    assert await events(again) == told
    await handle.signal(Inbox.finish)
    assert await handle.result() == ["first", "second", "third"]
    await replays(again)


@requirement("SIMULATOR-RESET")
@pytest.mark.parametrize(
    ("reapply", "excluded", "seen"),
    [(_NONE, (), []), (_SIGNAL, (), ["first", "third"]), (_EVERYTHING, (_NO_SIGNAL,), ["second"])],
)
async def test_only_what_is_asked_for_comes_again(
    place: Place, reapply: Any, excluded: tuple[Any, ...], seen: list[str]
) -> None:
    handle = await an_inbox(place)
    new = await reset(place, handle, 4, reapply, excluded=excluded)
    assert await handle.query(Inbox.notes) == seen
    assert (await events(new))[:4] == _BEGINS
    await handle.terminate()


@requirement("SIMULATOR-RESET")
async def test_what_came_before_the_point_is_there_already(place: Place) -> None:
    handle = await an_inbox(place)
    new = await reset(place, handle, (await finished(handle))[-1], _NONE)
    assert await handle.query(Inbox.notes) == ["first", "second", "third"]
    # The same update is answered as it was.
    assert (await events(new)).count("WORKFLOW_EXECUTION_UPDATE_COMPLETED") == 1
    await handle.signal(Inbox.finish)
    assert await handle.result() == ["first", "second", "third"]
    await replays(new)


@requirement("SIMULATOR-RESET")
async def test_a_cancellation_does_not_come_again_and_what_has_ended_stays_as_it_is(place: Place) -> None:
    handle = await start(place, Inbox)
    await handle.query(Inbox.notes)
    old = place.client.get_workflow_handle(handle.id, run_id=(await handle.describe()).run_id)
    await handle.signal(Inbox.note, "first")
    await handle.cancel()
    with pytest.raises(WorkflowFailureError):
        await old.result()
    new = await reset(place, handle, 4)
    assert await handle.query(Inbox.notes) == ["first"]
    before, now = [await each.describe() for each in (old, new)]
    assert (before.status.name, now.status.name) == ("CANCELED", "RUNNING")  # type: ignore[union-attr]
    assert before.raw_description.workflow_extended_info.reset_run_id == new.run_id
    await handle.terminate()


@requirement("SIMULATOR-RESET")
async def test_children_that_had_begun_go_on_with_the_new_run(place: Place) -> None:
    handle = await start(place, Household)
    await until(handle, "CHILD_WORKFLOW_EXECUTION_STARTED", 2)
    tasks = await finished(handle)
    one, other = (place.client.get_workflow_handle(f"{handle.id}-{name}") for name in "ab")
    await other.signal(Inbox.note, "of b")
    await other.signal(Inbox.finish)
    await until(handle, "CHILD_WORKFLOW_EXECUTION_COMPLETED")
    new = await reset(place, handle, tasks[-1], _NONE)
    # What became of one since then comes again, whatever else does.
    await until(new, "CHILD_WORKFLOW_EXECUTION_COMPLETED")
    [child] = (await new.describe()).raw_description.pending_children
    assert (child.workflow_id, child.run_id) == (one.id, (await one.describe()).run_id)
    assert (await one.describe()).raw_description.workflow_execution_info.parent_execution.run_id != new.run_id
    await one.signal(Inbox.note, "of a")
    await one.signal(Inbox.finish)
    await until(new, "CHILD_WORKFLOW_EXECUTION_COMPLETED", 2)
    await place.advance(handle, timedelta(hours=4))
    assert await new.result() == ["of a", "of b", "done"]
    await replays(new)


@requirement("SIMULATOR-RESET")
async def test_children_that_began_later_stay_and_keep_their_ids(place: Place) -> None:
    handle = await start(place, Household)
    await until(handle, "CHILD_WORKFLOW_EXECUTION_STARTED", 2)
    tasks = await finished(handle)
    _, chance = await handle.query(Household.all)
    one, other = (place.client.get_workflow_handle(f"{handle.id}-{name}") for name in "ab")
    # The first one had begun, the second one had not.
    new = await reset(place, handle, tasks[1], _NONE)
    await until(new, "START_CHILD_WORKFLOW_EXECUTION_FAILED")
    seen, then = await handle.query(Household.all)
    assert seen == ["b is taken"]
    assert then[0] == chance[0]
    assert then[1] != chance[1]
    assert [each.workflow_id for each in (await new.describe()).raw_description.pending_children] == [one.id]
    for child in (one, other):
        assert (await child.describe()).status.name == "RUNNING"  # type: ignore[union-attr]
    # Then neither had.
    last = await reset(place, handle, 4, _NONE)
    await until(last, "START_CHILD_WORKFLOW_EXECUTION_FAILED", 2)
    assert (await last.describe()).raw_description.pending_children == []
    await handle.terminate()
    for child in (one, other):
        # Whoever ends the newest run does not end them.
        await child.signal(Inbox.note, "still here")
        await child.signal(Inbox.finish)
        assert await child.result() == ["still here"]
    await replays(last)


@requirement("SIMULATOR-RESET")
async def test_an_activity_begins_anew_and_a_timer_goes_on(place: Place) -> None:
    workflows.Gate.closed = asyncio.Event()
    handle = await start(place, Household)
    await until(handle, "CHILD_WORKFLOW_EXECUTION_STARTED", 2)
    for name in "ab":
        await place.client.get_workflow_handle(f"{handle.id}-{name}").signal(Inbox.finish)
    await until(handle, "TIMER_STARTED")
    async with asyncio.timeout(10):
        while not workflows.Gate.tries:
            await asyncio.sleep(0.01)
    await handle.signal(Household.note, "meanwhile")
    await handle.query(Household.all)
    workflows.Gate.closed.set()
    new = await reset(place, handle, (await finished(handle))[-1], _NONE)
    await until(new, "ACTIVITY_TASK_COMPLETED")
    assert workflows.Gate.tries == ["done", "done"]
    last = (await new.fetch_history()).events
    [began] = [each for each in last if each.HasField("activity_task_started_event_attributes")]
    assert began.activity_task_started_event_attributes.attempt == 1
    await place.advance(handle, timedelta(hours=3, minutes=1))
    assert await asyncio.wait_for(new.result(), 10) == ["meanwhile", "done"]
    [fired] = [each for each in (await new.fetch_history()).events if each.HasField("timer_fired_event_attributes")]
    [begun] = [each for each in last if each.HasField("timer_started_event_attributes")]
    waited = fired.event_time.ToDatetime() - begun.event_time.ToDatetime()
    assert timedelta(hours=3) <= waited < timedelta(hours=3, seconds=30)
    await replays(new)


@requirement("SIMULATOR-RESET")
async def test_where_no_workflow_task_has_ended_nothing_is_reset(place: Place) -> None:
    handle = await start(place, Inbox)
    await handle.query(Inbox.notes)
    for finish in (0, 1, 99):
        with pytest.raises(RPCError, match="Workflow task finish ID must be") as refused:
            await reset(place, handle, finish)
        assert refused.value.status is RPCStatusCode.INVALID_ARGUMENT
    with pytest.raises(RPCError) as refused:
        await reset(place, place.client.get_workflow_handle("nobody"), 4)
    assert refused.value.status is RPCStatusCode.NOT_FOUND
    assert (await handle.describe()).status.name == "RUNNING"  # type: ignore[union-attr]
    await handle.terminate()


@requirement("SIMULATOR-RESET")
async def test_what_is_not_simulated_is_told() -> None:
    async with backends.simulated() as place:
        handle = await start(place, Inbox)
        await handle.query(Inbox.notes)
        with pytest.raises(NotSimulated, match="another event than one that ends a workflow task"):
            await reset(place, handle, 3)
        old = (await handle.describe()).run_id
        await reset(place, handle, 4)
        with pytest.raises(NotSimulated, match="another run than the newest"):
            await reset(place, place.client.get_workflow_handle(handle.id, run_id=old), 4)
        parent = await start(place, workflows.Parent)
        with pytest.raises(NotSimulated, match="a reset of a child"):
            await reset(place, place.client.get_workflow_handle(f"{parent.id}-a"), 4)
        limited = await place.client.start_workflow(
            Child.run, "waits", id="limited", task_queue=QUEUE, run_timeout=timedelta(days=1)
        )
        with pytest.raises(NotSimulated, match="a time-out"):
            await reset(place, limited, 4)
