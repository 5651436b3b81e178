"""Explores every schedule of every plan, one plan after another, in this process or in several."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from typing import Any

from invoice_mcp.testing.simulate.explore.execution import ControlledExecution
from invoice_mcp.testing.simulate.explore.plan import Plan
from invoice_mcp.testing.simulate.explore.replay import ReplayedExecution, ScheduleId, describe_execution
from invoice_mcp.testing.simulate.process.interrupt import StopFlag
from invoice_mcp.testing.simulate.process.loading import load_workflows
from invoice_mcp.testing.simulate.process.pool import SPAWN, run_in_processes
from invoice_mcp.testing.simulate.process.quiet import suppress_logging
from temporal_simulator import ChoiceSequence, ExplorationStats, MemoizingRunner, explore

# Seconds between two reports of progress.
_REPORT_INTERVAL = 0.2

Progress = Callable[[int, int], None]
"""Called from time to time with the numbers of executions and of states since the last call."""


@dataclass(frozen=True)
class PlanResult:
    """The result of exploring one plan.

    Attributes:
        plan: Its description.
        executions: How many were run.
        states: How many different states they reached.
        seconds: Real time.
        failure: The first failed execution, if any.
        is_complete: Whether the exploration ran to its end or to a failure; False if it was interrupted.
    """

    plan: str
    executions: int
    states: int
    seconds: float
    failure: ReplayedExecution | None = None
    is_complete: bool = True


class _InterruptedError(Exception):
    """The stop flag was set."""


def explore_plan(
    plan: Plan,
    workflows: Sequence[str] = (),
    report: Callable[[ExplorationStats], None] | None = None,
    stop: StopFlag | None = None,
) -> PlanResult:
    """Explore every schedule of a plan, or up to the first failure.

    Args:
        workflows: Names of workflows that replace the product's; see `load_workflows`.
        report: Called after each execution, and at the end.
        stop: Checked before each execution.

    Raises:
        NotSimulated: The workflows use a feature that the simulator does not have.
    """
    loaded, found, began = load_workflows(workflows), ExplorationStats(), time.monotonic()
    runner, checked_ends, stop = MemoizingRunner(), set[Hashable](), stop or StopFlag()
    last: list[tuple[ChoiceSequence, ControlledExecution | None]] = []

    async def run(choices: ChoiceSequence) -> None:
        if stop.is_set:
            # Keeps the execution out of the count.
            choices.is_pruned = True
            raise _InterruptedError
        last[:] = [(choices, None)]
        execution = ControlledExecution(plan, loaded, runner, checked_ends)
        last[:] = [(choices, execution)]
        await execution.run(choices)

    failure, is_complete = None, True
    try:
        with suppress_logging():
            asyncio.run(explore(run, on_execution=report, stats=found))
    except _InterruptedError:
        is_complete = False
    except Exception as error:  # noqa: BLE001 (any error is the execution's failure)
        [(choices, execution)] = last
        failure = describe_execution(ScheduleId(plan, tuple(choices.path)), execution, workflows, error)
    if report is not None:
        report(found)
    return PlanResult(str(plan), found.executions, found.states, time.monotonic() - began, failure, is_complete)


def explore_plans(
    every: Sequence[Plan],
    jobs: int,
    workflows: Sequence[str],
    report: Progress,
    stop: StopFlag | None = None,
) -> Iterator[PlanResult]:
    """Explore plans, each in one process, and yield the result of each as it is complete.

    Args:
        report: Called with the progress of all processes.
        stop: Ends the exploration after the executions under way.
    """
    stop = stop or StopFlag()
    if jobs == 1:
        yield from _explore_each(iter(every), workflows, report, stop)
        return
    next_plan = SPAWN.Value("q", 0)
    share = every, workflows, next_plan, stop.share()
    shares = (share for _ in range(min(jobs, len(every))) if not stop.is_set)
    for received in run_in_processes(_explore_unclaimed, shares):
        if isinstance(received, PlanResult):
            yield received
        else:
            report(*received)


def _explore_each(
    some: Iterator[Plan], workflows: Sequence[str], report: Progress, stop: StopFlag
) -> Iterator[PlanResult]:
    while not stop.is_set and (plan := next(some, None)) is not None:
        throttle = _Throttle(report)
        result = explore_plan(plan, workflows, throttle.update, stop)
        throttle.flush()
        yield result


def _explore_unclaimed(
    send: Callable[[Any], None],
    every: Sequence[Plan],
    workflows: Sequence[str],
    next_plan: Synchronized[int],
    stop: StopFlag,
) -> None:
    """Explore plans that no other process has claimed, one after another."""

    def unclaimed() -> Iterator[Plan]:
        while True:
            with next_plan.get_lock():
                number, next_plan.value = next_plan.value, next_plan.value + 1
            if number >= len(every):
                return
            yield every[number]

    for result in _explore_each(unclaimed(), workflows, lambda executions, states: send((executions, states)), stop):
        send(result)


class _Throttle:
    """Turns running totals into differences, and reports these at most every `_REPORT_INTERVAL`."""

    def __init__(self, report: Progress) -> None:
        self._report = report
        self._latest = ExplorationStats()
        self._executions, self._states, self._reported_at = 0, 0, time.monotonic()

    def update(self, found: ExplorationStats) -> None:
        """Take the totals so far."""
        self._latest = found
        if time.monotonic() - self._reported_at >= _REPORT_INTERVAL:
            self.flush()

    def flush(self) -> None:
        """Report what has not been reported."""
        found = self._latest
        if (found.executions, found.states) != (self._executions, self._states):
            self._report(found.executions - self._executions, found.states - self._states)
        self._executions, self._states, self._reported_at = found.executions, found.states, time.monotonic()
