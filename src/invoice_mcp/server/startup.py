"""What is not there yet when a server answers its first messages: waited for, but not long."""

from __future__ import annotations

from typing import Generic, TypeVar

import anyio

from invoice_mcp.domain.display_text import printable
from invoice_mcp.domain.errors import ErrorCode, RefusedError

T = TypeVar("T")

MAX_WAIT = 5.0
"""Seconds that a call waits. With what is left of an answer's time it is answered within ten."""

STARTING_MESSAGE = "Temporal is still being started, or connected to"
"""What a refusal says of a server that has only just begun."""

_CALL_AGAIN = "Call again in some seconds; nothing is lost."
_RETRIED = f"It is tried again. {_CALL_AGAIN}"
_LONGEST_REASON = 1000


class Startup(Generic[T]):
    """Something that is made in the background, for calls that need it.

    Whoever makes it calls `provide`, or `fail` and, once somebody needs it again, `retry`.
    """

    def __init__(self, *, max_wait: float = MAX_WAIT) -> None:
        self._max_wait = max_wait
        self._value: T | None = None
        self._failure: str | None = None
        self._resolved = anyio.Event()
        self._needed = anyio.Event()

    async def __call__(self) -> T:
        """What is made, once it is there.

        Raises:
            RefusedError: TEMPORAL_UNAVAILABLE: it takes longer than a call waits, or could not be made. The text says
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
        """It is there."""
        self._value = value
        self._resolved.set()

    def fail(self, reason: str) -> None:
        """It could not be made. The first line of the reason says what to do; every call is told it, and at once."""
        self._value, self._failure = None, printable(reason.partition("\n")[0], _LONGEST_REASON)
        self._resolved.set()
        self._needed = anyio.Event()

    async def wait_until_needed(self) -> None:
        """Wait until somebody calls."""
        await self._needed.wait()

    def retry(self) -> None:
        """It is made anew: calls wait for it again."""
        self._resolved = anyio.Event()
