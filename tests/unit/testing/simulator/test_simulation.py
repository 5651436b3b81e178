"""What only the simulator does: crashes wherever wanted, chance, virtual time, and loud refusals."""

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
from tests.unit.testing.simulator.backends import QUEUE

HOUR = timedelta(hours=1)


class Patient(FifoScheduler):
    """In order, but a worker takes its time, and a client does not wait for it."""

    interleaves_tasks = True

    def replies_early(self) -> bool:
        return True


@asynccontextmanager
async def a_simulation(**options: Any) -> AsyncIterator[tuple[Simulation, Client]]:
    simulation = Simulation(search_attributes=(workflows.COLOUR.name,), **options)
    simulation.start_worker(QUEUE, Worker(workflows.WORKFLOWS, workflows.ACTIVITIES))
    yield simulation, connect(simulation)
    await simulation.close()


async def start(client: Client, workflow: Any, *args: Any) -> WorkflowHandle[Any, Any]:
    return await client.start_workflow(workflow.run, args=args, id="toy", task_queue=QUEUE)


def restart(simulation: Simulation) -> None:
    simulation.start_worker(QUEUE, Worker(workflows.WORKFLOWS, workflows.ACTIVITIES))


async def kinds_of(handle: WorkflowHandle[Any, Any]) -> list[str]:
    return [EventType.Name(event.event_type)[11:] async for event in handle.fetch_history_events()]


async def failures_of(handle: WorkflowHandle[Any, Any]) -> list[str]:
    """Why its workflow tasks failed."""
    return [
        event.workflow_task_failed_event_attributes.failure.message
        async for event in handle.fetch_history_events()
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
    ]


async def test_time_only_passes_when_told_to_and_stops_at_everything_that_is_due() -> None:
    async with a_simulation() as (simulation, client):
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


async def test_a_workflow_comes_back_by_replay_after_a_crash() -> None:
    async with a_simulation() as (simulation, client):
        handle = await start(client, workflows.Inbox)
        await handle.signal(workflows.Inbox.note, "before")
        assert await handle.execute_update(workflows.Inbox.add, args=["update", 0]) == 2
        simulation.crash_worker(QUEUE)
        await handle.signal(workflows.Inbox.note, "meanwhile")
        restart(simulation)
        assert await handle.query(workflows.Inbox.notes) == ["before", "update", "meanwhile"]


async def test_without_a_worker_nothing_is_answered() -> None:
    async with a_simulation() as (simulation, client):
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


async def test_code_that_does_not_do_again_what_it_did_is_caught_when_it_is_replayed() -> None:
    workflows.Fickle.instances = 0
    async with a_simulation() as (simulation, client):
        handle = await start(client, workflows.Fickle)
        simulation.evict(QUEUE)
        await simulation.advance(timedelta(days=2))
        assert "WORKFLOW_TASK_FAILED" in await kinds_of(handle)
        with pytest.raises(RPCError):
            await handle.query("__stack_trace")
        [message] = await failures_of(handle)
        assert "Nondeterminism" in message


async def test_a_workflow_whose_tasks_fail_goes_on_once_it_is_mended() -> None:
    workflows.Raiser.is_mended = False
    async with a_simulation() as (simulation, client):
        handle = await start(client, workflows.Raiser)
        await simulation.advance(HOUR)
        assert (await kinds_of(handle)).count("WORKFLOW_TASK_FAILED") == 1
        workflows.Raiser.is_mended = True
        await simulation.advance(HOUR)
        assert await asyncio.wait_for(handle.result(), 10) == "mended"


async def test_code_that_can_not_be_put_out_of_memory_is_told() -> None:
    simulation = Simulation()
    simulation.start_worker(QUEUE, Worker(workflows.WORKFLOWS, workflows.ACTIVITIES))
    await start(connect(simulation), workflows.Stubborn)
    with pytest.raises(EvictionError, match="toy"):
        simulation.evict(QUEUE)


@pytest.mark.parametrize(
    ("workflow", "what"), [(workflows.Anew, "continue as new"), (workflows.Local, "local activity")]
)
async def test_what_is_not_simulated_is_refused_loudly_and_for_good(workflow: type, what: str) -> None:
    async with a_simulation() as (simulation, client):
        with pytest.raises(NotSimulated, match=what):
            await start(client, workflow)
        with pytest.raises(NotSimulated, match=what):
            await simulation.run()


async def test_a_request_that_is_not_simulated_is_unimplemented() -> None:
    async with a_simulation() as (_, client):
        with pytest.raises(RPCError) as refused:
            await client.get_schedule_handle("none").describe()
        assert refused.value.status is RPCStatusCode.UNIMPLEMENTED


async def test_a_query_of_visibility_that_is_not_understood_is_refused() -> None:
    async with a_simulation() as (_, client):
        await start(client, workflows.Inbox)
        assert (await client.count_workflows("WorkflowType = 'Inbox' AND ExecutionStatus = 'Running'")).count == 1
        assert (await client.count_workflows("WorkflowType != 'Inbox'")).count == 0
        assert (await client.count_workflows("WorkflowType = 'Inbox' AND RunId IS NULL")).count == 0
        assert (await client.count_workflows("WorkflowType is not null")).count == 1
        for query in ("WorkflowType LIKE 'In%'", "Shape = 'round'"):
            with pytest.raises(RPCError) as refused:
                await client.count_workflows(query)
            assert refused.value.status is RPCStatusCode.INVALID_ARGUMENT


async def test_a_page_of_a_list_leads_to_the_next() -> None:
    async with a_simulation() as (_, client):
        for number in range(5):
            await client.start_workflow(workflows.Inbox.run, id=f"toy-{number}", task_queue=QUEUE)
        listed = [each.id async for each in client.list_workflows("", page_size=2)]
        assert sorted(listed) == [f"toy-{number}" for number in range(5)]


async def test_an_activity_that_was_under_way_in_a_crash_is_tried_again_after_its_time_out() -> None:
    workflows.Gate.closed = asyncio.Event()
    async with a_simulation() as (simulation, client):
        handle = await start(client, workflows.Canceller)
        assert workflows.Gate.tries == ["TRY_CANCEL"]
        simulation.crash_worker(QUEUE)
        restart(simulation)
        await simulation.advance(23 * HOUR)
        assert workflows.Gate.tries == ["TRY_CANCEL"]
        await simulation.advance(2 * HOUR)
        assert workflows.Gate.tries == ["TRY_CANCEL", "TRY_CANCEL"]
        await handle.terminate()


async def step_until(simulation: Simulation, label: str) -> None:
    """Let happen what can, in order, until this is next."""
    while (options := simulation.enabled_events()) and options[0].label != label:
        await simulation.process(options[0])
    assert options, f"{label} never came"


async def test_a_crash_in_the_middle_of_a_workflow_task_loses_what_it_wanted_and_nothing_else() -> None:
    async with a_simulation(scheduler=Patient()) as (simulation, client):
        handle = await start(client, workflows.Hasty)
        await step_until(simulation, "workflow task ends")
        simulation.crash_worker(QUEUE)
        restart(simulation)
        await simulation.advance(timedelta(minutes=1))
        assert await asyncio.wait_for(handle.result(), 10) == []
        assert (await kinds_of(handle)).count("WORKFLOW_TASK_TIMED_OUT") == 1
        assert workflows.Gate.tries == ["eager"]


async def test_a_crash_between_an_activity_and_its_report_has_it_done_twice() -> None:
    async with a_simulation(scheduler=Patient()) as (simulation, client):
        handle = await start(client, workflows.Hasty)
        await step_until(simulation, "activity reports")
        simulation.crash_worker(QUEUE)
        restart(simulation)
        await simulation.advance(timedelta(minutes=1))
        assert await asyncio.wait_for(handle.result(), 10) == []
        assert workflows.Gate.tries == ["eager", "eager"]


class Early(FifoScheduler):
    """In order, but a client is answered once there is something to report."""

    interleaves_tasks = True
    simulation: Simulation

    def replies_early(self) -> bool:
        return any(step.label == "activity reports" for step in self.simulation.enabled_events())


async def test_a_client_may_act_before_an_activity_that_has_ended_reports_it() -> None:
    early = Early()
    async with a_simulation(scheduler=early) as (simulation, client):
        early.simulation = simulation
        handle = await start(client, workflows.Hasty)
        # What a client has to do between two calls takes turns of the loop, but no time.
        for _ in range(10):
            await asyncio.sleep(0)
        await handle.signal(workflows.Hasty.note, "meanwhile")
        assert workflows.Gate.tries == ["eager"]
        assert "ACTIVITY_TASK_COMPLETED" not in await kinds_of(handle)


async def test_a_report_that_is_lost_has_an_activity_done_again_after_its_time_out() -> None:
    async with a_simulation(scheduler=RandomScheduler(1, loss_rate=1.0)) as (simulation, client):
        handle = await start(client, workflows.Hasty)
        await simulation.advance(timedelta(seconds=4))
        assert workflows.Gate.tries == ["eager"]
        await simulation.advance(timedelta(seconds=4))
        assert workflows.Gate.tries == ["eager", "eager"]
        simulation.scheduler = FifoScheduler()
        await simulation.advance(timedelta(minutes=1))
        assert await asyncio.wait_for(handle.result(), 10) == []
        assert workflows.Gate.tries == ["eager", "eager", "eager"]


async def test_what_arrives_while_a_workflow_ends_is_told_before_it_does() -> None:
    async with a_simulation(scheduler=Patient()) as (simulation, client):
        handle = await start(client, workflows.Hasty)
        for _ in range(2):
            await step_until(simulation, "workflow task ends")
            if "eager" not in workflows.Gate.tries:
                await simulation.process(simulation.enabled_events()[0])
        await handle.signal(workflows.Hasty.note, "just in time")
        await simulation.run()
        assert await asyncio.wait_for(handle.result(), 10) == ["just in time"]
        assert await failures_of(handle) == ["UnhandledCommand"]


async def life(seed: int) -> list[str]:
    workflows.Gate.reset()
    async with a_simulation(scheduler=RandomScheduler(seed)) as (simulation, client):
        handle = await start(client, workflows.Parent)
        await simulation.advance(HOUR)
        await asyncio.wait_for(handle.result(), 10)
        return await kinds_of(handle)


async def test_the_same_seed_is_the_same_life_and_others_are_others() -> None:
    lives = [await life(seed) for seed in range(20)]
    assert [await life(seed) for seed in range(20)] == lives
    assert len({tuple(each) for each in lives}) > 5


@pytest.mark.parametrize("span", [1e-17, 1e-10, 2.0])
def test_in_a_loop_on_virtual_time_every_wait_ends(span: float) -> None:
    """Also one that is shorter than the clock can tell: what is left of another one, as such numbers are not exact."""

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


def test_in_a_loop_on_virtual_time_waiting_costs_nothing_and_workflows_go_on() -> None:
    async def main() -> tuple[list[str], float]:
        async with a_simulation() as (simulation, client):
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


def test_a_loop_in_which_everything_waits_for_nothing_says_so() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner, pytest.raises(DeadlockError):
        runner.run(main())


async def test_a_query_that_fails_is_refused_with_its_reason() -> None:
    async with a_simulation() as (_, client):
        handle = await start(client, workflows.Inbox)
        with pytest.raises(WorkflowQueryFailedError, match="no answer"):
            await handle.query(workflows.Inbox.fails)


async def test_two_ways_to_the_same_state_have_the_same_digest() -> None:
    async def digest(*names: str) -> object:
        async with a_simulation(scheduler=Patient()) as (simulation, _):
            for name in names:
                simulation.start(Start(name, "Child", QUEUE))
            return simulation.digest()

    assert await digest("a", "b") == await digest("b", "a")
    assert await digest("a") != await digest("b")


async def test_by_hand_nothing_happens_by_itself_when_an_activity_ends() -> None:
    async with a_simulation(manual=True, scheduler=Patient()) as (simulation, _):
        one, other = (simulation.start(Start(name, "Activities", QUEUE)) for name in ("one", "other"))
        for expected in ("workflow task", "workflow task ends", "activity starts"):
            [step] = [step for step in simulation.enabled_events() if step.run_id == one.run_id]
            assert step.label == expected
            await simulation.process(step)
        await asyncio.sleep(0.01)
        possible = {(step.label, step.run_id) for step in simulation.enabled_events()}
        assert possible == {("activity reports", one.run_id), ("workflow task", other.run_id)}


@pytest.fixture
def _soon_tired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tasks, "MOST_FAILURES", 5)
    monkeypatch.setattr(workflows.Raiser, "is_mended", False)


@pytest.mark.usefixtures("_soon_tired")
async def test_a_workflow_whose_tasks_fail_for_ever_ends_the_simulation_by_name() -> None:
    async with a_simulation() as (simulation, client):
        await start(client, workflows.Raiser)
        await simulation.advance(timedelta(seconds=14))
        with pytest.raises(EndlessTaskFailureError, match=r"Raiser toy .* failed 5 times in a row.*: a bug"):
            await simulation.advance(timedelta(days=1))


@pytest.mark.usefixtures("_soon_tired")
def test_who_waits_for_it_in_a_loop_on_virtual_time_is_told() -> None:
    async def main() -> None:
        async with a_simulation() as (simulation, client):
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualTimeLoop)
            loop.attach(simulation)
            await (await start(client, workflows.Raiser)).result()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner, pytest.raises(EndlessTaskFailureError, match="a bug"):
        runner.run(main())
