"""The fingerprint of a workflow's code: the same for all ways that leave it knowing the same, and for no others."""

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
from temporal_simulator.worker.fingerprint import condensed, fingerprint
from tests.unit.testing.simulator.backends import QUEUE


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Slotted:
    __slots__ = ("__hidden", "shown")

    def __init__(self, shown: object, hidden: object = None) -> None:
        self.shown, self.__hidden = shown, hidden


class Own:
    def __init__(self, **values: object) -> None:
        vars(self).update(values)


@workflow.defn
class Minds:
    """Does what it is told to, and waits."""

    def __init__(self) -> None:
        self.held: Any = None
        self.told = 0

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: self.told > 99)

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
        # The first number is in no variable any more while the second one is waited for.
        self.held = numbers.pop() + await self._second()

    async def _second(self) -> int:
        await workflow.wait_condition(lambda: self.told > 0)
        return 1

    @workflow.signal
    async def sleep(self, hours: int) -> None:
        await workflow.sleep(timedelta(hours=hours))

    @workflow.signal
    def draw(self) -> None:
        workflow.random().random()

    @workflow.signal
    def nothing(self, words: str) -> None: ...


async def mind_after(*signals: tuple[Any, ...]) -> bytes | None:
    """What it knows after these signals, one task each."""
    simulation = Simulation()
    simulation.start_worker(QUEUE, Worker([Minds], []))
    run = simulation.start(Start("mind", "Minds", QUEUE))
    await simulation.run()
    for name, *given in signals:
        run.signal(name, payloads(*given), {})
        await simulation.run()
    known = run.tasks.code.digest(is_thinking=False)
    # Put out of memory and back again, it knows the same.
    simulation.evict(QUEUE)
    assert fingerprint(run.tasks.code._awake(run.tasks.code._past[0])) == known
    await simulation.close()
    return known


def payloads(*given: object) -> Any:
    from temporalio.api.common.v1 import Payloads  # noqa: PLC0415
    from temporalio.converter import DataConverter  # noqa: PLC0415

    return Payloads(payloads=DataConverter.default.payload_converter.to_payloads(given))


async def test_what_leaves_no_trace_in_the_code_leaves_none_in_its_fingerprint() -> None:
    bare = await mind_after()
    assert bare is not None
    assert await mind_after(("nothing", "a"), ("nothing", "b")) == bare
    assert await mind_after(("hold", 1), ("hold", 2)) == await mind_after(("hold", 2))


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
        ([("draw",)], []),
    ],
    ids=str,
)
async def test_what_the_code_goes_on_with_is_in_its_fingerprint(one: list[Any], other: list[Any]) -> None:
    assert await mind_after(*one) != await mind_after(*other)


def holding(value: object) -> bytes | None:
    """The fingerprint of an instance that holds this, and nothing else."""
    from temporal_simulator.worker.fingerprint import _Opaque, _Walk  # noqa: PLC0415

    try:
        return condensed(_Walk()(value))
    except _Opaque:
        return None


def halfway(count: int) -> Any:
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


MAKES: list[Any] = [
    int,
    str,
    float,
    Decimal,
    timedelta,
    ValueError,
    Slotted,
    Random,
    range,
    halfway,
    generator,
    lambda n: [n],
    lambda n: (n, "x"),
    lambda n: {"a": {n}},
    lambda n: {n: "a"},
    lambda n: deque([n]),
    lambda n: [Colour.RED, Colour.BLUE][n % 2],
    lambda n: Slotted(0, hidden=n),
    lambda n: Own(a=1, b=Own(c=n)),
    lambda n: partial(print, n),
    lambda n: lambda: n,
    lambda n: lambda x=n: x,
    lambda n: [1, 2, 3][n:].append,
]


@pytest.mark.parametrize("make", MAKES, ids=lambda make: str(MAKES.index(make)))
def test_equal_values_look_alike_and_others_do_not(make: Any) -> None:
    assert holding(make(1)) == holding(make(1))
    assert holding(make(1)) is not None
    assert holding(make(1)) != holding(make(2))


def test_what_refers_to_itself_is_told_too() -> None:
    def ring(length: int) -> list[Any]:
        every: list[Any] = [[] for _ in range(length)]
        for number, each in enumerate(every):
            each.append(every[(number + 1) % length])
        return every[0]  # type: ignore[no-any-return]

    assert holding(ring(2)) == holding(ring(2)) != holding(ring(3))


async def test_the_state_of_a_future_counts() -> None:
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
    assert len({holding(each) for each in states}) == len(states)
    states[0].cancel()
    assert holding(states[0]) not in {holding(future()), holding(future(1))}


async def test_an_asynchronous_generator_is_told_by_where_it_stands() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1
        yield 2

    fresh, begun = numbers(), numbers()
    await anext(begun)
    assert holding(fresh) == holding(numbers()) != holding(begun)
    await begun.aclose()  # type: ignore[attr-defined]


def test_what_can_not_be_looked_into_has_no_fingerprint() -> None:
    # It has no values that anybody could see, and does not let itself be copied.
    assert holding(memoryview(b"x")) is None
