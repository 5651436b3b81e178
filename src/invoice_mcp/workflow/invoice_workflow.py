"""The workflow of an invoice: validate it, wait for a decision, pay it line by line. Deterministic."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    ChildWorkflowError,
    FailureError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)

from invoice_mcp.workflow.invoice_decisions import InvoiceDecisions

with workflow.unsafe.imports_passed_through():
    from invoice_mcp.domain.errors import ErrorCode
    from invoice_mcp.domain.line_outcomes import line_outcomes, unconfirmed_outcome
    from invoice_mcp.domain.names import VALIDATE_AGAINST_ERP, WORKFLOW_TYPE, line_workflow_id
    from invoice_mcp.domain.report import InvoiceReport, LineStatus, PaymentOrder, Status
    from invoice_mcp.workflow.cancellation import cancel_and_wait, reraise_unless_cancelled, retrieve_exception
    from invoice_mcp.workflow.line_workflow import PayLineItem, describe_failure

# A patch for invoices that release 0.1.0 started. See histories/README.md.
STOPS_LINES_IN_ORDER = "stops-lines-in-order"

_VALIDATION_ATTEMPT = timedelta(seconds=30)
_VALIDATION_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30), maximum_attempts=5
)


@workflow.defn(name=WORKFLOW_TYPE)
class InvoiceWorkflow(InvoiceDecisions):
    """One invoice from submission to its end.

    Input: an InvoiceRequest; anything else fails the execution with INVOICE_INVALID. Completes with an InvoiceReport
    when the invoice is PAID, FAILED, REJECTED or EXPIRED; ends as a cancelled execution when it is CANCELLED. The query
    GetInvoiceReport answers in every case.
    """

    @workflow.run
    async def run(self, request: Any = None) -> InvoiceReport:  # noqa: ARG002 (taken by __init__)
        if self._fault is not None:
            raise ApplicationError(self._fault, type=ErrorCode.INVOICE_INVALID, non_retryable=True)
        try:
            if await self._validate() and await self._await_decision():
                await self._pay()
        except asyncio.CancelledError:
            reraise_unless_cancelled()
            # No payment was requested yet: `_pay` handles cancellation itself.
            self._close(Status.REJECTED if self._is_rejected() else Status.CANCELLED)
        if self._status is Status.CANCELLED:
            raise asyncio.CancelledError
        return self.report()

    async def _validate(self) -> bool:
        """Whether the ERP accepts the invoice. A rejection ends it without waiting for the ERP."""
        self._move_to(Status.PENDING_VALIDATION)
        validation = workflow.start_activity(
            VALIDATE_AGAINST_ERP,
            self._invoice,
            start_to_close_timeout=_VALIDATION_ATTEMPT,
            retry_policy=_VALIDATION_RETRY,
        )
        retrieve_exception(validation)
        await workflow.wait_condition(lambda: validation.done() or self._is_rejected())
        if self._is_rejected():
            validation.cancel()
            self._close(Status.REJECTED)
            return False
        try:
            await validation
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise asyncio.CancelledError from error
            _, words = describe_failure(error)
            self._close(Status.FAILED, words)
            return False
        return True

    async def _await_decision(self) -> bool:
        """Whether the invoice was approved in time."""
        self._deadline = workflow.now() + self._policy.approval_timeout
        self._move_to(Status.PENDING_APPROVAL)
        deadline = asyncio.create_task(self._await_deadline())
        try:
            await workflow.wait_condition(self._is_decision_phase_over)
        except asyncio.CancelledError:
            reraise_unless_cancelled()
            if self._pending_decision is not None:
                # The decision came before the cancellation. Whether it counts depends on its timer and the deadline's.
                await workflow.wait_condition(self._is_decision_phase_over)
            await cancel_and_wait(deadline)
            raise
        # Not in a `finally`: Python also runs that when it closes the coroutine, and nothing can be awaited then.
        await cancel_and_wait(deadline)
        if self._decision is None:
            workflow.logger.info("No decision in time")
            self._close(Status.EXPIRED)
        elif self._is_rejected():
            self._close(Status.REJECTED)
        else:
            self._move_to(Status.APPROVED)
        return self._status is Status.APPROVED

    def _is_decision_phase_over(self) -> bool:
        """Whether there is a decision, or the deadline has passed; and all updates are answered."""
        return (self._decision is not None or self._deadline_passed) and not self._pending_updates

    async def _await_deadline(self) -> None:
        """Wait for the deadline.

        A task of its own, not a timeout of `wait_condition`: when this timer and the timer that confirms a decision
        fire in the same workflow task, both are seen in the order in which they fired.
        """
        await workflow.sleep(self._policy.approval_timeout, summary="approval deadline")
        self._deadline_passed = True

    async def _pay(self) -> None:
        self._move_to(Status.PAYING)
        payments = [asyncio.create_task(self._pay_line(order)) for order in self._orders]

        def settled() -> bool:
            return all(payment.done() for payment in payments)

        try:
            await workflow.wait_condition(settled)
        except asyncio.CancelledError:
            reraise_unless_cancelled()
            self._cancelling = True
            self._changed_at = workflow.now()
            if workflow.patched(STOPS_LINES_IN_ORDER):
                await self._stop_lines()
            else:
                await asyncio.gather(*(self._cancel_line(line.line) for line in self._lines))
            await workflow.wait_condition(settled)
        for payment in payments:
            payment.result()
        statuses = {line.status for line in self._lines}
        if statuses == {LineStatus.PAID}:
            self._move_to(Status.PAID)
        elif self._cancelling and LineStatus.CANCELLED in statuses:
            self._close(Status.CANCELLED)
        else:
            self._close(Status.FAILED)

    async def _pay_line(self, order: PaymentOrder) -> None:
        workflow_id = line_workflow_id(workflow.info().workflow_id, order.line)
        if self._is_cancelling():
            self._update_line(order.line, status=LineStatus.CANCELLED)
            return
        try:
            payment = await workflow.start_child_workflow(PayLineItem.run, order, id=workflow_id)
            self._started_lines.add(order.line)
            self._update_line(order.line, status=LineStatus.SCHEDULED)
            if self._is_cancelling() and not workflow.patched(STOPS_LINES_IN_ORDER):
                await self._cancel_line(order.line)
            for number, outcome in line_outcomes(self._lines, order.line, await payment).items():
                self._update_line(number, **outcome.model_dump())
        except (ChildWorkflowError, WorkflowAlreadyStartedError) as error:
            if is_cancelled_exception(error):
                self._update_line(order.line, status=LineStatus.CANCELLED)
                return
            # PayLineItem returns a failed payment as its result. So this one was ended from outside.
            code, words = describe_failure(error)
            self._update_line(order.line, **unconfirmed_outcome(code, words).model_dump())

    async def _stop_lines(self) -> None:
        """Request cancellation of every line that has not ended. Each line decides whether it can still stop.

        The requests and their order depend only on which lines had ended and on the order of the lines. They must not
        depend on `workflow.now()`: a replay may see a later time.
        """
        beginning = [line.line for line in self._lines if line.status is LineStatus.PENDING]
        waiting = [line.line for line in self._lines if line.status is LineStatus.SCHEDULED]
        requests = [asyncio.create_task(self._stop_line(number)) for number in waiting]
        for number in beginning:
            await workflow.wait_condition(partial(self._is_start_resolved, number))
            if number in self._started_lines:
                requests.append(asyncio.create_task(self._stop_line(number)))
        await asyncio.gather(*requests)

    def _is_start_resolved(self, number: int) -> bool:
        """Whether the start of a line has succeeded or failed."""
        return self._lines[number - 1].status is not LineStatus.PENDING

    async def _cancel_line(self, number: int) -> None:
        """As release 0.1.0 did: request cancellation of a line whose due date is ahead, by `workflow.now()`.

        Not deterministic, hence the patch: a replay that answers a query may see another time, and request other lines.
        """
        line = self._lines[number - 1]
        if line.status is LineStatus.SCHEDULED and line.due_date > workflow.now():
            await self._stop_line(number)

    async def _stop_line(self, number: int) -> None:
        """Request cancellation of one line.

        By an external request, not by cancelling the task that awaits the child: a result that arrives together with
        the cancellation would be lost with that task, and a paid line be reported as cancelled.
        """
        child = workflow.get_external_workflow_handle(line_workflow_id(workflow.info().workflow_id, number))
        try:
            await child.cancel()
        except FailureError as error:
            workflow.logger.info("Line %d had already ended: %s", number, error)

    def _is_cancelling(self) -> bool:
        return self._cancelling
