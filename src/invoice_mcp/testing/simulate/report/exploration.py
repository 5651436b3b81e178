"""An exploration of every small life: run with a bar, counted, and told to people and machines."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from invoice_mcp.testing.simulate.explore.campaign import Result, explore_plans
from invoice_mcp.testing.simulate.explore.plan import plans
from invoice_mcp.testing.simulate.explore.replay import ReplayedExecution
from invoice_mcp.testing.simulate.process.interrupt import StopFlag
from invoice_mcp.testing.simulate.report.console import bar, render, render_failure, render_timeline
from temporal_simulator import ExplorationStats


@dataclass
class Exploration:
    """An exploration of every small life, and what it has come to.

    Attributes:
        events: How much may be done to an invoice.
        lines: How many lines it has, at most; 1 or 2.
        results: Of each plan that was explored, or begun when somebody asked for an end.
        so_far: All that was counted, also of plans of which there is no result: it was ended meanwhile.
    """

    events: int
    lines: int
    jobs: int
    workflows: tuple[str, ...]
    keeps_going: bool

    def __post_init__(self) -> None:
        self.results: list[Result] = []
        self.so_far = ExplorationStats()
        self.is_interrupted = False
        self.seconds = 0.0

    def run(self, stop: StopFlag) -> None:
        """Explore to the end, to the first failure, or as long as may be; how far it is, stderr is told meanwhile.

        That is by a bar if it is a terminal, else by a line for each plan.

        Raises:
            NotSimulated: The workflows want what the simulator does not know.
            ProcessDiedError: As its name says.
        """
        every, began = list(plans(self.events, self.lines)), time.monotonic()
        try:
            with bar() as shown:
                task = shown.add_task("exploring", total=len(every))

                def tell(lives: int, states: int) -> None:
                    self.tell(lives, states)
                    counted = f"{self.so_far.states:,} states, {self.so_far.executions:,} lives"
                    shown.update(task, description=counted)

                for result in explore_plans(every, self.jobs, self.workflows, tell, stop):
                    self.results.append(result)
                    shown.advance(task)
                    if shown.disable and result.is_whole:
                        shown.console.print(self._note(result, len(every)), soft_wrap=True)
                    if result.failure and not self.keeps_going:
                        break
            self.is_interrupted = stop.is_set
        except KeyboardInterrupt:
            self.is_interrupted = True
        self.seconds = time.monotonic() - began

    def _note(self, last: Result, plans: int) -> Text:
        counted = f"{last.lives:,} lives, {last.states:,} states, {last.seconds:.1f} seconds"
        return Text(f"{len(self.results)} of {plans}: {last.plan}: {counted}: {_verdict(last)}")

    def tell(self, lives: int, states: int) -> None:
        """So many more have been lived and seen."""
        self.so_far.executions += lives
        self.so_far.states += states

    @property
    def failures(self) -> list[ReplayedExecution]:
        """What is wrong."""
        return [result.failure for result in self.results if result.failure]

    @property
    def _whole(self) -> int:
        return sum(result.is_whole for result in self.results)

    def as_json(self) -> str:
        """Everything, as one JSON object."""
        everything = {
            "exhaustive": self.events,
            "lines": self.lines,
            "plans": self._whole,
            "lives": self.so_far.executions,
            "states": self.so_far.states,
            "interrupted": self.is_interrupted,
            "seconds": round(self.seconds, 3),
            "failures": [each.as_data() for each in self.failures],
        }
        return json.dumps(everything, indent=2)

    def as_text(self) -> str:
        """The failures, and a table, for people."""
        return render(
            *map(told, self.failures),
            self._table(),
            *(["Interrupted: the totals so far."] if self.is_interrupted else []),
        )

    def _table(self) -> Table:
        counted = f"{self._whole} plans, {self.so_far.executions:,} lives, {self.so_far.states:,} states visited"
        table = Table(title=f"Every order of things: {counted}")
        for column in ("what may happen", "lives", "states", "seconds", ""):
            table.add_column(column, justify="left" if column in {"what may happen", ""} else "right")
        for each in self.results:
            verdict = Text(_verdict(each), "red" if each.failure else "")
            table.add_row(each.plan, f"{each.lives:,}", f"{each.states:,}", f"{each.seconds:.1f}", verdict)
        return table


def _verdict(result: Result) -> str:
    return "broken" if result.failure else "kept" if result.is_whole else "interrupted"


def told(lived: ReplayedExecution) -> Text:
    """One life, for people: what is wrong with it, if anything is, and what happened."""
    plan = str(lived.way.plan)
    if lived.broken is None:
        return Text("\n".join([f"{plan}: all promises kept", "", "What happened:", *render_timeline(lived.story), ""]))
    return render_failure(plan, lived.broken, [], lived.command, lived.story)
