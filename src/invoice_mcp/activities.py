"""The two activities: thin shells that turn the ports' answers into what Temporal retries or does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ValidationError
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from invoice_mcp.erp import Erp, ErpMismatch, ErpUnavailable
from invoice_mcp.errors import Code
from invoice_mcp.invoices import Invoice, faults_of
from invoice_mcp.line_workflow import IN_DOUBT, PAYMENT_GATEWAY
from invoice_mcp.payments import PaymentRefused, Payments, PaymentUnavailable
from invoice_mcp.reports import AcceptedInvoice, PaymentOrder, PaymentReceipt
from invoice_mcp.workflows import VALIDATE_AGAINST_ERP

# A refusal is an answer: no stack trace in the worker's log, no failure in its metrics.
_EXPECTED = ApplicationErrorCategory.BENIGN
_NO_VERDICT = "PAYMENT_GATEWAY_ERROR"


class InvoiceActivities:
    """Validation and payment against the given ports."""

    def __init__(self, erp: Erp, payments: Payments) -> None:
        self._erp = erp
        self._payments = payments

    @activity.defn(name=VALIDATE_AGAINST_ERP)
    async def validate_against_erp(self, accepted: AcceptedInvoice) -> None:
        """Raise ApplicationError: INVOICE_INVALID and MISMATCH are final, ERP_UNAVAILABLE is retried."""
        try:
            # Once more by all the rules: the workflow may have been started by somebody else than `trigger`.
            await self._erp.validate(Invoice.model_validate(accepted.model_dump()))
        except ValidationError as error:
            raise ApplicationError(
                faults_of(error), type=Code.INVOICE_INVALID, non_retryable=True, category=_EXPECTED
            ) from None
        except ErpMismatch as mismatch:
            raise ApplicationError(
                f"the ERP refuses it: {mismatch.reason}", type="MISMATCH", non_retryable=True, category=_EXPECTED
            ) from None
        except ErpUnavailable as trouble:
            raise ApplicationError(f"the ERP can't be reached: {trouble}", type="ERP_UNAVAILABLE") from None

    @activity.defn(name=PAYMENT_GATEWAY)
    async def payment_gateway(self, order: PaymentOrder) -> PaymentReceipt:
        """Pay once, however often it is tried.

        Raise ApplicationError: a refusal is not tried again, the rest is. A refusal of an attempt that is not the first
        has IN_DOUBT in its details: an earlier attempt was left without a verdict, and may have paid.
        """
        try:
            receipt = await self._payments.pay(order)
        except PaymentRefused as refusal:
            details = [IN_DOUBT] if activity.info().attempt > 1 else []
            raise ApplicationError(
                refusal.reason, *details, type=refusal.code, non_retryable=True, category=_EXPECTED
            ) from None
        except PaymentUnavailable as trouble:
            raise ApplicationError(str(trouble), type=_NO_VERDICT) from None
        if receipt.idempotency_key not in {None, order.idempotency_key}:
            raise ApplicationError("the payment system gave the receipt of another payment", type=_NO_VERDICT)
        return PaymentReceipt(payment_id=receipt.payment_id)

    def all(self) -> Sequence[Callable[..., Any]]:
        """Every activity, bound to these ports."""
        return [self.validate_against_erp, self.payment_gateway]
