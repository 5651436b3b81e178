"""Many lives drawn by chance: in this process, or shared between several. The same ones, whoever lives them."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Protocol

from invoice_mcp.testing._drawing import Odds, draw
from invoice_mcp.testing._lives import ENGINE, Life, Lives
from invoice_mcp.testing._naming import workflows_named
from invoice_mcp.testing._scenario import Scenario
from invoice_mcp.testing._shrinking import shrink
from invoice_mcp.testing._totals import Told, Totals

# Seconds between two reports of how far it is.
_TELLS_EVERY = 0.2
# After so many lives all modules are loaded, and what they made stays for good.
_WARM = 50
_ENDS_WITHIN = 5.0


class ProcessDied(Exception):  # noqa: N818 (it names what happened)
    """A process ended before its share of the lives was lived."""


@dataclass(frozen=True)
class Plan:
    """What is to be lived.

    Attributes:
        first: Number of the first run.
        workflows: Names of workflows that stand in for the product's, as for `workflows_named`.
        samples: How many stories of lives with nothing wrong to tell of each outcome: none, or one.
        keeps_going: Whether to go on after a failure.
    """

    runs: int
    seed: int
    first: int = 0
    odds: Odds = field(default_factory=Odds)
    workflows: tuple[str, ...] = ()
    samples: bool = False
    keeps_going: bool = False

    def check(self) -> None:
        """See whether the workflows can be loaded, before anything is begun.

        Raises:
            NotFound: They can't.
        """
        workflows_named(self.workflows)

    def share(self, which: int, jobs: int) -> range:
        """The numbers of the runs that one of several processes lives."""
        return range(self.first + which, self.first + self.runs, jobs)

    def command(self, scenario: Scenario) -> str:
        """Plays a scenario again."""
        return scenario.command(ENGINE, workflows=workflows_named(self.workflows), sandboxed=False)


class Limit(Protocol):
    """The first run that need not be lived any more."""

    value: int


@dataclass
class _Never:
    value: int


def live_share(plan: Plan, runs: Iterable[int], tell: Callable[[Totals], None], limit: Limit) -> None:
    """Live some of the runs, one after another, and tell from time to time what they came to since the last time.

    Raises:
        NotSimulated: The workflows want what the simulator does not know.
    """
    lives = Lives(workflows_named(plan.workflows))
    totals, told_at, warm, seen = Totals(), time.monotonic(), _WARM, set[str]()
    try:
        for run in runs:
            if run >= limit.value:
                break
            scenario = draw(plan.seed, run, plan.odds)
            life = lives.live(scenario, _name(plan, run), tells=plan.samples)
            totals.add(life)
            if life.broken is not None:
                # First: the other processes need not wait for the shrinking.
                limit.value = limit.value if plan.keeps_going else min(limit.value, run)
                totals.failures.append(_shrunk(plan, lives, run, scenario, life))
            elif plan.samples and life.outcome not in seen:
                seen.add(life.outcome)
                totals.sample(Told(run, scenario, scenario, life, plan.command(scenario)))
            if time.monotonic() - told_at >= _TELLS_EVERY:
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


def _shrunk(plan: Plan, lives: Lives, run: int, drawn: Scenario, life: Life) -> Told:
    """The failure of a run, made small: what fails otherwise is another failure."""
    assert life.broken is not None  # noqa: S101 (else there is nothing to shrink)
    by, latest = set(life.broken.by), life

    def fails(scenario: Scenario) -> bool:
        nonlocal latest
        again = lives.live(scenario, _name(plan, run))
        if again.broken is None or not by & set(again.broken.by):
            return False
        latest = again
        return True

    scenario = shrink(drawn, fails)
    return Told(run, scenario, drawn, latest, plan.command(scenario))


# -- in this process, or in several ----------------------------------------------------------------------------


def simulate(plan: Plan, jobs: int, tell: Callable[[Totals], None]) -> None:
    """Live all of it.

    Args:
        jobs: In so many processes.
        tell: Is told again and again what the latest lives came to.

    Raises:
        NotSimulated: The workflows want what the simulator does not know.
        ProcessDied: As its name says.
    """
    if jobs == 1:
        live_share(plan, plan.share(0, 1), tell, _Never(plan.first + plan.runs))
    else:
        _in_processes(plan, jobs, tell)


def _in_processes(plan: Plan, jobs: int, tell: Callable[[Totals], None]) -> None:
    context = multiprocessing.get_context("spawn")
    limit = context.Value("q", plan.first + plan.runs)
    ears, processes = [], []
    try:
        for which in range(jobs):
            ear, mouth = context.Pipe(duplex=False)
            process = context.Process(target=_job, args=(plan, plan.share(which, jobs), mouth, limit), daemon=True)
            process.start()
            # Else nobody would notice that the process has ended.
            mouth.close()
            ears.append(ear)
            processes.append(process)
        _listen(ears, tell)
        for process in processes:
            process.join(_ENDS_WITHIN)
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
                process.join(_ENDS_WITHIN)


def _listen(ears: list[Connection], tell: Callable[[Totals], None]) -> None:
    while ears:
        for ear in wait(ears):
            assert isinstance(ear, Connection)  # noqa: S101 (nothing else is waited for)
            try:
                heard = ear.recv()
            except EOFError:
                raise ProcessDied(
                    "One of the processes died before its share was lived; is there enough memory?"
                ) from None
            if heard is None:
                ears.remove(ear)
            elif isinstance(heard, Exception):
                raise heard
            else:
                tell(heard)


def _job(plan: Plan, runs: Iterable[int], mouth: Connection, limit: Limit) -> None:
    """The whole life of a process. Ctrl-C is its parent's to answer, who ends it then."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What scenarios do on purpose is no news, and what breaks is told at the end.
    logging.disable(logging.ERROR)
    with suppress(BrokenPipeError):
        try:
            live_share(plan, runs, mouth.send, limit)
            mouth.send(None)
        except BrokenPipeError:
            raise
        except Exception as error:  # noqa: BLE001 (whatever it is, it is the parent's to tell)
            mouth.send(error)
