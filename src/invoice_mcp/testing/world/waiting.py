"""Bounded waiting. Its errors describe the state at the timeout."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from invoice_mcp.testing.engines.base import HARNESS_TIMEOUT


@asynccontextmanager
async def bounded(what: str, describe_state: Callable[[], str], within: float = HARNESS_TIMEOUT) -> AsyncIterator[None]:
    """Limit the real time of a block, in seconds.

    Raises:
        AssertionError: The block timed out while waiting for `what`.
    """
    try:
        async with asyncio.timeout(within):
            yield
    except TimeoutError:
        raise AssertionError(f"waited {within:g} s in vain for {what}: {describe_state()}") from None


async def wait_until(
    condition: Callable[[], object],
    what: str,
    describe_state: Callable[[], str],
    *,
    within: float = HARNESS_TIMEOUT,
    pause: float = 0.002,
) -> None:
    """Poll a condition, first after `pause` seconds and then at growing intervals, until it holds.

    Args:
        condition: The condition; may be a coroutine function.

    Raises:
        AssertionError: As for `bounded`.
    """
    async with bounded(what, describe_state, within):
        while not (await answer if inspect.isawaitable(answer := condition()) else answer):
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.1)
