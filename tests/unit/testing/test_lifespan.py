"""TaskOwnedContext: one task enters and leaves the context manager, whichever tasks open and close it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from invoice_mcp.testing.world.lifespan import TaskOwnedContext


class RecordingContext:
    """Records the task that enters and the task that leaves."""

    def __init__(self, *, enter_error: BaseException | None = None, exit_error: BaseException | None = None) -> None:
        self.came: asyncio.Task[object] | None = None
        self.went: list[asyncio.Task[object] | None] = []
        self._locked = enter_error
        self._slams = exit_error

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


async def test_the_task_that_entered_leaves_whichever_task_closes() -> None:
    context = RecordingContext()
    kept = await asyncio.create_task(TaskOwnedContext.open(context.enter()))
    assert kept.value == "inside"
    assert context.went == []
    await asyncio.create_task(kept.close())
    assert context.went == [context.came]
    assert context.came not in {None, asyncio.current_task()}


@pytest.mark.parametrize("error", [ValueError("locked"), asyncio.CancelledError()], ids=repr)
async def test_what_entering_raises_is_raised(error: BaseException) -> None:
    with pytest.raises(type(error)):
        await asyncio.wait_for(TaskOwnedContext.open(RecordingContext(enter_error=error).enter()), 5)


async def test_what_leaving_raises_is_raised() -> None:
    kept = await TaskOwnedContext.open(RecordingContext(exit_error=ValueError("slammed")).enter())
    with pytest.raises(ValueError, match="slammed"):
        await asyncio.wait_for(kept.close(), 5)


async def test_closing_twice_leaves_once() -> None:
    context = RecordingContext()
    kept = await TaskOwnedContext.open(context.enter())
    await kept.close()
    await asyncio.wait_for(kept.close(), 5)
    assert len(context.went) == 1


async def test_one_of_two_contexts_may_be_closed_while_the_other_stays_open() -> None:
    rooms = RecordingContext(), RecordingContext()
    first, second = [await TaskOwnedContext.open(context.enter()) for context in rooms]
    await first.close()
    assert [len(context.went) for context in rooms] == [1, 0]
    await second.close()


async def test_a_context_is_left_if_entering_is_cancelled() -> None:
    # As when a test is interrupted during the set-up of an environment: nothing may stay open.
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
