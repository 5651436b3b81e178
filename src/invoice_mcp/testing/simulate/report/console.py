"""Reports of a fuzzing campaign: progress while it runs, then a table and the failures, or JSON, or HTML."""

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
from invoice_mcp.testing.simulate.failure import Failure
from invoice_mcp.testing.simulate.fuzz.campaign import Campaign
from invoice_mcp.testing.simulate.fuzz.statistics import EpisodeReport, Totals
from invoice_mcp.testing.simulate.report.html import render_page
from invoice_mcp.testing.simulate.timeline import timeline_lines
from temporal_simulator import TimelineEntry


@contextmanager
def progress_bar(*columns: ProgressColumn) -> Iterator[Progress]:
    """A progress bar on stderr, if that is a terminal."""
    console = Console(file=pipe_tolerant(sys.stderr))
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    if not console.is_terminal:
        # Not entered: a disabled bar prints an empty line at its end.
        yield progress
        return
    with progress:
        yield progress


class Reporter:
    """Collects the totals of a campaign and renders them.

    Attributes:
        totals: So far.
        is_interrupted: Whether the campaign ended early.
    """

    def __init__(self, campaign: Campaign, jobs: int) -> None:
        self._campaign = campaign
        self._jobs = jobs
        self._began = time.perf_counter()
        self._seconds = 0.0
        self._refresh: Callable[[], None] = lambda: None
        self.totals = Totals()
        self.is_interrupted = False

    def add(self, latest: Totals) -> None:
        """Add the totals of the latest episodes."""
        self.totals.merge(latest)
        self._seconds = time.perf_counter() - self._began
        self._refresh()

    @property
    def _rate(self) -> float:
        return self.totals.runs / self._seconds if self._seconds else 0.0

    # -- while it runs -------------------------------------------------------------------------------------

    @contextmanager
    def progress(self) -> Iterator[None]:
        """Show the progress on stderr, if that is a terminal. Time is measured from here."""
        columns = (
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
        )
        self._began = time.perf_counter()
        with progress_bar(*columns) as bar:
            task = bar.add_task("starting", total=self._campaign.runs)
            self._refresh = lambda: bar.update(task, completed=self.totals.runs, description=self._status_line())
            try:
                yield
            finally:
                self._refresh = lambda: None

    def _status_line(self) -> str:
        totals = self.totals
        outcomes = ", ".join(f"{name} {times:,}" for name, times in totals.outcomes.most_common())
        counts = f"{totals.virtual_days:,.0f} virtual days, {totals.faults.total():,} faults"
        line = f"{self._rate:,.0f}/s, {counts}; {outcomes}"
        return f"{line}; [red]{len(totals.failures)} failed[/]" if totals.failures else line

    # -- at the end ----------------------------------------------------------------------------------------

    def as_text(self) -> str:
        """The failures and a table."""
        return render(*map(_failure_text, self.totals.failures), self._table())

    def _table(self) -> Table:
        table = Table(title=self._title(), show_header=False, title_justify="left")
        table.add_column()
        table.add_column(justify="right")
        for name, value in self._facts().items():
            table.add_row(name, value)
        for title, counted in (("outcome", self.totals.outcomes), ("fault", self.totals.faults)):
            table.add_section()
            for name, times in counted.most_common():
                table.add_row(f"{title} {name}", f"{times:,}")
        return table

    def _title(self) -> str:
        early = ", interrupted" if self.is_interrupted else ""
        return f"Simulated episodes, seed {self._campaign.seed}{early}"

    def _facts(self) -> Mapping[str, str]:
        totals = self.totals
        last = self._campaign.first + self._campaign.runs - 1
        return {
            "episodes": f"{totals.runs:,} of {self._campaign.runs:,}",
            "run numbers": f"{self._campaign.first} to {last}",
            "processes": str(self._jobs),
            "seconds": f"{self._seconds:,.1f}",
            "episodes per second": f"{self._rate:,.0f}",
            "virtual days": f"{totals.virtual_days:,.0f}",
            "failures": f"{len(totals.failures):,}",
        }

    def as_json(self) -> str:
        """Everything as one JSON object."""
        totals = self.totals
        data: dict[str, Any] = {
            "seed": self._campaign.seed,
            "first": self._campaign.first,
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
        return json.dumps(data, indent=2)

    def as_html(self) -> str:
        """Everything as an HTML page."""
        return render_page(self._title(), self._facts(), self.totals)


def _failure_text(report: EpisodeReport) -> Text:
    episode = report.episode
    assert episode.failure is not None
    scenarios = [f"Generated: {report.generated}", f"Shrunk:    {report.scenario}"]
    return render_failure(f"Run {report.run}", episode.failure, scenarios, report.command, episode.timeline)


def render_failure(
    subject: str, failure: Failure, details: Sequence[str], command: str, timeline: Sequence[TimelineEntry]
) -> Text:
    """A failure as text: what failed and why, the command that reproduces it, and the timeline."""
    lines = [
        f"{subject}: {failure.title}",
        *(f"  {line}" for line in failure.explanation.splitlines()),
        "",
        *details,
        "Reproduce it:",
        f"  {command}",
        "",
        "Timeline:",
        *timeline_lines(timeline),
        "",
    ]
    return Text("\n".join(lines))


def render(*parts: RenderableType) -> str:
    """Rich renderables as text, with the colours that stdout can show."""
    console = Console(highlight=False, soft_wrap=True)
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    return captured.get()
