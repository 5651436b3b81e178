"""Invoice workflows with faults in decisions and deadlines."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from invoice_mcp.domain.errors import RefusedError
    from invoice_mcp.domain.names import line_workflow_id
    from invoice_mcp.domain.report import Decision, DecisionRequest, InvoiceRequest, LineStatus, Status, Verdict
    from invoice_mcp.workflow.invoice_workflow import InvoiceWorkflow
    from invoice_mcp.workflow.line_workflow import PayLineItem
    from tests.scenarios.controls.replacement import in_place_of_invoice

_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)


@in_place_of_invoice
class PaysBeforeApproval(InvoiceWorkflow):
    """Pays the first line while it still waits for the decision."""

    async def _await_decision(self) -> bool:
        # Only the line's own workflow can pay: the activity refuses other callers.
        line = line_workflow_id(workflow.info().workflow_id, 1)
        await workflow.execute_child_workflow(PayLineItem.run, self._orders[0], id=line)
        return await super()._await_decision()


@in_place_of_invoice
class LastDecisionWins(InvoiceWorkflow):
    """Accepts every decision, and keeps the last one."""

    def _require_open_for(self, verdict: Verdict, *, deadline: datetime | None) -> None:
        with suppress(RefusedError):
            super()._require_open_for(verdict, deadline=deadline)

    def _decide(self, verdict: Verdict, request: DecisionRequest) -> None:
        self._decision = None
        super()._decide(verdict, request)


@in_place_of_invoice
class RepetitionReplaces(InvoiceWorkflow):
    """Reports who repeated the decision instead of who made it."""

    def _decide(self, verdict: Verdict, request: DecisionRequest) -> None:
        self._decision = None
        super()._decide(verdict, request)


@in_place_of_invoice
class AcknowledgesTheOpposite(InvoiceWorkflow):
    """Acknowledges the opposite decision, but ignores it."""

    def _require_open_for(self, verdict: Verdict, *, deadline: datetime | None) -> None:
        super()._require_open_for(self._decision.verdict if self._decision else verdict, deadline=deadline)


@in_place_of_invoice
class RefusesWithABareError(InvoiceWorkflow):
    """Refuses a decision with an error that has no code."""

    def _require_open_for(self, verdict: Verdict, *, deadline: datetime | None) -> None:
        try:
            super()._require_open_for(verdict, deadline=deadline)
        except RefusedError as refusal:
            raise ValueError(refusal.message) from None


@in_place_of_invoice
class LosesEarlyDecisions(InvoiceWorkflow):
    """Loses a decision that was made before the validation has ended."""

    async def _await_decision(self) -> bool:
        self._decision = None
        return await super()._await_decision()


@in_place_of_invoice
class LosesDecisionOnReplay(InvoiceWorkflow):
    """Loses a decision on replay."""

    def _decide(self, verdict: Verdict, request: DecisionRequest) -> None:
        if not workflow.unsafe.is_replaying():
            super()._decide(verdict, request)


@in_place_of_invoice
class DecidesByTheWallClock(InvoiceWorkflow):
    """Uses the machine's time for the decision, which differs on replay."""

    def _decide(self, verdict: Verdict, request: DecisionRequest) -> None:
        if self._decision is None:
            with workflow.unsafe.sandbox_unrestricted():
                now = datetime.now(UTC)
            self._decision = Decision(verdict=verdict, at=now, **request.model_dump())


@in_place_of_invoice
class ForgetsTheDeadline(InvoiceWorkflow):
    """Waits for a decision for ever."""

    async def _await_decision(self) -> bool:
        self._deadline = workflow.now() + self._policy.approval_timeout
        self._move_to(Status.PENDING_APPROVAL)
        await workflow.wait_condition(lambda: self._decision is not None)
        return await super()._await_decision()


class _OtherDeadline(InvoiceWorkflow):
    """Moves the deadline."""

    _by = timedelta()

    def _initialize(self, request: InvoiceRequest) -> None:
        super()._initialize(request)
        window = self._policy.approval_timeout + self._by
        self._policy = self._policy.model_copy(update={"approval_timeout": window})


@in_place_of_invoice
class DeadlineADayLate(_OtherDeadline):
    """Has a deadline that is a day late."""

    _by = _DAY


@in_place_of_invoice
class DeadlineADayEarly(_OtherDeadline):
    """Has a deadline that is a day early."""

    _by = -_DAY


@in_place_of_invoice
class ExpiresAMinuteLate(InvoiceWorkflow):
    """Reports the right deadline, but expires a minute after it."""

    async def _await_decision(self) -> bool:
        window = self._policy.approval_timeout
        deadline = workflow.now() + window
        self._policy = self._policy.model_copy(update={"approval_timeout": window + _MINUTE})
        deciding = asyncio.create_task(super()._await_decision())
        await workflow.wait_condition(lambda: self._deadline is not None)
        self._deadline = deadline
        return await deciding


class _AfterExpiry(InvoiceWorkflow):
    """Continues after the deadline."""

    async def _go_on(self) -> None:
        raise NotImplementedError

    async def _await_decision(self) -> bool:
        if await super()._await_decision():
            return True
        if self._status is Status.EXPIRED:
            await self._go_on()
        if self._decision is None or self._is_rejected():
            return False
        for line in self._lines:
            self._update_line(line.line, status=LineStatus.PENDING)
        self._move_to(Status.APPROVED)
        return True


@in_place_of_invoice
class ApprovesOnTimeout(_AfterExpiry):
    """Approves when nobody decides in time."""

    async def _go_on(self) -> None:
        self._decide(Verdict.APPROVED, DecisionRequest(by="nobody"))


@in_place_of_invoice
class AcceptsAfterTheDeadline(_AfterExpiry):
    """Is EXPIRED, but accepts a decision for another day."""

    async def _go_on(self) -> None:
        with suppress(TimeoutError):
            await workflow.wait_condition(lambda: self._decision is not None, timeout=_DAY)

    def _require_open_for(self, verdict: Verdict, *, deadline: datetime | None) -> None:
        if self._decision is not None:
            super()._require_open_for(verdict, deadline=deadline)

    async def _is_confirmed(self) -> bool:
        return True


@in_place_of_invoice
class SignalsAlwaysApprove(InvoiceWorkflow):
    """Lets a signal approve, whatever the policy says."""

    @workflow.signal(name="ApproveInvoice")
    async def approve_by_signal(self) -> None:
        await self._decide_by_signal(Verdict.APPROVED)
