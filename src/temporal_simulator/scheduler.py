"""Who decides which of the things that could happen next does happen."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

from temporal_simulator.event_queue import Event


class Scheduler(Protocol):
    """Decides, given everything that could happen now (at least one thing), in the order in which it became possible.

    Attributes:
        splits_tasks: Whether other things may happen while a worker is busy with a workflow task, or between the end
            of an activity and its report. False: both end at once.
    """

    splits_tasks: bool

    def choose(self, options: Sequence[Event]) -> Event:
        """One of the options."""
        ...

    def pauses(self) -> bool:
        """Whether a client is answered now, before all that could happen has."""
        ...

    def loses(self) -> bool:
        """Whether the report of an attempt of an activity is lost: then its time runs out, and it may be done again."""
        ...

    def queries_first(self) -> bool:
        """Whether a worker answers a query from a replay just before it takes the workflow task that is scheduled.

        The SDK's core then delivers the task's events to the workflow with the time of the task before.
        """
        ...


class FifoScheduler:
    """What could happen first happens first; nothing comes in between."""

    splits_tasks = False

    def choose(self, options: Sequence[Event]) -> Event:
        """See `Scheduler.choose`."""
        return options[0]

    def pauses(self) -> bool:
        """See `Scheduler.pauses`."""
        return False

    def loses(self) -> bool:
        """See `Scheduler.loses`."""
        return False

    def queries_first(self) -> bool:
        """See `Scheduler.queries_first`."""
        return False


class RandomScheduler:
    """Chance, the same for the same seed.

    Args:
        loses: How many reports of activities are lost, from 0 to 1.
        queries_first: How many of the workflow tasks that allow it come after a query, from 0 to 1.
    """

    splits_tasks = True

    def __init__(self, seed: int, *, loses: float = 0.0, queries_first: float = 0.0) -> None:
        self._loses = loses
        self._queries_first = queries_first
        self._random = random.Random(seed)  # noqa: S311 (to be repeated, not to be secret)

    def choose(self, options: Sequence[Event]) -> Event:
        """See `Scheduler.choose`."""
        return options[self._random.randrange(len(options))] if len(options) > 1 else options[0]

    def pauses(self) -> bool:
        """See `Scheduler.pauses`."""
        return self._random.random() < _PAUSES

    def loses(self) -> bool:
        """See `Scheduler.loses`."""
        return self._loses > 0 and self._random.random() < self._loses

    def queries_first(self) -> bool:
        """See `Scheduler.queries_first`."""
        return self._queries_first > 0 and self._random.random() < self._queries_first


# How often, at each step, a client is answered before the next one.
_PAUSES = 0.3
