"""Races: events that arrive while a running workflow task makes them void. The SDK's replayer accepts the histories."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowQueryFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from temporal_simulator import Execution, Simulation, Start, VirtualTimeLoop, Worker, connect
from tests.unit.testing.simulator import activity_workflows, workflows
from tests.unit.testing.simulator.backends import ACTIVITIES, QUEUE, WORKFLOWS, assert_replays, event_types, payloads
from tests.unit.testing.simulator.test_simulation import InterleavingScheduler

HOUR = timedelta(hours=1)


class Harness:
    """A manual simulation with one run."""

    def __init__(self, workflow: str, *given: Any) -> None:
        self.simulation = Simulation(scheduler=InterleavingScheduler(), manual=True)
        self.restart()
        self.client: Client = connect(self.simulation)
        start = Start("toy", workflow, QUEUE, input=payloads(*given))
        self.run: Execution = self.simulation.start(start)
        self.handle = self.client.get_workflow_handle("toy")

    def restart(self) -> None:
        self.simulation.start_worker(QUEUE, Worker(WORKFLOWS, ACTIVITIES))

    def signal(self, name: str, *given: Any) -> None:
        self.run.signal(name, payloads(*given), {})

    async def process(self, label: str, *, run_id: str = "") -> None:
        """Process the first such event."""
        steps = [
            event for event in self.simulation.enabled_events() if event.label == label and run_id in {"", event.run_id}
        ]
        await self.simulation.process(steps[0])

    async def process_all(self, but: Callable[[str], bool] = lambda _: False) -> None:
        while steps := [event for event in self.simulation.enabled_events() if not but(event.label)]:
            await self.simulation.process(steps[0])

    async def finish(self) -> Any:
        """Run to the end and return the result; children may still be open."""
        self.simulation.scheduler = InterleavingScheduler()
        await self.simulation.advance(24 * HOUR)
        result = await asyncio.wait_for(self.handle.result(), 10)
        await assert_replays(self.handle)
        await self.simulation.close()
        return result


def scheduled_labels(harness: Harness) -> list[str]:
    """The labels of the scheduled events."""
    *_, waiting = harness.simulation.event_queue.digest()
    return [label for _, label, *_ in waiting]


@pytest.mark.parametrize(
    ("kind", "result"),
    [
        ("TRY_CANCEL", "ActivityError CANCEL_REQUESTED < CancelledError"),
        ("ABANDON", "ActivityError CANCEL_REQUESTED < CancelledError"),
        ("WAIT_CANCELLATION_COMPLETED", "was done all the same"),
    ],
)
async def test_an_activity_reports_while_its_cancellation_is_requested(kind: str, result: str) -> None:
    harness = Harness("AbandonsActivity", kind)
    await harness.process_all(but="activity reports".__eq__)
    harness.signal("go")
    await harness.process("workflow task")
    await harness.process("activity reports")
    assert await harness.finish() == result
    asked = (await event_types(harness.handle)).count("ACTIVITY_TASK_CANCEL_REQUESTED")
    assert asked == (kind != "ABANDON")


@pytest.mark.parametrize("is_first", ["child starts", "cancellation is delivered"])
@pytest.mark.parametrize(
    "kind", ["TRY_CANCEL", "ABANDON", "WAIT_CANCELLATION_COMPLETED", "WAIT_CANCELLATION_REQUESTED"]
)
async def test_a_child_is_cancelled_before_its_start_is_reported(kind: str, is_first: str) -> None:
    harness = Harness("AbandonsChild", kind)
    await harness.process_all(but="child starts".__eq__)
    harness.signal("go")
    await harness.process("workflow task")
    await harness.process("workflow task ends")
    if kind != "ABANDON":
        await harness.process(is_first)
    await harness.process_all()
    is_lost = kind != "ABANDON" and is_first == "cancellation is delivered"
    if is_lost and kind.startswith("WAIT"):
        # As on servers, the child does not get the request, and its parent waits for it.
        await harness.simulation.advance(HOUR)
        assert harness.run.is_open
        await assert_replays(harness.handle)
        await harness.client.get_workflow_handle("toy-child").cancel()
    assert await harness.finish() == "ChildWorkflowError < CancelledError"
    failed = (await event_types(harness.handle)).count("REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED")
    assert failed == is_lost


async def test_a_cancellation_lost_in_a_crash_does_not_reach_the_child() -> None:
    harness = Harness("MayCancelChild")
    await harness.process_all()
    due = harness.simulation.event_queue.next_time()
    assert due is not None
    harness.simulation.event_queue.advance_to(due)
    await harness.process("timer", run_id=harness.run.run_id)
    await harness.process("workflow task")
    # The task that cancels the child is lost in a crash.
    harness.simulation.crash_worker(QUEUE)
    harness.restart()
    harness.signal("keep")
    assert await harness.finish() == "slept"


async def test_a_task_without_new_jobs_is_written() -> None:
    harness = Harness("AbandonsActivity", "TRY_CANCEL")
    await harness.process_all(but="activity reports".__eq__)
    harness.signal("go")
    await harness.process("workflow task")
    await harness.process("activity reports")
    await harness.process("workflow task ends")
    await harness.process_all()
    assert (await event_types(harness.handle))[-4:] == [
        "ACTIVITY_TASK_COMPLETED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
        "WORKFLOW_TASK_COMPLETED",
    ]
    await harness.finish()


async def test_a_query_fails_until_a_task_lost_in_a_crash_has_timed_out() -> None:
    harness = Harness("Inbox")
    await harness.process_all()
    harness.signal("note", "first")
    await harness.process("workflow task")
    harness.simulation.crash_worker(QUEUE)
    harness.restart()
    with pytest.raises(RPCError, match="let time pass") as refused:
        await harness.handle.query(workflows.Inbox.notes)
    assert refused.value.status is RPCStatusCode.DEADLINE_EXCEEDED
    await harness.simulation.advance(timedelta(seconds=11))
    assert await harness.handle.query(workflows.Inbox.notes) == ["first"]
    await harness.simulation.close()


def test_in_a_virtual_time_loop_a_query_waits_for_a_task_lost_in_a_crash() -> None:
    async def ask() -> tuple[list[str], float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        simulation = Simulation(scheduler=InterleavingScheduler())
        simulation.start_worker(QUEUE, Worker(WORKFLOWS, ACTIVITIES))
        detach = loop.attach(simulation)
        handle = await connect(simulation).start_workflow(workflows.Inbox.run, id="toy", task_queue=QUEUE)
        await asyncio.sleep(1)
        run = simulation.find("toy")
        assert run is not None
        run.signal("note", payloads("first"), {})
        await simulation.process(simulation.enabled_events()[0])
        simulation.crash_worker(QUEUE)
        simulation.start_worker(QUEUE, Worker(WORKFLOWS, ACTIVITIES))
        asked_at = loop.time()
        notes = await handle.query(workflows.Inbox.notes)
        detach()
        await simulation.close()
        return notes, loop.time() - asked_at

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        notes, waited = runner.run(ask())
    assert notes == ["first"]
    assert 9 < waited < 11


async def test_an_unreported_attempt_is_lost_even_if_the_same_worker_restarts() -> None:
    harness = Harness("AbandonsActivity", "TRY_CANCEL")
    worker = harness.simulation.workers[QUEUE]
    await harness.process_all(but="activity reports".__eq__)
    before = harness.simulation.digest()
    assert [event.label for event in harness.simulation.enabled_events()] == ["activity reports"]
    harness.simulation.crash_worker(QUEUE)
    harness.simulation.start_worker(QUEUE, worker)
    # Both the enabled events and the digest must differ from the state before the crash.
    assert harness.simulation.enabled_events() == []
    assert harness.simulation.digest() != before
    await harness.process_all()
    assert "ACTIVITY_TASK_COMPLETED" not in await event_types(harness.handle)
    await harness.simulation.advance(timedelta(minutes=2))
    assert workflows.ActivityLog.attempts == ["late", "late"]
    await harness.simulation.close()


async def test_a_task_lost_in_a_crash_times_out() -> None:
    harness = Harness("AbandonsActivity", "TRY_CANCEL")
    await harness.process("workflow task")
    assert [event.label for event in harness.simulation.enabled_events()] == ["workflow task ends"]
    harness.simulation.crash_worker(QUEUE)
    harness.restart()
    assert harness.simulation.enabled_events() == []
    assert scheduled_labels(harness) == ["workflow task times out"]
    await harness.simulation.close()


async def test_a_failed_attempt_has_no_timeout_left() -> None:
    harness = Harness("Activities")
    await harness.process_all()
    assert workflows.ActivityLog.attempts[-1] == "b"
    assert scheduled_labels(harness) == ["activity retry"]
    await harness.simulation.close()


async def test_an_attempt_that_timed_out_cannot_report() -> None:
    harness = Harness("AbandonsActivity", "TRY_CANCEL")
    await harness.process_all(but="activity reports".__eq__)
    due = harness.simulation.event_queue.next_time()
    assert due is not None
    harness.simulation.event_queue.advance_to(due)
    await harness.process("activity times out")
    assert harness.simulation.enabled_events() == []
    assert scheduled_labels(harness) == ["activity retry"]
    await harness.simulation.close()


def test_a_heartbeat_delivers_the_cancellation() -> None:
    async def run() -> str:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        simulation = Simulation()
        simulation.start_worker(QUEUE, Worker(WORKFLOWS, ACTIVITIES))
        detach = loop.attach(simulation)
        handle = await connect(simulation).start_workflow(
            activity_workflows.CancelsActivity.run, id="toy", task_queue=QUEUE
        )
        result: str = await handle.result()
        detach()
        await simulation.close()
        return result

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(run()) == "ActivityError CANCEL_REQUESTED < CancelledError"
    assert workflows.ActivityLog.attempts == ["cancelled"]


async def test_an_activity_is_retried_more_than_1024_times() -> None:
    harness = Harness("RunsActivity", "always_fails")
    await harness.simulation.advance(timedelta(days=2))
    [activity] = harness.run.activities.values()
    assert activity.attempt > 1024
    await harness.simulation.close()


# -- replays ---------------------------------------------------------------------------------------------------


async def test_code_that_reads_its_history_length_is_replayed() -> None:
    harness = Harness("ReadsHistoryLength")
    for _ in range(5):
        await harness.simulation.advance(timedelta(seconds=1))
        harness.simulation.evict(QUEUE)
    assert isinstance(await harness.finish(), int)
    assert "WORKFLOW_TASK_FAILED" not in await event_types(harness.handle)


@pytest.mark.parametrize("patch", ["new", "deprecated", "gone"])
@pytest.mark.parametrize("began_with", ["new", "deprecated", "gone"])
async def test_patches_are_retired_as_in_the_sdk(monkeypatch: pytest.MonkeyPatch, began_with: str, patch: str) -> None:
    monkeypatch.setattr(activity_workflows.Versioned, "patch", began_with)
    harness = Harness("Versioned")
    await harness.simulation.advance(HOUR)
    monkeypatch.setattr(activity_workflows.Versioned, "patch", patch)
    harness.simulation.evict(QUEUE)
    replayer = Replayer(workflows=WORKFLOWS, workflow_runner=UnsandboxedWorkflowRunner())
    replayed = await replayer.replay_workflow(await harness.handle.fetch_history(), raise_on_replay_failure=False)
    assert await _answers_queries(harness) == (replayed.replay_failure is None)
    await harness.simulation.close()


async def _answers_queries(harness: Harness) -> bool:
    try:
        await harness.handle.query("__temporal_workflow_metadata")
    except WorkflowQueryFailedError:
        return False
    return True


async def test_a_replay_with_other_contents_shows_both(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness("Versioned")
    await harness.simulation.advance(HOUR)
    monkeypatch.setattr(activity_workflows.Versioned, "given", "new")
    harness.simulation.evict(QUEUE)
    with pytest.raises(WorkflowQueryFailedError, match=r"with other contents: .*new.* originally .*old"):
        await harness.handle.query("__temporal_workflow_metadata")
    await harness.simulation.close()


async def test_nondeterminism_fails_the_workflow_if_configured() -> None:
    workflows.Nondeterministic.instances = 0
    simulation = Simulation()
    simulation.start_worker(QUEUE, Worker(WORKFLOWS, ACTIVITIES, failure_exception_types=[Exception]))
    handle = await connect(simulation).start_workflow(workflows.Nondeterministic.run, id="toy", task_queue=QUEUE)
    simulation.evict(QUEUE)
    await simulation.advance(timedelta(days=2))
    with pytest.raises(Exception, match="Workflow execution failed") as failed:
        await asyncio.wait_for(handle.result(), 10)
    assert isinstance(failed.value.__cause__, ApplicationError)
    assert "Nondeterminism" in str(failed.value.__cause__)
    assert EventType.Name((await handle.fetch_history()).events[-1].event_type).endswith("EXECUTION_FAILED")
    await simulation.close()


async def test_a_task_interrupted_by_termination_has_no_effect_but_its_jobs_are_replayed() -> None:
    harness = Harness("Inbox")
    await harness.process_all()
    harness.signal("note", "late")
    update = asyncio.create_task(harness.handle.execute_update("add", args=["never", 0]))
    for _ in range(10):
        await asyncio.sleep(0)
    await harness.process("workflow task")
    harness.run.terminate("enough")
    assert await harness.handle.query("notes") == ["late"]
    with pytest.raises(RPCError):
        await update
    await harness.simulation.close()
