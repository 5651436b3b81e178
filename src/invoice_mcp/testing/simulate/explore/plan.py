"""What may be in a small invoice's life of which every order is lived: events, faults, and how they come about."""

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
"""What may be done to the invoice from outside."""

FAULTS = ("payment-refused", "payment-down", "answer-lost", "refused-again", "stale-answer")
"""What may go wrong with one payment."""

ANY = "any"
ONE_OF = {ANY: EVENTS, "approval": ("approve", "signal-approve"), "rejection": ("reject", "signal-reject")}
"""In a plan, by its word: one of these events. Two ways to say the same come to the same states, and share a plan."""

_KINDS = ("approval", "rejection", "cancel")
_UPDATES = ("approve", "reject")
# The first has the name that whoever sends signals has in reports: once it has decided, it is all the same which way.
_FIRST = "signal"
_SIGNALS = {"signal-approve": "ApproveInvoice", "signal-reject": "RejectInvoice"}
# So many events of a plan are named, that there are enough plans to share and to tell how far it is.
_NAMED = 2
# The first line is due already, the second one before the time to decide is over.
_DUE = (timedelta(hours=-1), timedelta(hours=60))


@dataclass(frozen=True)
class Plan:
    """What may be in a life. Where in it is explored.

    Attributes:
        lines: How many lines the invoice has, 1 or 2.
        events: What may be done to it, in this order; or only the first of them, or nothing, before it ends. Each is
            one of EVENTS or a word of ONE_OF; from the first `ANY` on all are that.
        faults: Of these one may happen to one payment.
        crashes: Whether the worker may crash once.
        queries: Whether one query may be answered from a replay just before a workflow task.
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
    """Plans that together have in them every life with at most so many events, lines, one crash and one fault.

    One for the kinds of each two events that can come first. A life with fewer events is in each plan that begins with
    them: it is lived in several, which takes about a third longer in all.
    """
    named = min(events, _NAMED)
    for number in range(1, lines + 1):
        for first in product(_KINDS, repeat=named):
            yield Plan(number, (*first, *[ANY] * (events - named)))


def request(lines: int) -> Payloads:
    """What the workflow is started with."""
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


def do(run: Execution, event: str) -> None:
    """Do one of EVENTS to the invoice."""
    match event:
        case "approve" | "reject":
            number = _next_number(run)
            decision = _payloads(DecisionRequest(by=f"person {number}" if number else _FIRST))
            run.tasks.ask(Request(meta=Meta(update_id=f"{event}-{number}"), input=Input(name=event, args=decision)))
        case "cancel":
            run.request_cancel("enough")
        case _:
            run.signal(_SIGNALS[event], Payloads(), {})


def _next_number(run: Execution) -> int:
    """Of an update: the first that none has of which the run knows. So what was refused leaves nothing behind."""
    return next(n for n in count() if all(run.tasks.find(f"{each}-{n}") is None for each in _UPDATES))


def _payloads(*values: object) -> Payloads:
    return Payloads(payloads=pydantic_data_converter.payload_converter.to_payloads(values))
