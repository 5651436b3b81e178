"""How an invoice's workflow takes decisions: by update and by signal. The first decision is final. Deterministic."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from invoice_mcp.workflow.invoice_state import InvoiceState

with workflow.unsafe.imports_passed_through():
    from invoice_mcp.domain.decision import require_open_for
    from invoice_mcp.domain.errors import ErrorCode, RefusedError
    from invoice_mcp.domain.report import Confirmation, Decision, DecisionRequest, InvoiceReport, Status, Verdict
    from invoice_mcp.workflow.cancellation import cancel_and_wait

# Changes since release 0.1.0, for the invoices that it began. See histories/README.md.
CONFIRMS_SIGNALS = "confirms-signals"
REFUSES_SIGNALS = "refuses-signals"
# Since 0.2.0.
CONFIRMS_LATE_UPDATES = "confirms-late-updates"

# The shortest timer that servers keep.
_SHORTEST_TIMER = timedelta(milliseconds=1)
# Each is kept in the history, which has its limits; a host may dismiss every form by itself.
MOST_DISMISSALS = 20


class InvoiceDecisions(InvoiceState):
    """Update and signal handlers of `InvoiceWorkflow`."""

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
        await cancel_and_wait(confirmation)
        self._updates_waiting -= 1
        return is_confirmed

    async def _is_in_time(self) -> bool:
        await workflow.sleep(_SHORTEST_TIMER, summary="update is confirmed")
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
            await workflow.sleep(_SHORTEST_TIMER, summary="signal is confirmed")
        if not (self._status.is_terminal or self._deadline_passed):
            self._decide(verdict, request)
