"""The domain, as it goes on: statuses, decisions, payment orders, reports. Pure: no Temporal, no MCP, no I/O."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from invoice_mcp.domain.invoice import Invoice, idempotency_key

DEFAULT_APPROVAL_TIMEOUT = timedelta(days=5)
MAX_WAIT_SECONDS = 50.0
"""Seconds that `status` waits for a change at most: hosts drop a call at about a minute."""


class Record(BaseModel):
    """What our own processes write for each other: a newer writer's extra field is no error for an older reader."""

    model_config = ConfigDict(frozen=True)


class AcceptedLine(Record):
    """One line of an accepted invoice; the fields of `LineItem`, without its rules."""

    description: str
    amount: Decimal
    due_date: datetime


class AcceptedInvoice(Record):
    """An invoice that was accepted; the fields of `Invoice`, without its rules.

    This is what workflows keep: a rule that becomes stricter, or a currency that ceases to be, is for the next
    submission and never alters an invoice that is already waiting.
    """

    invoice_id: str
    customer: str
    currency: str
    lines: tuple[AcceptedLine, ...]
    metadata: dict[str, str] = Field(default_factory=dict)

    @property
    def total(self) -> Decimal:
        """Sum of the lines."""
        return sum((line.amount for line in self.lines), Decimal(0))

    @classmethod
    def of(cls, invoice: Invoice) -> AcceptedInvoice:
        """The accepted form of a valid invoice."""
        return cls.model_validate(invoice.model_dump())


class Status(StrEnum):
    """Where an invoice stands. The spelling is the seed's."""

    INITIALIZING = "INITIALIZING"
    PENDING_VALIDATION = "PENDING-VALIDATION"
    PENDING_APPROVAL = "PENDING-APPROVAL"
    APPROVED = "APPROVED"
    PAYING = "PAYING"
    PAID = "PAID"
    FAILED = "FAILED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"

    @property
    def is_terminal(self) -> bool:
        return self in _TERMINAL


_TERMINAL = frozenset({Status.PAID, Status.FAILED, Status.REJECTED, Status.EXPIRED, Status.CANCELLED})


class LineStatus(StrEnum):
    """Where one line stands."""

    PENDING = "PENDING"
    SCHEDULED = "SCHEDULED"
    PAID = "PAID"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    NOT_PAID = "NOT-PAID"


class Verdict(StrEnum):
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"


class Policy(Record):
    """What was in force when the invoice was submitted. It travels in the workflow's input: a later change of a
    default never alters an invoice that is already waiting."""

    approval_timeout: timedelta = Field(default=DEFAULT_APPROVAL_TIMEOUT, gt=timedelta(0), le=timedelta(days=3650))
    index_status: bool = Field(default=False, description="Keep the search attribute InvoiceStatus up to date")
    signals_approve: bool | None = Field(
        default=None,
        description="Whether the signal ApproveInvoice approves. None, as release 0.1.0 submitted: it does not",
    )


class InvoiceRequest(Record):
    """Input of InvoiceWorkflow."""

    invoice: AcceptedInvoice
    policy: Policy = Policy()
    settled: tuple[int, ...] = Field(
        default=(), description="Numbers of the lines that earlier submissions paid, or perhaps paid"
    )


class Confirmation(StrEnum):
    """How a decision was confirmed before it reached the workflow.

    Each value names a channel, not a person: a program can answer a form, too.
    """

    FORM = "form"
    """The client answered a form that this server sent during the call of the tool `approve`."""

    TASK = "task"
    """The client answered the form of the invoice's MCP task."""

    SIGNAL = "signal"
    """A Temporal client sent a signal past the MCP server."""

    NONE = "none"
    """The caller of a tool decided. Nobody was asked."""


class DecisionRequest(Record):
    """Input of the updates `approve` and `reject`.

    Attributes:
        by: The name that the caller gave. A claim: nothing verifies it.
        confirmation: How the decision was confirmed. None: a client of release 0.1.0, which did not say.
        shown: SHA-256, in hex, of the text that was shown to whoever confirmed. None: nothing was shown.
    """

    by: str
    comment: str = ""
    confirmation: Confirmation | None = None
    shown: str | None = None


def _is_none(value: object) -> bool:
    return value is None


class Decision(Record):
    """The one decision on an invoice. The first is final.

    Attributes:
        confirmation, shown: As in DecisionRequest. Left out where they are None: release 0.1.0 recorded neither.
    """

    verdict: Verdict
    by: str
    comment: str = ""
    at: datetime
    confirmation: Confirmation | None = Field(
        default=None, exclude_if=_is_none, description="How it was confirmed: by form, task, signal, or none"
    )
    shown: str | None = Field(
        default=None, exclude_if=_is_none, description="SHA-256 of the text that was shown for confirmation"
    )


class PaymentOrder(Record):
    """Input of PayLineItem and of the activity `payment_gateway`: one line to be paid, once."""

    idempotency_key: str
    invoice_id: str
    customer: str
    line: int = Field(ge=1, description="Number of the line, from 1")
    description: str
    amount: Decimal
    currency: str
    due_date: datetime

    @classmethod
    def for_line(cls, invoice: AcceptedInvoice, number: int) -> PaymentOrder:
        """The order for line `number` (from 1) of an invoice."""
        line = invoice.lines[number - 1]
        return cls(
            idempotency_key=idempotency_key(invoice.invoice_id, number, line),
            invoice_id=invoice.invoice_id,
            customer=invoice.customer,
            line=number,
            description=line.description,
            amount=line.amount,
            currency=invoice.currency,
            due_date=line.due_date,
        )


class PaymentReceipt(Record):
    """What the payment system answers: the same id however often the same payment is asked for.

    Attributes:
        payment_id: Of this payment alone.
        idempotency_key: Of the payment that the receipt is for. None: the payment system does not tell.
    """

    payment_id: str
    idempotency_key: str | None = Field(default=None, exclude_if=_is_none)


class LineOutcome(Record):
    """Result of PayLineItem: paid with a payment id, or failed with a code and a reason."""

    status: Literal[LineStatus.PAID, LineStatus.FAILED]
    payment_id: str | None = None
    error: str | None = None
    reason: str | None = None
    unconfirmed: bool = False


class LineReport(Record):
    """One line as reported: what was to be paid, and what became of it."""

    line: int
    description: str
    amount: Decimal
    due_date: datetime
    status: LineStatus = LineStatus.PENDING
    payment_id: str | None = None
    error: str | None = Field(default=None, description="Stable code of what went wrong, such as INSUFFICIENT_FUNDS")
    reason: str | None = Field(default=None, description="What went wrong, in words")
    unconfirmed: bool = Field(default=False, description="Failed, but the payment may have been made all the same")
    # Left out where it says nothing: what earlier releases recorded has none.
    settled_before: bool = Field(
        default=False,
        exclude_if=lambda settled: not settled,
        description="An earlier submission paid it, or perhaps did; it is not paid twice",
    )
    # Always set where a workflow reports. What a tool answers has none: see `without_idempotency_keys`.
    idempotency_key: SkipJsonSchema[str] = Field(default="", exclude_if=lambda key: not key)


class InvoiceReport(Record):
    """Everything known of an invoice."""

    workflow_id: str
    run_id: str
    invoice_id: str
    customer: str
    currency: str
    total: Decimal
    status: Status
    workflow_status: str = Field(description="Temporal's own status of the execution, such as RUNNING or COMPLETED")
    decision: Decision | None = None
    approval_deadline: datetime | None = None
    reason: str | None = Field(default=None, description="Why the invoice failed or was cancelled")
    cancelling: bool = Field(default=False, description="A cancellation is accepted; payments under way still finish")
    refused_signals: int = Field(
        default=0,
        exclude_if=lambda count: not count,
        description="How many approving signals were refused, because the policy wants a person to be asked",
    )
    lines: tuple[LineReport, ...]
    summary: str = Field(description="One sentence to read aloud")


def without_idempotency_keys(report: InvoiceReport) -> InvoiceReport:
    """The report as a tool answers it: idempotency keys are between workflow, ledger and payment gateway."""
    lines = tuple(line.model_copy(update={"idempotency_key": ""}) for line in report.lines)
    return report.model_copy(update={"lines": lines})


class Submission(BaseModel):
    """Answer to `trigger`: which execution keeps the invoice, and whether this call began it."""

    workflow_id: str
    run_id: str
    status: Status
    # Not required in the schema: as a task, `trigger` ends with a report.
    created: bool = Field(default=False, description="Whether this call began it; false: it was submitted before")
    summary: str = Field(default="", description="One sentence to read aloud")


class InvoiceEntry(BaseModel):
    """One row of a list."""

    workflow_id: str
    run_id: str
    invoice_id: str | None = None
    customer: str | None = None
    currency: str | None = None
    total: str | None = None
    status: Status | None = Field(default=None, description="Missing where the server does not index InvoiceStatus")
    workflow_status: str
    submitted_at: datetime
    closed_at: datetime | None = None


class Standing(Record):
    """A report, when what it tells changed last, and what no report tells."""

    report: InvoiceReport
    changed_at: datetime
    dismissals: int = Field(default=0, description="How often the form that asks for the decision was dismissed")
