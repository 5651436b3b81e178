"""Every order of things in every small life, one plan after another: in this process, or shared between several."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from typing import Any

from invoice_mcp.testing.simulate.explore.execution import ControlledExecution
from invoice_mcp.testing.simulate.explore.plan import Plan
from invoice_mcp.testing.simulate.explore.replay import ReplayedExecution, ScheduleId, lived, suppress_logging
from invoice_mcp.testing.simulate.process.interrupt import StopFlag
from invoice_mcp.testing.simulate.process.loading import load_workflows
from invoice_mcp.testing.simulate.process.pool import SPAWN, run_in_processes
from temporal_simulator import ChoiceSequence, ExplorationStats, MemoizingRunner, explore

# Seconds between two reports of how far it is.
_REPORT_INTERVAL = 0.2


@dataclass(frozen=True)
class Result:
    """What exploring one plan has come to.

    Attributes:
        plan: In words.
        lives, states: How many were lived, and in how many different states they were.
        seconds: It took.
        failure: The first life with which something is wrong, if there is one.
        is_whole: Whether nobody asked for an end before all was explored, or something was wrong.
    """

    plan: str
    lives: int
    states: int
    seconds: float
    failure: ReplayedExecution | None = None
    is_whole: bool = True


class _Stopped(Exception):  # noqa: N818 (it names what happened)
    """Somebody asked for an end."""


def explore_plan(
    plan: Plan,
    workflows: Sequence[str] = (),
    told: Callable[[ExplorationStats], None] | None = None,
    stop: StopFlag | None = None,
) -> Result:
    """Live every life of a plan, to the first with which something is wrong.

    Args:
        workflows: Names of workflows that stand in for the product's, as for `load_workflows`.
        told: Is called after each life, and at the end.
        stop: Is looked at before each life.

    Raises:
        NotSimulated: The workflows want what the simulator does not know.
    """
    chosen, found, began = load_workflows(workflows), ExplorationStats(), time.monotonic()
    runner, ends, stop = MemoizingRunner(), set[Hashable](), stop or StopFlag()
    last: list[tuple[ChoiceSequence, ControlledExecution | None]] = []

    async def live(branches: ChoiceSequence) -> None:
        if stop.is_set:
            # Nobody has lived it.
            branches.is_pruned = True
            raise _Stopped
        last[:] = [(branches, None)]
        life = ControlledExecution(plan, chosen, runner, ends)
        last[:] = [(branches, life)]
        await life.live(branches)

    failure, is_whole = None, True
    try:
        with suppress_logging():
            asyncio.run(explore(live, on_execution=told, stats=found))
    except _Stopped:
        is_whole = False
    except Exception as error:  # noqa: BLE001 (whatever it is, it is told)
        [(branches, life)] = last
        failure = lived(ScheduleId(plan, tuple(branches.path)), life, workflows, error)
    if told is not None:
        told(found)
    return Result(str(plan), found.executions, found.states, time.monotonic() - began, failure, is_whole)


def explore_plans(
    every: Sequence[Plan],
    jobs: int,
    workflows: Sequence[str],
    tell: Callable[[int, int], None],
    stop: StopFlag | None = None,
) -> Iterator[Result]:
    """Explore plans, each in one process, and tell each when it is done.

    Args:
        tell: Is told from time to time how many lives have been lived and how many states seen, since the last time.
        stop: Ends it after the lives under way.
    """
    stop = stop or StopFlag()
    if jobs == 1:
        yield from _explored(iter(every), workflows, tell, stop)
        return
    following = SPAWN.Value("q", 0)
    share = every, workflows, following, stop.shared()
    for heard in run_in_processes(_explore_there, (share for _ in range(min(jobs, len(every))) if not stop.is_set)):
        if isinstance(heard, Result):
            yield heard
        else:
            tell(*heard)


def _explored(
    some: Iterator[Plan], workflows: Sequence[str], tell: Callable[[int, int], None], stop: StopFlag
) -> Iterator[Result]:
    while not stop.is_set and (plan := next(some, None)) is not None:
        news = _News(tell)
        result = explore_plan(plan, workflows, news.told, stop)
        news.flush()
        yield result


def _explore_there(
    tell: Callable[[Any], None],
    every: Sequence[Plan],
    workflows: Sequence[str],
    following: Synchronized[int],
    stop: StopFlag,
) -> None:
    """Explore one plan after another, of those that nobody has begun."""

    def not_begun() -> Iterator[Plan]:
        while True:
            with following.get_lock():
                number, following.value = following.value, following.value + 1
            if number >= len(every):
                return
            yield every[number]

    for result in _explored(not_begun(), workflows, lambda lives, states: tell((lives, states)), stop):
        tell(result)


class _News:
    """Tells what is new of an exploration, not too often, and at the end all that is left."""

    def __init__(self, tell: Callable[[int, int], None]) -> None:
        self._tell = tell
        self._known = ExplorationStats()
        self._lives, self._states, self._told_at = 0, 0, time.monotonic()

    def told(self, found: ExplorationStats) -> None:
        """It has come so far."""
        self._known = found
        if time.monotonic() - self._told_at >= _REPORT_INTERVAL:
            self.flush()

    def flush(self) -> None:
        """Tell what is left to tell."""
        found = self._known
        if (found.executions, found.states) != (self._lives, self._states):
            self._tell(found.executions - self._lives, found.states - self._states)
        self._lives, self._states, self._told_at = found.executions, found.states, time.monotonic()
