"""Reports a campaign to people and machines: while it runs, and at the end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from statistics import quantiles
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from invoice_mcp.testing.chaos.campaign import Plan, Totals
from invoice_mcp.testing.chaos.clients import DISCONNECTED, LOST
from invoice_mcp.testing.chaos.episode import Verdict
from invoice_mcp.testing.chaos.generator import Options, generate_schedule
from invoice_mcp.testing.chaos.judgement import KINDS
from invoice_mcp.testing.simulate.report.console import progress_bar

_FILE = "schedule.txt"
_TIMELINE = 60
_FINDINGS = 10


class Reporter:
    """Collects verdicts, and reports them.

    Attributes:
        totals: So far.
        is_interrupted: Whether somebody ended the campaign early.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._began = time.monotonic()
        self._show: Callable[[], None] = lambda: None
        self.totals = Totals()
        self.is_interrupted = False

    def add(self, verdict: Verdict) -> None:
        """One more episode has been judged."""
        self.totals.add(verdict)
        self._show()

    @contextmanager
    def progress(self) -> Iterator[None]:
        """Show on stderr, if that is a terminal, how far it is: n of m, time left, what was found. Fits 80 columns."""
        columns = (
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        with progress_bar(*columns) as shown:
            seconds = self._plan.seconds
            task = shown.add_task("starting", total=self._plan.runs or (round(seconds) if seconds else None))

            def show() -> None:
                totals = self.totals
                found = f"[red]{len(totals.failed)} failed[/]" if totals.failed else "0 failed"
                done = totals.episodes if self._plan.runs else round(time.monotonic() - self._began)
                shown.update(task, completed=done, description=f"{totals.faults.total():,} faults, {found}")

            self._show = show
            try:
                yield
            finally:
                self._show = lambda: None

    # -- at the end ----------------------------------------------------------------------------------------

    def as_text(self) -> str:
        """The failures, and a table, for people; at most 80 columns where that can be."""
        console = Console(highlight=False, width=80)
        with console.capture() as captured:
            console.print(self._table())
        return "".join(f"{failure_of(each)}\n" for each in self.totals.failed) + captured.get()

    def _table(self) -> Table:
        early = ", ended early" if self.is_interrupted else ""
        table = Table(title=f"Chaos, from seed {self._plan.seed}{early}", show_header=False, title_justify="left")
        table.add_column()
        table.add_column(justify="right")
        for name, value in self._facts().items():
            table.add_row(name, value)
        totals = self.totals
        for title, counted in (("ended", totals.invoices), ("fault", totals.faults), ("answer", totals.codes)):
            table.add_section()
            for name, times in counted.most_common():
                table.add_row(f"{title} {name}", f"{times:,}")
        table.add_section()
        for kind in KINDS:
            table.add_row(kind, f"{totals.findings[kind]:,}")
        return table

    def _facts(self) -> Mapping[str, str]:
        totals = self.totals
        middle, most, longest = self._seconds_of_answers()
        return {
            "episodes": f"{totals.episodes:,}" + (f" of {self._plan.runs:,}" if self._plan.runs else ""),
            "seconds": f"{totals.seconds:,.0f}",
            "invoices": f"{totals.invoices.total():,}",
            "payments": f"{totals.payments:,}",
            "histories replayed": f"{totals.replayed:,}",
            "faults": f"{totals.faults.total():,}",
            "faults that hit nobody": f"{totals.missed:,}",
            "answers in seconds: half, 99 of 100, all": f"{middle:.1f}, {most:.1f}, {longest:.1f}",
            "slowest healing in seconds": f"{totals.slowest_healing:.1f}",
            "episodes with findings": f"{len(totals.failed):,}",
        }

    def _seconds_of_answers(self) -> tuple[float, float, float]:
        """How long answers took: half of them, 99 of 100, all."""
        took = [call.seconds for call in self.totals.calls if call.code not in {LOST, DISCONNECTED}]
        if len(took) < 2:
            return (max(took, default=0.0),) * 3
        cuts = quantiles(took, n=100, method="inclusive")
        return cuts[49], cuts[98], max(took)

    def as_json(self) -> str:
        """Everything, as one JSON object."""
        totals = self.totals
        middle, most, longest = self._seconds_of_answers()
        data: dict[str, Any] = {
            "seed": self._plan.seed,
            "episodes": totals.episodes,
            "interrupted": self.is_interrupted,
            "seconds": round(totals.seconds, 1),
            "invoices": dict(totals.invoices.most_common()),
            "payments": totals.payments,
            "replayed": totals.replayed,
            "faults": dict(totals.faults.most_common()),
            "faults_total": totals.faults.total(),
            "missed": totals.missed,
            "answers": dict(totals.codes.most_common()),
            "answer_seconds": {"median": round(middle, 2), "p99": round(most, 2), "max": round(longest, 2)},
            "slowest_healing": round(totals.slowest_healing, 1),
            "findings": {kind: totals.findings[kind] for kind in KINDS},
            "failures": [_data(each) for each in totals.failed],
        }
        return json.dumps(data, indent=2)


def failure_of(verdict: Verdict) -> str:
    """An episode that broke something: expected against got, the command that repeats it, the timeline."""
    seed = verdict.schedule.seed
    lines = [f"Seed {seed}: {len(verdict.findings)} findings"]
    for each in verdict.findings[:_FINDINGS]:
        lines += [
            "",
            f"  {each.kind} {each.about}".rstrip(),
            f"    expected: {each.expected}",
            f"    got:      {each.got}",
        ]
    if len(verdict.findings) > _FINDINGS:
        lines.append(f"  ... and {len(verdict.findings) - _FINDINGS} more")
    abouts = {each.about for each in verdict.findings if each.about}
    command = command_of(verdict)
    lines += ["", "Run it again:", f"  {command}"]
    if _FILE in command:
        lines += ["", f"{_FILE}:", *(f"  {line}" for line in str(verdict.schedule).splitlines())]
    lines += ["", "What happened:"]
    entries = [entry for entry in verdict.timeline if not entry.kind or _concerns(str(entry), abouts)]
    lines += [f"  {str(entry)[:160]}" for entry in entries[:_TIMELINE]]
    if len(entries) > _TIMELINE:
        lines.append(f"  ... and {len(entries) - _TIMELINE} more: --keep FOLDER keeps all of it")
    return "\n".join([*lines, ""])


def _concerns(text: str, abouts: set[str]) -> bool:
    return any(about.removeprefix("invoice-") in text for about in abouts)


def command_of(verdict: Verdict) -> str:
    """What runs the same schedule again. Real processes may take another course."""
    seed = verdict.schedule.seed
    is_from_seed = any(
        generate_schedule(seed, Options(mounts, fakes)) == verdict.schedule
        for mounts, fakes in product((True, False), repeat=2)
    )
    # One that was written by hand is printed with the failure.
    which = f"--seed {seed} --runs 1" if is_from_seed else f"--schedule {_FILE}"
    return f"invoice-mcp chaos {which} --keep chaos-{seed}"


def _data(verdict: Verdict) -> dict[str, Any]:
    return {
        "seed": verdict.schedule.seed,
        "command": command_of(verdict),
        "schedule": str(verdict.schedule),
        "findings": [
            {"kind": each.kind, "about": each.about, "expected": each.expected, "got": each.got}
            for each in verdict.findings
        ],
        "timeline": [str(entry) for entry in verdict.timeline],
    }
