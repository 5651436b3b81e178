"""The workflow's own interfaces without the MCP server: the original sample's signals and queries, invalid messages."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from decimal import Decimal

import pytest
from mcp_types import CallToolResult
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import ResetReapplyType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import WorkflowFailureError, WorkflowQueryFailedError, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from invoice_mcp.domain.errors import RefusedError
from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.names import workflow_id_for
from invoice_mcp.domain.report import AcceptedInvoice, DecisionRequest, InvoiceRequest, Status, Verdict
from invoice_mcp.service.invoice_service import InvoiceService
from invoice_mcp.testing import PAST_DUE, EnvironmentPool
from invoice_mcp.testing.plugin import NewWorld
from invoice_mcp.testing.world.base import DAY
from tests.requirements import requirement
from tests.tool_client import an_invoice


@requirement("SIGNAL-BASELINE")
async def test_the_original_samples_signals_and_queries_follow_the_same_rules(new_world: NewWorld) -> None:
    async with new_world(signals_approve=True) as world:
        await world.submit(("100", await world.due_in(DAY)))
        assert await world.handle().query("GetInvoiceStatus") == "PENDING-APPROVAL"
        with pytest.raises(WorkflowQueryFailedError):
            await world.handle().query("IsInvoiceApproved")
        await world.signal("ApproveInvoice")
        await world.signal("RejectInvoice")
        await world.advance(2 * DAY)
        report = await world.until(Status.PAID)
        assert report.decision
        assert report.decision.by == "signal"
        assert await world.handle().query("IsInvoiceApproved") is True
        assert len(world.ledger) == 1


@requirement("SIGNAL-BASELINE")
async def test_a_rejection_by_signal_pays_nothing(new_world: NewWorld) -> None:
    async with new_world() as world:
        await world.submit()
        await world.signal("RejectInvoice")
        await world.until(Status.REJECTED)
        assert await world.handle().query("IsInvoiceApproved") is False
        assert world.payments.asked == []


@requirement("SIGNAL-BASELINE", "TOOL-CODES")
@pytest.mark.parametrize("argument", [None, "yes", 5, {}, {"by": 5}])
async def test_an_update_with_an_invalid_argument_is_refused_and_the_workflow_continues(
    new_world: NewWorld, argument: object
) -> None:
    async with new_world() as world:
        await world.submit()
        with pytest.raises(WorkflowUpdateFailedError):
            await asyncio.wait_for(world.handle().execute_update("approve", argument), 10)
        assert (await world.status()).decision is None
        await world.approve()
        await world.until(Status.PAID)


@requirement("START-GARBAGE")
@pytest.mark.parametrize("garbage", [None, "garbage", {}, {"invoice": {"invoice_id": "x", "lines": "garbage"}}])
async def test_a_workflow_started_with_garbage_fails_and_does_not_hang(new_world: NewWorld, garbage: object) -> None:
    async with new_world() as world:
        invoice = world.invoice()
        handle = await world.client.start_workflow(
            "InvoiceWorkflow", garbage, id=workflow_id_for(invoice["invoice_id"]), task_queue=world.task_queue
        )
        with pytest.raises(WorkflowFailureError) as failure:
            await asyncio.wait_for(handle.result(), 10)
        assert isinstance(failure.value.cause, ApplicationError)
        # Past the world's journal, in which INTERNAL is a fault (S9): here it is the right answer.
        asked = await world.tools.client.call_tool("status", {"workflow_id": handle.id})
        assert isinstance(asked, CallToolResult)
        assert asked.is_error
        assert "INTERNAL: " in str(asked.content)
        # The id is free again for a real invoice.
        assert (await world.trigger(invoice)).created


@requirement("START-GARBAGE", "PAY-ONCE", "START-CONFLICT")
@pytest.mark.parametrize("behind", ["garbage", "another invoice"])
async def test_what_was_paid_is_not_forgotten_for_a_run_behind_triggers_back(new_world: NewWorld, behind: str) -> None:
    async with new_world() as world:
        if not world.engine.can_list:
            pytest.skip("what ran before is found in lists")
        world.payments.refuses(line=2)
        invoice = world.invoice(("1", PAST_DUE), ("2", PAST_DUE))
        other = AcceptedInvoice.of(Invoice.model_validate({**invoice, "currency": "EUR"}))
        request = InvoiceRequest(invoice=other)
        await world.trigger(invoice)
        await world.until(Status.PENDING_APPROVAL)
        await world.approve()
        await world.until(Status.FAILED)
        for _ in range(2):
            handle = await world.client.start_workflow(
                "InvoiceWorkflow",
                request if behind == "another invoice" else "garbage",
                id=world.workflow_id,
                task_queue=world.task_queue,
            )
            if behind == "another invoice":
                await handle.signal("RejectInvoice")
            with suppress(WorkflowFailureError):
                await asyncio.wait_for(handle.result(), 10)

        async def are_listed() -> bool:
            return len([run async for run in world.client.list_workflows(f"WorkflowId = '{world.workflow_id}'")]) == 3

        await world.when(are_listed)
        changed = world.invoice(("7", PAST_DUE), ("2", PAST_DUE), invoice_id=invoice["invoice_id"])
        refused = await world.refusal(world.trigger(changed))
        assert refused.code == "INVOICE_CONFLICT"
        assert "changes: line 1" in str(refused)
        # What counts is the currency that was paid in, not that of a run in between.
        assert "changes: currency" in str(await world.refusal(world.trigger({**invoice, "currency": "EUR"})))
        again = await world.trigger(invoice)
        assert again.created
        assert (await world.until(Status.PENDING_APPROVAL)).lines[0].settled_before


@requirement("PAY-ONCE", "START-CONFLICT")
async def test_what_was_paid_is_not_forgotten_for_a_run_that_an_operator_reset(
    real_invoice_environments: EnvironmentPool,
) -> None:
    # Without a world, whose checker does not expect operators: that run can't report what was paid in the other one.
    async with real_invoice_environments.take() as environment:
        client = environment.engine.client
        service = InvoiceService(client, task_queue=environment.task_queue)
        environment.ports.payments.refuses(line=2)
        invoice = Invoice.model_validate(an_invoice(f"RESET-{uuid.uuid4()}", ("1", PAST_DUE), ("2", PAST_DUE)))
        first = await service.trigger(invoice)

        async def until(status: Status) -> str:
            report = await service.status(first.workflow_id)
            while report.status is not status:
                report = await service.wait_for_change(first.workflow_id, None, 10, ignored)
            return report.run_id

        async def ignored(_seconds: float, _report: object) -> None: ...

        async with asyncio.timeout(60):
            await until(Status.PENDING_APPROVAL)
            await service.decide(Verdict.APPROVED, first.workflow_id, None, DecisionRequest(by="Ann"))
            run_id = await until(Status.FAILED)
            await client.workflow_service.reset_workflow_execution(
                ResetWorkflowExecutionRequest(
                    namespace=client.namespace,
                    workflow_execution=WorkflowExecution(workflow_id=first.workflow_id, run_id=run_id),
                    reason="to before its approval",
                    # When its first task was completed.
                    workflow_task_finish_event_id=4,
                    request_id=str(uuid.uuid4()),
                    reset_reapply_type=ResetReapplyType.RESET_REAPPLY_TYPE_NONE,
                )
            )
            await until(Status.PENDING_APPROVAL)
            await service.decide(Verdict.REJECTED, first.workflow_id, None, DecisionRequest(by="Bob"))
            assert await until(Status.REJECTED) != run_id
            cheaper = invoice.lines[0].model_copy(update={"amount": Decimal("0.50")})
            changed = invoice.model_copy(update={"lines": (cheaper, *invoice.lines[1:])})
            with pytest.raises(RefusedError, match="changes: line 1"):
                await service.trigger(changed)


@requirement("START-GARBAGE", "INV-MONEY")
async def test_an_invoice_that_breaks_the_rules_behind_triggers_back_is_failed(new_world: NewWorld) -> None:
    async with new_world() as world:
        content = world.invoice(("-5", PAST_DUE), currency="XXX", metadata={})
        handle = await world.client.start_workflow(
            "InvoiceWorkflow",
            {"invoice": content},
            id=workflow_id_for(content["invoice_id"]),
            task_queue=world.task_queue,
        )
        world.track(handle.id)
        report = await world.until(Status.FAILED)
        assert "lines[0].amount: Input should be greater than 0" in str(report.reason)
        assert world.payments.asked == []
