"""Validation by the ERP, with refusals and outages."""

from __future__ import annotations

from datetime import timedelta

from invoice_mcp.domain.report import LineStatus, Status
from invoice_mcp.testing.plugin import NewWorld
from tests.requirements import requirement
from tests.tool_client import lines_of


@requirement("VALID-RETRY")
async def test_an_erp_that_is_down_four_times_is_asked_a_fifth(new_world: NewWorld) -> None:
    async with new_world() as world:
        world.erp.is_down(times=4)
        await world.submit(until=Status.PENDING_VALIDATION)
        await world.advance(timedelta(minutes=3))
        await world.until(Status.PENDING_APPROVAL)
        assert len(world.erp.asked) == 5


@requirement("VALID-DOWN")
async def test_an_erp_that_stays_down_fails_the_invoice_and_says_so(new_world: NewWorld) -> None:
    async with new_world() as world:
        world.erp.is_down(times=9)
        await world.submit(until=Status.PENDING_VALIDATION)
        await world.advance(timedelta(minutes=3))
        report = await world.until(Status.FAILED)
        assert len(world.erp.asked) == 5
        assert "ERP can't be reached" in str(report.reason)
        assert world.payments.asked == []


@requirement("VALID-MISMATCH")
async def test_a_mismatch_is_final(new_world: NewWorld) -> None:
    async with new_world() as world:
        world.erp.refuses("unknown purchase order")
        await world.submit(until=Status.FAILED)
        report = await world.status()
        assert "unknown purchase order" in report.summary
        assert len(world.erp.asked) == 1
        assert lines_of(report) == [LineStatus.NOT_PAID]


@requirement("DECIDE-EARLY")
async def test_an_approval_before_validation_has_ended_counts(new_world: NewWorld) -> None:
    async with new_world() as world:
        world.erp.is_down(times=3)
        await world.submit(until=Status.PENDING_VALIDATION)
        report = await world.approve(by="Ann")
        assert report.status is Status.PENDING_VALIDATION
        assert 'already approved in the name of "Ann"' in report.summary
        await world.advance(timedelta(minutes=2))
        await world.until(Status.PAID)


@requirement("DECIDE-EARLY")
async def test_a_rejection_does_not_wait_for_the_erp(new_world: NewWorld) -> None:
    async with new_world() as world:
        world.erp.is_down(times=9)
        await world.submit(until=Status.PENDING_VALIDATION)
        await world.reject()
        await world.until(Status.REJECTED)
