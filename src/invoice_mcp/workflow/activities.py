"""The two activities: validation and payment. They translate the ports' errors to what Temporal retries or not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from pydantic import ValidationError
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError

from invoice_mcp.adapters.erp import Erp, ErpMismatchError, ErpUnavailableError
from invoice_mcp.adapters.payments import PaymentRefusedError, Payments, PaymentUnavailableError
from invoice_mcp.domain.errors import ErrorCode
from invoice_mcp.domain.invoice import Invoice, describe_faults
from invoice_mcp.domain.names import PAYMENT_GATEWAY, VALIDATE_AGAINST_ERP
from invoice_mcp.domain.report import AcceptedInvoice, PaymentOrder, PaymentReceipt
from invoice_mcp.workflow.line_workflow import IN_DOUBT
from invoice_mcp.workflow.parent_lookup import Parent

# A refusal is a regular result: for BENIGN failures the SDK logs no stack trace and counts no failure.
_EXPECTED = ApplicationErrorCategory.BENIGN
_NO_VERDICT = "PAYMENT_GATEWAY_ERROR"
NOT_AWAITED = "NOT_AWAITED"
"""Error code of a payment that no invoice waits for."""

ParentLookup = Callable[[str, str], Awaitable[Parent]]
"""(workflow id, run id) of a line's workflow -> whether an invoice waits for it; may raise RPCError."""


class InvoiceActivities:
    """Validation and payment against the given ports."""

    def __init__(self, erp: Erp, payments: Payments, find_parent: ParentLookup | None = None) -> None:
        """Create the activities.

        Args:
            find_parent: Called before each payment; a payment that no invoice waits for is refused. None: no check.
        """
        self._erp = erp
        self._payments = payments
        self._find_parent = find_parent

    @activity.defn(name=VALIDATE_AGAINST_ERP)
    async def validate_against_erp(self, accepted: AcceptedInvoice) -> None:
        """Validate the invoice.

        Raises:
            ApplicationError: INVOICE_INVALID and MISMATCH are final, ERP_UNAVAILABLE is retried.
        """
        try:
            # Validated again by all rules of `Invoice`: another client than `trigger` may have started the workflow.
            await self._erp.validate(Invoice.model_validate(accepted.model_dump()))
        except ValidationError as error:
            raise ApplicationError(
                describe_faults(error), type=ErrorCode.INVOICE_INVALID, non_retryable=True, category=_EXPECTED
            ) from None
        except ErpMismatchError as mismatch:
            raise ApplicationError(
                f"the ERP refuses it: {mismatch.reason}", type="MISMATCH", non_retryable=True, category=_EXPECTED
            ) from None
        except ErpUnavailableError as trouble:
            raise ApplicationError(f"the ERP can't be reached: {trouble}", type="ERP_UNAVAILABLE") from None

    @activity.defn(name=PAYMENT_GATEWAY)
    async def payment_gateway(self, order: PaymentOrder) -> PaymentReceipt:
        """Pay a line once, however many attempts there are.

        Raises:
            ApplicationError: A refusal is final, everything else is retried. A refusal of an attempt that may not be
                the first has IN_DOUBT in its details: an earlier attempt got no verdict, and may have paid. NOT_AWAITED
                always has it; then the gateway is not called.
        """
        is_reset = await self._require_parent()
        try:
            receipt = await self._payments.pay(order)
        except PaymentRefusedError as refusal:
            raise _refused(refusal.code, refusal.reason, in_doubt=is_reset or _may_have_been_tried()) from None
        except PaymentUnavailableError as trouble:
            raise ApplicationError(str(trouble), type=_NO_VERDICT) from None
        if receipt.idempotency_key not in {None, order.idempotency_key}:
            raise ApplicationError("the payment system gave the receipt of another payment", type=_NO_VERDICT)
        return PaymentReceipt(payment_id=receipt.payment_id)

    async def _require_parent(self) -> bool:
        """Whether the line's run was reset. Refuses the payment if no invoice waits for it."""
        info = activity.info()
        if self._find_parent is None:
            return False
        try:
            parent = await self._find_parent(info.workflow_id or "", info.workflow_run_id or "")
        except RPCError as trouble:
            message = f"whether the invoice still waits for it can't be asked: {trouble}"
            raise ApplicationError(message, type=ErrorCode.TEMPORAL_UNAVAILABLE) from None
        if parent is Parent.NONE:
            # In doubt: an earlier attempt, while an invoice still waited, may have paid.
            raise _refused(NOT_AWAITED, "no invoice waits for this payment: its run was reset or ended", in_doubt=True)
        return parent is Parent.WAITING_FOR_RESET_LINE

    def all(self) -> Sequence[Callable[..., Any]]:
        """Every activity, bound to these ports."""
        return [self.validate_against_erp, self.payment_gateway]


def _may_have_been_tried() -> bool:
    """Whether this may not be the first attempt. Resetting an activity restarts its count of attempts at 1."""
    info = activity.info()
    return info.attempt > 1 or info.current_attempt_scheduled_time > info.scheduled_time


def _refused(code: str, reason: str, *, in_doubt: bool) -> ApplicationError:
    """A final refusal of this attempt. In doubt: earlier attempts may have paid."""
    details = [IN_DOUBT] if in_doubt else []
    return ApplicationError(reason, *details, type=code, non_retryable=True, category=_EXPECTED)
