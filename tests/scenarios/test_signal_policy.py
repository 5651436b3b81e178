"""Signals bypass the MCP server: an approving signal is refused if the policy requires a confirmation."""

from __future__ import annotations

import pytest

from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.report import AcceptedInvoice, Confirmation, InvoiceRequest, Policy, Status
from invoice_mcp.testing import World
from invoice_mcp.testing.plugin import NewWorld
from invoice_mcp.testing.world.base import DAY
from tests.requirements import requirement


@requirement("SIGNAL-POLICY")
async def test_an_approving_signal_is_refused_and_the_report_counts_it(new_world: NewWorld) -> None:
    async with new_world() as world:
        await world.submit()
        await world.signal("ApproveInvoice")
        await world.signal("ApproveInvoice")
        await world.when(lambda: _refused(world, 2))
        report = await world.status()
        assert report.status is Status.PENDING_APPROVAL
        assert report.decision is None
        assert "signal" in report.summary
        await world.advance(6 * DAY)
        assert (await world.until(Status.EXPIRED)).refused_signals == 2
        assert world.payments.asked == []


@requirement("SIGNAL-POLICY")
async def test_before_validation_has_ended_an_approving_signal_is_refused_too(new_world: NewWorld) -> None:
    async with new_world() as world:
        world.erp.is_slow()
        await world.trigger()
        await world.signal("ApproveInvoice")
        await world.when(lambda: _refused(world, 1))
        world.erp.answers()
        await world.until(Status.PENDING_APPROVAL)
        await world.approve()
        assert (await world.until(Status.PAID)).refused_signals == 1


async def _refused(world: World, count: int) -> bool:
    return (await world.read_report()).refused_signals == count


@requirement("SIGNAL-POLICY", "SIGNAL-BASELINE")
async def test_a_rejecting_signal_counts_whatever_the_policy_is(new_world: NewWorld) -> None:
    async with new_world() as world:
        await world.submit()
        await world.signal("RejectInvoice")
        report = await world.until(Status.REJECTED)
        assert report.decision
        assert report.decision.confirmation is Confirmation.SIGNAL
        assert report.refused_signals == 0


@requirement("SIGNAL-POLICY")
@pytest.mark.parametrize("policy", [True, None])
async def test_an_input_has_to_let_signals_approve_as_that_of_release_0_1_0_does_not(
    new_world: NewWorld, policy: bool | None
) -> None:
    async with new_world() as world:
        invoice = Invoice.model_validate(world.invoice())
        workflow_id = f"invoice-{invoice.invoice_id}"
        request = InvoiceRequest(invoice=AcceptedInvoice.of(invoice), policy=Policy(signals_approve=policy))
        await world.client.start_workflow("InvoiceWorkflow", request, id=workflow_id, task_queue=world.task_queue)
        world.track(workflow_id)
        await world.until(Status.PENDING_APPROVAL)
        await world.signal("ApproveInvoice")
        if policy:
            report = await world.until(Status.PAID)
            assert report.decision
            assert report.decision.confirmation is Confirmation.SIGNAL
        else:
            await world.when(lambda: _refused(world, 1))
            await world.advance(6 * DAY)
            await world.until(Status.EXPIRED)
            assert world.payments.asked == []
