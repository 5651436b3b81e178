"""One life of an exploration: its name, by which anybody can live it again, and what was seen in it."""

from __future__ import annotations

import asyncio
import logging
import re
import shlex
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from invoice_mcp.testing.simulate.explore.execution import ControlledExecution
from invoice_mcp.testing.simulate.explore.plan import EVENTS, ONE_OF, Plan
from invoice_mcp.testing.simulate.fuzz.episode import Failure, in_order, verdict
from invoice_mcp.testing.simulate.process.loading import load_workflows
from temporal_simulator import ChoiceSequence, NotSimulated, TimelineEntry

T = TypeVar("T")

_NOTHING = "nothing"
_NAME = re.compile(r"([^/]+)/([^/]+)/([0-9]+(?:\.[0-9]+)*)")
_WRITTEN = "LINES/EVENT,.../BRANCH.BRANCH..."


class UnknownScheduleError(ValueError):
    """A name of no life, or of none that these workflows have."""


@dataclass(frozen=True)
class ScheduleId:
    """Which life of which plan."""

    plan: Plan
    path: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.plan != Plan(self.plan.lines, self.plan.events):
            raise ValueError("Only what is in plans with every fault and with a crash has a name")

    def __str__(self) -> str:
        """Its name. Further on a life takes the first branch anyhow."""
        last = max((number for number, branch in enumerate(self.path, 1) if branch), default=1)
        branches = ".".join(map(str, self.path[:last] or (0,)))
        return f"{self.plan.lines}/{','.join(self.plan.events) or _NOTHING}/{branches}"

    @classmethod
    def named(cls, name: str) -> Self:
        """What has this name.

        Raises:
            UnknownScheduleError: Nothing has.
        """
        parts = _NAME.fullmatch(name)
        if parts is None:
            raise UnknownScheduleError(f"{name!r} is not written {_WRITTEN}")
        lines, events, branches = parts.groups()
        chosen = () if events == _NOTHING else tuple(events.split(","))
        path = tuple(map(int, branches.split(".")))
        if lines not in {"1", "2"} or {*chosen} - {*EVENTS, *ONE_OF}:
            events = ", ".join((*EVENTS, *ONE_OF))
            raise UnknownScheduleError(f"{name!r}: LINES is 1 or 2, an EVENT one of {events}, a BRANCH at least 0")
        return cls(Plan(int(lines), chosen), path)

    def command(self, workflows: Sequence[str] = ()) -> str:
        """The one command that lives it again and tells it."""
        words = ["invoice-mcp", "simulate", f"--path={self}", *(f"--workflow={name}" for name in workflows)]
        return shlex.join(words)


class _Along(ChoiceSequence):
    """One path, which has to be there."""

    def __init__(self, path: tuple[int, ...]) -> None:
        super().__init__(path, set(), [])
        self._asked = path

    def choose(self, options: Sequence[T], state: Callable[[], Hashable]) -> T:
        fork = len(self.path)
        if fork < len(self._asked) and self._asked[fork] >= len(options):
            raise UnknownScheduleError(
                f"there are {len(options)} branches at fork {fork + 1}, so none {self._asked[fork]}"
            )
        return super().choose(options, state)


@dataclass(frozen=True)
class ReplayedExecution:
    """A life that was lived.

    Attributes:
        way: Which life it is.
        command: Lives it again.
        broken: What is wrong with it, if anything is.
        story: All that happened in it.
    """

    way: ScheduleId
    command: str
    broken: Failure | None
    story: tuple[TimelineEntry, ...]

    def as_data(self) -> dict[str, Any]:
        """It as JSON would have it."""
        return {
            "plan": str(self.way.plan),
            "path": str(self.way),
            "by": list(self.broken.by) if self.broken else [],
            "seen": self.broken.seen if self.broken else "",
            "command": self.command,
            "timeline": [{"at": each.at.isoformat(), "who": each.who, "what": each.what} for each in self.story],
        }


def lived(
    way: ScheduleId, life: ControlledExecution | None, workflows: Sequence[str], error: Exception | None = None
) -> ReplayedExecution:
    """What is to be told of a life; None if it could not even begin.

    Args:
        error: What ended it.

    Raises:
        NotSimulated: It wants what the simulator does not know.
    """
    # To whoever asks, the server only says INTERNAL.
    unknown = error if life is None else life.simulation.error or error
    if isinstance(unknown, NotSimulated):
        raise unknown
    story = () if life is None else in_order(life.simulation, life.moments, life.payments.made)
    return ReplayedExecution(way, way.command(workflows), None if error is None else verdict(error), story)


def replay_path(way: ScheduleId, workflows: Sequence[str] = ()) -> ReplayedExecution:
    """Live one life again.

    Raises:
        UnknownScheduleError: These workflows have no such life.
        NotSimulated: They want what the simulator does not know.
    """
    chosen = load_workflows(workflows)
    lives: list[ControlledExecution] = []

    async def live() -> None:
        lives.append(ControlledExecution(way.plan, chosen))
        branches = _Along(way.path)
        await lives[0].live(branches)
        if len(branches.path) < len(way.path):
            raise UnknownScheduleError(f"it ends after {len(branches.path)} forks")

    wrong: Exception | None = None
    try:
        with suppress_logging():
            asyncio.run(live())
    except UnknownScheduleError as missing:
        raise UnknownScheduleError(f"These workflows have no life {way}: {missing}") from None
    except Exception as error:  # noqa: BLE001 (whatever it is, it is told)
        wrong = error
    return lived(way, lives[0] if lives else None, workflows, wrong)


@contextmanager
def suppress_logging() -> Iterator[None]:
    """What is refused, and what fails, is so on purpose, and no news."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
