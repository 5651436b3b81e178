"""The workflow of an invoice: it is validated, waits for a decision, and is paid line by line. Deterministic."""

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

# A change since release 0.1.0, for the invoices that it began. See histories/README.md.
STOPS_LINES_IN_ORDER = "stops-lines-in-order"

_VALIDATION_ATTEMPT = timedelta(seconds=30)
_VALIDATION_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30), maximum_attempts=5
)


@workflow.defn(name=WORKFLOW_TYPE)
class InvoiceWorkflow(InvoiceDecisions):
    """One invoice from submission to its end.

    Takes an InvoiceRequest. Completes with an InvoiceReport when the invoice is PAID, FAILED, REJECTED or EXPIRED, and
    ends as a cancelled execution when it is CANCELLED; the query GetInvoiceReport answers in every case. An input that
    is no InvoiceRequest fails the execution with INVOICE_INVALID.
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
            # Nothing was asked to be paid yet: _pay handles cancellation itself.
            self._close(Status.REJECTED if self._is_rejected() else Status.CANCELLED)
        if self._status is Status.CANCELLED:
            raise asyncio.CancelledError
        return self.report()

    async def _validate(self) -> bool:
        """Whether the invoice goes on to wait for its decision. A rejection need not wait for the ERP."""
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
            await workflow.wait_condition(self._is_settled)
        except asyncio.CancelledError:
            reraise_unless_cancelled()
            if self._unconfirmed is not None:
                # The decision came first: whether it counts, its confirmation and the deadline tell.
                await workflow.wait_condition(self._is_settled)
            await cancel_and_wait(deadline)
            raise
        # Not in a `finally`, where Python comes too when it throws the coroutine away: nothing can be awaited then.
        await cancel_and_wait(deadline)
        if self._decision is None:
            workflow.logger.info("No decision in time")
            self._close(Status.EXPIRED)
        elif self._is_rejected():
            self._close(Status.REJECTED)
        else:
            self._move_to(Status.APPROVED)
        return self._status is Status.APPROVED

    def _is_settled(self) -> bool:
        """Whether there is a decision, or none can come any more; and all updates are answered."""
        return (self._decision is not None or self._deadline_passed) and not self._updates_waiting

    async def _await_deadline(self) -> None:
        """Wait for the deadline.

        As a task of its own, not as a time-out: where this timer and that of a signal's confirmation have fired by the
        same task, both are seen in the order in which they fired.
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
            self._started.add(order.line)
            self._update_line(order.line, status=LineStatus.SCHEDULED)
            if self._is_cancelling() and not workflow.patched(STOPS_LINES_IN_ORDER):
                await self._cancel_line(order.line)
            for number, outcome in line_outcomes(self._lines, order.line, await payment).items():
                self._update_line(number, **outcome.model_dump())
        except (ChildWorkflowError, WorkflowAlreadyStartedError) as error:
            if is_cancelled_exception(error):
                self._update_line(order.line, status=LineStatus.CANCELLED)
                return
            # PayLineItem reports a failed payment as its result. Here somebody ended it from outside.
            code, words = describe_failure(error)
            self._update_line(order.line, **unconfirmed_outcome(code, words).model_dump())

    async def _stop_lines(self) -> None:
        """Ask every line that has not ended to stop. Each knows itself whether it still waits for its due date.

        Which requests there are, and in which order, follows from which lines had ended, and from the order of the
        lines. It may not follow from the clock: a replay may see a later time.
        """
        beginning = [line.line for line in self._lines if line.status is LineStatus.PENDING]
        waiting = [line.line for line in self._lines if line.status is LineStatus.SCHEDULED]
        requests = [asyncio.create_task(self._stop_line(number)) for number in waiting]
        for number in beginning:
            await workflow.wait_condition(partial(self._is_known, number))
            if number in self._started:
                requests.append(asyncio.create_task(self._stop_line(number)))
        await asyncio.gather(*requests)

    def _is_known(self, number: int) -> bool:
        """Whether a line has been started, or can't be."""
        return self._lines[number - 1].status is not LineStatus.PENDING

    async def _cancel_line(self, number: int) -> None:
        """As release 0.1.0 did: ask a line to stop that seems to wait for its due date.

        The clock may be behind where a query was answered from a replay. Then the replay asks other lines.
        """
        line = self._lines[number - 1]
        if line.status is LineStatus.SCHEDULED and line.due_date > workflow.now():
            await self._stop_line(number)

    async def _stop_line(self, number: int) -> None:
        """Ask one line to stop.

        By an external request, not by cancelling our task: a result that arrives together with the cancellation
        would be lost with the task, and a paid line reported as cancelled.
        """
        child = workflow.get_external_workflow_handle(line_workflow_id(workflow.info().workflow_id, number))
        try:
            await child.cancel()
        except FailureError as error:
            workflow.logger.info("Line %d had already ended: %s", number, error)

    def _is_cancelling(self) -> bool:
        return self._cancelling
