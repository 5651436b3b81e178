"""Schedulers: which of the enabled events is processed next, and which faults are injected.

`FifoScheduler` is deterministic and injects no faults. `RandomScheduler` picks uniformly at random, from a seed.
Priority schedules such as PCT (Burckhardt et al., "A Randomized Scheduler with Probabilistic Guarantees of Finding
Bugs", ASPLOS 2010) are not included; one would be another `Scheduler`. For all schedules instead of random ones see
`temporal_simulator.explore`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

from temporal_simulator.event_queue import Event


class Scheduler(Protocol):
    """Decides what a `Simulation` does next.

    Attributes:
        interleaves_tasks: Whether other events may be processed while a worker is busy with a workflow task, and
            between the end of an activity attempt and its report to the server. If not, each is one atomic step.

    A scheduler that processes the newest event first:

        class LifoScheduler(FifoScheduler):
            def choose(self, options: Sequence[Event]) -> Event:
                return options[-1]
    """

    interleaves_tasks: bool

    def choose(self, options: Sequence[Event]) -> Event:
        """Choose one of the enabled events.

        Args:
            options: At least one event, in the order in which they became enabled.
        """
        ...

    def replies_early(self) -> bool:
        """Whether a waiting client gets its response now, although events are still enabled."""
        ...

    def loses_report(self) -> bool:
        """Whether the report of an activity attempt is lost, so that the attempt times out and may be retried."""
        ...

    def queries_before_task(self) -> bool:
        """Whether a worker replays the workflow for a query just before it takes the scheduled workflow task.

        The SDK's core then delivers the events of the task to the workflow with the time of the previous task.
        """
        ...


class FifoScheduler:
    """Processes events in the order in which they became enabled, without interleaving and without faults."""

    interleaves_tasks = False

    def choose(self, options: Sequence[Event]) -> Event:
        """See `Scheduler.choose`."""
        return options[0]

    def replies_early(self) -> bool:
        """See `Scheduler.replies_early`."""
        return False

    def loses_report(self) -> bool:
        """See `Scheduler.loses_report`."""
        return False

    def queries_before_task(self) -> bool:
        """See `Scheduler.queries_before_task`."""
        return False


class RandomScheduler:
    """Decides at random. The same seed gives the same decisions.

    Args:
        seed: Of the pseudo-random number generator.
        loss_rate: Probability that the report of an activity attempt is lost, from 0 to 1.
        query_rate: Probability that a query precedes a workflow task, where that is possible, from 0 to 1.

    Example:
        for seed in range(1000):
            simulation = Simulation(scheduler=RandomScheduler(seed, loss_rate=0.1))
    """

    interleaves_tasks = True

    def __init__(self, seed: int, *, loss_rate: float = 0.0, query_rate: float = 0.0) -> None:
        self._loss_rate = loss_rate
        self._query_rate = query_rate
        self._random = random.Random(seed)  # noqa: S311 (reproducible, not secret)

    def choose(self, options: Sequence[Event]) -> Event:
        """See `Scheduler.choose`."""
        return options[self._random.randrange(len(options))] if len(options) > 1 else options[0]

    def replies_early(self) -> bool:
        """See `Scheduler.replies_early`."""
        return self._random.random() < _EARLY_REPLY_RATE

    def loses_report(self) -> bool:
        """See `Scheduler.loses_report`."""
        return self._loss_rate > 0 and self._random.random() < self._loss_rate

    def queries_before_task(self) -> bool:
        """See `Scheduler.queries_before_task`."""
        return self._query_rate > 0 and self._random.random() < self._query_rate


# Probability, before each event, that the waiting client gets its response.
_EARLY_REPLY_RATE = 0.3
