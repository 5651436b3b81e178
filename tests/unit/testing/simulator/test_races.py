"""What crosses: something happens while a worker is busy with what makes it void. Temporal's replayer takes it all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.common.v1 import Payloads
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowQueryFailedError
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from temporal_simulator import Execution, Simulation, Start, VirtualTimeLoop, Worker, connect
from tests.unit.testing.simulator import activity_workflows, workflows
from tests.unit.testing.simulator.backends import ACTIVITIES, QUEUE, WORKFLOWS
from tests.unit.testing.simulator.test_simulation import Patient, kinds_of
from tests.unit.testing.simulator.test_workflow_conformance import replays

HOUR = timedelta(hours=1)


class Bench:
    """A simulation by hand, and one run in it."""

    def __init__(self, workflow: str, *given: Any) -> None:
        self.simulation = Simulation(scheduler=Patient(), manual=True)
        self.restart()
        self.client: Client = connect(self.simulation)
        start = Start("toy", workflow, QUEUE, input=_payloads(*given))
        self.run: Execution = self.simulation.start(start)
        self.handle = self.client.get_workflow_handle("toy")

    def restart(self) -> None:
        self.simulation.start_worker(QUEUE, Worker(WORKFLOWS, ACTIVITIES))

    def signal(self, name: str, *given: Any) -> None:
        self.run.signal(name, _payloads(*given), {})

    async def happen(self, label: str, *, run_id: str = "") -> None:
        """The first such step."""
        steps = [
            step for step in self.simulation.enabled_events() if step.label == label and run_id in {"", step.run_id}
        ]
        await self.simulation.process(steps[0])

    async def everything(self, but: Callable[[str], bool] = lambda _: False) -> None:
        while steps := [step for step in self.simulation.enabled_events() if not but(step.label)]:
            await self.simulation.process(steps[0])

    async def to_the_end(self) -> Any:
        """Its result; a child that still runs is left alone."""
        self.simulation.scheduler = Patient()
        await self.simulation.advance(24 * HOUR)
        result = await asyncio.wait_for(self.handle.result(), 10)
        await replays(self.handle)
        await self.simulation.close()
        return result


def _payloads(*given: Any) -> Payloads:
    return Payloads(payloads=DataConverter.default.payload_converter.to_payloads(given))


def later(bench: Bench) -> list[str]:
    """What time will make possible."""
    *_, waiting = bench.simulation.event_queue.digest()
    return [label for _, label, *_ in waiting]


@pytest.mark.parametrize(
    ("kind", "result"),
    [
        ("TRY_CANCEL", "ActivityError CANCEL_REQUESTED < CancelledError"),
        ("ABANDON", "ActivityError CANCEL_REQUESTED < CancelledError"),
        ("WAIT_CANCELLATION_COMPLETED", "was done all the same"),
    ],
)
async def test_an_activity_reports_while_it_is_cancelled(kind: str, result: str) -> None:
    bench = Bench("LetsGo", kind)
    await bench.everything(but="activity reports".__eq__)
    bench.signal("go")
    await bench.happen("workflow task")
    await bench.happen("activity reports")
    assert await bench.to_the_end() == result
    asked = (await kinds_of(bench.handle)).count("ACTIVITY_TASK_CANCEL_REQUESTED")
    assert asked == (kind != "ABANDON")


@pytest.mark.parametrize("is_first", ["child starts", "cancellation is delivered"])
@pytest.mark.parametrize(
    "kind", ["TRY_CANCEL", "ABANDON", "WAIT_CANCELLATION_COMPLETED", "WAIT_CANCELLATION_REQUESTED"]
)
async def test_a_child_is_cancelled_before_its_start_is_known(kind: str, is_first: str) -> None:
    bench = Bench("LetsChildGo", kind)
    await bench.everything(but="child starts".__eq__)
    bench.signal("go")
    await bench.happen("workflow task")
    await bench.happen("workflow task ends")
    if kind != "ABANDON":
        await bench.happen(is_first)
    await bench.everything()
    is_lost = kind != "ABANDON" and is_first == "cancellation is delivered"
    if is_lost and kind.startswith("WAIT"):
        # The child never hears of it, as on servers, and its owner waits for it.
        await bench.simulation.advance(HOUR)
        assert bench.run.is_open
        await replays(bench.handle)
        await bench.client.get_workflow_handle("toy-child").cancel()
    assert await bench.to_the_end() == "ChildWorkflowError < CancelledError"
    failed = (await kinds_of(bench.handle)).count("REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED")
    assert failed == is_lost


async def test_a_child_that_was_nearly_cancelled_is_waited_for() -> None:
    bench = Bench("Wavers")
    await bench.everything()
    due = bench.simulation.event_queue.next_time()
    assert due is not None
    bench.simulation.event_queue.advance_to(due)
    await bench.happen("timer", run_id=bench.run.run_id)
    await bench.happen("workflow task")
    # The task is about to cancel the child, and lost in a crash.
    bench.simulation.crash_worker(QUEUE)
    bench.restart()
    bench.signal("keep")
    assert await bench.to_the_end() == "slept"


async def test_a_task_that_only_tells_what_is_known_is_written_too() -> None:
    bench = Bench("LetsGo", "TRY_CANCEL")
    await bench.everything(but="activity reports".__eq__)
    bench.signal("go")
    await bench.happen("workflow task")
    await bench.happen("activity reports")
    await bench.happen("workflow task ends")
    await bench.everything()
    assert (await kinds_of(bench.handle))[-4:] == [
        "ACTIVITY_TASK_COMPLETED",
        "WORKFLOW_TASK_SCHEDULED",
        "WORKFLOW_TASK_STARTED",
        "WORKFLOW_TASK_COMPLETED",
    ]
    await bench.to_the_end()


async def test_a_query_does_not_overtake_what_was_lost_in_a_crash() -> None:
    bench = Bench("Inbox")
    await bench.everything()
    bench.signal("note", "first")
    await bench.happen("workflow task")
    bench.simulation.crash_worker(QUEUE)
    bench.restart()
    with pytest.raises(RPCError, match="let time pass") as refused:
        await bench.handle.query(workflows.Inbox.notes)
    assert refused.value.status is RPCStatusCode.DEADLINE_EXCEEDED
    await bench.simulation.advance(timedelta(seconds=11))
    assert await bench.handle.query(workflows.Inbox.notes) == ["first"]
    await bench.simulation.close()


def test_in_a_loop_on_virtual_time_a_query_waits_for_what_was_lost_in_a_crash() -> None:
    async def ask() -> tuple[list[str], float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        simulation = Simulation(scheduler=Patient())
        simulation.start_worker(QUEUE, Worker(WORKFLOWS, ACTIVITIES))
        ends = loop.attach(simulation)
        handle = await connect(simulation).start_workflow(workflows.Inbox.run, id="toy", task_queue=QUEUE)
        await asyncio.sleep(1)
        run = simulation.find("toy")
        assert run is not None
        run.signal("note", _payloads("first"), {})
        await simulation.process(simulation.enabled_events()[0])
        simulation.crash_worker(QUEUE)
        simulation.start_worker(QUEUE, Worker(WORKFLOWS, ACTIVITIES))
        asked_at = loop.time()
        notes = await handle.query(workflows.Inbox.notes)
        ends()
        await simulation.close()
        return notes, loop.time() - asked_at

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        notes, waited = runner.run(ask())
    assert notes == ["first"]
    assert 9 < waited < 11


async def test_what_a_worker_did_before_it_crashed_nobody_tells_when_it_is_started_again() -> None:
    bench = Bench("LetsGo", "TRY_CANCEL")
    worker = bench.simulation.workers[QUEUE]
    await bench.everything(but="activity reports".__eq__)
    before = bench.simulation.digest()
    assert [step.label for step in bench.simulation.enabled_events()] == ["activity reports"]
    bench.simulation.crash_worker(QUEUE)
    bench.simulation.start_worker(QUEUE, worker)
    # Whoever goes by what is possible, or what is known, must not take the one for the other.
    assert bench.simulation.enabled_events() == []
    assert bench.simulation.digest() != before
    await bench.everything()
    assert "ACTIVITY_TASK_COMPLETED" not in await kinds_of(bench.handle)
    await bench.simulation.advance(timedelta(minutes=2))
    assert workflows.Gate.tries == ["late", "late"]
    await bench.simulation.close()


async def test_a_task_that_is_lost_in_a_crash_can_only_time_out() -> None:
    bench = Bench("LetsGo", "TRY_CANCEL")
    await bench.happen("workflow task")
    assert [step.label for step in bench.simulation.enabled_events()] == ["workflow task ends"]
    bench.simulation.crash_worker(QUEUE)
    bench.restart()
    assert bench.simulation.enabled_events() == []
    assert later(bench) == ["workflow task times out"]
    await bench.simulation.close()


async def test_an_attempt_that_has_failed_is_not_waited_for() -> None:
    bench = Bench("Activities")
    await bench.everything()
    assert workflows.Gate.tries[-1] == "b"
    assert later(bench) == ["activity again"]
    await bench.simulation.close()


async def test_an_attempt_whose_time_is_over_has_nothing_to_report() -> None:
    bench = Bench("LetsGo", "TRY_CANCEL")
    await bench.everything(but="activity reports".__eq__)
    due = bench.simulation.event_queue.next_time()
    assert due is not None
    bench.simulation.event_queue.advance_to(due)
    await bench.happen("activity times out")
    assert bench.simulation.enabled_events() == []
    assert later(bench) == ["activity again"]
    await bench.simulation.close()


def test_an_activity_that_beats_is_told_that_it_is_cancelled() -> None:
    async def live() -> str:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        simulation = Simulation()
        simulation.start_worker(QUEUE, Worker(WORKFLOWS, ACTIVITIES))
        ends = loop.attach(simulation)
        handle = await connect(simulation).start_workflow(activity_workflows.Stops.run, id="toy", task_queue=QUEUE)
        result: str = await handle.result()
        ends()
        await simulation.close()
        return result

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(live()) == "ActivityError CANCEL_REQUESTED < CancelledError"
    assert workflows.Gate.tries == ["told to stop"]


async def test_an_activity_may_fail_for_days() -> None:
    bench = Bench("Busy", "fails_for_ever")
    await bench.simulation.advance(timedelta(days=2))
    [doing] = bench.run.activities.values()
    assert doing.attempt > 1024
    await bench.simulation.close()


# -- replays ---------------------------------------------------------------------------------------------------


async def test_code_that_goes_by_the_length_of_its_history_comes_back() -> None:
    bench = Bench("Measures")
    for _ in range(5):
        await bench.simulation.advance(timedelta(seconds=1))
        bench.simulation.evict(QUEUE)
    assert isinstance(await bench.to_the_end(), int)
    assert "WORKFLOW_TASK_FAILED" not in await kinds_of(bench.handle)


@pytest.mark.parametrize("patch", ["new", "deprecated", "gone"])
@pytest.mark.parametrize("began_with", ["new", "deprecated", "gone"])
async def test_a_patch_can_be_retired_as_temporal_allows(
    monkeypatch: pytest.MonkeyPatch, began_with: str, patch: str
) -> None:
    monkeypatch.setattr(activity_workflows.Versioned, "patch", began_with)
    bench = Bench("Versioned")
    await bench.simulation.advance(HOUR)
    monkeypatch.setattr(activity_workflows.Versioned, "patch", patch)
    bench.simulation.evict(QUEUE)
    cores = Replayer(workflows=WORKFLOWS, workflow_runner=UnsandboxedWorkflowRunner())
    replayed = await cores.replay_workflow(await bench.handle.fetch_history(), raise_on_replay_failure=False)
    assert await _is_answered(bench) == (replayed.replay_failure is None)
    await bench.simulation.close()


async def _is_answered(bench: Bench) -> bool:
    try:
        await bench.handle.query("__temporal_workflow_metadata")
    except WorkflowQueryFailedError:
        return False
    return True


async def test_a_replay_with_other_contents_is_told_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench("Versioned")
    await bench.simulation.advance(HOUR)
    monkeypatch.setattr(activity_workflows.Versioned, "given", "new")
    bench.simulation.evict(QUEUE)
    with pytest.raises(WorkflowQueryFailedError, match=r"not with the same contents: .*new.* which had been .*old"):
        await bench.handle.query("__temporal_workflow_metadata")
    await bench.simulation.close()


async def test_nondeterminism_fails_the_workflow_where_that_is_wanted() -> None:
    workflows.Fickle.instances = 0
    simulation = Simulation()
    simulation.start_worker(QUEUE, Worker(WORKFLOWS, ACTIVITIES, failure_exception_types=[Exception]))
    handle = await connect(simulation).start_workflow(workflows.Fickle.run, id="toy", task_queue=QUEUE)
    simulation.evict(QUEUE)
    await simulation.advance(timedelta(days=2))
    with pytest.raises(Exception, match="Workflow execution failed") as failed:
        await asyncio.wait_for(handle.result(), 10)
    assert isinstance(failed.value.__cause__, ApplicationError)
    assert "Nondeterminism" in str(failed.value.__cause__)
    assert EventType.Name((await handle.fetch_history()).events[-1].event_type).endswith("EXECUTION_FAILED")
    await simulation.close()


async def test_a_task_that_its_workflow_does_not_outlive_has_no_effect_but_what_it_was_told() -> None:
    bench = Bench("Inbox")
    await bench.everything()
    bench.signal("note", "late")
    update = asyncio.create_task(bench.handle.execute_update("add", args=["never", 0]))
    for _ in range(10):
        await asyncio.sleep(0)
    await bench.happen("workflow task")
    bench.run.terminate("enough")
    assert await bench.handle.query("notes") == ["late"]
    with pytest.raises(RPCError):
        await update
    await bench.simulation.close()
