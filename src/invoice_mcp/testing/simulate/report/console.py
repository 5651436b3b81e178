"""Tells people and machines of simulated lives: while they are lived, and at the end."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from invoice_mcp.output import pipe_tolerant
from invoice_mcp.testing.checker.violations import RULES
from invoice_mcp.testing.simulate.fuzz.campaign import Plan
from invoice_mcp.testing.simulate.fuzz.episode import Failure
from invoice_mcp.testing.simulate.fuzz.statistics import EpisodeReport, Totals, format_elapsed
from invoice_mcp.testing.simulate.report.html import page
from temporal_simulator import TimelineEntry


@contextmanager
def bar(*columns: ProgressColumn) -> Iterator[Progress]:
    """A progress bar on stderr, if that is a terminal."""
    console = Console(file=pipe_tolerant(sys.stderr))
    shown = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    if not console.is_terminal:
        # Ended, it would print an empty line.
        yield shown
        return
    with shown:
        yield shown


class Reporter:
    """Collects what lives come to, and tells it.

    Attributes:
        totals: So far.
        is_interrupted: Whether somebody ended it early.
    """

    def __init__(self, plan: Plan, jobs: int) -> None:
        self._plan = plan
        self._jobs = jobs
        self._began = time.perf_counter()
        self._seconds = 0.0
        self._show: Callable[[], None] = lambda: None
        self.totals = Totals()
        self.is_interrupted = False

    def tell(self, latest: Totals) -> None:
        """Some more lives have been lived."""
        self.totals.take(latest)
        self._seconds = time.perf_counter() - self._began
        self._show()

    @property
    def _rate(self) -> float:
        return self.totals.runs / self._seconds if self._seconds else 0.0

    # -- while it runs -------------------------------------------------------------------------------------

    @contextmanager
    def progress(self) -> Iterator[None]:
        """Show on stderr, if that is a terminal, how far it is; the clock runs from here on."""
        columns = (
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
        )
        self._began = time.perf_counter()
        with bar(*columns) as shown:
            task = shown.add_task("starting", total=self._plan.runs)
            self._show = lambda: shown.update(task, completed=self.totals.runs, description=self._in_a_line())
            try:
                yield
            finally:
                self._show = lambda: None

    def _in_a_line(self) -> str:
        totals = self.totals
        outcomes = ", ".join(f"{name} {times:,}" for name, times in totals.outcomes.most_common())
        told = (
            f"{self._rate:,.0f}/s, {totals.virtual_days:,.0f} days lived, {totals.faults.total():,} faults; {outcomes}"
        )
        return f"{told}; [red]{len(totals.failures)} failed[/]" if totals.failures else told

    # -- at the end ----------------------------------------------------------------------------------------

    def as_text(self) -> str:
        """The failures, and a table, for people."""
        return render(*map(_failure, self.totals.failures), self._table())

    def _table(self) -> Table:
        table = Table(title=self._title(), show_header=False, title_justify="left")
        table.add_column()
        table.add_column(justify="right")
        for name, value in self._facts().items():
            table.add_row(name, value)
        for title, counted in (("ended", self.totals.outcomes), ("fault met:", self.totals.faults)):
            table.add_section()
            for name, times in counted.most_common():
                table.add_row(f"{title} {name}", f"{times:,}")
        return table

    def _title(self) -> str:
        early = ", ended early" if self.is_interrupted else ""
        return f"Simulated lives of invoices, seed {self._plan.seed}{early}"

    def _facts(self) -> Mapping[str, str]:
        totals = self.totals
        last = self._plan.first + self._plan.runs - 1
        return {
            "runs": f"{totals.runs:,} of {self._plan.runs:,}",
            "numbers": f"{self._plan.first} to {last}",
            "processes": str(self._jobs),
            "seconds": f"{self._seconds:,.1f}",
            "runs a second": f"{self._rate:,.0f}",
            "virtual days lived": f"{totals.virtual_days:,.0f}",
            "runs that break a promise": f"{len(totals.failures):,}",
        }

    def as_json(self) -> str:
        """Everything, as one JSON object."""
        totals = self.totals
        told: dict[str, Any] = {
            "seed": self._plan.seed,
            "first": self._plan.first,
            "runs": totals.runs,
            "jobs": self._jobs,
            "interrupted": self.is_interrupted,
            "seconds": round(self._seconds, 3),
            "runs_per_second": round(self._rate, 1),
            "virtual_days": round(totals.virtual_days, 3),
            "faults": dict(totals.faults.most_common()),
            "outcomes": dict(totals.outcomes.most_common()),
            "failures": [each.as_data() for each in totals.failures],
        }
        return json.dumps(told, indent=2)

    def as_html(self) -> str:
        """Everything, as a page."""
        return page(self._title(), self._facts(), self.totals)


def _failure(told: EpisodeReport) -> Text:
    assert told.life.broken is not None  # noqa: S101 (it failed)
    made_small = [f"Drawn:   {told.drawn}", f"Shrunk:  {told.scenario}"]
    return render_failure(f"Run {told.run}", told.life.broken, made_small, told.command, told.life.story)


def render_failure(what: str, broken: Failure, about: list[str], command: str, story: Sequence[TimelineEntry]) -> Text:
    """A failure, for people: what breaks what, how to play it again, and what happened."""
    by = ", ".join(f"{rule} ({RULES[rule]})" if rule in RULES else rule for rule in broken.by)
    lines = [
        f"{what} breaks {by}",
        *(f"  {line}" for line in broken.seen.splitlines()),
        "",
        *about,
        "Play it again:",
        f"  {command}",
        "",
        "What happened:",
        *render_timeline(story),
        "",
    ]
    return Text("\n".join(lines))


def render_timeline(story: Sequence[TimelineEntry]) -> list[str]:
    """All that happened in a life, a line each, by the time since it began."""
    wide = max((len(moment.who) for moment in story), default=0)
    return [f"  {format_elapsed(moment)}  {moment.who:{wide}}  {moment.what}" for moment in story]


def render(*parts: RenderableType) -> str:
    """What stdout is to show, as it shows things."""
    console = Console(highlight=False, soft_wrap=True)
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    return captured.get()
