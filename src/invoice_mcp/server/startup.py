"""What is not there yet when a server answers its first messages: waited for, but not long."""

from __future__ import annotations

from typing import Generic, TypeVar

import anyio

from invoice_mcp.domain.display_text import printable
from invoice_mcp.domain.errors import Code, Refused

T = TypeVar("T")

PATIENCE = 5.0
"""Seconds that a call waits. With what is left of an answer's time it is answered within ten."""

STARTING = "Temporal is still being started, or connected to"
"""What a refusal says of a server that has only just begun."""

_LATER = "Call again in some seconds; nothing is lost."
_AGAIN = f"It is tried again. {_LATER}"
_LONGEST_REASON = 1000


class Startup(Generic[T]):
    """Something that is made in the background, for calls that need it.

    Whoever makes it calls `provide`, or `fail` and, once somebody needs it again, `retry`.
    """

    def __init__(self, *, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._value: T | None = None
        self._trouble: str | None = None
        self._settled = anyio.Event()
        self._needed = anyio.Event()

    async def __call__(self) -> T:
        """What is made, once it is there.

        Raises:
            Refused: TEMPORAL_UNAVAILABLE: it takes longer than a call waits, or could not be made. The text says why.
        """
        if self._value is None:
            self._needed.set()
            with anyio.move_on_after(self._patience):
                await self._settled.wait()
        if self._value is None:
            raise Refused(
                Code.TEMPORAL_UNAVAILABLE, f"{self._trouble} {_AGAIN}" if self._trouble else f"{STARTING}. {_LATER}"
            )
        return self._value

    def provide(self, value: T) -> None:
        """It is there."""
        self._value = value
        self._settled.set()

    def fail(self, reason: str) -> None:
        """It could not be made. The first line of the reason says what to do; every call is told it, and at once."""
        self._value, self._trouble = None, printable(reason.partition("\n")[0], _LONGEST_REASON)
        self._settled.set()
        self._needed = anyio.Event()

    async def needed(self) -> None:
        """Wait until somebody calls."""
        await self._needed.wait()

    def retry(self) -> None:
        """It is made anew: calls wait for it again."""
        self._settled = anyio.Event()
