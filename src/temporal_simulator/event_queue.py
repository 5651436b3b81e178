"""The event queue and virtual clock of a discrete-event simulation.

An event is either enabled, which means that it can be processed now, or scheduled for a later virtual time. Processing
events takes no virtual time. The clock moves only in `EventQueue.advance_to`. (For the method see Law, "Simulation
Modeling and Analysis", chapter 1: next-event time advance.)
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Awaitable, Callable, Container
from dataclasses import dataclass, field

SECOND = 1_000_000_000
"""One second. All times in this package are integers in nanoseconds, since the Unix epoch or as a duration."""

_MICROSECOND = 1000

Action = Callable[[], Awaitable[None] | None]
"""The effect of an event. If it returns an awaitable, that is awaited."""


@dataclass(eq=False, slots=True)
class Event:
    """Something that can happen in a simulation.

    Attributes:
        label: Its kind, such as "workflow task", "activity starts" or "timer".
        run_id: The workflow run that it affects.
        action: Its effect.
        task_queue: The task queue whose worker it needs; None if it needs no worker.
        detail: What distinguishes it from other events with the same label and run.
    """

    label: str
    run_id: str
    action: Action
    task_queue: str | None = None
    detail: str = ""
    is_cancelled: bool = field(default=False, init=False)


def _round_up(time: int) -> int:
    """Round up to a whole microsecond, because some programs truncate finer times and others do not."""
    return -(-time // _MICROSECOND) * _MICROSECOND


class EventQueue:
    """The virtual clock, the enabled events in the order in which they became enabled, and the scheduled events.

    Attributes:
        now: The virtual time.
    """

    def __init__(self, now: int) -> None:
        self.now = now
        self._enabled: dict[Event, None] = {}
        self._scheduled: list[tuple[int, int, Event]] = []
        self._numbers = itertools.count()

    def enable(self, event: Event) -> Event:
        """Enable an event now."""
        self._enabled[event] = None
        return event

    def schedule(self, time: int, event: Event) -> Event:
        """Enable an event at a later time."""
        heapq.heappush(self._scheduled, (max(_round_up(time), self.now), next(self._numbers), event))
        return event

    def cancel(self, event: Event) -> None:
        """Remove an event, enabled or scheduled."""
        event.is_cancelled = True
        self._enabled.pop(event, None)

    def take(self, event: Event) -> None:
        """Remove an enabled event in order to process it."""
        del self._enabled[event]

    def enabled(self, task_queues: Container[str]) -> list[Event]:
        """The enabled events, given the task queues that have a worker."""
        return [event for event in self._enabled if event.task_queue is None or event.task_queue in task_queues]

    def next_time(self) -> int | None:
        """The time of the next scheduled event; None if there is none."""
        while self._scheduled and self._scheduled[0][2].is_cancelled:
            heapq.heappop(self._scheduled)
        return self._scheduled[0][0] if self._scheduled else None

    def advance_to(self, time: int) -> None:
        """Move the clock forward, and enable the events that are due by then."""
        self.now = max(self.now, _round_up(time))
        while (due := self.next_time()) is not None and due <= self.now:
            self.enable(heapq.heappop(self._scheduled)[2])

    def digest(self) -> tuple[int, tuple[tuple[str, str, str], ...], tuple[tuple[int, str, str, str], ...]]:
        """The time, the enabled events and the scheduled events, in a canonical order."""
        enabled = sorted((event.label, event.run_id, event.detail) for event in self._enabled)
        entries = (entry for entry in self._scheduled if not entry[2].is_cancelled)
        scheduled = sorted((time, event.label, event.run_id, event.detail) for time, _, event in entries)
        return self.now, tuple(enabled), tuple(scheduled)
