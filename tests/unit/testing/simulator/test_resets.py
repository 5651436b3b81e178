"""Resets have the same effect on the simulator and on Temporal's real server."""

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

from temporal_simulator import NotSimulated
from tests.requirements import requirement
from tests.unit.testing.simulator import backends, workflows
from tests.unit.testing.simulator.backends import QUEUE, Backend, assert_replays, event_types
from tests.unit.testing.simulator.reset_workflows import Household
from tests.unit.testing.simulator.workflows import Child, Inbox

Handle = WorkflowHandle[Any, Any]
_COMPLETED = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
_NONE, _SIGNAL = ResetReapplyType.RESET_REAPPLY_TYPE_NONE, ResetReapplyType.RESET_REAPPLY_TYPE_SIGNAL
_EVERYTHING = ResetReapplyType.RESET_REAPPLY_TYPE_UNSPECIFIED
_NO_SIGNAL = ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL
_TASK = ("WORKFLOW_TASK_SCHEDULED", "WORKFLOW_TASK_STARTED")
_numbers = count(1)


async def start(backend: Backend, workflow: Any, *args: Any) -> Handle:
    handle = await backend.client.start_workflow(
        workflow.run, args=args, id=f"reset-{next(_numbers)}", task_queue=QUEUE
    )
    return backend.client.get_workflow_handle(handle.id)


async def reset(
    backend: Backend, handle: Handle, finish: int, reapply: Any = _EVERYTHING, *, excluded: tuple[Any, ...] = ()
) -> Handle:
    """Reset to the workflow task that this event closed; returns the new run."""
    answer = await backend.client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=backend.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=handle.id, run_id=handle.run_id or ""),
            reason="a test",
            workflow_task_finish_event_id=finish,
            request_id=str(uuid.uuid4()),
            reset_reapply_type=reapply,
            reset_reapply_exclude_types=excluded,
        )
    )
    return backend.client.get_workflow_handle(handle.id, run_id=answer.run_id)


async def finished(handle: Handle) -> list[int]:
    """Ids of the events that completed its workflow tasks."""
    return [event.event_id async for event in handle.fetch_history_events() if event.event_type == _COMPLETED]


async def wait_for_event(handle: Handle, kind: str, times: int = 1) -> None:
    """Wait until the history has so many of these events, and no workflow task is open."""
    async with asyncio.timeout(10):
        while (seen := await event_types(handle)).count(kind) < times or seen[-1] in _TASK:
            await asyncio.sleep(0.01)


async def start_inbox(backend: Backend) -> Handle:
    """An inbox that has received a signal, an update and another signal."""
    handle = await start(backend, Inbox)
    await handle.query(Inbox.notes)
    await handle.signal(Inbox.note, "first")
    assert await handle.execute_update(Inbox.add, args=["second", 0]) == 2
    await handle.signal(Inbox.note, "third")
    assert await handle.query(Inbox.notes) == ["first", "second", "third"]
    return handle


_RESET_EVENTS = ["WORKFLOW_EXECUTION_STARTED", *_TASK, "WORKFLOW_TASK_FAILED"]
_REAPPLIED = ["WORKFLOW_EXECUTION_SIGNALED", "WORKFLOW_EXECUTION_UPDATE_ADMITTED", "WORKFLOW_EXECUTION_SIGNALED"]
_ANSWERS = [*_TASK, "WORKFLOW_TASK_COMPLETED", "WORKFLOW_EXECUTION_UPDATE_ACCEPTED"]


@requirement("SIMULATOR-RESET")
async def test_signals_and_updates_are_reapplied(backend: Backend) -> None:
    handle = await start_inbox(backend)
    old = backend.client.get_workflow_handle(handle.id, run_id=(await handle.describe()).run_id)
    new = await reset(backend, handle, 4)
    assert await handle.query(Inbox.notes) == ["first", "second", "third"]
    expected = [*_RESET_EVENTS, *_REAPPLIED, *_ANSWERS, "WORKFLOW_EXECUTION_UPDATE_COMPLETED"]
    assert await event_types(new) == expected
    assert (await event_types(old))[-1] == "WORKFLOW_EXECUTION_TERMINATED"
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
    await assert_replays(new)
    # The new run can be reset as well.
    again = await reset(backend, handle, 4)
    assert await handle.query(Inbox.notes) == ["first", "second", "third"]
    assert await event_types(again) == expected
    await handle.signal(Inbox.finish)
    assert await handle.result() == ["first", "second", "third"]
    await assert_replays(again)


@requirement("SIMULATOR-RESET")
@pytest.mark.parametrize(
    ("reapply", "excluded", "seen"),
    [(_NONE, (), []), (_SIGNAL, (), ["first", "third"]), (_EVERYTHING, (_NO_SIGNAL,), ["second"])],
)
async def test_only_the_requested_kinds_are_reapplied(
    backend: Backend, reapply: Any, excluded: tuple[Any, ...], seen: list[str]
) -> None:
    handle = await start_inbox(backend)
    new = await reset(backend, handle, 4, reapply, excluded=excluded)
    assert await handle.query(Inbox.notes) == seen
    assert (await event_types(new))[:4] == _RESET_EVENTS
    await handle.terminate()


@requirement("SIMULATOR-RESET")
async def test_events_before_the_reset_point_are_kept(backend: Backend) -> None:
    handle = await start_inbox(backend)
    new = await reset(backend, handle, (await finished(handle))[-1], _NONE)
    assert await handle.query(Inbox.notes) == ["first", "second", "third"]
    # The update keeps its outcome.
    assert (await event_types(new)).count("WORKFLOW_EXECUTION_UPDATE_COMPLETED") == 1
    await handle.signal(Inbox.finish)
    assert await handle.result() == ["first", "second", "third"]
    await assert_replays(new)


@requirement("SIMULATOR-RESET")
async def test_cancellations_are_not_reapplied_and_a_closed_run_keeps_its_status(backend: Backend) -> None:
    handle = await start(backend, Inbox)
    await handle.query(Inbox.notes)
    old = backend.client.get_workflow_handle(handle.id, run_id=(await handle.describe()).run_id)
    await handle.signal(Inbox.note, "first")
    await handle.cancel()
    with pytest.raises(WorkflowFailureError):
        await old.result()
    new = await reset(backend, handle, 4)
    assert await handle.query(Inbox.notes) == ["first"]
    before, now = [await each.describe() for each in (old, new)]
    assert (before.status.name, now.status.name) == ("CANCELED", "RUNNING")  # type: ignore[union-attr]
    assert before.raw_description.workflow_extended_info.reset_run_id == new.run_id
    await handle.terminate()


@requirement("SIMULATOR-RESET")
async def test_children_started_before_the_reset_point_belong_to_the_new_run(backend: Backend) -> None:
    handle = await start(backend, Household)
    await wait_for_event(handle, "CHILD_WORKFLOW_EXECUTION_STARTED", 2)
    tasks = await finished(handle)
    one, other = (backend.client.get_workflow_handle(f"{handle.id}-{name}") for name in "ab")
    await other.signal(Inbox.note, "of b")
    await other.signal(Inbox.finish)
    await wait_for_event(handle, "CHILD_WORKFLOW_EXECUTION_COMPLETED")
    new = await reset(backend, handle, tasks[-1], _NONE)
    # The close of a child is always reapplied.
    await wait_for_event(new, "CHILD_WORKFLOW_EXECUTION_COMPLETED")
    [child] = (await new.describe()).raw_description.pending_children
    assert (child.workflow_id, child.run_id) == (one.id, (await one.describe()).run_id)
    assert (await one.describe()).raw_description.workflow_execution_info.parent_execution.run_id != new.run_id
    await one.signal(Inbox.note, "of a")
    await one.signal(Inbox.finish)
    await wait_for_event(new, "CHILD_WORKFLOW_EXECUTION_COMPLETED", 2)
    await backend.advance(handle, timedelta(hours=4))
    assert await new.result() == ["of a", "of b", "done"]
    await assert_replays(new)


@requirement("SIMULATOR-RESET")
async def test_children_started_after_the_reset_point_keep_running_and_keep_their_ids(backend: Backend) -> None:
    handle = await start(backend, Household)
    await wait_for_event(handle, "CHILD_WORKFLOW_EXECUTION_STARTED", 2)
    tasks = await finished(handle)
    _, chance = await handle.query(Household.all)
    one, other = (backend.client.get_workflow_handle(f"{handle.id}-{name}") for name in "ab")
    # At this point the first child had started, the second one had not.
    new = await reset(backend, handle, tasks[1], _NONE)
    await wait_for_event(new, "START_CHILD_WORKFLOW_EXECUTION_FAILED")
    seen, then = await handle.query(Household.all)
    assert seen == ["b is taken"]
    assert then[0] == chance[0]
    assert then[1] != chance[1]
    assert [each.workflow_id for each in (await new.describe()).raw_description.pending_children] == [one.id]
    for child in (one, other):
        assert (await child.describe()).status.name == "RUNNING"  # type: ignore[union-attr]
    # At this point neither had started.
    last = await reset(backend, handle, 4, _NONE)
    await wait_for_event(last, "START_CHILD_WORKFLOW_EXECUTION_FAILED", 2)
    assert (await last.describe()).raw_description.pending_children == []
    await handle.terminate()
    for child in (one, other):
        # The end of the newest run does not close them.
        await child.signal(Inbox.note, "still here")
        await child.signal(Inbox.finish)
        assert await child.result() == ["still here"]
    await assert_replays(last)


@requirement("SIMULATOR-RESET")
async def test_activities_restart_and_timers_continue_after_a_reset(backend: Backend) -> None:
    workflows.ActivityLog.closed = asyncio.Event()
    handle = await start(backend, Household)
    await wait_for_event(handle, "CHILD_WORKFLOW_EXECUTION_STARTED", 2)
    for name in "ab":
        await backend.client.get_workflow_handle(f"{handle.id}-{name}").signal(Inbox.finish)
    await wait_for_event(handle, "TIMER_STARTED")
    async with asyncio.timeout(10):
        while not workflows.ActivityLog.attempts:
            await asyncio.sleep(0.01)
    await handle.signal(Household.note, "meanwhile")
    await handle.query(Household.all)
    workflows.ActivityLog.closed.set()
    new = await reset(backend, handle, (await finished(handle))[-1], _NONE)
    await wait_for_event(new, "ACTIVITY_TASK_COMPLETED")
    assert workflows.ActivityLog.attempts == ["done", "done"]
    last = (await new.fetch_history()).events
    [began] = [each for each in last if each.HasField("activity_task_started_event_attributes")]
    assert began.activity_task_started_event_attributes.attempt == 1
    await backend.advance(handle, timedelta(hours=3, minutes=1))
    assert await asyncio.wait_for(new.result(), 10) == ["meanwhile", "done"]
    [fired] = [each for each in (await new.fetch_history()).events if each.HasField("timer_fired_event_attributes")]
    [begun] = [each for each in last if each.HasField("timer_started_event_attributes")]
    waited = fired.event_time.ToDatetime() - begun.event_time.ToDatetime()
    assert timedelta(hours=3) <= waited < timedelta(hours=3, seconds=30)
    await assert_replays(new)


@requirement("SIMULATOR-RESET")
async def test_a_reset_needs_an_event_that_closed_a_workflow_task(backend: Backend) -> None:
    handle = await start(backend, Inbox)
    await handle.query(Inbox.notes)
    for finish in (0, 1, 99):
        with pytest.raises(RPCError, match="Workflow task finish ID must be") as refused:
            await reset(backend, handle, finish)
        assert refused.value.status is RPCStatusCode.INVALID_ARGUMENT
    with pytest.raises(RPCError) as refused:
        await reset(backend, backend.client.get_workflow_handle("nobody"), 4)
    assert refused.value.status is RPCStatusCode.NOT_FOUND
    assert (await handle.describe()).status.name == "RUNNING"  # type: ignore[union-attr]
    await handle.terminate()


@requirement("SIMULATOR-RESET")
async def test_resets_that_are_not_simulated_raise_an_error() -> None:
    async with backends.simulated() as backend:
        handle = await start(backend, Inbox)
        await handle.query(Inbox.notes)
        with pytest.raises(NotSimulated, match="an event that closes no workflow task"):
            await reset(backend, handle, 3)
        old = (await handle.describe()).run_id
        await reset(backend, handle, 4)
        with pytest.raises(NotSimulated, match="not the newest one"):
            await reset(backend, backend.client.get_workflow_handle(handle.id, run_id=old), 4)
        parent = await start(backend, workflows.Parent)
        with pytest.raises(NotSimulated, match="a reset of a child"):
            await reset(backend, backend.client.get_workflow_handle(f"{parent.id}-a"), 4)
        limited = await backend.client.start_workflow(
            Child.run, "waits", id="limited", task_queue=QUEUE, run_timeout=timedelta(days=1)
        )
        with pytest.raises(NotSimulated, match="a timeout"):
            await reset(backend, limited, 4)
