"""Line workflows with faults in payments."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, RetryState

with workflow.unsafe.imports_passed_through():
    from invoice_mcp.domain.line_outcomes import unconfirmed_outcome
    from invoice_mcp.domain.names import PAYMENT_GATEWAY
    from invoice_mcp.domain.report import LineOutcome, LineStatus, PaymentOrder, PaymentReceipt
    from invoice_mcp.workflow.line_workflow import PayLineItem, describe_failure
    from tests.scenarios.controls.replacement import in_place_of_line


@in_place_of_line
class PaysTwiceOnRetry(PayLineItem):
    """Uses one idempotency key per attempt instead of one per line."""

    async def _run(self, order: PaymentOrder) -> LineOutcome:
        if (wait := order.due_date - workflow.now()) > timedelta(0):
            await workflow.sleep(wait)
        attempt = 1
        while True:
            try:
                receipt: PaymentReceipt = await workflow.execute_activity(
                    PAYMENT_GATEWAY,
                    order.model_copy(update={"idempotency_key": f"{order.idempotency_key}-{attempt}"}),
                    result_type=PaymentReceipt,
                    start_to_close_timeout=timedelta(seconds=30),
                    retry_policy=RetryPolicy(maximum_attempts=1),
                )
            except ActivityError as error:
                code, words = describe_failure(error)
                if error.retry_state is RetryState.NON_RETRYABLE_FAILURE:
                    return LineOutcome(status=LineStatus.FAILED, error=code, reason=words)
                if attempt == 3:
                    return unconfirmed_outcome(code, words)
                attempt += 1
            else:
                return LineOutcome(status=LineStatus.PAID, payment_id=receipt.payment_id)


@in_place_of_line
class IgnoresTheDueDate(PayLineItem):
    """Pays at once, ignoring the due date."""

    async def _run(self, order: PaymentOrder) -> LineOutcome:
        return await PayLineItem.run(self, order.model_copy(update={"due_date": workflow.now()}))


@in_place_of_line
class PaysAnHourEarly(PayLineItem):
    """Pays an hour before it is due."""

    async def _run(self, order: PaymentOrder) -> LineOutcome:
        return await PayLineItem.run(self, order.model_copy(update={"due_date": order.due_date - timedelta(hours=1)}))


@in_place_of_line
class ForgetsTheCents(PayLineItem):
    """Pays whole units only."""

    async def _run(self, order: PaymentOrder) -> LineOutcome:
        return await PayLineItem.run(self, order.model_copy(update={"amount": order.amount.quantize(Decimal(1))}))


@in_place_of_line
class DoubtsARefusal(PayLineItem):
    """Reports a refused payment as one that may have been made."""

    async def _run(self, order: PaymentOrder) -> LineOutcome:
        outcome = await PayLineItem.run(self, order)
        return outcome.model_copy(update={"unconfirmed": outcome.status is LineStatus.FAILED})


@in_place_of_line
class SureOfNoAnswer(PayLineItem):
    """Reports a payment without an answer as one that was not made."""

    async def _run(self, order: PaymentOrder) -> LineOutcome:
        outcome = await PayLineItem.run(self, order)
        return outcome.model_copy(update={"unconfirmed": False})


@in_place_of_line
class SureOfARepeatedRefusal(PayLineItem):
    """Treats every refusal as certain, even after an attempt without a verdict."""

    async def _run(self, order: PaymentOrder) -> LineOutcome:
        outcome = await PayLineItem.run(self, order)
        is_refused = (outcome.reason or "").startswith("A repeated request was refused")
        return outcome.model_copy(update={"unconfirmed": outcome.unconfirmed and not is_refused})


@in_place_of_line
class CountsFailedAsPaid(PayLineItem):
    """Reports a refused payment as made."""

    async def _run(self, order: PaymentOrder) -> LineOutcome:
        outcome = await PayLineItem.run(self, order)
        return outcome.model_copy(update={"status": LineStatus.PAID})
