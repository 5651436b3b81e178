"""Many lives drawn by chance: in this process, or shared between several. The same ones, whoever lives them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from invoice_mcp.testing.model.scenario import Scenario
from invoice_mcp.testing.simulate.fuzz.episode import ENGINE, Episode, EpisodeRunner
from invoice_mcp.testing.simulate.fuzz.generator import GeneratorOptions, generate_scenario
from invoice_mcp.testing.simulate.fuzz.shrinker import shrink
from invoice_mcp.testing.simulate.fuzz.statistics import EpisodeReport, Totals
from invoice_mcp.testing.simulate.process.interrupt import StopFlag
from invoice_mcp.testing.simulate.process.loading import load_workflows
from invoice_mcp.testing.simulate.process.pool import SPAWN, run_in_processes

# Seconds between two reports of how far it is.
_REPORT_INTERVAL = 0.2
# After so many lives all modules are loaded, and what they made stays for good.
_WARM = 50


@dataclass(frozen=True)
class Plan:
    """What is to be lived.

    Attributes:
        first: Number of the first run.
        workflows: Names of workflows that stand in for the product's, as for `load_workflows`.
        samples: How many stories of lives with nothing wrong to tell of each outcome: none, or one.
        keeps_going: Whether to go on after a failure.
    """

    runs: int
    seed: int
    first: int = 0
    options: GeneratorOptions = field(default_factory=GeneratorOptions)
    workflows: tuple[str, ...] = ()
    samples: bool = False
    keeps_going: bool = False

    def check(self) -> None:
        """See whether the workflows can be loaded, before anything is begun.

        Raises:
            NotFound: They can't.
        """
        load_workflows(self.workflows)

    def share(self, which: int, jobs: int) -> range:
        """The numbers of the runs that one of several processes lives."""
        return range(self.first + which, self.first + self.runs, jobs)

    def command(self, scenario: Scenario) -> str:
        """Plays a scenario again."""
        return scenario.command(ENGINE, workflows=load_workflows(self.workflows), sandboxed=False)


class Limit(Protocol):
    """The first run that need not be lived any more."""

    value: int


@dataclass
class _Never:
    value: int


def run_share(
    plan: Plan, runs: Iterable[int], tell: Callable[[Totals], None], limit: Limit, stop: StopFlag | None = None
) -> None:
    """Live some of the runs, one after another, and tell from time to time what they came to since the last time.

    Args:
        stop: Is looked at after each life.

    Raises:
        NotSimulated: The workflows want what the simulator does not know.
    """
    lives, stop = EpisodeRunner(load_workflows(plan.workflows)), stop or StopFlag()
    totals, told_at, warm, seen = Totals(), time.monotonic(), _WARM, set[str]()
    try:
        for run in runs:
            if run >= limit.value or stop.is_set:
                break
            scenario = generate_scenario(plan.seed, run, plan.options)
            life = lives.live(scenario, _name(plan, run), tells=plan.samples)
            totals.add(life)
            if life.broken is not None:
                # First: the other processes need not wait for the shrinking.
                limit.value = limit.value if plan.keeps_going else min(limit.value, run)
                totals.failures.append(_shrunk(plan, lives, run, scenario, life, stop=stop))
            elif plan.samples and life.outcome not in seen:
                seen.add(life.outcome)
                totals.sample(EpisodeReport(run, scenario, scenario, life, plan.command(scenario)))
            if time.monotonic() - told_at >= _REPORT_INTERVAL:
                tell(totals)
                totals, told_at = Totals(), time.monotonic()
            warm -= 1
            if warm == 0:
                gc.collect()
                gc.freeze()
    finally:
        tell(totals)
        lives.close()


def _name(plan: Plan, run: int) -> str:
    return f"INV-{plan.seed}-{run}"


def _shrunk(
    plan: Plan, lives: EpisodeRunner, run: int, drawn: Scenario, life: Episode, *, stop: StopFlag
) -> EpisodeReport:
    """The failure of a run, made small, as far as there is time: what fails otherwise is another failure."""
    assert life.broken is not None  # noqa: S101 (else there is nothing to shrink)
    by, latest = set(life.broken.by), life

    def fails(scenario: Scenario) -> bool:
        nonlocal latest
        if stop.is_set:
            return False
        again = lives.live(scenario, _name(plan, run))
        if again.broken is None or not by & set(again.broken.by):
            return False
        latest = again
        return True

    scenario = shrink(drawn, fails)
    return EpisodeReport(run, scenario, drawn, latest, plan.command(scenario))


# -- in this process, or in several ----------------------------------------------------------------------------


def simulate(plan: Plan, jobs: int, tell: Callable[[Totals], None], stop: StopFlag | None = None) -> None:
    """Live all of it.

    Args:
        jobs: In so many processes.
        tell: Is told again and again what the latest lives came to.
        stop: Ends it after the lives under way.

    Raises:
        NotSimulated: The workflows want what the simulator does not know.
        ProcessDiedError: As its name says.
    """
    stop = stop or StopFlag()
    if jobs == 1:
        run_share(plan, plan.share(0, 1), tell, _Never(plan.first + plan.runs), stop)
    else:
        _in_processes(plan, jobs, tell, stop.shared())


def _in_processes(plan: Plan, jobs: int, tell: Callable[[Totals], None], stop: StopFlag) -> None:
    limit = SPAWN.Value("q", plan.first + plan.runs)
    # One after another, as processes begin: none does any more once somebody has asked for an end.
    shares = ((plan, plan.share(which, jobs), limit, stop) for which in range(jobs) if not stop.is_set)
    for totals in run_in_processes(_live_there, shares):
        tell(totals)


def _live_there(tell: Callable[[Totals], None], plan: Plan, runs: Iterable[int], limit: Limit, stop: StopFlag) -> None:
    run_share(plan, runs, tell, limit, stop)
