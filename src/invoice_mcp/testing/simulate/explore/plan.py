"""Exploration plans: which events and faults may occur in a small invoice's executions, and how they are applied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import count, product

from temporalio.api.common.v1 import Payloads
from temporalio.api.update.v1 import Input, Meta, Request
from temporalio.contrib.pydantic import pydantic_data_converter

from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.report import AcceptedInvoice, DecisionRequest, InvoiceRequest, Policy
from temporal_simulator import START_TIME, Execution

EVENTS = ("approve", "reject", "cancel", "signal-approve", "signal-reject")
"""What can be done to the invoice from outside."""

FAULTS = ("payment-refused", "payment-down", "answer-lost", "refused-again", "stale-answer")
"""The faults of a payment."""

ANY = "any"
ONE_OF = {ANY: EVENTS, "approval": ("approve", "signal-approve"), "rejection": ("reject", "signal-reject")}
"""Names of alternatives in a plan. Events of the same effect lead to the same states, so they share a plan."""

_KINDS = ("approval", "rejection", "cancel")
_UPDATES = ("approve", "reject")
# The name in the first decision: that of decisions by signal, so that both kinds lead to the same states.
_FIRST_NAME = "signal"
_SIGNALS = {"signal-approve": "ApproveInvoice", "signal-reject": "RejectInvoice"}
# The first two events of a plan are named: that gives enough plans to share between processes and to show progress.
_NAMED_EVENTS = 2
# The first line is due already, the second one before the deadline of the decision.
_DUE = (timedelta(hours=-1), timedelta(hours=60))


@dataclass(frozen=True)
class Plan:
    """What may occur in an execution. The exploration decides when it does.

    Attributes:
        lines: The number of lines, 1 or 2.
        events: Events from outside, in this order. An execution may end after the first few of them. Each is one of
            EVENTS or a name in ONE_OF; after the first `ANY` all others are `ANY`.
        faults: One of these may occur, at one payment.
        crashes: Whether the worker may crash once.
        queries: Whether one query may be answered from a replay, just before a workflow task.
    """

    lines: int = 1
    events: tuple[str, ...] = ()
    faults: tuple[str, ...] = FAULTS
    crashes: bool = True
    queries: bool = True

    def __str__(self) -> str:
        lines = f"{self.lines} line{'s' if self.lines > 1 else ''}"
        may = [*(["a payment fault"] if self.faults else []), *(["a crash"] if self.crashes else [])]
        perhaps = f" (and perhaps {' and '.join(may)})" if may else ""
        named = [event for event in self.events if event != ANY]
        if anything := len(self.events) - len(named):
            named.append(f"{anything} of anything")
        return ", ".join([lines, ", then ".join(named)] if named else [lines]) + perhaps


def plans(events: int, lines: int = 2) -> Iterator[Plan]:
    """Plans that together cover every execution with at most so many events and lines, one crash and one fault.

    There is one for each pair of kinds of the first two events. An execution with fewer events is in all plans that
    begin with these. Exploring it in each of them takes about a third longer in all.
    """
    named = min(events, _NAMED_EVENTS)
    for number in range(1, lines + 1):
        for first in product(_KINDS, repeat=named):
            yield Plan(number, (*first, *[ANY] * (events - named)))


def start_input(lines: int) -> Payloads:
    """The input that the workflow is started with."""
    invoice = Invoice.model_validate(
        {
            "invoice_id": "INV-1",
            "customer": "ACME Corp",
            "lines": [
                {
                    "description": f"Widget {number}",
                    "amount": str(100 * number),
                    "due_date": (START_TIME + due).isoformat(),
                }
                for number, due in enumerate(_DUE[:lines], 1)
            ],
        }
    )
    return _payloads(InvoiceRequest(invoice=AcceptedInvoice.of(invoice), policy=Policy(signals_approve=True)))


def apply_event(run: Execution, event: str) -> None:
    """Apply one of EVENTS to the invoice."""
    match event:
        case "approve" | "reject":
            number = _next_number(run)
            decision = _payloads(DecisionRequest(by=f"person {number}" if number else _FIRST_NAME))
            run.tasks.request_update(
                Request(meta=Meta(update_id=f"{event}-{number}"), input=Input(name=event, args=decision))
            )
        case "cancel":
            run.request_cancel("enough")
        case _:
            run.signal(_SIGNALS[event], Payloads(), {})


def _next_number(run: Execution) -> int:
    """The number of the next update: the first one that the run does not know. A refused update leaves no trace."""
    return next(n for n in count() if all(run.tasks.find(f"{each}-{n}") is None for each in _UPDATES))


def _payloads(*values: object) -> Payloads:
    return Payloads(payloads=pydantic_data_converter.payload_converter.to_payloads(values))
