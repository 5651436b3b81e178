"""What only the simulator has: crashes at any event, random schedules, virtual time, features not simulated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle, WorkflowQueryFailedError
from temporalio.service import RPCError, RPCStatusCode

from temporal_simulator import (
    DeadlockError,
    EndlessTaskFailureError,
    EvictionError,
    FifoScheduler,
    NotSimulated,
    RandomScheduler,
    Simulation,
    Start,
    VirtualTimeLoop,
    Worker,
    connect,
)
from temporal_simulator.server import workflow_tasks as _tasks
from tests.unit.testing.simulator import workflows
from tests.unit.testing.simulator.backends import QUEUE, event_types

HOUR = timedelta(hours=1)


class InterleavingScheduler(FifoScheduler):
    """FIFO, but tasks are interleaved, and clients get early replies."""

    interleaves_tasks = True

    def replies_early(self) -> bool:
        return True


@asynccontextmanager
async def open_simulation(**options: Any) -> AsyncIterator[tuple[Simulation, Client]]:
    simulation = Simulation(search_attributes=(workflows.COLOUR.name,), **options)
    simulation.start_worker(QUEUE, Worker(workflows.WORKFLOWS, workflows.ACTIVITIES))
    yield simulation, connect(simulation)
    await simulation.close()


async def start(client: Client, workflow: Any, *args: Any) -> WorkflowHandle[Any, Any]:
    return await client.start_workflow(workflow.run, args=args, id="toy", task_queue=QUEUE)


def restart(simulation: Simulation) -> None:
    simulation.start_worker(QUEUE, Worker(workflows.WORKFLOWS, workflows.ACTIVITIES))


async def task_failures(handle: WorkflowHandle[Any, Any]) -> list[str]:
    """The messages of the failed workflow tasks."""
    return [
        event.workflow_task_failed_event_attributes.failure.message
        async for event in handle.fetch_history_events()
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
    ]


async def test_virtual_time_moves_only_in_advance_and_stops_at_each_event() -> None:
    async with open_simulation() as (simulation, client):
        handle = await start(client, workflows.Timers)
        began = simulation.now
        await handle.query("__stack_trace")
        assert simulation.now == began
        await simulation.advance(timedelta(days=1))
        assert simulation.now == began + timedelta(days=1)
        fired = [
            event.event_time.ToDatetime() - began.replace(tzinfo=None)
            async for event in handle.fetch_history_events()
            if event.event_type == EventType.EVENT_TYPE_TIMER_FIRED
        ]
        assert fired == [1 * HOUR, 2 * HOUR, 3 * HOUR]


async def test_a_workflow_is_replayed_after_a_crash() -> None:
    async with open_simulation() as (simulation, client):
        handle = await start(client, workflows.Inbox)
        await handle.signal(workflows.Inbox.note, "before")
        assert await handle.execute_update(workflows.Inbox.add, args=["update", 0]) == 2
        simulation.crash_worker(QUEUE)
        await handle.signal(workflows.Inbox.note, "meanwhile")
        restart(simulation)
        assert await handle.query(workflows.Inbox.notes) == ["before", "update", "meanwhile"]


async def test_without_a_worker_queries_fail_and_updates_wait() -> None:
    async with open_simulation() as (simulation, client):
        handle = await start(client, workflows.Inbox)
        simulation.crash_worker(QUEUE)
        with pytest.raises(RPCError) as refused:
            await handle.query(workflows.Inbox.notes)
        assert refused.value.status is RPCStatusCode.FAILED_PRECONDITION
        adding = asyncio.create_task(handle.execute_update(workflows.Inbox.add, args=["patient", 0]))
        await asyncio.sleep(0)
        assert not adding.done()
        restart(simulation)
        await simulation.run()
        assert await asyncio.wait_for(adding, 10) == 1


async def test_nondeterminism_is_detected_on_replay() -> None:
    workflows.Nondeterministic.instances = 0
    async with open_simulation() as (simulation, client):
        handle = await start(client, workflows.Nondeterministic)
        simulation.evict(QUEUE)
        await simulation.advance(timedelta(days=2))
        assert "WORKFLOW_TASK_FAILED" in await event_types(handle)
        with pytest.raises(RPCError):
            await handle.query("__stack_trace")
        [message] = await task_failures(handle)
        assert "Nondeterminism" in message


async def test_a_failing_workflow_task_is_retried_until_the_code_is_fixed() -> None:
    workflows.FailsTasks.is_fixed = False
    async with open_simulation() as (simulation, client):
        handle = await start(client, workflows.FailsTasks)
        await simulation.advance(HOUR)
        assert (await event_types(handle)).count("WORKFLOW_TASK_FAILED") == 1
        workflows.FailsTasks.is_fixed = True
        await simulation.advance(HOUR)
        assert await asyncio.wait_for(handle.result(), 10) == "mended"


async def test_code_that_suppresses_its_eviction_raises_an_error() -> None:
    simulation = Simulation()
    simulation.start_worker(QUEUE, Worker(workflows.WORKFLOWS, workflows.ACTIVITIES))
    await start(connect(simulation), workflows.SuppressesCancellation)
    with pytest.raises(EvictionError, match="toy"):
        simulation.evict(QUEUE)


@pytest.mark.parametrize(
    ("workflow", "what"),
    [(workflows.ContinuesAsNew, "continue as new"), (workflows.CallsLocalActivity, "local activity")],
)
async def test_a_feature_that_is_not_simulated_ends_the_simulation(workflow: type, what: str) -> None:
    async with open_simulation() as (simulation, client):
        with pytest.raises(NotSimulated, match=what):
            await start(client, workflow)
        with pytest.raises(NotSimulated, match=what):
            await simulation.run()


async def test_a_request_that_is_not_simulated_is_unimplemented() -> None:
    async with open_simulation() as (_, client):
        with pytest.raises(RPCError) as refused:
            await client.get_schedule_handle("none").describe()
        assert refused.value.status is RPCStatusCode.UNIMPLEMENTED


async def test_list_filters_that_are_not_supported_are_rejected() -> None:
    async with open_simulation() as (_, client):
        await start(client, workflows.Inbox)
        assert (await client.count_workflows("WorkflowType = 'Inbox' AND ExecutionStatus = 'Running'")).count == 1
        assert (await client.count_workflows("WorkflowType != 'Inbox'")).count == 0
        assert (await client.count_workflows("WorkflowType = 'Inbox' AND RunId IS NULL")).count == 0
        assert (await client.count_workflows("WorkflowType is not null")).count == 1
        for query in ("WorkflowType LIKE 'In%'", "Shape = 'round'"):
            with pytest.raises(RPCError) as refused:
                await client.count_workflows(query)
            assert refused.value.status is RPCStatusCode.INVALID_ARGUMENT


async def test_lists_are_paged() -> None:
    async with open_simulation() as (_, client):
        for number in range(5):
            await client.start_workflow(workflows.Inbox.run, id=f"toy-{number}", task_queue=QUEUE)
        listed = [each.id async for each in client.list_workflows("", page_size=2)]
        assert sorted(listed) == [f"toy-{number}" for number in range(5)]


async def test_an_activity_interrupted_by_a_crash_is_retried_after_its_timeout() -> None:
    workflows.ActivityLog.closed = asyncio.Event()
    async with open_simulation() as (simulation, client):
        handle = await start(client, workflows.Canceller)
        assert workflows.ActivityLog.attempts == ["TRY_CANCEL"]
        simulation.crash_worker(QUEUE)
        restart(simulation)
        await simulation.advance(23 * HOUR)
        assert workflows.ActivityLog.attempts == ["TRY_CANCEL"]
        await simulation.advance(2 * HOUR)
        assert workflows.ActivityLog.attempts == ["TRY_CANCEL", "TRY_CANCEL"]
        await handle.terminate()


async def process_until(simulation: Simulation, label: str) -> None:
    """Process events in order until the next one has this label."""
    while (options := simulation.enabled_events()) and options[0].label != label:
        await simulation.process(options[0])
    assert options, f"{label} never came"


async def test_a_crash_during_a_workflow_task_loses_its_commands_only() -> None:
    async with open_simulation(scheduler=InterleavingScheduler()) as (simulation, client):
        handle = await start(client, workflows.ClosesAfterActivity)
        await process_until(simulation, "workflow task ends")
        simulation.crash_worker(QUEUE)
        restart(simulation)
        await simulation.advance(timedelta(minutes=1))
        assert await asyncio.wait_for(handle.result(), 10) == []
        assert (await event_types(handle)).count("WORKFLOW_TASK_TIMED_OUT") == 1
        assert workflows.ActivityLog.attempts == ["eager"]


async def test_a_crash_before_an_activity_reports_makes_it_run_twice() -> None:
    async with open_simulation(scheduler=InterleavingScheduler()) as (simulation, client):
        handle = await start(client, workflows.ClosesAfterActivity)
        await process_until(simulation, "activity reports")
        simulation.crash_worker(QUEUE)
        restart(simulation)
        await simulation.advance(timedelta(minutes=1))
        assert await asyncio.wait_for(handle.result(), 10) == []
        assert workflows.ActivityLog.attempts == ["eager", "eager"]


class EarlyReplyScheduler(FifoScheduler):
    """FIFO, but a client gets its reply as soon as an activity can report."""

    interleaves_tasks = True
    simulation: Simulation

    def replies_early(self) -> bool:
        return any(event.label == "activity reports" for event in self.simulation.enabled_events())


def test_a_client_may_act_before_a_finished_activity_reports() -> None:
    async def main() -> None:
        early = EarlyReplyScheduler()
        async with open_simulation(scheduler=early) as (simulation, client):
            early.simulation = simulation
            handle = await start(client, workflows.ClosesAfterActivity)
            # Between two calls, a client takes turns of the event loop, but no time.
            for _ in range(10):
                await asyncio.sleep(0)
            await handle.signal(workflows.ClosesAfterActivity.note, "meanwhile")
            assert workflows.ActivityLog.attempts == ["eager"]
            assert "ACTIVITY_TASK_COMPLETED" not in await event_types(handle)

    # On virtual time, because the simulation resumes a millisecond after an early reply.
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())


async def test_an_activity_whose_report_is_lost_is_retried_after_its_timeout() -> None:
    async with open_simulation(scheduler=RandomScheduler(1, loss_rate=1.0)) as (simulation, client):
        handle = await start(client, workflows.ClosesAfterActivity)
        await simulation.advance(timedelta(seconds=4))
        assert workflows.ActivityLog.attempts == ["eager"]
        await simulation.advance(timedelta(seconds=4))
        assert workflows.ActivityLog.attempts == ["eager", "eager"]
        simulation.scheduler = FifoScheduler()
        await simulation.advance(timedelta(minutes=1))
        assert await asyncio.wait_for(handle.result(), 10) == []
        assert workflows.ActivityLog.attempts == ["eager", "eager", "eager"]


async def test_a_signal_during_the_last_task_is_delivered_before_the_workflow_closes() -> None:
    async with open_simulation(scheduler=InterleavingScheduler()) as (simulation, client):
        handle = await start(client, workflows.ClosesAfterActivity)
        for _ in range(2):
            await process_until(simulation, "workflow task ends")
            if "eager" not in workflows.ActivityLog.attempts:
                await simulation.process(simulation.enabled_events()[0])
        await handle.signal(workflows.ClosesAfterActivity.note, "just in time")
        await simulation.run()
        assert await asyncio.wait_for(handle.result(), 10) == ["just in time"]
        assert await task_failures(handle) == ["UnhandledCommand"]


async def history_of_seed(seed: int) -> list[str]:
    workflows.ActivityLog.reset()
    async with open_simulation(scheduler=RandomScheduler(seed)) as (simulation, client):
        handle = await start(client, workflows.Parent)
        await simulation.advance(HOUR)
        await asyncio.wait_for(handle.result(), 10)
        return await event_types(handle)


async def test_the_same_seed_gives_the_same_history_and_other_seeds_give_others() -> None:
    histories = [await history_of_seed(seed) for seed in range(20)]
    assert [await history_of_seed(seed) for seed in range(20)] == histories
    assert len({tuple(each) for each in histories}) > 5


@pytest.mark.parametrize("span", [1e-17, 1e-10, 2.0])
def test_every_wait_in_a_virtual_time_loop_ends(span: float) -> None:
    """Also a wait shorter than the resolution of the clock, such as the remainder of another wait."""

    async def wait() -> None:
        loop, waits = asyncio.get_running_loop(), 0
        await asyncio.sleep(15.557660156249986)
        began = loop.time()
        while (waited := loop.time() - began) < span:
            waits += 1
            assert waits < 100
            await asyncio.sleep(min(0.1, span - waited))
        assert waited - span < 2e-6

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(wait())


def test_a_virtual_time_loop_moves_the_clock_of_an_attached_simulation() -> None:
    async def main() -> tuple[list[str], float]:
        async with open_simulation() as (simulation, client):
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualTimeLoop)
            stop = loop.attach(simulation)
            handle = await start(client, workflows.Timers)
            result = await handle.result()
            stop()
            return result, loop.time()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        result, now = runner.run(main())
    assert result == ["1h", "2h", "3h", "cancelled"]
    assert now == pytest.approx(3 * 3600, abs=1)


def test_a_deadlocked_loop_raises_an_error() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner, pytest.raises(DeadlockError):
        runner.run(main())


async def test_a_failed_query_reports_its_reason() -> None:
    async with open_simulation() as (_, client):
        handle = await start(client, workflows.Inbox)
        with pytest.raises(WorkflowQueryFailedError, match="no answer"):
            await handle.query(workflows.Inbox.fails)


async def test_the_same_state_has_the_same_digest_whatever_the_order() -> None:
    async def digest(*names: str) -> object:
        async with open_simulation(scheduler=InterleavingScheduler()) as (simulation, _):
            for name in names:
                simulation.start(Start(name, "Child", QUEUE))
            return simulation.digest()

    assert await digest("a", "b") == await digest("b", "a")
    assert await digest("a") != await digest("b")


async def test_a_manual_simulation_processes_no_event_by_itself() -> None:
    async with open_simulation(manual=True, scheduler=InterleavingScheduler()) as (simulation, _):
        one, other = (simulation.start(Start(name, "Activities", QUEUE)) for name in ("one", "other"))
        for expected in ("workflow task", "workflow task ends", "activity starts"):
            [event] = [event for event in simulation.enabled_events() if event.run_id == one.run_id]
            assert event.label == expected
            await simulation.process(event)
        await asyncio.sleep(0.01)
        possible = {(event.label, event.run_id) for event in simulation.enabled_events()}
        assert possible == {("activity reports", one.run_id), ("workflow task", other.run_id)}


@pytest.fixture
def _few_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tasks, "MAX_CONSECUTIVE_FAILURES", 5)
    monkeypatch.setattr(workflows.FailsTasks, "is_fixed", False)


@pytest.mark.usefixtures("_few_retries")
async def test_an_endless_task_failure_ends_the_simulation() -> None:
    async with open_simulation() as (simulation, client):
        await start(client, workflows.FailsTasks)
        await simulation.advance(timedelta(seconds=14))
        with pytest.raises(EndlessTaskFailureError, match=r"FailsTasks toy .* failed 5 times in a row.*: a bug"):
            await simulation.advance(timedelta(days=1))


@pytest.mark.usefixtures("_few_retries")
def test_an_endless_task_failure_is_raised_in_a_virtual_time_loop() -> None:
    async def main() -> None:
        async with open_simulation() as (simulation, client):
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualTimeLoop)
            loop.attach(simulation)
            await (await start(client, workflows.FailsTasks)).result()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner, pytest.raises(EndlessTaskFailureError, match="a bug"):
        runner.run(main())
