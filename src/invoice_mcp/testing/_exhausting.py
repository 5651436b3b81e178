"""Every order of things in every small life, one plan after another: in this process, or shared between several."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.sharedctypes import Synchronized
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from invoice_mcp.testing._exhaustive import Life
from invoice_mcp.testing._naming import workflows_named
from invoice_mcp.testing._plans import Plan, plans
from invoice_mcp.testing._processes import SPAWN, heard_from
from invoice_mcp.testing.simulator import Branches, Explored, RecallingRunner, explore, timeline

# Seconds between two reports of how far it is.
_TELLS_EVERY = 0.2


@dataclass(frozen=True)
class Result:
    """What exploring one plan has come to.

    Attributes:
        plan: In words.
        lives, states: How many were lived, and in how many different states they were.
        seconds: It took.
        wrong: What is wrong with a life; "" if nothing is.
        story: All that happened in that life, a line each.
    """

    plan: str
    lives: int
    states: int
    seconds: float
    wrong: str = ""
    story: tuple[str, ...] = ()


def explore_plan(plan: Plan, workflows: Sequence[str] = (), told: Callable[[Explored], None] | None = None) -> Result:
    """Live every life of a plan, to the first with which something is wrong.

    Args:
        workflows: Names of workflows that stand in for the product's, as for `workflows_named`.
    """
    chosen, found, began = workflows_named(workflows), Explored(), time.monotonic()
    last: list[Life] = []
    runner = RecallingRunner()

    async def live(branches: Branches) -> None:
        last[:] = [Life(plan, chosen, runner)]
        await last[0].live(branches)

    wrong = ""
    try:
        with _quiet():
            asyncio.run(explore(live, told=told, found=found))
    except AssertionError as error:
        wrong = "\n".join([str(error), *getattr(error, "__notes__", ())])
    moments = timeline(last[0].simulation) if wrong else []
    story = tuple(f"{moment.at:%Y-%m-%d %H:%M:%S}  {moment.who:16} {moment.what}" for moment in moments)
    return Result(str(plan), found.lives, found.states, time.monotonic() - began, wrong, story)


@contextmanager
def _quiet() -> Iterator[None]:
    """What is refused, and what fails, is so on purpose, and no news."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def explore_plans(
    every: Sequence[Plan], jobs: int, workflows: Sequence[str], tell: Callable[[int, int], None]
) -> Iterator[Result]:
    """Explore plans, each in one process, and tell each when it is done.

    Args:
        tell: Is told from time to time how many lives have been lived and how many states seen, since the last time.
    """
    if jobs == 1:
        yield from (explore_plan(plan, workflows, _news(tell)) for plan in every)
        return
    following = SPAWN.Value("q", 0)
    for heard in heard_from(_explore_there, [(every, workflows, following)] * min(jobs, len(every))):
        if isinstance(heard, Result):
            yield heard
        else:
            tell(*heard)


def _explore_there(
    tell: Callable[[Any], None], every: Sequence[Plan], workflows: Sequence[str], following: Synchronized[int]
) -> None:
    """Explore one plan after another, of those that nobody has begun."""
    while True:
        with following.get_lock():
            number, following.value = following.value, following.value + 1
        if number >= len(every):
            return
        tell(explore_plan(every[number], workflows, _news(lambda lives, states: tell((lives, states)))))


def _news(tell: Callable[[int, int], None]) -> Callable[[Explored], None]:
    """Tells what is new of an exploration, not too often."""
    lives, states, told_at = 0, 0, time.monotonic()

    def told(found: Explored) -> None:
        nonlocal lives, states, told_at
        if time.monotonic() - told_at >= _TELLS_EVERY:
            tell(found.lives - lives, found.states - states)
            lives, states, told_at = found.lives, found.states, time.monotonic()

    return told


@dataclass
class Exhausting:
    """An exploration of every small life, and what it has come to.

    Attributes:
        events: How much may be done to an invoice.
        lines: How many lines it has, at most; 1 or 2.
        results: Of each plan that was explored.
    """

    events: int
    lines: int
    jobs: int
    workflows: tuple[str, ...]
    keeps_going: bool

    def __post_init__(self) -> None:
        self.results: list[Result] = []
        self.is_interrupted = False
        self.seconds = 0.0

    def run(self) -> None:
        """Explore, with a bar on stderr if that is a terminal, to the end or to the first failure."""
        every, began = list(plans(self.events, self.lines)), time.monotonic()
        console = Console(stderr=True)
        try:
            with Progress(console=console, transient=True, disable=not console.is_terminal) as shown:
                task = shown.add_task("exploring", total=len(every))
                so_far = Explored()

                def tell(lives: int, states: int) -> None:
                    so_far.lives += lives
                    so_far.states += states
                    shown.update(task, description=f"{so_far.states:,} states, {so_far.lives:,} lives")

                for result in explore_plans(every, self.jobs, self.workflows, tell):
                    self.results.append(result)
                    shown.advance(task)
                    if result.wrong and not self.keeps_going:
                        break
        except KeyboardInterrupt:
            self.is_interrupted = True
        self.seconds = time.monotonic() - began

    @property
    def states(self) -> int:
        """How many different states were visited, counted plan by plan."""
        return sum(result.states for result in self.results)

    @property
    def lives(self) -> int:
        """How many lives were lived to see them."""
        return sum(result.lives for result in self.results)

    @property
    def failures(self) -> list[Result]:
        """What is wrong."""
        return [result for result in self.results if result.wrong]

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        told = {"exhaustive": self.events, "plans": len(self.results), "lives": self.lives, "states": self.states}
        return {**told, "seconds": round(self.seconds, 3), "failures": [asdict(each) for each in self.failures]}

    def print(self) -> None:
        """For people."""
        console = Console()
        table = Table(title=f"Every order of things: {len(self.results)} plans, {self.states:,} states visited")
        for column in ("what may happen", "lives", "states", "seconds", ""):
            table.add_column(column, justify="left" if column in {"what may happen", ""} else "right")
        for each in self.results:
            verdict = "[red]broken[/]" if each.wrong else "kept"
            table.add_row(each.plan, f"{each.lives:,}", f"{each.states:,}", f"{each.seconds:.1f}", verdict)
        console.print(table)
        for each in self.failures:
            console.print(f"\n{each.plan}\n{each.wrong}\n", markup=False, highlight=False)
            console.print("\n".join(each.story), markup=False, highlight=False, soft_wrap=True)
        if self.is_interrupted:
            console.print("Interrupted: the totals so far.")
