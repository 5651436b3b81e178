"""Decisions on an invoice, by update and by signal. The first decision is final. Deterministic."""

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

# Patches for invoices that release 0.1.0 started. See histories/README.md.
CONFIRMS_SIGNALS = "confirms-signals"
REFUSES_SIGNALS = "refuses-signals"
# A patch for invoices that release 0.2.0 or 0.1.0 started.
CONFIRMS_LATE_UPDATES = "confirms-late-updates"

# The shortest timer that Temporal servers support.
_SHORTEST_TIMER = timedelta(milliseconds=1)
# Each dismissal is an event in the history, whose length is limited, and a host may dismiss every form automatically.
MOST_DISMISSALS = 20


class InvoiceDecisions(InvoiceState):
    """Update and signal handlers of `InvoiceWorkflow`."""

    def _is_rejected(self) -> bool:
        return self._decision is not None and self._decision.verdict is Verdict.REJECTED

    def _require_open_for(self, verdict: Verdict, *, deadline: datetime | None) -> None:
        if self._fault is not None:
            raise RefusedError(ErrorCode.INVOICE_INVALID, self._fault)
        status, now = self._status, workflow.now()
        require_open_for(verdict, status=status, existing=self._decision, deadline=deadline, now=now)
        if self._decision is None:
            # A pending decision came first. It may have come too late, so a repetition is checked against the deadline,
            # too.
            require_open_for(verdict, status=status, existing=self._pending_decision, deadline=None, now=now)

    def _validate_update(self, verdict: Verdict, decision: DecisionRequest) -> None:
        # The SDK decodes JSON null to None whatever the type; accepted, it would fail every workflow task, for ever.
        if not isinstance(decision, DecisionRequest):
            raise ApplicationError("it takes a DecisionRequest", type=ErrorCode.INVALID_ARGUMENT, non_retryable=True)
        if decision.confirmation is Confirmation.SIGNAL:
            raise ApplicationError("an update is no signal", type=ErrorCode.INVALID_ARGUMENT, non_retryable=True)
        try:
            # `self._deadline` may be too early (see `_may_be_late`). The handler finds out whether it has passed.
            self._require_open_for(verdict, deadline=None)
        except RefusedError as refusal:
            raise ApplicationError(refusal.message, type=refusal.code, non_retryable=True) from None

    def _decide(self, verdict: Verdict, request: DecisionRequest) -> None:
        if self._decision is None:
            # A pending decision came first. Since this one is in time, that one was, too.
            self._decision = self._pending_decision or self._decision_of(verdict, request)
            self._changed_at = workflow.now()

    def _decision_of(self, verdict: Verdict, request: DecisionRequest) -> Decision:
        return Decision(verdict=verdict, at=workflow.now(), **request.model_dump())

    async def _decide_by_update(self, verdict: Verdict, request: DecisionRequest) -> InvoiceReport:
        if self._may_be_late():
            self._pending_decision = self._pending_decision or self._decision_of(verdict, request)
            if not await self._is_confirmed():
                text = "the time to decide has ended"
                raise ApplicationError(text, type=ErrorCode.ALREADY_CLOSED, non_retryable=True)
        self._decide(verdict, request)
        return self.report()

    def _may_be_late(self) -> bool:
        """Whether an update that would decide may come after the deadline.

        `workflow.now()` is correct when an update arrives. The deadline was computed from a workflow time that may have
        been behind, so it may be too early, and a replay may compute a later one. This compares with the workflow's
        start time instead, which is the same on every replay.
        """
        if self._deadline is None or self._decision is not None:
            return False
        first_deadline = workflow.info().workflow_start_time + self._policy.approval_timeout
        return workflow.now() >= first_deadline and workflow.patched(CONFIRMS_LATE_UPDATES)

    async def _is_confirmed(self) -> bool:
        """Whether a timer that starts now fires before the deadline's timer."""
        self._pending_updates += 1
        confirmation = asyncio.create_task(self._is_in_time())
        # The timer that fires first is seen first, even if both fire in the same workflow task.
        await workflow.wait_condition(lambda: self._deadline_passed or confirmation.done())
        is_confirmed = confirmation.done() and confirmation.result()
        await cancel_and_wait(confirmation)
        self._pending_updates -= 1
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
        """Record that the form that asks for the decision was dismissed. Decides nothing: the next form replaces it.

        Args:
            question: Number of the form, from 1. Only the form after the last dismissed one is open.
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
        """Approve the invoice, by the original sample's signal.

        A signal has no result: what an update would refuse is logged and ignored. Where the policy requires that a
        person is asked, the signal is refused, too, and counted in the report.
        """
        if self._fault is None and not self._status.is_terminal and self._refuses_signals():
            self._refused_signals += 1
            self._changed_at = workflow.now()
            workflow.logger.warning("Signal refused: the policy lets no signal approve")
            return
        await self._decide_by_signal(Verdict.APPROVED)

    def _refuses_signals(self) -> bool:
        """Whether approving signals are refused: by the policy, or because release 0.1.0 recorded none."""
        allowed = self._policy.signals_approve
        return workflow.patched(REFUSES_SIGNALS) if allowed is None else not allowed

    @workflow.signal(name="RejectInvoice", unfinished_policy=workflow.HandlerUnfinishedPolicy.ABANDON)
    async def reject_by_signal(self) -> None:
        """Reject the invoice, by the original sample's signal. Taken under every policy: nothing is paid after it.

        A signal has no result: what an update would refuse is logged and ignored.
        """
        await self._decide_by_signal(Verdict.REJECTED)

    async def _decide_by_signal(self, verdict: Verdict) -> None:
        try:
            self._require_open_for(verdict, deadline=None)
            confirms = self._deadline is not None and workflow.patched(CONFIRMS_SIGNALS)
            if not confirms:
                # The time to decide has not begun, or release 0.1.0 started the invoice.
                self._require_open_for(verdict, deadline=self._deadline)
        except RefusedError as refusal:
            workflow.logger.warning("Signal ignored: %s", refusal.message)
            return
        # Release 0.1.0 recorded no confirmation, and its invoices continue as recorded.
        confirmation = None if self._policy.signals_approve is None else Confirmation.SIGNAL
        request = DecisionRequest(by="signal", confirmation=confirmation)
        if confirms:
            # `workflow.now()` may be behind, and the deadline may have passed: the SDK handles signals before timers
            # that fired in the same task. So the deadline's timer decides. If it has fired, the invoice has ended
            # when this timer fires.
            self._pending_decision = self._pending_decision or self._decision_of(verdict, request)
            await workflow.sleep(_SHORTEST_TIMER, summary="signal is confirmed")
        if not (self._status.is_terminal or self._deadline_passed):
            self._decide(verdict, request)
