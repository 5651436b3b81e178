"""The two activities: thin shells that turn the ports' answers into what Temporal retries or does not."""

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

# A refusal is an answer: no stack trace in the worker's log, no failure in its metrics.
_EXPECTED = ApplicationErrorCategory.BENIGN
_NO_VERDICT = "PAYMENT_GATEWAY_ERROR"
NOT_AWAITED = "NOT_AWAITED"
"""Code of a payment that no invoice waits for."""

ParentLookup = Callable[[str, str], Awaitable[Parent]]
"""Who waits for a line's workflow, by the workflow's id and run id; may raise RPCError."""


class InvoiceActivities:
    """Validation and payment against the given ports."""

    def __init__(self, erp: Erp, payments: Payments, find_parent: ParentLookup | None = None) -> None:
        """Use these ports.

        Args:
            who_waits: Asked before each payment: one that no invoice waits for is not made. None: every one is.
        """
        self._erp = erp
        self._payments = payments
        self._who_waits = find_parent

    @activity.defn(name=VALIDATE_AGAINST_ERP)
    async def validate_against_erp(self, accepted: AcceptedInvoice) -> None:
        """Raise ApplicationError: INVOICE_INVALID and MISMATCH are final, ERP_UNAVAILABLE is retried."""
        try:
            # Once more by all the rules: the workflow may have been started by somebody else than `trigger`.
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
        """Pay once, however often it is tried.

        Raise ApplicationError: a refusal is not tried again, the rest is. A refusal of an attempt that may not be the
        first has IN_DOUBT in its details: an earlier attempt was left without a verdict, and may have paid. NOT_AWAITED
        is always such a refusal, by ourselves: the gateway is not asked.
        """
        is_reset = await self._require_awaited()
        try:
            receipt = await self._payments.pay(order)
        except PaymentRefusedError as refusal:
            raise _refused(refusal.code, refusal.reason, in_doubt=is_reset or _may_have_been_tried()) from None
        except PaymentUnavailableError as trouble:
            raise ApplicationError(str(trouble), type=_NO_VERDICT) from None
        if receipt.idempotency_key not in {None, order.idempotency_key}:
            raise ApplicationError("the payment system gave the receipt of another payment", type=_NO_VERDICT)
        return PaymentReceipt(payment_id=receipt.payment_id)

    async def _require_awaited(self) -> bool:
        """Whether the run that an invoice waits for was reset. Refuses where none waits."""
        info = activity.info()
        if self._who_waits is None:
            return False
        try:
            who = await self._who_waits(info.workflow_id or "", info.workflow_run_id or "")
        except RPCError as trouble:
            message = f"whether the invoice still waits for it can't be asked: {trouble}"
            raise ApplicationError(message, type=ErrorCode.TEMPORAL_UNAVAILABLE) from None
        if who is Parent.NOBODY:
            # Whether it was paid before, when one did, nobody has looked.
            raise _refused(NOT_AWAITED, "no invoice waits for this payment: its run was reset or ended", in_doubt=True)
        return who is Parent.INVOICE_AFTER_RESET

    def all(self) -> Sequence[Callable[..., Any]]:
        """Every activity, bound to these ports."""
        return [self.validate_against_erp, self.payment_gateway]


def _may_have_been_tried() -> bool:
    """Whether an attempt may have come before this one. A reset of the activity counts attempts from 1 again."""
    info = activity.info()
    return info.attempt > 1 or info.current_attempt_scheduled_time > info.scheduled_time


def _refused(code: str, reason: str, *, in_doubt: bool) -> ApplicationError:
    """The final word against this attempt; where it is in doubt, earlier ones may have paid."""
    details = [IN_DOUBT] if in_doubt else []
    return ApplicationError(reason, *details, type=code, non_retryable=True, category=_EXPECTED)
