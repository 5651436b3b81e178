"""Fuzzing campaigns: many episodes of generated scenarios, in this process or in several.

Which scenarios are played depends on the campaign alone, not on the number of processes.
"""

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

# Seconds between two reports of progress.
_REPORT_INTERVAL = 0.2
# After so many episodes all modules are loaded. What exists then is kept for good, so the collector may skip it.
_WARM_UP_EPISODES = 50


@dataclass(frozen=True)
class Campaign:
    """Which episodes to play.

    Attributes:
        runs: How many.
        first: Number of the first run.
        workflows: Names of workflows that replace the product's; see `load_workflows`.
        samples: Whether to report one successful episode of each outcome.
        keep_going: Whether to continue after a failure.
    """

    runs: int
    seed: int
    first: int = 0
    options: GeneratorOptions = field(default_factory=GeneratorOptions)
    workflows: tuple[str, ...] = ()
    samples: bool = False
    keep_going: bool = False

    def share(self, index: int, jobs: int) -> range:
        """The numbers of the runs that one of several processes plays."""
        return range(self.first + index, self.first + self.runs, jobs)

    def command(self, scenario: Scenario) -> str:
        """The command that reproduces an episode."""
        return scenario.command(ENGINE, workflows=load_workflows(self.workflows), sandboxed=False)


class RunLimit(Protocol):
    """The number of the first run that need not be played any more; shared by all processes."""

    value: int


@dataclass
class _LocalLimit:
    value: int


def run_share(
    campaign: Campaign,
    runs: Iterable[int],
    report: Callable[[Totals], None],
    limit: RunLimit,
    stop: StopFlag | None = None,
) -> None:
    """Play some of the runs of a campaign.

    Args:
        report: Called from time to time, and at the end, with the totals since the last call.
        limit: Lowered to the first failed run, unless the campaign keeps going.
        stop: Ends the share after the episode under way.

    Raises:
        NotSimulated: The workflows use a feature that the simulator does not have.
    """
    runner, stop = EpisodeRunner(load_workflows(campaign.workflows)), stop or StopFlag()
    totals, reported_at, warm_up, outcomes = Totals(), time.monotonic(), _WARM_UP_EPISODES, set[str]()
    try:
        for run in runs:
            if run >= limit.value or stop.is_set:
                break
            scenario = generate_scenario(campaign.seed, run, campaign.options)
            episode = runner.run(scenario, _invoice_prefix(campaign, run), with_timeline=campaign.samples)
            totals.add(episode)
            if episode.failure is not None:
                # Before shrinking, which takes long: the other processes stop at once.
                limit.value = limit.value if campaign.keep_going else min(limit.value, run)
                totals.failures.append(_shrink_failure(campaign, runner, run, scenario, episode, stop=stop))
            elif campaign.samples and episode.outcome not in outcomes:
                outcomes.add(episode.outcome)
                totals.add_sample(EpisodeReport(run, scenario, scenario, episode, campaign.command(scenario)))
            if time.monotonic() - reported_at >= _REPORT_INTERVAL:
                report(totals)
                totals, reported_at = Totals(), time.monotonic()
            warm_up -= 1
            if warm_up == 0:
                gc.collect()
                gc.freeze()
    finally:
        report(totals)
        runner.close()


def _invoice_prefix(campaign: Campaign, run: int) -> str:
    return f"INV-{campaign.seed}-{run}"


def _shrink_failure(
    campaign: Campaign, runner: EpisodeRunner, run: int, generated: Scenario, episode: Episode, *, stop: StopFlag
) -> EpisodeReport:
    """Shrink a failed scenario until `stop` is set. A candidate counts only if it fails by one of the same causes."""
    assert episode.failure is not None
    causes, smallest = set(episode.failure.causes), episode

    def fails(scenario: Scenario) -> bool:
        nonlocal smallest
        if stop.is_set:
            return False
        candidate = runner.run(scenario, _invoice_prefix(campaign, run))
        if candidate.failure is None or not causes & set(candidate.failure.causes):
            return False
        smallest = candidate
        return True

    scenario = shrink(generated, fails)
    return EpisodeReport(run, scenario, generated, smallest, campaign.command(scenario))


def run_campaign(campaign: Campaign, jobs: int, report: Callable[[Totals], None], stop: StopFlag | None = None) -> None:
    """Play all episodes of a campaign.

    Args:
        jobs: Number of processes.
        report: Called from time to time with the totals of the latest episodes.
        stop: Ends the campaign after the episodes under way.

    Raises:
        NotSimulated: The workflows use a feature that the simulator does not have.
        ProcessDiedError: A process ended early.
    """
    stop = stop or StopFlag()
    if jobs == 1:
        run_share(campaign, campaign.share(0, 1), report, _LocalLimit(campaign.first + campaign.runs), stop)
    else:
        _run_in_processes(campaign, jobs, report, stop.share())


def _run_in_processes(campaign: Campaign, jobs: int, report: Callable[[Totals], None], stop: StopFlag) -> None:
    limit = SPAWN.Value("q", campaign.first + campaign.runs)
    # Lazily, as processes start: no further process starts once `stop` is set.
    shares = ((campaign, campaign.share(index, jobs), limit, stop) for index in range(jobs) if not stop.is_set)
    for totals in run_in_processes(_run_share_here, shares):
        report(totals)


def _run_share_here(
    report: Callable[[Totals], None], campaign: Campaign, runs: Iterable[int], limit: RunLimit, stop: StopFlag
) -> None:
    run_share(campaign, runs, report, limit, stop)
