"""Statuses, decisions, payment orders and reports of accepted invoices. Pure."""

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
"""The longest wait of `status` for a change. Hosts cancel a call after about a minute."""


class Record(BaseModel):
    """Data that processes of this product exchange. Unknown fields are ignored, so older readers accept newer data."""

    model_config = ConfigDict(frozen=True)


class AcceptedLine(Record):
    """One line of an accepted invoice: the fields of `LineItem`, without its validation."""

    description: str
    amount: Decimal
    due_date: datetime


class AcceptedInvoice(Record):
    """An accepted invoice: the fields of `Invoice`, without its validation.

    Workflows keep this type. So a rule that becomes stricter, or a currency that is abolished, applies to the next
    submission and not to invoices already in progress.
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
        """Convert a valid invoice."""
        return cls.model_validate(invoice.model_dump())


class Status(StrEnum):
    """Status of an invoice. The spelling is the original sample's."""

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
    """Status of one line."""

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
    """The policy in force when the invoice was submitted.

    It is part of the workflow's input, so a later change of a default does not affect invoices already in progress.
    """

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
    """The channel by which a decision was confirmed before it reached the workflow.

    It does not prove that a person answered: a program can answer a form, too.
    """

    FORM = "form"
    """The client answered a form that this server sent during a call of the tool `approve`."""

    TASK = "task"
    """The client answered the form of the invoice's MCP task."""

    SIGNAL = "signal"
    """A Temporal client sent a signal, without the MCP server."""

    NONE = "none"
    """A tool call decided. Nobody was asked."""


class DecisionRequest(Record):
    """Input of the updates `approve` and `reject`.

    Attributes:
        by: The name that the caller gave. A claim: nothing verifies it.
        confirmation: How the decision was confirmed. None: sent by release 0.1.0, which did not record it.
        shown: SHA-256, in hex, of the text that was shown for confirmation. None: nothing was shown.
    """

    by: str
    comment: str = ""
    confirmation: Confirmation | None = None
    shown: str | None = None


def _is_none(value: object) -> bool:
    return value is None


class Decision(Record):
    """The decision on an invoice. The first one is final.

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
    """The payment system's answer: the same id for every request of the same payment.

    Attributes:
        payment_id: Unique to this payment.
        idempotency_key: Of the payment that the receipt is for. None: the payment system does not return it.
    """

    payment_id: str
    idempotency_key: str | None = Field(default=None, exclude_if=_is_none)


class LineOutcome(Record):
    """Result of PayLineItem: paid with a payment id, or failed with a code and a reason.

    Attributes:
        unconfirmed: Failed, but the payment may have been made.
    """

    status: Literal[LineStatus.PAID, LineStatus.FAILED]
    payment_id: str | None = None
    error: str | None = None
    reason: str | None = None
    unconfirmed: bool = False


class LineReport(Record):
    """One line of a report: what is to be paid, and its status."""

    line: int
    description: str
    amount: Decimal
    due_date: datetime
    status: LineStatus = LineStatus.PENDING
    payment_id: str | None = None
    error: str | None = Field(default=None, description="Stable code of what went wrong, such as INSUFFICIENT_FUNDS")
    reason: str | None = Field(default=None, description="What went wrong, in words")
    unconfirmed: bool = Field(default=False, description="Failed, but the payment may have been made all the same")
    # Omitted when false, as in what earlier releases recorded.
    settled_before: bool = Field(
        default=False,
        exclude_if=lambda settled: not settled,
        description="An earlier submission paid it, or perhaps did; it is not paid twice",
    )
    # Always set in a workflow's report, never in a tool's answer: see `without_idempotency_keys`.
    idempotency_key: SkipJsonSchema[str] = Field(default="", exclude_if=lambda key: not key)


class InvoiceReport(Record):
    """Everything known about an invoice."""

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
    """The report as tools return it: only workflow, ledger and payment gateway see idempotency keys."""
    lines = tuple(line.model_copy(update={"idempotency_key": ""}) for line in report.lines)
    return report.model_copy(update={"lines": lines})


class Submission(BaseModel):
    """Answer of `trigger`: the invoice's execution, and whether this call started it."""

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
    """A report, when it last changed, and what the report leaves out."""

    report: InvoiceReport
    changed_at: datetime
    dismissals: int = Field(default=0, description="How often the form that asks for the decision was dismissed")
