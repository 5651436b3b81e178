"""The clocks of the engines on both servers: what `advance` moves, and what happens meanwhile."""

from __future__ import annotations

from datetime import timedelta

import pytest
from temporalio.api.enums.v1 import EventType

from invoice_mcp.testing import PAST_DUE, Engine, EnvironmentPool, World, kinds, open_world
from invoice_mcp.testing.engines.servers import open_time_skipping
from invoice_mcp.testing.world.base import DAY

pytestmark = pytest.mark.thorough

HOUR = timedelta(hours=1)
# Tolerance for real time and for reading several clocks: more than any machine takes, far less than the skipped time.
ABOUT = timedelta(minutes=1)
_FIXTURES = {"time-skipping": "invoice_environments", "real": "real_invoice_environments"}


@pytest.fixture(params=list(_FIXTURES))
def pool(request: pytest.FixtureRequest) -> EnvironmentPool:
    """An environment pool on each engine, shared with all other tests."""
    found: EnvironmentPool = request.getfixturevalue(_FIXTURES[request.param])
    return found


@pytest.fixture
def real(real_invoice_environments: EnvironmentPool) -> EnvironmentPool:
    return real_invoice_environments


async def times(engine: Engine, *workflow_ids: str) -> list[timedelta]:
    """How far ahead of the first workflow's clock each of the others is."""
    first, *others = [await engine.now(workflow_id) for workflow_id in workflow_ids]
    return [other - first for other in others]


def test_temporals_own_servers_come_first_and_the_fast_one_is_the_default() -> None:
    assert list(kinds())[:3] == ["time-skipping", "real", "simulated"]
    assert all(kind.name == name and kind.about for name, kind in kinds().items())


@pytest.mark.parametrize("span", [timedelta(seconds=90), 3 * HOUR, 4 * DAY])
async def test_advance_moves_the_clock_of_an_invoice_by_that_much(pool: EnvironmentPool, span: timedelta) -> None:
    async with open_world(pool, run_to_end=False) as world:
        await world.submit()
        before = await world.now()
        await world.advance(span)
        assert span <= await world.now() - before < span + ABOUT


async def test_advancing_again_starts_from_the_reached_time(pool: EnvironmentPool) -> None:
    async with open_world(pool, run_to_end=False) as world:
        await world.submit()
        before = await world.now()
        for _ in range(3):
            await world.advance(HOUR)
        assert 3 * HOUR <= await world.now() - before < 3 * HOUR + ABOUT


async def test_on_the_real_server_only_the_clocks_that_are_named_move(real: EnvironmentPool) -> None:
    async with open_world(real, run_to_end=False) as world:
        one, other = [await world.submit() for _ in range(2)]
        await world.engine.advance(2 * HOUR, [one])
        (behind,) = await times(world.engine, one, other)
        assert -2 * HOUR - ABOUT < behind < -2 * HOUR + ABOUT


async def test_an_invoice_and_its_lines_have_one_time(pool: EnvironmentPool) -> None:
    async with open_world(pool, run_to_end=False) as world:
        due = [await world.due_in(hours * HOUR) for hours in (30, 40)]
        workflow_id = await world.submit(*(("100", each) for each in due))
        await world.advance(HOUR)
        await world.approve()
        await world.until("PAYING")
        await world.when(lambda: lines_are_scheduled(world))
        for _ in range(2):
            await world.advance(5 * HOUR)
            apart = await times(world.engine, workflow_id, f"{workflow_id}-line-1", f"{workflow_id}-line-2")
            assert all(abs(each) < ABOUT for each in apart)
        assert world.ledger == ()


async def lines_are_scheduled(world: World) -> bool:
    return {line.status for line in (await world.read_report()).lines} == {"SCHEDULED"}


async def test_retries_happen_on_the_way(pool: EnvironmentPool) -> None:
    async with open_world(pool) as world:
        world.erp.is_down(4)
        await world.trigger()
        await world.advance(HOUR)
        await world.until("PENDING-APPROVAL", within=5)
        assert len(world.erp.asked) == 5
        world.payments.is_down(2)
        await world.approve()
        await world.advance(HOUR)
        await world.until("PAID", within=5)


async def test_a_due_date_on_the_way_is_kept(pool: EnvironmentPool) -> None:
    async with open_world(pool) as world:
        first, second = [await world.now() + hours * HOUR for hours in (10, 60)]
        await world.submit(("1", first.isoformat()), ("2", second.isoformat()))
        await world.approve()
        await world.advance(70 * HOUR)
        await world.until("PAID", within=5)
        assert [timedelta() <= paid.at - due < ABOUT for paid, due in zip(world.ledger, (first, second), strict=True)]
        assert [paid.at >= due for paid, due in zip(world.ledger, (first, second), strict=True)] == [True, True]


async def test_time_does_not_go_back_when_the_lines_have_ended(pool: EnvironmentPool) -> None:
    async with open_world(pool) as world:
        await world.submit(("1", PAST_DUE), ("2", await world.due_in(60 * HOUR)))
        before = await world.now()
        await world.approve()
        await world.advance(70 * HOUR)
        await world.until("PAID", within=5)
        assert 70 * HOUR <= await world.now() - before < 70 * HOUR + ABOUT


async def test_lines_that_begin_on_the_way_are_advanced_no_further_than_asked(pool: EnvironmentPool) -> None:
    async with open_world(pool) as world:
        world.erp.is_down(3)
        before = await world.now()
        due = [before + hours * HOUR for hours in (10, 20)]
        await world.trigger(world.invoice(*(("1", each.isoformat()) for each in due)))
        await world.approve()
        await world.advance(12 * HOUR)
        assert 12 * HOUR <= await world.now() - before < 12 * HOUR + ABOUT
        await world.when(lambda: world.ledger)
        (paid,) = world.ledger
        assert timedelta() <= paid.at - due[0] < ABOUT


async def test_the_deadline_passes_on_the_way_and_time_goes_on_after_the_end(pool: EnvironmentPool) -> None:
    async with open_world(pool) as world:
        await world.submit()
        await world.advance(6 * DAY)
        report = await world.until("EXPIRED", within=5)
        (run,) = (await world.observe()).runs
        assert report.approval_deadline is not None
        assert run.trace.ended_at is not None
        assert timedelta() <= run.trace.ended_at - report.approval_deadline < ABOUT
        await world.advance(DAY)
        assert (await world.status()).status == "EXPIRED"


async def test_after_a_crash_an_invoice_comes_back_as_it_was(pool: EnvironmentPool) -> None:
    async with open_world(pool) as world:
        await world.submit()
        await world.advance(HOUR)
        before = await world.read_report()
        for _ in range(2):
            await world.crash_worker()
            await world.restart_worker()
            assert await world.read_report() == before
        await world.approve()
        await world.until("PAID")


async def test_a_signal_that_an_idle_task_brought_is_dated_by_the_next_one_on_replay(pool: EnvironmentPool) -> None:
    # See `ReceivedDecision.replayed_at`, which can be removed when this test fails.
    async with open_world(pool, signals_approve=True) as world:
        world.erp.is_slow()
        await world.trigger()
        await world.signal("Nothing")
        await world.when(lambda: has_tasks(world, 2))
        await world.signal("ApproveInvoice")
        await world.when(lambda: has_tasks(world, 3))
        # A refused update has no command, but on the time-skipping server a task of its own.
        await world.refusal(world.reject())
        before = (await world.read_report()).decision
        await world.crash_worker()
        await world.restart_worker()
        after = (await world.read_report()).decision
        (run,) = (await world.observe()).runs
        (received, *_) = run.trace.decisions
        assert before
        assert after
        assert received.is_seen_at(before.at)
        assert received.is_seen_at(after.at)
        later = [each for each in received.replayed_at if each > received.at]
        assert bool(later) == (pool.kind.name == "time-skipping")
        assert (before == after) == (pool.kind.name != "time-skipping")


async def has_tasks(world: World, number: int) -> bool:
    """Whether this many workflow tasks have completed."""
    events = [event.event_type for event in (await world.history()).events]
    return events.count(EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED) >= number


async def test_the_fast_server_wears_out_long_after_every_due_date_has_passed() -> None:
    async with open_time_skipping() as engine:
        now = await engine.now()
        assert not engine.needs_replacement()
        await engine.advance(timedelta(days=365.25 * (2501 - now.year)), [])
        await engine.now()
        assert engine.needs_replacement()
