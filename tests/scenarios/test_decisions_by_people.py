"""A person approves or rejects. The first decision is final."""

from __future__ import annotations

import pytest

from invoice_mcp.cli.demo import sample_invoice
from invoice_mcp.domain.errors import RefusedError
from invoice_mcp.domain.report import DecisionRequest, LineStatus, Status, Verdict
from invoice_mcp.service.invoice_service import InvoiceService
from invoice_mcp.testing.plugin import NewWorld
from invoice_mcp.testing.world.base import DAY
from tests.requirements import requirement
from tests.tool_client import lines_of


@requirement("INV-SAMPLE", "START-ID", "DECIDE-APPROVE", "PAY-CHILD")
async def test_the_sample_invoice_is_approved_and_paid(new_world: NewWorld) -> None:
    async with new_world() as world:
        submitted = await world.trigger(sample_invoice())
        assert submitted.workflow_id == "invoice-INV-100"
        assert submitted.created
        await world.until(Status.PENDING_APPROVAL)
        await world.approve(by="Ann")
        report = await world.until(Status.PAID, Status.FAILED)
        assert report.status is Status.PAID
        assert report.workflow_status == "COMPLETED"
        assert lines_of(report) == [LineStatus.PAID, LineStatus.PAID]
        assert [(paid.order.line, str(paid.order.amount)) for paid in world.ledger] == [(1, "100.00"), (2, "200.00")]
        children = [await world.handle(f"invoice-INV-100-line-{line}").describe() for line in (1, 2)]
        assert [child.workflow_type for child in children] == ["PayLineItem", "PayLineItem"]


@requirement("DECIDE-REJECT", "DECIDE-WHO")
async def test_a_rejected_invoice_is_never_paid(new_world: NewWorld) -> None:
    async with new_world() as world:
        await world.submit()
        await world.reject(by="Bob", reason="Never ordered")
        report = await world.until(Status.REJECTED)
        assert report.decision
        assert report.decision.by == "Bob"
        assert report.decision.comment == "Never ordered"
        assert 'rejected in the name of "Bob"' in report.summary
        assert lines_of(report) == [LineStatus.NOT_PAID]
        await world.advance(10 * DAY)
        assert world.payments.asked == []


@requirement("DECIDE-FIRST", "DECIDE-REPEAT")
@pytest.mark.parametrize("decided_while", [Status.PENDING_VALIDATION, Status.PENDING_APPROVAL])
async def test_an_approval_is_final(new_world: NewWorld, decided_while: Status) -> None:
    async with new_world() as world:
        if decided_while is Status.PENDING_VALIDATION:
            world.erp.is_down()
        await world.submit(("1", await world.due_in(9 * DAY)), until=decided_while)
        approved = await world.approve(by="Ann")

        opposite = await world.refusal(world.reject(by="Bob"))
        assert opposite.code == "ALREADY_DECIDED"
        assert 'approved in the name of "Ann"' in str(opposite)
        again = await world.approve(by="Carl")
        assert again.decision == approved.decision
        await world.advance(10 * DAY)
        await world.until(Status.PAID)


@requirement("DECIDE-FIRST", "DECIDE-REPEAT")
@pytest.mark.parametrize("decided_while", [Status.PENDING_VALIDATION, Status.PENDING_APPROVAL])
async def test_a_rejection_is_final(new_world: NewWorld, decided_while: Status) -> None:
    async with new_world() as world:
        if decided_while is Status.PENDING_VALIDATION:
            world.erp.is_down()
        await world.submit(("1", await world.due_in(9 * DAY)), until=decided_while)
        await world.reject(by="Ann")
        await world.until(Status.REJECTED)
        assert (await world.refusal(world.approve())).code == "ALREADY_CLOSED"
        await world.advance(10 * DAY)
        assert world.payments.asked == []


@requirement("CONFIRM-DEFAULT")
async def test_an_invoice_of_another_gateway_is_approved_by_its_own_server_only(new_world: NewWorld) -> None:
    # A server that pretends to pay, without confirmation, shares an embedded Temporal with one that pays.
    async with new_world() as world:
        await world.submit()
        other = InvoiceService(world.client, task_queue=f"{world.task_queue}-of-another-gateway")
        with pytest.raises(RefusedError, match="another ERP and payment gateway") as refused:
            await other.decide(Verdict.APPROVED, world.workflow_id, None, DecisionRequest(by="Eve"))
        assert refused.value.code == "NOT_SUPPORTED"
        assert (await world.status()).decision is None
        await other.decide(Verdict.REJECTED, world.workflow_id, None, DecisionRequest(by="Eve"))
        await world.until(Status.REJECTED)
        assert world.payments.asked == []
