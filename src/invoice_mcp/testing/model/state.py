"""What the reference model says of one invoice at one time: how it may be, and what its report shows of that. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from invoice_mcp.domain.report import InvoiceReport, LineStatus, Status, Verdict
from invoice_mcp.testing.model.actions import Verb

ReportedState = tuple[Status, Verdict | None, tuple[LineStatus, ...]]
"""What a report shows of a state: status, decision, lines."""


@dataclass(frozen=True)
class Span:
    """Two times between which something happened."""

    first: datetime
    last: datetime


@dataclass(frozen=True)
class State:
    """One invoice as it may be: its newest run, what is scripted at the ports, and what earlier runs have settled.

    Attributes:
        content: Which of the scenario's invoices the run is about; None before the first.
        tries: Of each line (0: of the validation) how many attempts were made without a verdict.
        settled: Line number -> which invoice it was settled with.
        faults: Of each line what its next payments meet (0: what those meet who ask the ERP); none that meets nothing.
        untold: The numbers of lines that were answered just now (0: the ERP accepted it), of which it was not told yet.
            Paid, unless the gateway refuses their keys.
        refused_again: The numbers of lines whose keys the gateway refuses. They were paid, so that they are settled:
            they can't come back with another key.
        terminated: Whether somebody ended the run over the workflow's head; its status stays as it was.
        left: The numbers of lines of which a run that was terminated may have left a workflow, which ends in a moment.
            Until then another one of that id can't begin.
        abandoned: The same of runs that were reset: those workflows stay until their due dates, and pay nothing then.
            Of each the line's number, which invoice it is of, and whether it may be gone before.
        stopping: Whether a cancellation was requested that the workflow has not taken up yet.
    """

    content: int | None = None
    status: Status = Status.CANCELLED
    verdict: Verdict | None = None
    began: Span | None = None
    deadline: Span | None = None
    cancelling: bool = False
    lines: tuple[LineStatus, ...] = ()
    attempts: tuple[int, ...] = ()
    unconfirmed: frozenset[int] = frozenset()
    settled: frozenset[tuple[int, int]] = frozenset()
    faults: frozenset[tuple[int, tuple[Verb, ...]]] = frozenset()
    undelivered: frozenset[int] = frozenset()
    terminated: bool = False
    cancel_requested: bool = False
    left: frozenset[int] = frozenset()
    abandoned: frozenset[tuple[int, int, bool]] = frozenset()
    refused_keys: frozenset[int] = frozenset()

    @property
    def has_ended(self) -> bool:
        """Whether the run has ended, by itself or not."""
        return self.terminated or self.status.is_terminal

    @property
    def reported(self) -> ReportedState:
        """What its report shows."""
        return self.status, self.verdict, self.lines

    def attempts_of(self, number: int) -> int:
        """How often line `number` (0: the validation) was tried without a verdict."""
        return self.attempts[number]

    def faults_of(self, number: int) -> tuple[Verb, ...]:
        """The faults that payments of line `number` (0: those who ask the ERP) meet, in their order."""
        return dict(self.faults).get(number, ())

    def with_fault(self, number: int, fault: Verb) -> State:
        """The same with one more of those."""
        return self._with_queue(number, (*self.faults_of(number), fault))

    def without_fault(self, number: int) -> tuple[Verb | None, State]:
        """The first of those, None if there is none; and the same without it."""
        fault, *left = self.faults_of(number) or (None,)
        return fault, self._with_queue(number, tuple(left))

    def _with_queue(self, number: int, faults_of: tuple[Verb, ...]) -> State:
        others = {(n, faults) for n, faults in self.faults if n != number}
        return replace(self, faults=frozenset(others | ({(number, faults_of)} if faults_of else set())))

    def after_attempt(self, number: int) -> State:
        """The same after one more attempt at that without a verdict."""
        attempts = (*self.attempts[:number], self.attempts[number] + 1, *self.attempts[number + 1 :])
        return replace(self, attempts=attempts, undelivered=self.undelivered - {number})

    @property
    def scheduled(self) -> list[int]:
        """The numbers of the lines that wait to be paid."""
        if self.status is not Status.PAYING or self.terminated:
            return []
        return [number for number, line in enumerate(self.lines, 1) if line is LineStatus.SCHEDULED]

    @property
    def untried(self) -> list[int]:
        """The numbers of those of which no payment has begun."""
        return [number for number in self.scheduled if not self.attempts_of(number) and number not in self.undelivered]


def reported_state(report: InvoiceReport) -> ReportedState:
    """What a report shows."""
    return report.status, report.decision.verdict if report.decision else None, tuple(x.status for x in report.lines)
