"""State and queries of an invoice's workflow. Deterministic."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from pydantic import ValidationError

    from invoice_mcp.domain.errors import ErrorCode
    from invoice_mcp.domain.invoice import describe_faults
    from invoice_mcp.domain.names import INVOICE_STATUS
    from invoice_mcp.domain.report import (
        Decision,
        InvoiceReport,
        InvoiceRequest,
        LineReport,
        LineStatus,
        PaymentOrder,
        Standing,
        Status,
        Verdict,
    )
    from invoice_mcp.domain.summary import with_summary

STATUS_KEY = SearchAttributeKey.for_keyword(INVOICE_STATUS)
"""Key of the search attribute that holds the invoice's status."""


class InvoiceState:
    """State and queries of `InvoiceWorkflow`. Subclasses change it by `_move_to`, `_update_line` and `_close`."""

    @workflow.init
    def __init__(self, request: Any = None) -> None:
        # Decoded here, not by the type hint: an input that the SDK can't decode fails every workflow task, for ever.
        self._fault: str | None = None
        self._changed_at = workflow.now()
        try:
            self._initialize(InvoiceRequest.model_validate(request))
        except ValidationError as error:
            self._fault = describe_faults(error)

    def _initialize(self, request: InvoiceRequest) -> None:
        self._invoice = request.invoice
        self._policy = request.policy
        self._status = Status.INITIALIZING
        self._decision: Decision | None = None
        # Taken by a signal, or by an update that may be late. It counts once a timer has confirmed it.
        self._pending_decision: Decision | None = None
        self._pending_updates = 0
        self._deadline_passed = False
        self._deadline: datetime | None = None
        self._reason: str | None = None
        self._cancelling = False
        self._dismissals = 0
        self._refused_signals = 0
        self._started_lines: set[int] = set()
        self._orders = [PaymentOrder.for_line(self._invoice, n) for n in range(1, len(self._invoice.lines) + 1)]
        self._lines = [
            LineReport(
                line=order.line,
                description=order.description,
                amount=order.amount,
                due_date=order.due_date,
                settled_before=order.line in request.settled,
                idempotency_key=order.idempotency_key,
            )
            for order in self._orders
        ]

    def _update_line(self, number: int, **changes: object) -> None:
        self._lines[number - 1] = self._lines[number - 1].model_copy(update=changes)
        self._changed_at = workflow.now()

    def _move_to(self, status: Status) -> None:
        self._status = status
        self._changed_at = workflow.now()
        if self._policy.index_status:
            workflow.upsert_search_attributes([STATUS_KEY.value_set(status.value)])

    def _close(self, status: Status, reason: str | None = None) -> None:
        """End without full payment. Lines whose payment was never requested become NOT_PAID."""
        self._reason = reason or (workflow.cancellation_reason() if status is Status.CANCELLED else None) or None
        for line in self._lines:
            if line.status is LineStatus.PENDING:
                self._update_line(line.line, status=LineStatus.NOT_PAID)
        self._move_to(status)

    @workflow.query(name="GetInvoiceReport")
    def report(self) -> InvoiceReport:
        """Everything known of the invoice."""
        if self._fault is not None:
            raise ApplicationError(
                f"it was started with no valid invoice: {self._fault}", type=ErrorCode.INVOICE_INVALID
            )
        info = workflow.info()
        open_status = "CANCELED" if self._status is Status.CANCELLED else "COMPLETED"
        report = InvoiceReport(
            workflow_id=info.workflow_id,
            run_id=info.run_id,
            invoice_id=self._invoice.invoice_id,
            customer=self._invoice.customer,
            currency=self._invoice.currency,
            total=self._invoice.total,
            status=self._status,
            workflow_status=open_status if self._status.is_terminal else "RUNNING",
            decision=self._decision,
            approval_deadline=self._deadline,
            reason=self._reason,
            cancelling=self._cancelling and not self._status.is_terminal,
            refused_signals=self._refused_signals,
            lines=tuple(self._lines),
            summary="",
        )
        return with_summary(report)

    @workflow.query(name="GetInvoiceStanding")
    def standing(self) -> Standing:
        """The report, and when it last changed."""
        return Standing(report=self.report(), changed_at=self._changed_at, dismissals=self._dismissals)

    @workflow.query(name="GetInvoiceStatus")
    def status(self) -> str:
        """The status alone. A query of the original sample."""
        return self._status.value

    @workflow.query(name="IsInvoiceApproved")
    def is_approved(self) -> bool:
        """Whether the invoice is approved. A query of the original sample; fails while there is no decision."""
        if self._decision is None:
            raise ApplicationError("Invoice approval status is not set yet.")
        return self._decision.verdict is Verdict.APPROVED
