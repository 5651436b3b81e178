"""Keeps a context manager open in a task of its own."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

from invoice_mcp.testing.engines.base import HARNESS_TIMEOUT, EngineStuckError

T = TypeVar("T")


class TaskOwnedContext(Generic[T]):
    """An async context manager that stays open until `close`, entered and left by the same task.

    MCP clients and Temporal workers must be left by the task that entered them. pytest fixtures do not guarantee that.

    Attributes:
        value: The value of the context manager.
    """

    value: T

    @classmethod
    async def open(cls, manager: AbstractAsyncContextManager[T]) -> TaskOwnedContext[T]:
        """Enter the context manager. Raises what entering raises."""
        context = cls()
        context._end = asyncio.Event()
        began: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        context._task = asyncio.create_task(context._run(manager, began))
        try:
            context.value = await began
        except asyncio.CancelledError:
            # The caller or the task was cancelled while entering. Leave nothing open.
            context._task.cancel()
            await asyncio.gather(context._task, return_exceptions=True)
            raise
        return context

    _end: asyncio.Event
    _task: asyncio.Task[None]

    async def _run(self, manager: AbstractAsyncContextManager[T], began: asyncio.Future[T]) -> None:
        try:
            async with manager as value:
                began.set_result(value)
                await self._end.wait()
        except BaseException as error:
            if began.done():
                raise
            began.set_exception(error)

    async def close(self) -> None:
        """Leave the context manager. Raises what its task or leaving raises."""
        self._end.set()
        try:
            await asyncio.wait_for(self._task, HARNESS_TIMEOUT)
        except TimeoutError:
            raise EngineStuckError(f"{self.value!r} could not be left within {HARNESS_TIMEOUT:g} s") from None
