"""An event loop whose time is virtual: where everything in it waits, time goes on to what comes next.

For programs and tests in which all that anybody waits for is in the loop itself. A wait for anything real, a thread, a
socket, another process, is not seen: time passes over it.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from contextvars import Context
from typing import Protocol, TypeVarTuple

_Ts = TypeVarTuple("_Ts")


class Follower(Protocol):
    """Something else with a clock, that goes by the loop's."""

    def due_in(self) -> float | None:
        """Seconds until something is due there; None if nothing is."""
        ...

    def pass_time(self, seconds: float) -> None:
        """So much time has passed."""
        ...


_AFTERWARDS = 0.05
# No wait is shorter. A much shorter one, added to the time, makes no other time; and on a clock that stands still until
# it is over, whoever waits for the rest of a while would wait for ever.
_SHORTEST_WAIT = 1e-6


class DeadlockError(AssertionError):
    """Everything waits, and nothing will ever happen."""


class _Skipping(selectors.DefaultSelector):
    """Instead of waiting, it lets time pass."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.followers: list[Follower] = []
        self._gave_up = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout != 0:
            self._skip(timeout)
        return ready

    def _skip(self, timeout: float | None) -> None:
        dues = [due for follower in self.followers if (due := follower.due_in()) is not None]
        span = min([*dues, *([] if timeout is None else [timeout])], default=None)
        if span is None and self._gave_up:
            # The loop is being closed: what was cancelled may still have something to do.
            super().select(_AFTERWARDS)
            return
        if span is None:
            self._gave_up = True
            raise DeadlockError("Everything waits for something that is not in this event loop, or for nothing")
        self.now += span
        for follower in self.followers:
            follower.pass_time(span)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """See the module. Time begins at 0."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        """The virtual time, in seconds."""
        return self._skipping.now

    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """As every loop's, but see `_SHORTEST_WAIT`."""
        wait = max(delay, _SHORTEST_WAIT) if delay > 0 else delay
        return super().call_later(wait, callback, *args, context=context)

    def attach(self, follower: Follower) -> Callable[[], None]:
        """Let something go by this loop's clock; what is returned ends that."""
        self._skipping.followers.append(follower)
        return lambda: self._skipping.followers.remove(follower)

    def is_attached(self, follower: Follower) -> bool:
        """Whether it does."""
        return follower in self._skipping.followers
