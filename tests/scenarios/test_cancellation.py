"""Cancellation in every status: lines that wait are not paid, payments under way finish."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle

from invoice_mcp.domain.report import LineStatus, Status
from invoice_mcp.testing import PAST_DUE
from invoice_mcp.testing.plugin import NewWorld
from invoice_mcp.testing.world.base import DAY
from tests.requirements import requirement
from tests.tool_client import lines_of


@requirement("CANCEL-BEFORE")
async def test_cancelled_before_a_decision_nothing_is_paid(new_world: NewWorld) -> None:
    async with new_world() as world:
        await world.submit()
        report = await world.cancel(reason="Sent by mistake")
        assert report.status is Status.CANCELLED
        assert report.workflow_status == "CANCELED"
        assert "Sent by mistake" in report.summary
        assert await world.cancel() == report
        assert (await world.handle().describe()).status is WorkflowExecutionStatus.CANCELED
        assert (await world.refusal(world.approve())).code == "ALREADY_CLOSED"
        assert world.payments.asked == []


@requirement("CANCEL-BEFORE")
async def test_cancelled_while_the_erp_is_asked_nothing_is_paid(new_world: NewWorld) -> None:
    async with new_world() as world:
        world.erp.is_down(times=9)
        await world.submit(until=Status.PENDING_VALIDATION)
        report = await world.cancel()
        assert report.status is Status.CANCELLED
        assert lines_of(report) == [LineStatus.NOT_PAID]


@requirement("CANCEL-PAYING")
async def test_cancelled_while_paying_the_waiting_lines_are_not_paid(new_world: NewWorld) -> None:
    async with new_world() as world:
        due = await world.due_in(30 * DAY)
        await world.submit(("1", PAST_DUE), ("2", due), ("3", due))
        await world.approve()

        async def first_line_is_paid() -> bool:
            return lines_of(await world.read_report())[0] is LineStatus.PAID

        # A payment in the ledger does not show that its line's workflow has ended. The time-skipping server never
        # answers the cancellation of a child workflow that ends at the same moment.
        await world.when(first_line_is_paid)
        report = await world.cancel(reason="Dispute")
        assert report.status is Status.CANCELLED
        assert lines_of(report) == [LineStatus.PAID, LineStatus.CANCELLED, LineStatus.CANCELLED]
        assert "1 of 3 lines paid" in report.summary
        await world.advance(40 * DAY)
        assert len(world.ledger) == 1


@requirement("CANCEL-PAYING")
async def test_a_payment_between_two_tries_finishes_though_the_invoice_is_cancelled(new_world: NewWorld) -> None:
    async with new_world() as world:
        world.payments.is_down(times=1, line=1)
        await world.submit(("1", PAST_DUE), ("2", await world.due_in(30 * DAY)))
        await world.approve()
        await world.when(lambda: world.payments.asked)
        await world.cancel()
        await world.advance(timedelta(minutes=1))
        report = await world.until(Status.CANCELLED)
        assert lines_of(report) == [LineStatus.PAID, LineStatus.CANCELLED]


@requirement("CANCEL-PAYING")
async def test_a_payment_under_way_finishes_though_the_invoice_is_cancelled(new_world: NewWorld) -> None:
    async with new_world() as world:
        world.payments.is_slow()
        # The other line waits for its date, so the slow one is the first.
        await world.submit(("1", PAST_DUE), ("2", await world.due_in(30 * DAY)))
        await world.approve()
        await world.when(lambda: world.payments.under_way)
        report = await world.cancel()
        assert report.status is Status.PAYING
        assert world.ledger == ()

        world.payments.answers()
        report = await world.until(Status.CANCELLED)
        assert lines_of(report) == [LineStatus.PAID, LineStatus.CANCELLED]
        assert "1 of 2 lines paid" in report.summary
        assert len(world.ledger) == 1


@requirement("CANCEL-PAYING")
async def test_a_payment_under_way_that_is_refused_after_the_cancellation_is_reported_as_refused(
    new_world: NewWorld,
) -> None:
    async with new_world() as world:
        world.payments.refuses()
        world.payments.is_slow()
        await world.submit(("1", PAST_DUE), ("2", await world.due_in(30 * DAY)))
        await world.approve()
        await world.when(lambda: world.payments.under_way)
        await world.cancel()
        world.payments.answers()
        report = await world.until(Status.CANCELLED)
        assert lines_of(report) == [LineStatus.FAILED, LineStatus.CANCELLED]
        assert world.ledger == ()


@requirement("CANCEL-PAYING")
async def test_a_cancellation_that_finds_every_payment_under_way_changes_nothing(new_world: NewWorld) -> None:
    async with new_world() as world:
        world.payments.is_down(times=1)
        await world.submit()
        await world.approve()
        await world.when(lambda: world.payments.asked)
        await world.cancel()
        await world.advance(timedelta(minutes=1))
        assert (await world.until(Status.PAID)).workflow_status == "COMPLETED"


@requirement("CANCEL-PAYING")
async def test_a_cancellation_under_way_is_reported(new_world: NewWorld) -> None:
    async with new_world() as world:
        world.payments.is_slow()
        await world.submit()
        await world.approve()
        await world.when(lambda: world.payments.under_way)
        report = await world.cancel()
        assert report.status is Status.PAYING
        assert report.cancelling
        assert "being cancelled" in report.summary

        world.payments.answers()
        report = await world.until(Status.PAID)
        assert not report.cancelling


@requirement("CANCEL-BEFORE")
async def test_a_cancellation_of_what_has_just_ended_by_itself_is_refused(
    new_world: NewWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Temporal takes it, and does nothing."""
    cancel = WorkflowHandle.cancel

    async def too_late(handle: Any, **options: Any) -> None:
        world.erp.answers()
        await world.until(Status.FAILED)
        await cancel(handle, **options)

    async with new_world() as world:
        world.erp.refuses()
        world.erp.is_slow()
        await world.trigger(world.invoice())
        await world.when(lambda: world.erp.asked)
        monkeypatch.setattr(WorkflowHandle, "cancel", too_late)
        refusal = await world.refusal(world.cancel())
        monkeypatch.undo()
        assert refusal.code == "ALREADY_CLOSED"
        assert "FAILED already" in str(refusal)
