"""Fingerprints of workflow code: equal for equal states, whatever led to them, and different for different states."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from random import Random
from typing import Any

import pytest
from temporalio import workflow

from temporal_simulator import Simulation, Start, Worker
from temporal_simulator.worker.fingerprint import _OpaqueError, _StateEncoder, fingerprint, hash_state
from tests.unit.testing.simulator.backends import QUEUE, payloads


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Slotted:
    __slots__ = ("__hidden", "shown")

    def __init__(self, shown: object, hidden: object = None) -> None:
        self.shown, self.__hidden = shown, hidden


class WithAttributes:
    def __init__(self, **values: object) -> None:
        vars(self).update(values)


@workflow.defn
class Stateful:
    """Changes its state by signals."""

    def __init__(self) -> None:
        self.held: Any = None
        self.ticks = 0

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: self.ticks > 99)

    @workflow.signal
    def hold(self, number: int) -> None:
        self.held = number

    @workflow.signal
    async def count(self, times: int) -> None:
        for _ in range(times):
            await workflow.wait_condition(lambda: bool(self.held))
            self.held = None

    @workflow.signal
    async def wait_twice(self) -> None:
        await workflow.wait_condition(lambda: bool(self.held))
        self.held = None
        await workflow.wait_condition(lambda: bool(self.held))

    @workflow.signal
    async def add(self, first: int) -> None:
        numbers = [first]
        del first
        # While the coroutine waits, the first number is on its stack, but in no variable.
        self.held = numbers.pop() + await self._second()

    async def _second(self) -> int:
        await workflow.wait_condition(lambda: self.ticks > 0)
        return 1

    @workflow.signal
    async def sleep(self, hours: int) -> None:
        await workflow.sleep(timedelta(hours=hours))

    @workflow.signal
    def use_random(self) -> None:
        workflow.random().random()

    @workflow.signal
    def nothing(self, words: str) -> None: ...


async def fingerprint_after(*signals: tuple[Any, ...]) -> bytes | None:
    """The fingerprint after these signals, each in a task of its own."""
    simulation = Simulation()
    simulation.start_worker(QUEUE, Worker([Stateful], []))
    run = simulation.start(Start("mind", "Stateful", QUEUE))
    await simulation.run()
    for name, *given in signals:
        run.signal(name, payloads(*given), {})
        await simulation.run()
    known = run.tasks.replay.digest(has_running_task=False)
    # The fingerprint is the same after eviction and replay.
    simulation.evict(QUEUE)
    assert fingerprint(run.tasks.replay._cached_instance(run.tasks.replay._completed[0])) == known
    await simulation.close()
    return known


async def test_equal_states_have_equal_fingerprints_whatever_led_to_them() -> None:
    bare = await fingerprint_after()
    assert bare is not None
    assert await fingerprint_after(("nothing", "a"), ("nothing", "b")) == bare
    assert await fingerprint_after(("hold", 1), ("hold", 2)) == await fingerprint_after(("hold", 2))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([("hold", 1)], [("hold", 2)]),
        ([("hold", 1)], []),
        ([("count", 2)], [("count", 3)]),
        ([("count", 2), ("hold", 1)], [("count", 1)]),
        ([("wait_twice",)], [("wait_twice",), ("hold", 1)]),
        ([("add", 1)], [("add", 2)]),
        ([("sleep", 1)], []),
        ([("use_random",)], []),
    ],
    ids=str,
)
async def test_different_states_have_different_fingerprints(one: list[Any], other: list[Any]) -> None:
    assert await fingerprint_after(*one) != await fingerprint_after(*other)


def fingerprint_of(value: object) -> bytes | None:
    """The hash of a value; None if it cannot be inspected."""
    try:
        return hash_state(_StateEncoder()(value))
    except _OpaqueError:
        return None


def iterator_at(count: int) -> Any:
    found = iter([1, 2, 3])
    for _ in range(count):
        next(found)
    return found


def generator(count: int) -> Any:
    def numbers() -> Any:
        for number in range(3):
            yield number * 2

    found = numbers()
    for _ in range(count):
        next(found)
    return found


FACTORIES: list[Any] = [
    int,
    str,
    float,
    Decimal,
    timedelta,
    ValueError,
    Slotted,
    Random,
    range,
    iterator_at,
    generator,
    lambda n: [n],
    lambda n: (n, "x"),
    lambda n: {"a": {n}},
    lambda n: {n: "a"},
    lambda n: deque([n]),
    lambda n: [Colour.RED, Colour.BLUE][n % 2],
    lambda n: Slotted(0, hidden=n),
    lambda n: WithAttributes(a=1, b=WithAttributes(c=n)),
    lambda n: partial(print, n),
    lambda n: lambda: n,
    lambda n: lambda x=n: x,
    lambda n: [1, 2, 3][n:].append,
]


@pytest.mark.parametrize("make", FACTORIES, ids=lambda make: str(FACTORIES.index(make)))
def test_fingerprints_of_values_are_equal_if_the_values_are(make: Any) -> None:
    assert fingerprint_of(make(1)) == fingerprint_of(make(1))
    assert fingerprint_of(make(1)) is not None
    assert fingerprint_of(make(1)) != fingerprint_of(make(2))


def test_cyclic_references_are_encoded() -> None:
    def ring(length: int) -> list[Any]:
        every: list[Any] = [[] for _ in range(length)]
        for number, each in enumerate(every):
            each.append(every[(number + 1) % length])
        return every[0]  # type: ignore[no-any-return]

    assert fingerprint_of(ring(2)) == fingerprint_of(ring(2)) != fingerprint_of(ring(3))


async def test_the_state_of_a_future_is_encoded() -> None:
    loop = asyncio.get_running_loop()

    def future(result: object = None, error: Exception | None = None) -> asyncio.Future[Any]:
        made: asyncio.Future[Any] = loop.create_future()
        if error is not None:
            made.set_exception(error)
            made.exception()
        elif result is not None:
            made.set_result(result)
        return made

    states = [future(), future(1), future(2), future(error=ValueError(1)), future(error=ValueError(2))]
    assert len({fingerprint_of(each) for each in states}) == len(states)
    states[0].cancel()
    assert fingerprint_of(states[0]) not in {fingerprint_of(future()), fingerprint_of(future(1))}


async def test_the_position_of_an_asynchronous_generator_is_encoded() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1
        yield 2

    fresh, begun = numbers(), numbers()
    await anext(begun)
    assert fingerprint_of(fresh) == fingerprint_of(numbers()) != fingerprint_of(begun)
    await begun.aclose()  # type: ignore[attr-defined]


def test_an_opaque_object_has_no_fingerprint() -> None:
    # A memoryview has no attributes and cannot be pickled.
    assert fingerprint_of(memoryview(b"x")) is None
