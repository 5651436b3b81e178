"""Kept: a context manager that one task enters and leaves, whoever asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from invoice_mcp.testing.world.lifespan import TaskOwnedContext


class Room:
    """Remembers which task came and which went."""

    def __init__(self, *, locked: BaseException | None = None, slams: BaseException | None = None) -> None:
        self.came: asyncio.Task[object] | None = None
        self.went: list[asyncio.Task[object] | None] = []
        self._locked = locked
        self._slams = slams

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[str]:
        await asyncio.sleep(0)
        if self._locked is not None:
            raise self._locked
        self.came = asyncio.current_task()
        yield "inside"
        self.went.append(asyncio.current_task())
        if self._slams is not None:
            raise self._slams


async def test_the_task_that_entered_leaves_whoever_closes() -> None:
    room = Room()
    kept = await asyncio.create_task(TaskOwnedContext.open(room.enter()))
    assert kept.value == "inside"
    assert room.went == []
    await asyncio.create_task(kept.close())
    assert room.went == [room.came]
    assert room.came not in {None, asyncio.current_task()}


@pytest.mark.parametrize("error", [ValueError("locked"), asyncio.CancelledError()], ids=repr)
async def test_what_entering_raises_is_raised(error: BaseException) -> None:
    with pytest.raises(type(error)):
        await asyncio.wait_for(TaskOwnedContext.open(Room(locked=error).enter()), 5)


async def test_what_leaving_raises_is_raised() -> None:
    kept = await TaskOwnedContext.open(Room(slams=ValueError("slammed")).enter())
    with pytest.raises(ValueError, match="slammed"):
        await asyncio.wait_for(kept.close(), 5)


async def test_closing_twice_leaves_once() -> None:
    room = Room()
    kept = await TaskOwnedContext.open(room.enter())
    await kept.close()
    await asyncio.wait_for(kept.close(), 5)
    assert len(room.went) == 1


async def test_of_two_one_may_be_left_while_the_other_stays() -> None:
    rooms = Room(), Room()
    first, second = [await TaskOwnedContext.open(room.enter()) for room in rooms]
    await first.close()
    assert [len(room.went) for room in rooms] == [1, 0]
    await second.close()


async def test_one_that_is_given_up_while_it_enters_is_left_again() -> None:
    # As when a test is interrupted just while the stage is set up: nothing of it may stay open.
    entered, left = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def slow() -> AsyncIterator[None]:
        entered.set()
        try:
            await asyncio.Event().wait()
            yield
        finally:
            left.set()

    before = asyncio.all_tasks()
    opening = asyncio.create_task(TaskOwnedContext.open(slow()))
    await asyncio.wait_for(entered.wait(), 5)
    opening.cancel()
    try:
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(opening, 5)
        await asyncio.wait_for(left.wait(), 0.5)
    finally:
        for task in asyncio.all_tasks() - before:
            task.cancel()
