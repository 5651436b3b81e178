"""The environment pool: one world at a time, in the same environment until it is broken or needs replacement."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from temporalio.client import Client

from invoice_mcp.testing import (
    CallContext,
    EngineKind,
    EngineStuckError,
    EnvironmentPool,
    ToolRefused,
    kinds,
    open_world,
)
from invoice_mcp.testing.engines.base import Engine, EngineWorker

pytestmark = pytest.mark.thorough


class FakeEngine:
    """An engine that does nothing but record its calls."""

    can_list = False
    reaction_time = 0.0

    def __init__(self, *, can_run_without_worker: bool = True) -> None:
        self.client = cast(Client, None)
        self.can_run_without_worker = can_run_without_worker
        self.journal: list[str] = []
        self.wears_out = False

    async def now(self, workflow_id: str | None = None) -> datetime:
        return datetime(2026, 11, 23, tzinfo=UTC)

    async def advance(self, span: timedelta, workflow_ids: Sequence[str]) -> None: ...

    def call_context(self) -> CallContext:
        return CallContext(datetime(2026, 11, 23, tzinfo=UTC))

    async def evict_all(self) -> None:
        self.journal.append("forgets")

    def worker(self, *_: object, **__: object) -> AbstractAsyncContextManager[EngineWorker]:
        return self._work()

    @asynccontextmanager
    async def _work(self) -> AsyncIterator[EngineWorker]:
        self.journal.append("works")
        yield self
        self.journal.append("rests")

    def shuffle(self, seed: int | None) -> None: ...

    def needs_replacement(self) -> bool:
        return self.wears_out


class Factory:
    """Starts engines and records them."""

    def __init__(self, **options: Any) -> None:
        self.engines: list[FakeEngine] = []
        self.fails = False
        self.kind = EngineKind("paper", "nothing happens", self.start)
        self._options = options

    @asynccontextmanager
    async def start(self) -> AsyncIterator[Engine]:
        if self.fails:
            raise OSError("no engine today")
        engine = FakeEngine(**self._options)
        self.engines.append(engine)
        yield engine
        engine.journal.append("ends")


@pytest.fixture
def factory() -> Factory:
    return Factory()


def test_the_fake_engine_is_an_engine() -> None:
    engine: Engine = FakeEngine()
    assert not engine.needs_replacement()


async def test_an_environment_is_started_on_demand_and_closed_once(factory: Factory) -> None:
    pool = EnvironmentPool(factory.kind)
    await pool.close()
    assert factory.engines == []
    async with pool.take():
        pass
    await pool.close()
    await pool.close()
    assert [engine.journal for engine in factory.engines] == [["works", "rests", "ends"]]


async def test_worlds_share_the_environment_but_not_the_ports(factory: Factory) -> None:
    pool = EnvironmentPool(factory.kind)
    async with pool.take() as first:
        erp, payments = first.ports.erp, first.ports.payments
    async with pool.take() as second:
        assert second is first
        assert second.ports.erp is not erp
        assert second.ports.payments is not payments
    await pool.close()
    assert len(factory.engines) == 1


async def test_an_environment_in_use_is_refused_and_stays_in_use(factory: Factory) -> None:
    pool = EnvironmentPool(factory.kind)
    async with pool.take():
        for _ in range(2):
            with pytest.raises(RuntimeError, match="Another world uses this environment"):
                async with pool.take():
                    pytest.fail("it was taken twice")
    async with pool.take():
        pass
    await pool.close()


async def test_a_broken_environment_is_replaced(factory: Factory) -> None:
    pool = EnvironmentPool(factory.kind)
    async with pool.take() as environment:
        environment.is_broken = True
    async with pool.take() as other:
        assert other is not environment
    assert factory.engines[0].journal == ["works", "rests", "ends"]
    await pool.close()


async def test_an_environment_whose_engine_got_stuck_is_replaced(factory: Factory) -> None:
    pool = EnvironmentPool(factory.kind)
    with pytest.raises(EngineStuckError):
        async with pool.take():
            raise EngineStuckError("it does not move")
    async with pool.take():
        pass
    await pool.close()
    assert len(factory.engines) == 2


async def test_an_engine_that_needs_replacement_is_replaced(factory: Factory) -> None:
    pool = EnvironmentPool(factory.kind)
    async with pool.take():
        factory.engines[0].wears_out = True
    async with pool.take() as environment:
        assert environment.engine is factory.engines[1]
    await pool.close()


async def test_a_failing_test_releases_the_environment(factory: Factory) -> None:
    pool = EnvironmentPool(factory.kind)
    with pytest.raises(ValueError, match="mine"):
        async with pool.take():
            raise ValueError("mine")
    async with pool.take():
        pass
    await pool.close()


async def test_an_engine_that_does_not_start_is_tried_again_next_time(factory: Factory) -> None:
    pool = EnvironmentPool(factory.kind)
    factory.fails = True
    with pytest.raises(OSError, match="no engine today"):
        async with pool.take():
            pytest.fail("there is no engine")
    factory.fails = False
    async with pool.take():
        pass
    await pool.close()


async def test_a_crash_stops_the_worker_and_the_next_world_has_one(factory: Factory) -> None:
    pool = EnvironmentPool(factory.kind)
    async with pool.take() as environment:
        await environment.crash_worker()
        await environment.crash_worker()
        assert not environment.has_worker
    async with pool.take() as environment:
        assert environment.has_worker
    assert factory.engines[0].journal == ["works", "rests", "works"]
    await pool.close()


async def test_a_crash_evicts_workflows_where_the_engine_needs_a_worker() -> None:
    factory = Factory(can_run_without_worker=False)
    pool = EnvironmentPool(factory.kind)
    async with pool.take() as environment:
        await environment.crash_worker()
        assert environment.has_worker
        await environment.start_worker()
    assert factory.engines[0].journal == ["works", "forgets"]
    await pool.close()


async def test_after_a_failed_world_the_next_one_has_a_new_server() -> None:
    starts = 0
    kind = kinds()["time-skipping"]

    @asynccontextmanager
    async def counted() -> AsyncIterator[Engine]:
        nonlocal starts
        starts += 1
        async with kind.start() as engine:
            yield engine

    pool = EnvironmentPool(replace(kind, start=counted))
    with pytest.raises(ToolRefused):
        async with open_world(pool) as world:
            await world.approve("invoice-of-nobody")
    async with open_world(pool) as world:
        await world.submit()
        await world.reject()
    async with open_world(pool) as world:
        await world.trigger()
    await pool.close()
    assert starts == 2
