"""The approval timeout, and decisions close to the deadline."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta

import pytest
from mcp import Client

from invoice_mcp.domain.report import Decision, Status
from invoice_mcp.server.tools import build_server
from invoice_mcp.service.invoice_service import InvoiceService
from invoice_mcp.testing import ToolRefused, World
from invoice_mcp.testing.plugin import NewWorld
from invoice_mcp.testing.world.base import DAY
from tests.requirements import requirement
from tests.tool_client import ToolClient

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


@requirement("WAIT-EXPIRES", "DECIDE-LATE")
async def test_nobody_decides_for_five_days_and_the_invoice_expires(new_world: NewWorld) -> None:
    async with new_world() as world:
        await world.submit()
        await world.advance(5 * DAY - timedelta(hours=1))
        assert (await world.status()).status is Status.PENDING_APPROVAL
        await world.advance(timedelta(hours=2))
        report = await world.until(Status.EXPIRED)
        assert "nothing was paid" in report.summary
        late = await world.refusal(world.approve())
        assert late.code == "ALREADY_CLOSED"
        assert "EXPIRED" in str(late)
        assert world.payments.asked == []


@requirement("WAIT-POLICY")
async def test_the_window_an_invoice_was_submitted_with_holds(new_world: NewWorld) -> None:
    async with new_world(approval_timeout=timedelta(hours=12)) as world:
        workflow_id = await world.submit()
        other = InvoiceService(world.client, approval_timeout=90 * DAY, task_queue=world.task_queue)
        async with Client(build_server(other)) as client:
            await world.advance(timedelta(hours=13))
            await ToolClient(client).until(workflow_id, "EXPIRED")


# Exact times need the real server: the clock of the time-skipping server does not stop exactly.


async def deadline_of(world: World) -> datetime:
    deadline = (await world.status()).approval_deadline
    assert deadline
    return deadline


async def advance_to(world: World, time: datetime) -> None:
    await world.advance(time - await world.now())


@requirement("DECIDE-EDGE")
@pytest.mark.parametrize("decision", ["approve", "reject"])
async def test_a_decision_a_minute_before_the_deadline_counts(real_world: NewWorld, decision: str) -> None:
    async with real_world() as world:
        await world.submit()
        deadline = await deadline_of(world)
        await advance_to(world, deadline - MINUTE)
        await (world.approve() if decision == "approve" else world.reject())
        report = await world.until(Status.PAID if decision == "approve" else Status.REJECTED)
        assert report.decision
        assert deadline - MINUTE <= report.decision.at < deadline


@requirement("DECIDE-EDGE")
@pytest.mark.parametrize("before", [SECOND, SECOND / 5, SECOND / 20], ids=str)
async def test_an_approval_in_the_last_moment_counts_and_is_paid_or_is_refused_and_expires(
    real_world: NewWorld, before: timedelta
) -> None:
    async with real_world() as world:
        await world.submit()
        deadline = await deadline_of(world)
        await advance_to(world, deadline - before)
        # Time runs on while it is under way, so it may be too late.
        accepted: Decision | None = None
        with suppress(ToolRefused):
            accepted = (await world.approve()).decision
        # Refused, it came too late indeed.
        assert accepted is not None or await world.now() >= deadline
        report = await world.until(Status.PAID if accepted else Status.EXPIRED)
        assert report.decision == accepted
        assert accepted is None or accepted.at < deadline
        assert len(world.payments.asked) == (accepted is not None)
        (approval,) = [answer for answer in world.tools.answers if answer.tool == "approve"]
        assert approval.code == ("OK" if accepted else "ALREADY_CLOSED")


@requirement("DECIDE-EDGE", "DECIDE-LATE")
@pytest.mark.parametrize("after", [timedelta(), SECOND], ids=["at-the-deadline", "a-second-after-it"])
@pytest.mark.parametrize("decision", ["approve", "reject"])
async def test_a_decision_at_the_deadline_or_after_it_is_refused(
    real_world: NewWorld, decision: str, after: timedelta
) -> None:
    async with real_world() as world:
        await world.submit()
        deadline = await deadline_of(world)
        await advance_to(world, deadline + after)
        assert await world.now() >= deadline
        late = await world.refusal(world.approve() if decision == "approve" else world.reject())
        assert late.code == "ALREADY_CLOSED"
        report = await world.until(Status.EXPIRED)
        assert report.decision is None
        assert world.payments.asked == []


@requirement("DECIDE-EDGE", "SIGNAL-BASELINE")
async def test_an_approval_by_signal_a_minute_before_the_deadline_counts(real_world: NewWorld) -> None:
    async with real_world(signals_approve=True) as world:
        await world.submit()
        await advance_to(world, await deadline_of(world) - MINUTE)
        await world.signal("ApproveInvoice")
        await world.until(Status.PAID)


@requirement("DECIDE-EDGE", "DECIDE-LATE", "WAIT-EXPIRES")
@pytest.mark.parametrize("decision", ["approve", "reject"])
async def test_a_decision_that_meets_the_passed_deadline_at_a_worker_that_comes_back_is_refused(
    real_world: NewWorld, decision: str
) -> None:
    async with real_world() as world:
        await world.submit()
        deadline = await deadline_of(world)
        await world.crash_worker()
        await advance_to(world, deadline)
        deciding = world.approve() if decision == "approve" else world.reject()
        late, _ = await asyncio.gather(world.refusal(deciding), world.restart_worker())
        assert late.code == "ALREADY_CLOSED"
        await world.until(Status.EXPIRED)
        assert world.payments.asked == []


@requirement("WAIT-EXPIRES", "DECIDE-LATE")
async def test_a_signal_that_is_seen_only_after_the_deadline_does_not_count(real_world: NewWorld) -> None:
    async with real_world(signals_approve=True) as world:
        await world.submit()
        deadline = await deadline_of(world)
        # The worker is away while the deadline passes; the signal comes after it, but both are seen at once.
        await world.crash_worker()
        await advance_to(world, deadline)
        await world.signal("ApproveInvoice")
        await world.restart_worker()
        report = await world.until(Status.EXPIRED)
        assert report.decision is None
        assert world.payments.asked == []
