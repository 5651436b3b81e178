"""The workflow that pays one line on its due date. Deterministic."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, RetryState

with workflow.unsafe.imports_passed_through():
    from pydantic import ValidationError

    from invoice_mcp.domain.line_outcomes import repeated_refusal, unconfirmed_outcome
    from invoice_mcp.domain.names import LINE_WORKFLOW_TYPE, PAYMENT_GATEWAY
    from invoice_mcp.domain.report import LineOutcome, LineStatus, PaymentOrder, PaymentReceipt
    from invoice_mcp.workflow.cancellation import reraise_unless_cancelled


IN_DOUBT: Mapping[str, bool] = {"unconfirmed": True}
"""Failure detail of a refusal after an attempt without a verdict. Activities of release 0.1.0 did not set it."""

# A patch for lines that release 0.1.0 started. See histories/README.md.
COUNTS_DOWN = "counts-down-to-due-date"

_ATTEMPT = timedelta(seconds=30)
# The server fires every timer after a hundred years at the latest.
_LONGEST_TIMER = timedelta(days=90 * 365)
_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    maximum_interval=timedelta(seconds=30),
    maximum_attempts=3,
    non_retryable_error_types=["INSUFFICIENT_FUNDS"],
)


# An input that does not decode fails the execution; otherwise every workflow task would fail, for ever.
@workflow.defn(name=LINE_WORKFLOW_TYPE, failure_exception_types=[ValidationError])
class PayLineItem:
    """Pays one line on its due date. Cancelled before that, it pays nothing; a payment under way finishes."""

    @workflow.run
    async def run(self, order: PaymentOrder) -> LineOutcome:
        await _wait_for_due_date(order)
        if workflow.cancellation_reason() is not None:
            raise asyncio.CancelledError
        payment = workflow.start_activity(
            PAYMENT_GATEWAY,
            order,
            result_type=PaymentReceipt,
            start_to_close_timeout=_ATTEMPT,
            retry_policy=_RETRY,
        )
        while not payment.done():
            try:
                await workflow.wait_condition(payment.done)
            except asyncio.CancelledError:
                reraise_unless_cancelled()
                workflow.logger.info("Cancelled while paying: the payment under way is waited for")
        try:
            receipt = payment.result()
        except ActivityError as error:
            code, words = describe_failure(error)
            if error.retry_state is not RetryState.NON_RETRYABLE_FAILURE:
                return unconfirmed_outcome(code, words)
            if _is_in_doubt(error):
                return unconfirmed_outcome(code, repeated_refusal(words))
            return LineOutcome(status=LineStatus.FAILED, error=code, reason=words)
        return LineOutcome(status=LineStatus.PAID, payment_id=receipt.payment_id)


async def _wait_for_due_date(order: PaymentOrder) -> None:
    """Wait for the due date of a line.

    Only the first workflow task compares it with `workflow.now()`, which may be behind in later tasks. The timers are
    reliable: the server starts a timer when the task completes, so it never fires before the due date.
    """
    wait = order.due_date - workflow.now()
    summary = f"due date of line {order.line}"
    if wait > _LONGEST_TIMER and not workflow.patched(COUNTS_DOWN):
        # As in release 0.1.0.
        while (wait := order.due_date - workflow.now()) > timedelta(0):
            await workflow.sleep(min(wait, _LONGEST_TIMER), summary=summary)
        return
    while wait > timedelta(0):
        timer = min(wait, _LONGEST_TIMER)
        await workflow.sleep(timer, summary=summary)
        wait -= timer


def describe_failure(error: FailureError) -> tuple[str, str]:
    """Code and message of the cause of an ActivityError or ChildWorkflowError."""
    cause = error.cause
    if isinstance(cause, ApplicationError):
        return cause.type or "ERROR", cause.message
    kind = type(cause or error).__name__.removesuffix("Error").upper()
    return kind, str(cause or error)


def _is_in_doubt(error: ActivityError) -> bool:
    """Whether a refusal followed an attempt without a verdict."""
    cause = error.cause
    details = cause.details if isinstance(cause, ApplicationError) else ()
    return any(isinstance(detail, Mapping) and detail.get("unconfirmed") is True for detail in details)
