"""Virtual time, and what can happen in it: now, or later."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Awaitable, Callable, Container
from dataclasses import dataclass, field

SECOND = 1_000_000_000
"""In nanoseconds, as all times in here are: since the epoch, or long."""

_MICROSECOND = 1000


@dataclass(eq=False, slots=True)
class Event:
    """Something that can happen.

    Attributes:
        label: What it is, in a word or two.
        run_id: To which run of a workflow.
        do: Makes it happen.
        queue: The task queue of the worker that it takes; None if it takes none.
        about: What it brings, where label and run do not tell.
    """

    label: str
    run_id: str
    do: Callable[[], Awaitable[None] | None]
    queue: str | None = None
    about: str = ""
    is_dropped: bool = field(default=False, init=False)


def _whole(time: int) -> int:
    """The next whole microsecond: of a finer time some programs would see more than others, which cut it off."""
    return -(-time // _MICROSECOND) * _MICROSECOND


class EventQueue:
    """What can happen now, in the order in which it became possible, and what will at its time.

    Attributes:
        now: The virtual time.
    """

    def __init__(self, now: int) -> None:
        self.now = now
        self._possible: dict[Event, None] = {}
        self._later: list[tuple[int, int, Event]] = []
        self._numbers = itertools.count()

    def add(self, step: Event) -> Event:
        """It can happen from now on."""
        self._possible[step] = None
        return step

    def at(self, time: int, step: Event) -> Event:
        """It can happen from that time on."""
        heapq.heappush(self._later, (max(_whole(time), self.now), next(self._numbers), step))
        return step

    def drop(self, step: Event) -> None:
        """It can't happen any more."""
        step.is_dropped = True
        self._possible.pop(step, None)

    def take(self, step: Event) -> None:
        """It happens now."""
        del self._possible[step]

    def possible(self, queues: Container[str]) -> list[Event]:
        """Everything that can happen now, with workers on these queues."""
        return [step for step in self._possible if step.queue is None or step.queue in queues]

    def next_time(self) -> int | None:
        """When the next thing is due; None if nothing is."""
        while self._later and self._later[0][2].is_dropped:
            heapq.heappop(self._later)
        return self._later[0][0] if self._later else None

    def move_to(self, time: int) -> None:
        """Let time pass. What is due by then can happen."""
        self.now = max(self.now, _whole(time))
        while (due := self.next_time()) is not None and due <= self.now:
            self.add(heapq.heappop(self._later)[2])

    def digest(self) -> tuple[int, tuple[tuple[str, str, str], ...], tuple[tuple[int, str, str, str], ...]]:
        """The time, all that can happen now, and all that can later."""
        possible = sorted((step.label, step.run_id, step.about) for step in self._possible)
        waiting = (entry for entry in self._later if not entry[2].is_dropped)
        later = sorted((time, step.label, step.run_id, step.about) for time, _, step in waiting)
        return self.now, tuple(possible), tuple(later)

    def forget(self, run_ids: Container[str]) -> None:
        """Drop all that can happen to these runs."""
        for step in [step for step in self._possible if step.run_id in run_ids]:
            self.drop(step)
        self._later = [entry for entry in self._later if entry[2].run_id not in run_ids]
        heapq.heapify(self._later)
