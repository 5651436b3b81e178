"""Runs an exploration of every plan, shows its progress, and reports it as a table or as JSON."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from invoice_mcp.testing.simulate.explore.campaign import PlanResult, explore_plans
from invoice_mcp.testing.simulate.explore.plan import plans
from invoice_mcp.testing.simulate.explore.replay import ReplayedExecution
from invoice_mcp.testing.simulate.process.interrupt import StopFlag
from invoice_mcp.testing.simulate.report.console import progress_bar, render, render_failure
from invoice_mcp.testing.simulate.timeline import timeline_lines
from temporal_simulator import ExplorationStats


@dataclass
class Exploration:
    """An exploration of every plan, and its results so far.

    Attributes:
        events: The most events from outside.
        lines: The most lines of the invoice; 1 or 2.
        results: Of every plan that was explored, or was under way at an interruption.
        stats: Counts over all processes, including plans that have no result because of an interruption.
    """

    events: int
    lines: int
    jobs: int
    workflows: tuple[str, ...]
    keep_going: bool

    def __post_init__(self) -> None:
        self.results: list[PlanResult] = []
        self.stats = ExplorationStats()
        self.is_interrupted = False
        self.seconds = 0.0

    def run(self, stop: StopFlag) -> None:
        """Explore all plans, or up to the first failure or interruption.

        Stderr shows the progress: a bar if it is a terminal, else one line for each plan.

        Raises:
            NotSimulated: The workflows use a feature that the simulator does not have.
            ProcessDiedError: A process ended early.
        """
        every, began = list(plans(self.events, self.lines)), time.monotonic()
        try:
            with progress_bar() as bar:
                task = bar.add_task("exploring", total=len(every))

                def report(executions: int, states: int) -> None:
                    self.add(executions, states)
                    counts = f"{self.stats.states:,} states, {self.stats.executions:,} executions"
                    bar.update(task, description=counts)

                for result in explore_plans(every, self.jobs, self.workflows, report, stop):
                    self.results.append(result)
                    bar.advance(task)
                    if bar.disable and result.is_complete:
                        bar.console.print(self._result_line(result, len(every)), soft_wrap=True)
                    if result.failure and not self.keep_going:
                        break
            self.is_interrupted = stop.is_set
        except KeyboardInterrupt:
            self.is_interrupted = True
        self.seconds = time.monotonic() - began

    def _result_line(self, last: PlanResult, plans: int) -> Text:
        counts = f"{last.executions:,} executions, {last.states:,} states, {last.seconds:.1f} seconds"
        return Text(f"{len(self.results)} of {plans}: {last.plan}: {counts}: {_verdict(last)}")

    def add(self, executions: int, states: int) -> None:
        """Count more executions and states."""
        self.stats.executions += executions
        self.stats.states += states

    @property
    def failures(self) -> list[ReplayedExecution]:
        """The failed executions."""
        return [result.failure for result in self.results if result.failure]

    @property
    def _complete(self) -> int:
        return sum(result.is_complete for result in self.results)

    def as_json(self) -> str:
        """Everything as one JSON object."""
        data = {
            "exhaustive": self.events,
            "lines": self.lines,
            "plans": self._complete,
            "executions": self.stats.executions,
            "states": self.stats.states,
            "interrupted": self.is_interrupted,
            "seconds": round(self.seconds, 3),
            "failures": [each.as_data() for each in self.failures],
        }
        return json.dumps(data, indent=2)

    def as_text(self) -> str:
        """The failures and a table."""
        return render(
            *map(execution_text, self.failures),
            self._table(),
            *(["Interrupted: the totals so far."] if self.is_interrupted else []),
        )

    def _table(self) -> Table:
        counts = f"{self._complete} plans, {self.stats.executions:,} executions, {self.stats.states:,} states"
        table = Table(title=f"Every schedule: {counts}")
        for column in ("plan", "executions", "states", "seconds", "result"):
            table.add_column(column, justify="left" if column in {"plan", "result"} else "right")
        for each in self.results:
            verdict = Text(_verdict(each), "red" if each.failure else "")
            table.add_row(each.plan, f"{each.executions:,}", f"{each.states:,}", f"{each.seconds:.1f}", verdict)
        return table


def _verdict(result: PlanResult) -> str:
    return "failed" if result.failure else "passed" if result.is_complete else "interrupted"


def execution_text(execution: ReplayedExecution) -> Text:
    """One execution as text: its failure, if it has one, and its timeline."""
    plan = str(execution.schedule.plan)
    if execution.failure is None:
        return Text("\n".join([f"{plan}: passed", "", "Timeline:", *timeline_lines(execution.timeline), ""]))
    return render_failure(plan, execution.failure, [], execution.command, execution.timeline)
