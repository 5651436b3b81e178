"""The workflows: an invoice is validated, waits for a person, is paid line by line. Deterministic code only."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    ChildWorkflowError,
    FailureError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)

with workflow.unsafe.imports_passed_through():
    from pydantic import ValidationError

    from invoice_mcp.domain.decision import require_open_for
    from invoice_mcp.domain.errors import ErrorCode, RefusedError
    from invoice_mcp.domain.invoice import describe_faults
    from invoice_mcp.domain.names import (
        INVOICE_STATUS,
        VALIDATE_AGAINST_ERP,
        WORKFLOW_TYPE,
        line_workflow_id,
    )
    from invoice_mcp.domain.report import (
        Confirmation,
        Decision,
        DecisionRequest,
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
    from invoice_mcp.workflow.abandon import give_up, may_be_given_up
    from invoice_mcp.workflow.line_workflow import (
        PayLineItem,
        describe_failure,
        line_outcomes,
        reraise_unless_cancelled,
        unconfirmed_outcome,
    )

_STATUS = SearchAttributeKey.for_keyword(INVOICE_STATUS)

# Changes since release 0.1.0, for the invoices that it began. See histories/README.md.
STOPS_LINES_IN_ORDER = "stops-lines-in-order"
CONFIRMS_SIGNALS = "confirms-signals"
REFUSES_SIGNALS = "refuses-signals"
# Since 0.2.0.
CONFIRMS_LATE_UPDATES = "confirms-late-updates"

# The shortest timer that servers keep.
_NEXT_TASK = timedelta(milliseconds=1)
# Each is kept in the history, which has its limits; a host may dismiss every form by itself.
MOST_DISMISSALS = 20

_VALIDATION_ATTEMPT = timedelta(seconds=30)
_VALIDATION_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30), maximum_attempts=5
)


async def _cancel(task: asyncio.Task[Any]) -> None:
    """Cancel a task that waits for a timer, and the timer now, before whatever comes next."""
    task.cancel()
    await workflow.wait([task])


@workflow.defn(name=WORKFLOW_TYPE)
class InvoiceWorkflow:
    """One invoice from submission to its end.

    Takes an InvoiceRequest. Completes with an InvoiceReport when the invoice is PAID, FAILED, REJECTED or EXPIRED, and
    ends as a cancelled execution when it is CANCELLED; the query GetInvoiceReport answers in every case. An input that
    is no InvoiceRequest fails the execution with INVOICE_INVALID.
    """

    @workflow.init
    def __init__(self, request: Any = None) -> None:
        # Decoded here, not by its type: an input that does not decode would fail the workflow's tasks for ever.
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
        # By a signal, or an update that may be late: it waits for a timer of its own.
        self._unconfirmed: Decision | None = None
        self._updates_waiting = 0
        self._deadline_passed = False
        self._deadline: datetime | None = None
        self._reason: str | None = None
        self._cancelling = False
        self._dismissals = 0
        self._refused_signals = 0
        self._started: set[int] = set()
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
        may_be_given_up(validation)
        await workflow.wait_condition(lambda: validation.done() or self._is_rejected())
        if self._is_rejected():
            give_up(validation)
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
            await _cancel(deadline)
            raise
        # Not in a `finally`, where Python comes too when it throws the coroutine away: nothing can be awaited then.
        await _cancel(deadline)
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

    def _update_line(self, number: int, **changes: object) -> None:
        self._lines[number - 1] = self._lines[number - 1].model_copy(update=changes)
        self._changed_at = workflow.now()

    def _move_to(self, status: Status) -> None:
        self._status = status
        self._changed_at = workflow.now()
        if self._policy.index_status:
            workflow.upsert_search_attributes([_STATUS.value_set(status.value)])

    def _close(self, status: Status, reason: str | None = None) -> None:
        """End without (full) payment: lines nobody asked to be paid are told as such."""
        self._reason = reason or (workflow.cancellation_reason() if status is Status.CANCELLED else None) or None
        for line in self._lines:
            if line.status is LineStatus.PENDING:
                self._update_line(line.line, status=LineStatus.NOT_PAID)
        self._move_to(status)

    # -- decisions: the first one is final -----------------------------------------------------------------

    def _is_rejected(self) -> bool:
        return self._decision is not None and self._decision.verdict is Verdict.REJECTED

    def _require_open_for(self, verdict: Verdict, *, deadline: datetime | None) -> None:
        if self._fault is not None:
            raise RefusedError(ErrorCode.INVOICE_INVALID, self._fault)
        status, now = self._status, workflow.now()
        require_open_for(verdict, status=status, made=self._decision, deadline=deadline, now=now)
        if self._decision is None:
            # What waits to be confirmed came first. It may have come too late; so what repeats it is held against the
            # deadline, too.
            require_open_for(verdict, status=status, made=self._unconfirmed, deadline=None, now=now)

    def _validate_update(self, verdict: Verdict, decision: DecisionRequest) -> None:
        # A JSON null passes for any type; accepted, it would fail the workflow's tasks for ever.
        if not isinstance(decision, DecisionRequest):
            raise ApplicationError("it takes a DecisionRequest", type=ErrorCode.INVALID_ARGUMENT, non_retryable=True)
        if decision.confirmation is Confirmation.SIGNAL:
            raise ApplicationError("an update is no signal", type=ErrorCode.INVALID_ARGUMENT, non_retryable=True)
        try:
            # The deadline that is told may be too early: whether it is over, the handler finds out.
            self._require_open_for(verdict, deadline=None)
        except RefusedError as refusal:
            raise ApplicationError(refusal.message, type=refusal.code, non_retryable=True) from None

    def _decide(self, verdict: Verdict, request: DecisionRequest) -> None:
        if self._decision is None:
            # What is not confirmed yet came first; whatever counts now shows that it was in time.
            self._decision = self._unconfirmed or self._decision_of(verdict, request)
            self._changed_at = workflow.now()

    def _decision_of(self, verdict: Verdict, request: DecisionRequest) -> Decision:
        return Decision(verdict=verdict, at=workflow.now(), **request.model_dump())

    async def _decide_by_update(self, verdict: Verdict, request: DecisionRequest) -> InvoiceReport:
        if self._may_be_late():
            self._unconfirmed = self._unconfirmed or self._decision_of(verdict, request)
            if not await self._is_confirmed():
                text = "the time to decide has ended"
                raise ApplicationError(text, type=ErrorCode.ALREADY_CLOSED, non_retryable=True)
        self._decide(verdict, request)
        return self.report()

    def _may_be_late(self) -> bool:
        """Whether an update that would decide may come after the deadline.

        It comes with its own task's time. But the deadline was counted from a clock that may have been behind, and then
        is too early until a replay counts anew. So this asks what a replay is told alike: when the invoice was started.
        """
        if self._deadline is None or self._decision is not None:
            return False
        first_deadline = workflow.info().workflow_start_time + self._policy.approval_timeout
        return workflow.now() >= first_deadline and workflow.patched(CONFIRMS_LATE_UPDATES)

    async def _is_confirmed(self) -> bool:
        """Whether the deadline's timer has not fired before one that begins now."""
        self._updates_waiting += 1
        confirmation = asyncio.create_task(self._is_in_time())
        # Whichever fires first is told first, also where one task tells both.
        await workflow.wait_condition(lambda: self._deadline_passed or confirmation.done())
        is_confirmed = confirmation.done() and confirmation.result()
        await _cancel(confirmation)
        self._updates_waiting -= 1
        return is_confirmed

    async def _is_in_time(self) -> bool:
        await workflow.sleep(_NEXT_TASK, summary="update is confirmed")
        return not self._deadline_passed

    @workflow.update
    async def approve(self, decision: DecisionRequest) -> InvoiceReport:
        """Approve the invoice. Repeating it changes nothing; after a rejection it is refused."""
        return await self._decide_by_update(Verdict.APPROVED, decision)

    @approve.validator
    def _may_approve(self, decision: DecisionRequest) -> None:
        self._validate_update(Verdict.APPROVED, decision)

    @workflow.update
    async def reject(self, decision: DecisionRequest) -> InvoiceReport:
        """Reject the invoice. Repeating it changes nothing; after an approval it is refused."""
        return await self._decide_by_update(Verdict.REJECTED, decision)

    @reject.validator
    def _may_reject(self, decision: DecisionRequest) -> None:
        self._validate_update(Verdict.REJECTED, decision)

    @workflow.update
    def dismiss(self, question: int) -> None:  # noqa: ARG002 (checked by the validator)
        """Take note that the form that asks for the decision was dismissed; decides nothing. The next one is another.

        Args:
            question: Which form, from 1: the only one that is open is the one after the last that was dismissed.
        """
        self._dismissals += 1
        self._changed_at = workflow.now()

    @dismiss.validator
    def _may_dismiss(self, question: int) -> None:
        asks = self._fault is None and self._status is Status.PENDING_APPROVAL
        if not asks or question != self._dismissals + 1 or question > MOST_DISMISSALS:
            raise ApplicationError("this is not asked", type=ErrorCode.INVALID_ARGUMENT, non_retryable=True)

    @workflow.signal(name="ApproveInvoice", unfinished_policy=workflow.HandlerUnfinishedPolicy.ABANDON)
    async def approve_by_signal(self) -> None:
        """The original sample's signal. Has no answer: what an update would refuse is logged and ignored.

        Refused, too, where the policy wants a person to be asked: the report counts it.
        """
        if self._fault is None and not self._status.is_terminal and self._refuses_signals():
            self._refused_signals += 1
            self._changed_at = workflow.now()
            workflow.logger.warning("Signal refused: the policy lets no signal approve")
            return
        await self._decide_by_signal(Verdict.APPROVED)

    def _refuses_signals(self) -> bool:
        """Whether no signal may approve. The policy of an invoice that release 0.1.0 began does not say: then none."""
        allowed = self._policy.signals_approve
        return workflow.patched(REFUSES_SIGNALS) if allowed is None else not allowed

    @workflow.signal(name="RejectInvoice", unfinished_policy=workflow.HandlerUnfinishedPolicy.ABANDON)
    async def reject_by_signal(self) -> None:
        """The original sample's signal. Has no answer: what an update would refuse is logged and ignored.

        Taken whatever the policy is: after it nothing is paid.
        """
        await self._decide_by_signal(Verdict.REJECTED)

    async def _decide_by_signal(self, verdict: Verdict) -> None:
        try:
            self._require_open_for(verdict, deadline=None)
            confirms = self._deadline is not None and workflow.patched(CONFIRMS_SIGNALS)
            if not confirms:
                # Before the time to decide has begun, or as release 0.1.0 did.
                self._require_open_for(verdict, deadline=self._deadline)
        except RefusedError as refusal:
            workflow.logger.warning("Signal ignored: %s", refusal.message)
            return
        # Release 0.1.0 recorded no confirmation; the invoices that it began go on as they were recorded.
        confirmation = None if self._policy.signals_approve is None else Confirmation.SIGNAL
        request = DecisionRequest(by="signal", confirmation=confirmation)
        if confirms:
            # The clock may be behind, and the deadline over. Signals are handled before timers that have fired by then.
            # So the deadline's timer decides, not the clock: if it has fired, the next task finds the invoice ended.
            self._unconfirmed = self._unconfirmed or self._decision_of(verdict, request)
            await workflow.sleep(_NEXT_TASK, summary="signal is confirmed")
        if not (self._status.is_terminal or self._deadline_passed):
            self._decide(verdict, request)

    # -- what can be asked ---------------------------------------------------------------------------------

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
        """The report, and since when it has been so."""
        return Standing(report=self.report(), changed_at=self._changed_at, dismissals=self._dismissals)

    @workflow.query(name="GetInvoiceStatus")
    def status(self) -> str:
        """The original sample's query: the status alone."""
        return self._status.value

    @workflow.query(name="IsInvoiceApproved")
    def is_approved(self) -> bool:
        """The original sample's query: the decision. Fails while there is none."""
        if self._decision is None:
            raise ApplicationError("Invoice approval status is not set yet.")
        return self._decision.verdict is Verdict.APPROVED
