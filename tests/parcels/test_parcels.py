"""Another project's workflow tests, on the simulator alone, as docs/simulator.md describes."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.client import Client, WorkflowHandle

from temporal_simulator import (
    DeadlockError,
    FifoScheduler,
    RandomScheduler,
    Scheduler,
    Simulation,
    VirtualTimeLoop,
    Worker,
    connect,
    timeline,
)
from tests.parcels.workflows import COLLECTION_PERIOD, Delivery, Locker, NondeterministicDelivery, Parcel, Return
from tests.requirements import requirement

DAY = timedelta(days=1)
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "simulator.md"
PARCEL = Parcel("4711", "Ann")


class Post:
    """A simulation with one worker."""

    def __init__(self, scheduler: Scheduler | None = None, delivery: type = Delivery) -> None:
        self.locker = Locker()
        self.simulation = Simulation(scheduler=scheduler)
        self.client: Client = connect(self.simulation)
        self._workflows = [delivery, Return]
        self.open()

    def open(self) -> None:
        activities = [self.locker.put_in, self.locker.take_out]
        self.simulation.start_worker("post", Worker(self._workflows, activities))

    async def send(self) -> WorkflowHandle[Delivery, str]:
        return await self.client.start_workflow(Delivery.run, PARCEL, id="parcel-4711", task_queue="post")

    def crash(self) -> None:
        self.simulation.crash_worker("post")
        self.open()

    def trace(self) -> list[str]:
        return [f"{entry.who} {entry.what}" for entry in timeline(self.simulation)]


@pytest.fixture
async def post() -> AsyncIterator[Post]:
    opened = Post()
    yield opened
    await opened.simulation.close()


@requirement("SIMULATOR-PROJECTS")
async def test_a_parcel_is_collected_on_the_third_day(post: Post) -> None:
    sent = await post.send()
    await post.simulation.advance(3 * DAY)
    assert post.locker.held == {"4711"}
    await sent.signal(Delivery.collect)
    assert await sent.result() == "4711 is with Ann"
    assert not post.locker.held


@requirement("SIMULATOR-PROJECTS")
async def test_an_uncollected_parcel_is_returned_after_nine_virtual_days(post: Post) -> None:
    post.locker.full_for = 3
    began = time.perf_counter()
    sent = await post.send()
    await post.simulation.advance(COLLECTION_PERIOD + 3 * DAY)
    assert await sent.result() == "4711 is back"
    assert time.perf_counter() - began < 5
    trace = post.trace()
    assert "Delivery put_in: attempt 4, after the locker is full" in trace
    assert trace.index("Delivery starts child parcel-4711-return") < trace.index('return completes: "4711 is back"')
    assert trace[-1] == 'Delivery completes: "4711 is back"'
    numbers = [entry.number for entry in timeline(post.simulation)]
    assert numbers == sorted(set(numbers))


@requirement("SIMULATOR-PROJECTS")
async def test_a_crash_loses_nothing(post: Post) -> None:
    sent = await post.send()
    post.crash()
    await sent.signal(Delivery.collect)
    post.crash()
    await post.simulation.run()
    assert await sent.result() == "4711 is with Ann"


@requirement("SIMULATOR-PROJECTS")
async def test_nondeterministic_code_is_found_by_a_worker_crash() -> None:
    NondeterministicDelivery.delivered = 0
    post = Post(delivery=NondeterministicDelivery)
    sent = await post.send()
    post.crash()
    await sent.signal(Delivery.collect)
    assert any("workflow task fails: [TMPRL1100] Nondeterminism" in line for line in post.trace())


async def race_outcome(seed: int) -> tuple[str, list[str]]:
    """The outcome and trace of a collection at the end of the collection period, under a random schedule."""
    post = Post(RandomScheduler(seed))
    sent = await post.send()
    await post.simulation.advance(COLLECTION_PERIOD - timedelta(seconds=1))
    # The timer fires before the signal arrives, or after it: the scheduler decides.
    post.simulation.event_queue.advance_to(post.simulation.event_queue.now + 1_000_000_000)
    await post.simulation.run_before_reply()
    await sent.signal(Delivery.collect)
    await post.simulation.advance(3 * DAY)
    outcome = await sent.result()
    assert not post.locker.held
    return outcome, post.trace()


@requirement("SIMULATOR-PROJECTS")
def test_random_schedules_find_both_outcomes_of_a_race_and_seeds_reproduce_them() -> None:
    # On this loop, results do not depend on the speed of the machine.
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        outcomes = {seed: runner.run(race_outcome(seed)) for seed in range(20)}
        assert {outcome for outcome, _ in outcomes.values()} == {"4711 is with Ann", "4711 is back"}
        assert {seed: runner.run(race_outcome(seed)) for seed in range(20)} == outcomes


@requirement("SIMULATOR-PROJECTS")
def test_the_example_in_the_documentation_runs(capsys: pytest.CaptureFixture[str]) -> None:
    [shown] = re.findall(r"^```python\n(.*?)^```", DOCUMENTATION.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    # Run the example with nothing but its own imports, as a reader would.
    exec(compile(shown.replace("range(1000)", "range(20)"), DOCUMENTATION.name, "exec"), {})  # noqa: S102
    assert capsys.readouterr().out.count('Delivery completes: "4711 is with Ann"') == 20


async def wait_for_return(*, follows: bool) -> str:
    """Wait for a return after nine days, without advancing time."""
    post = Post()
    if follows:
        asyncio.get_running_loop().attach(post.simulation)  # type: ignore[attr-defined]
    return await (await post.send()).result()


@requirement("SIMULATOR-PROJECTS")
def test_a_loop_that_follows_the_simulation_advances_time_for_a_waiting_caller() -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(wait_for_return(follows=True)) == "4711 is back"
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner, pytest.raises(DeadlockError):
        runner.run(wait_for_return(follows=False))


def test_the_default_scheduler_is_fifo() -> None:
    assert isinstance(Simulation().scheduler, FifoScheduler)
