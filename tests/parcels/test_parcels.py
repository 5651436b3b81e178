"""Another project's tests of its own workflows, on the simulator alone: as docs/simulator.md tells how to."""

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
from tests.parcels.workflows import WAITS, Delivery, HastyDelivery, Locker, Parcel, Return
from tests.requirements import requirement

DAY = timedelta(days=1)
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "simulator.md"
PARCEL = Parcel("4711", "Ann")


class Post:
    """A simulation of it."""

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

    def story(self) -> list[str]:
        return [f"{moment.who} {moment.what}" for moment in timeline(self.simulation)]


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
async def test_a_parcel_that_nobody_collects_goes_back_and_nine_days_take_no_time(post: Post) -> None:
    post.locker.full_for = 3
    began = time.perf_counter()
    sent = await post.send()
    await post.simulation.advance(WAITS + 3 * DAY)
    assert await sent.result() == "4711 is back"
    assert time.perf_counter() - began < 5
    story = post.story()
    assert "Delivery put_in: attempt 4, after the locker is full" in story
    assert story.index("Delivery starts child parcel-4711-return") < story.index('return completes: "4711 is back"')
    assert story[-1] == 'Delivery completes: "4711 is back"'
    numbers = [moment.number for moment in timeline(post.simulation)]
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
async def test_code_that_goes_otherwise_on_replay_is_caught_by_a_crash() -> None:
    HastyDelivery.delivered = 0
    post = Post(delivery=HastyDelivery)
    sent = await post.send()
    post.crash()
    await sent.signal(Delivery.collect)
    assert any("workflow task fails: [TMPRL1100] Nondeterminism" in line for line in post.story())


async def ends(seed: int) -> tuple[str, list[str]]:
    """How it ends if it is collected just as its time is over, in an order of chance."""
    post = Post(RandomScheduler(seed))
    sent = await post.send()
    await post.simulation.advance(WAITS - timedelta(seconds=1))
    # What is due now happens before what arrives, or after it: as far as chance lets it.
    post.simulation.event_queue.advance_to(post.simulation.event_queue.now + 1_000_000_000)
    await post.simulation.run_before_reply()
    await sent.signal(Delivery.collect)
    await post.simulation.advance(3 * DAY)
    ended = await sent.result()
    assert not post.locker.held
    return ended, post.story()


@requirement("SIMULATOR-PROJECTS")
def test_chance_finds_both_ends_of_a_race_and_a_seed_repeats_each() -> None:
    # In this loop nothing depends on how fast the machine is.
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        found = {seed: runner.run(ends(seed)) for seed in range(20)}
        assert {ended for ended, _ in found.values()} == {"4711 is with Ann", "4711 is back"}
        assert {seed: runner.run(ends(seed)) for seed in range(20)} == found


@requirement("SIMULATOR-PROJECTS")
def test_what_the_documentation_shows_runs(capsys: pytest.CaptureFixture[str]) -> None:
    [shown] = re.findall(r"^```python\n(.*?)^```", DOCUMENTATION.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    # As whoever copies it would have it: with nothing but what it imports itself.
    exec(compile(shown.replace("range(1000)", "range(20)"), DOCUMENTATION.name, "exec"), {})  # noqa: S102
    assert capsys.readouterr().out.count('Delivery completes: "4711 is with Ann"') == 20


async def returned(*, follows: bool) -> str:
    """Waits for what takes nine days, and lets no time pass itself."""
    post = Post()
    if follows:
        asyncio.get_running_loop().attach(post.simulation)  # type: ignore[attr-defined]
    return await (await post.send()).result()


@requirement("SIMULATOR-PROJECTS")
def test_whoever_only_waits_has_the_loop_follow_the_simulation() -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(returned(follows=True)) == "4711 is back"
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner, pytest.raises(DeadlockError):
        runner.run(returned(follows=False))


def test_in_order_is_what_a_simulation_does_unless_told() -> None:
    assert isinstance(Simulation().scheduler, FifoScheduler)
