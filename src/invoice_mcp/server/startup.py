"""A value that is created in the background while a server already answers calls."""

from __future__ import annotations

from typing import Generic, TypeVar

import anyio

from invoice_mcp.domain.display_text import printable
from invoice_mcp.domain.errors import ErrorCode, RefusedError

T = TypeVar("T")

MAX_WAIT = 5.0
"""Seconds that a call waits for the value. The whole call is answered within ten seconds."""

STARTING_MESSAGE = "Temporal is still being started, or connected to"
"""The reason in refusals of a server that has just started."""

_CALL_AGAIN = "Call again in some seconds; nothing is lost."
_RETRIED = f"It is tried again. {_CALL_AGAIN}"
_LONGEST_REASON = 1000


class Startup(Generic[T]):
    """A value created by a background task; awaitable calls wait for it, at most for `max_wait` seconds.

    The background task calls `provide`, or `fail` and, after `wait_until_needed`, `retry`.
    """

    def __init__(self, *, max_wait: float = MAX_WAIT) -> None:
        self._max_wait = max_wait
        self._value: T | None = None
        self._failure: str | None = None
        self._resolved = anyio.Event()
        self._needed = anyio.Event()

    async def __call__(self) -> T:
        """Return the value; wait for it if needed.

        Raises:
            RefusedError: TEMPORAL_UNAVAILABLE: the value was not created in time, or its creation failed. The text says
                why.
        """
        if self._value is None:
            self._needed.set()
            with anyio.move_on_after(self._max_wait):
                await self._resolved.wait()
        if self._value is None:
            raise RefusedError(
                ErrorCode.TEMPORAL_UNAVAILABLE,
                f"{self._failure} {_RETRIED}" if self._failure else f"{STARTING_MESSAGE}. {_CALL_AGAIN}",
            )
        return self._value

    def provide(self, value: T) -> None:
        """Set the value."""
        self._value = value
        self._resolved.set()

    def fail(self, reason: str) -> None:
        """Set the failure: every call is refused at once, with the first line of the reason, until `retry`."""
        self._value, self._failure = None, printable(reason.partition("\n")[0], _LONGEST_REASON)
        self._resolved.set()
        self._needed = anyio.Event()

    async def wait_until_needed(self) -> None:
        """Wait until a call needs the value."""
        await self._needed.wait()

    def retry(self) -> None:
        """Let calls wait for the value again."""
        self._resolved = anyio.Event()
