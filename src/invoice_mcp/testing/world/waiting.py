"""Waiting for what happens elsewhere: always with a bound, and with a word about how it stood when that was reached."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from invoice_mcp.testing.engines.base import HARNESS_TIMEOUT


@asynccontextmanager
async def bounded(what: str, describe_state: Callable[[], str], within: float = HARNESS_TIMEOUT) -> AsyncIterator[None]:
    """Give the block so many seconds of real time.

    Raises:
        AssertionError: It took longer: `what` was waited for in vain.
    """
    try:
        async with asyncio.timeout(within):
            yield
    except TimeoutError:
        raise AssertionError(f"waited {within:g} s in vain for {what}: {describe_state()}") from None


async def wait_until(
    happened: Callable[[], object],
    what: str,
    describe_state: Callable[[], str],
    *,
    within: float = HARNESS_TIMEOUT,
    pause: float = 0.002,
) -> None:
    """Look again and again, first after `pause` seconds and then ever less often, until it has happened.

    Args:
        happened: Whether it has; may be a coroutine function.

    Raises:
        AssertionError: As for `bounded`.
    """
    async with bounded(what, describe_state, within):
        while not (await answer if inspect.isawaitable(answer := happened()) else answer):
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.1)
