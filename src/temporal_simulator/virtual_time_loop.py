"""An asyncio event loop on virtual time: when every task waits, the clock jumps to the next timer.

For tests in which everything that a task waits for is in the loop itself. A wait for a thread, a socket or another
process is not seen: virtual time passes meanwhile, or `DeadlockError` is raised.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from contextvars import Context
from typing import Protocol, TypeVarTuple

_Ts = TypeVarTuple("_Ts")


class AttachedClock(Protocol):
    """A clock that the event loop moves, such as a `Simulation`."""

    def due_in(self) -> float | None:
        """Seconds until the next event is due; None if there is none."""
        ...

    def pass_time(self, seconds: float) -> None:
        """Move the clock forward, at most to the next event."""
        ...


# Real seconds for cancelled tasks to clean up while the loop is closed after a deadlock.
_CLEANUP = 0.05
# The shortest wait, in seconds. Adding a much shorter one to the time does not change that floating-point number, so a
# task that waits for the rest of an interval would never see it end.
_MIN_DELAY = 1e-6


class DeadlockError(AssertionError):
    """Every task in the event loop waits, no timer is set, and no attached clock has an event due."""


class _VirtualTimeSelector(selectors.DefaultSelector):
    """A selector that moves virtual time instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.clocks: list[AttachedClock] = []
        self._is_deadlocked = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout != 0:
            self._advance(timeout)
        return ready

    def _advance(self, timeout: float | None) -> None:
        dues = [due for clock in self.clocks if (due := clock.due_in()) is not None]
        span = min([*dues, *([] if timeout is None else [timeout])], default=None)
        if span is None and self._is_deadlocked:
            # The loop is being closed, and cancelled tasks may still have to clean up.
            super().select(_CLEANUP)
            return
        if span is None:
            self._is_deadlocked = True
            raise DeadlockError(
                "Every task waits for something outside of this event loop, or for nothing. "
                "Does the loop move your simulation's clock? See VirtualTimeLoop.attach"
            )
        self.now += span
        for clock in self.clocks:
            clock.pass_time(span)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock starts at 0 and moves only when every task waits.

    Example, where the loop also moves the clock of a simulation:

        async def main() -> None:
            simulation = Simulation()
            asyncio.get_running_loop().attach(simulation)
            ...

        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(main())
    """

    def __init__(self) -> None:
        self._virtual_time = _VirtualTimeSelector()
        super().__init__(self._virtual_time)

    def time(self) -> float:
        """The virtual time, in seconds."""
        return self._virtual_time.now

    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """See `asyncio.loop.call_later`. A positive delay is at least a microsecond."""
        wait = max(delay, _MIN_DELAY) if delay > 0 else delay
        return super().call_later(wait, callback, *args, context=context)

    def attach(self, clock: AttachedClock) -> Callable[[], None]:
        """Move this clock together with the loop's; returns a function that detaches it."""
        self._virtual_time.clocks.append(clock)
        return lambda: self._virtual_time.clocks.remove(clock)

    def is_attached(self, clock: AttachedClock) -> bool:
        """Whether this clock is attached."""
        return clock in self._virtual_time.clocks
