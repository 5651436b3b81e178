"""What resets may do, by an operator or an attacker: to any time, and of lines too. On the real server.

docs/security.md, "Past the server", has the same as a table.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, ResetReapplyType
from temporalio.api.workflowservice.v1 import ResetActivityRequest, ResetWorkflowExecutionRequest
from temporalio.client import WorkflowHandle
from temporalio.worker import Replayer

from invoice_mcp.domain.errors import RefusedError
from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.names import line_workflow_id
from invoice_mcp.domain.report import (
    AcceptedInvoice,
    DecisionRequest,
    InvoiceReport,
    LineOutcome,
    LineStatus,
    PaymentOrder,
    Status,
    Verdict,
    without_idempotency_keys,
)
from invoice_mcp.server.task import invoice_binding
from invoice_mcp.service.invoice_service import InvoiceService
from invoice_mcp.testing import PAST_DUE, EnvironmentPool
from invoice_mcp.testing.world.environment import TestEnvironment
from invoice_mcp.testing.world.fakes import RecordingPayments
from invoice_mcp.workflow.line_workflow import PayLineItem
from invoice_mcp.workflow.worker import REPLAY
from mcp_temporal_tasks.server.outcome import read_outcome
from mcp_temporal_tasks.workflow import TaskState
from tests.requirements import requirement
from tests.tool_client import an_invoice

_COMPLETED = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
_FAR = "2099-01-01T00:00:00Z"
_A_CENTURY = timedelta(days=100 * 365)


class Target:
    """One invoice of two lines, the first due in the past, and what is done to it."""

    def __init__(self, environment: TestEnvironment, due: str) -> None:
        self._environment = environment
        self.client = environment.engine.client
        self.task_queue = environment.task_queue
        self.service = InvoiceService(self.client, task_queue=environment.task_queue)
        self.invoice = Invoice.model_validate(an_invoice(f"RESET-{uuid.uuid4()}", ("1", PAST_DUE), ("2", due)))
        self.workflow_id = f"invoice-{self.invoice.invoice_id}"

    @property
    def payments(self) -> RecordingPayments:
        """The gateway."""
        return self._environment.ports.payments

    @property
    def paid(self) -> list[int]:
        """The lines that were paid, once for each payment."""
        return sorted(paid.order.line for paid in self._environment.ports.payments.made)

    async def until(self, status: Status, paid: int = 0) -> InvoiceReport:
        """Wait until it has this status, and so many payments were made."""

        async def ignored(_seconds: float, _report: object) -> None: ...

        report = await self.service.status(self.workflow_id)
        while report.status is not status or len(self.paid) < paid:
            report = await self.service.wait_for_change(self.workflow_id, None, 0.2, ignored)
        return report

    async def begins_to_wait(self) -> None:
        """Wait until line 1 is paid, and the workflow of line 2 has begun and waits for its due date."""
        report = await self.until(Status.PAYING, 1)
        while report.lines[1].status is not LineStatus.SCHEDULED:
            report = await self.service.status(self.workflow_id)

    async def decide(self, verdict: Verdict, by: str) -> None:
        await self.service.decide(verdict, self.workflow_id, None, DecisionRequest(by=by))

    async def reset(self, to: int, *, reapplies: bool, of: WorkflowHandle[Any, Any] | None = None) -> str:
        """Reset it to the end of a workflow task; -1 is the last one. Returns the id of the new run.

        Args:
            reapplies: The updates and signals after that are given to the new run: what Temporal does by default.
            of: Another workflow than the invoice's.
        """
        handle = of or self.client.get_workflow_handle(self.workflow_id)
        ends = [event.event_id async for event in handle.fetch_history_events() if event.event_type == _COMPLETED]
        none, default = ResetReapplyType.RESET_REAPPLY_TYPE_NONE, ResetReapplyType.RESET_REAPPLY_TYPE_UNSPECIFIED
        answer = await self.client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=self.client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=handle.id),
                reason="an attack",
                workflow_task_finish_event_id=ends[to],
                request_id=str(uuid.uuid4()),
                reset_reapply_type=default if reapplies else none,
            )
        )
        return answer.run_id

    async def reset_payment(self, number: int) -> None:
        """Reset the activity that pays a line: its next attempt is number 1 again, and comes at once."""
        execution = WorkflowExecution(workflow_id=self.line(number).id)
        await self.client.workflow_service.reset_activity(
            ResetActivityRequest(namespace=self.client.namespace, execution=execution, type="payment_gateway")
        )

    async def task(self) -> TaskState:
        """Its MCP task."""
        return await invoice_binding(self.service).state(self.client.get_workflow_handle(self.workflow_id))

    async def result_of_task(self, report: InvoiceReport) -> InvoiceReport:
        """What its MCP task ends with."""
        handle = self.client.get_workflow_handle(self.workflow_id, run_id=report.run_id)
        result = (await read_outcome(handle, invoice_binding(self.service))).result
        assert result is not None
        return InvoiceReport.model_validate(result["structuredContent"])

    def line(self, number: int) -> WorkflowHandle[PayLineItem, LineOutcome]:
        """The workflow of a line."""
        return self.client.get_workflow_handle_for(PayLineItem.run, line_workflow_id(self.workflow_id, number))

    async def comes_due(self, number: int) -> LineOutcome:
        """Let the due date of a line come; how its workflow ends."""
        line = self.line(number)
        await self._environment.engine.advance(_A_CENTURY, [line.id])
        return await line.result()

    async def is_refused_changed(self) -> bool:
        """Whether another invoice under its id is INVOICE_CONFLICT."""
        cheaper = self.invoice.lines[0].model_copy(update={"amount": self.invoice.lines[0].amount / 2})
        changed = self.invoice.model_copy(update={"lines": (cheaper, *self.invoice.lines[1:])})
        with pytest.raises(RefusedError) as refused:
            await self.service.trigger(changed)
        return refused.value.code == "INVOICE_CONFLICT"


@asynccontextmanager
async def a_target(pool: EnvironmentPool, due: str) -> AsyncIterator[Target]:
    async with pool.take() as environment, asyncio.timeout(40):
        target = Target(environment, due)
        await target.service.trigger(target.invoice)
        await target.until(Status.PENDING_APPROVAL)
        yield target


@dataclass(frozen=True)
class Case:
    """A reset, what is decided in the new run, and how it ends.

    Attributes:
        due: Due date of the second line.
        at: Where the old run, which is approved, stands when it is reset.
        to: To the end of which workflow task.
        decides: What is decided after the reset; None: nothing.
        ends: Where the new run stands then.
        paid: The lines paid by then.
        says: What the summary says of them.
        line_2: Where the second line stands when its due date has come; None where the old run left no line behind.
    """

    due: str
    at: Status
    ends: Status
    paid: list[int]
    says: str
    to: int = 0
    reapplies: bool = False
    decides: Verdict | None = Verdict.APPROVED
    line_2: LineStatus | None = None


_UNCERTAIN = "not confirmed, perhaps paid: line 2 (WORKFLOWALREADYSTARTED)"
_EARLIER = "earlier submissions paid, or perhaps paid: line 1, line 2"
_BEFORE = f"nothing more was paid; {_EARLIER}"
# While it waits, and once all is paid with all that comes again: test_reset_to_the_beginning.py.
CASES = {
    "all paid, approved": Case(PAST_DUE, Status.PAID, Status.PAID, [1, 2], 'in the name of "Bob"'),
    "all paid, rejected": Case(PAST_DUE, Status.PAID, Status.REJECTED, [1, 2], _BEFORE, decides=Verdict.REJECTED),
    "line waits, approved": Case(_FAR, Status.PAYING, Status.FAILED, [1], _UNCERTAIN, line_2=LineStatus.FAILED),
    "line waits, rejected": Case(
        _FAR, Status.PAYING, Status.REJECTED, [1], _BEFORE, decides=Verdict.REJECTED, line_2=LineStatus.FAILED
    ),
    "line waits, reapplied": Case(
        _FAR, Status.PAYING, Status.FAILED, [1], _UNCERTAIN, reapplies=True, decides=None, line_2=LineStatus.FAILED
    ),
    "line waits, last task": Case(
        _FAR, Status.PAYING, Status.PAYING, [1], "1 of 2 lines paid", to=-1, decides=None, line_2=LineStatus.PAID
    ),
}


@requirement("ATTACK-RESET")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_after_a_reset_nothing_is_paid_that_the_new_run_does_not_wait_for(
    real_invoice_environments: EnvironmentPool, case: Case
) -> None:
    async with a_target(real_invoice_environments, case.due) as target:
        await target.decide(Verdict.APPROVED, "Ann")
        if case.at is Status.PAYING:
            await target.begins_to_wait()
        old = (await target.until(case.at, 2 if case.at is Status.PAID else 0)).run_id
        new = await target.reset(case.to, reapplies=case.reapplies)
        assert new != old
        if case.decides:
            waiting = await target.until(Status.PENDING_APPROVAL)
            assert _EARLIER in waiting.summary
            assert _EARLIER in str((await target.task()).message)
            assert (await target.service.trigger(target.invoice)).run_id == waiting.run_id == new
            assert await target.is_refused_changed()
            await target.decide(case.decides, "Bob")
        report = await target.until(case.ends, len(case.paid))
        assert (target.paid, report.run_id) == (case.paid, new)
        assert case.says in report.summary
        if report.status.is_terminal:
            assert await target.result_of_task(report) == without_idempotency_keys(report)
        if case.line_2 is not None:
            outcome = await target.comes_due(2)
            assert outcome.status is case.line_2
            assert target.paid == ([1, 2] if case.line_2 is LineStatus.PAID else [1])
        assert await target.is_refused_changed()
        history = await target.client.get_workflow_handle(target.workflow_id, run_id=new).fetch_history()
        await Replayer(**REPLAY).replay_workflow(history)


@requirement("ATTACK-RESET")
async def test_what_a_reset_left_unpaid_is_paid_when_it_is_submitted_and_approved_again(
    real_invoice_environments: EnvironmentPool,
) -> None:
    async with a_target(real_invoice_environments, _FAR) as target:
        await target.decide(Verdict.APPROVED, "Ann")
        await target.begins_to_wait()
        await target.reset(0, reapplies=False)
        await target.until(Status.PENDING_APPROVAL)
        await target.decide(Verdict.REJECTED, "Bob")
        # Its id is taken until it has ended.
        await target.line(2).terminate()
        assert (await target.service.trigger(target.invoice)).created
        await target.until(Status.PENDING_APPROVAL)
        await target.decide(Verdict.APPROVED, "Cem")
        await target.begins_to_wait()
        assert (await target.comes_due(2)).status is LineStatus.PAID
        await target.until(Status.PAID, 2)
        assert target.paid == [1, 2]


@requirement("ATTACK-RESET")
async def test_a_line_that_was_reset_while_it_waits_is_paid_when_it_is_due(
    real_invoice_environments: EnvironmentPool,
) -> None:
    async with a_target(real_invoice_environments, _FAR) as target:
        await target.decide(Verdict.APPROVED, "Ann")
        await target.begins_to_wait()
        await target.reset(0, reapplies=False, of=target.line(2))
        assert (await target.comes_due(2)).status is LineStatus.PAID
        await target.until(Status.PAID, 2)
        assert target.paid == [1, 2]


@requirement("ATTACK-RESET", "PAY-UNCONFIRMED")
@pytest.mark.parametrize("what", ["line", "activity"])
async def test_a_refusal_after_a_reset_of_a_line_or_its_activity_confirms_nothing(
    real_invoice_environments: EnvironmentPool, what: str
) -> None:
    async with a_target(real_invoice_environments, PAST_DUE) as target:
        # It pays, its answer is lost, and it refuses to be asked again.
        target.payments.refuses_again(line=1)
        await target.decide(Verdict.APPROVED, "Ann")
        while 1 not in target.paid:
            await target.until(Status.PAYING)
        if what == "line":
            await target.reset(0, reapplies=False, of=target.line(1))
        else:
            await target.reset_payment(1)
        report = await target.until(Status.FAILED)
        assert report.lines[0].unconfirmed
        assert await target.is_refused_changed()


@requirement("ATTACK-LINE")
async def test_a_line_that_no_invoice_waits_for_is_not_paid(real_invoice_environments: EnvironmentPool) -> None:
    async with a_target(real_invoice_environments, PAST_DUE) as target:
        order = PaymentOrder.for_line(AcceptedInvoice.of(target.invoice), 1)
        for workflow_id in (line_workflow_id(target.workflow_id, 1), f"{target.workflow_id}-other", "other-line-1"):
            outcome: LineOutcome = await target.client.execute_workflow(
                PayLineItem.run, order, id=workflow_id, task_queue=target.task_queue
            )
            assert (outcome.status, outcome.error, outcome.unconfirmed) == (LineStatus.FAILED, "NOT_AWAITED", True)
        assert not target.paid
        await target.decide(Verdict.APPROVED, "Ann")
        await target.until(Status.PAID, 2)
