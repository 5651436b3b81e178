"""A state of the reference model, and the part of it that a report shows. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from invoice_mcp.domain.report import InvoiceReport, LineStatus, Status, Verdict
from invoice_mcp.testing.model.actions import Verb

ReportedState = tuple[Status, Verdict | None, tuple[LineStatus, ...]]
"""The observable part of a state: status, decision, status of each line."""


@dataclass(frozen=True)
class Span:
    """An interval of time in which something happened; histories and clocks do not say exactly when."""

    first: datetime
    last: datetime


@dataclass(frozen=True)
class State:
    """A state that one invoice may be in: its newest run, the scripted faults, and what earlier runs settled.

    Line numbers start at 1. Where a number may be 0, it means the validation by the ERP.

    Attributes:
        content: Index of the invoice, among those of the model, that the run is about; None before the first run.
        attempts: For each number, how many attempts ended without a verdict.
        settled: Pairs of a line number and the index of the invoice with which earlier runs settled that line.
        faults: Pairs of a number and its queue of scripted faults; without empty queues.
        undelivered: Numbers whose port has answered, but whose answer the run has not received yet. Such a line is
            paid, unless the gateway refuses its key.
        refused_keys: Numbers of lines whose keys the gateway refuses. These lines were paid, so they are settled and
            can't come back with another key.
        terminated: Whether the run was terminated. Its status stays as it was.
        closing_lines: Numbers of lines whose workflows a terminated run may have left. The server ends such a workflow
            in a moment; until then no other one can start under its id.
        abandoned_lines: The lines that runs left open when they were reset, as (number, index of the invoice, whether
            it may be closed already). Such a workflow stays open until its due date, and pays nothing then.
        cancel_requested: Whether a cancellation was requested that the workflow has not handled yet.
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
    closing_lines: frozenset[int] = frozenset()
    abandoned_lines: frozenset[tuple[int, int, bool]] = frozenset()
    refused_keys: frozenset[int] = frozenset()

    @property
    def has_ended(self) -> bool:
        """Whether the run is closed."""
        return self.terminated or self.status.is_terminal

    @property
    def reported(self) -> ReportedState:
        """The observable part of the state."""
        return self.status, self.verdict, self.lines

    def attempts_of(self, number: int) -> int:
        """How many attempts at a line, or (0) the validation, ended without a verdict."""
        return self.attempts[number]

    def faults_of(self, number: int) -> tuple[Verb, ...]:
        """The queue of faults that payments of a line, or (0) calls of the ERP, meet."""
        return dict(self.faults).get(number, ())

    def with_fault(self, number: int, fault: Verb) -> State:
        """The state with one more fault in that queue."""
        return self._with_queue(number, (*self.faults_of(number), fault))

    def without_fault(self, number: int) -> tuple[Verb | None, State]:
        """Takes the first fault from that queue; None if the queue is empty."""
        fault, *left = self.faults_of(number) or (None,)
        return fault, self._with_queue(number, tuple(left))

    def _with_queue(self, number: int, faults_of: tuple[Verb, ...]) -> State:
        others = {(n, faults) for n, faults in self.faults if n != number}
        return replace(self, faults=frozenset(others | ({(number, faults_of)} if faults_of else set())))

    def after_attempt(self, number: int) -> State:
        """The state after one more attempt without a verdict."""
        attempts = (*self.attempts[:number], self.attempts[number] + 1, *self.attempts[number + 1 :])
        return replace(self, attempts=attempts, undelivered=self.undelivered - {number})

    @property
    def scheduled(self) -> list[int]:
        """Numbers of the lines that wait for their payment."""
        if self.status is not Status.PAYING or self.terminated:
            return []
        return [number for number, line in enumerate(self.lines, 1) if line is LineStatus.SCHEDULED]

    @property
    def untried(self) -> list[int]:
        """Numbers of the scheduled lines whose payment has not started."""
        return [number for number in self.scheduled if not self.attempts_of(number) and number not in self.undelivered]


def reported_state(report: InvoiceReport) -> ReportedState:
    """The observable state that a report shows."""
    return report.status, report.decision.verdict if report.decision else None, tuple(x.status for x in report.lines)
