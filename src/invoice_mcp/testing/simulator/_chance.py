"""Who decides which of the things that could happen next does happen."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

from invoice_mcp.testing.simulator._agenda import Step


class Chooser(Protocol):
    """Decides, given everything that could happen now (at least one thing), in the order in which it became possible.

    Attributes:
        splits_tasks: Whether other things may happen while a worker is busy with a workflow task, or between the end
            of an activity and its report. False: both end at once.
    """

    splits_tasks: bool

    def choose(self, options: Sequence[Step]) -> Step:
        """One of the options."""
        ...

    def pauses(self) -> bool:
        """Whether a client is answered now, before all that could happen has."""
        ...


class InOrder:
    """What could happen first happens first; nothing comes in between."""

    splits_tasks = False

    def choose(self, options: Sequence[Step]) -> Step:
        """See `Chooser.choose`."""
        return options[0]

    def pauses(self) -> bool:
        """See `Chooser.pauses`."""
        return False


class Seeded:
    """Chance, the same for the same seed."""

    splits_tasks = True

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 (to be repeated, not to be secret)

    def choose(self, options: Sequence[Step]) -> Step:
        """See `Chooser.choose`."""
        return options[self._random.randrange(len(options))] if len(options) > 1 else options[0]

    def pauses(self) -> bool:
        """See `Chooser.pauses`."""
        return self._random.random() < _PAUSES


# How often, at each step, a client is answered before the next one.
_PAUSES = 0.3
