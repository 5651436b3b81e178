"""Drives the reference model by actions given as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.report import DEFAULT_APPROVAL_TIMEOUT, LineStatus, Status, Verdict
from invoice_mcp.testing import Action, Model, Verb
from invoice_mcp.testing.model.state import ReportedState, Span

BEGAN = datetime(2026, 11, 23, 12, tzinfo=UTC)
DEADLINE = BEGAN + DEFAULT_APPROVAL_TIMEOUT
LATER = 60.0
"""Hours until the due date of a line that is not due at the approval."""


def invoice(*due_in_hours: float, changed: int = 0) -> Invoice:
    """An invoice with a line for each due date. Line `changed` has another amount."""
    lines = [
        {"description": "Widget", "amount": 100 + (number == changed), "due_date": BEGAN + timedelta(hours=hours)}
        for number, hours in enumerate(due_in_hours, 1)
    ]
    return Invoice.model_validate({"invoice_id": "A", "customer": "ACME", "lines": lines})


def shown(status: Status, verdict: Verdict | None, *lines: LineStatus) -> ReportedState:
    """A reported state."""
    return status, verdict, lines


class ModelDriver:
    """What is done to an invoice, action for action, and what may come of it."""

    def __init__(self, *due_in_hours: float, changed: int = 2) -> None:
        self.now = BEGAN
        invoices = (invoice(*due_in_hours), invoice(*due_in_hours, changed=changed))
        self.model = Model(invoices, DEFAULT_APPROVAL_TIMEOUT)

    def allowed(self, action: Action | str, *, until: datetime | None = None) -> dict[str, set[ReportedState]]:
        """The allowed answers to an action, with the reported states that may follow. Does not perform it.

        Args:
            action: An action, or its verb, followed by a line number or hours: "payment-down 2", "advance 24".
            until: When the action ends; by default at once, or after the time that it lets pass.
        """
        action = action if isinstance(action, Action) else _read(action)
        passes = timedelta(hours=action.hours) if action.verb is Verb.ADVANCE else timedelta()
        allowed = self.model.allowed_answers(action, Span(self.now, until or self.now + passes))
        return {answer: {state.reported for state in states} for answer, states in allowed.items()}

    def play(self, *actions: Action | str) -> ModelDriver:
        """Perform actions that have one allowed answer each."""
        for each in actions:
            action = each if isinstance(each, Action) else _read(each)
            passes = timedelta(hours=action.hours) if action.verb is Verb.ADVANCE else timedelta()
            allowed = self.model.allowed_answers(action, Span(self.now, self.now + passes))
            assert len(allowed) == 1, f"{action} may be answered {' or '.join(allowed)}"
            self.now += passes
            (self.model.possible,) = allowed.values()
        return self

    @property
    def reported(self) -> set[ReportedState]:
        """The reported states that are possible now."""
        return {state.reported for state in self.model.possible}


def _read(action: str) -> Action:
    verb, _, number = action.partition(" ")
    if not number:
        return Action(verb=Verb(verb))
    return Action(verb=Verb(verb), **({"hours": float(number)} if verb == Verb.ADVANCE else {"line": int(number)}))
