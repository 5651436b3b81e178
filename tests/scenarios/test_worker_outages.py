"""A worker that crashes or is away does not change the outcome of an invoice."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from temporalio.api.enums.v1 import TaskQueueKind
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import PollWorkflowTaskQueueRequest

from invoice_mcp.domain.report import LineStatus, Status
from invoice_mcp.testing import PAST_DUE, ToolRefused, World
from invoice_mcp.testing.plugin import NewWorld
from invoice_mcp.testing.world.base import DAY
from tests.requirements import requirement
from tests.tool_client import lines_of


@requirement("TEMPORAL-RESTART")
@pytest.mark.parametrize("crashes_while", [Status.PENDING_VALIDATION, Status.PENDING_APPROVAL, Status.PAYING, "ever"])
async def test_a_crash_in_any_status_does_not_change_the_outcome(new_world: NewWorld, crashes_while: str) -> None:
    async with new_world() as world:

        async def comes_to(environment: Status) -> None:
            await world.until(environment)
            if crashes_while in {environment, "ever"}:
                await world.crash_worker()
                await world.restart_worker()

        world.erp.is_down(times=4)
        world.payments.refuses(line=3)
        await world.submit(
            ("1", PAST_DUE), ("2", await world.due_in(30 * DAY)), ("3", PAST_DUE), until=Status.PENDING_VALIDATION
        )
        await comes_to(Status.PENDING_VALIDATION)
        await world.advance(timedelta(minutes=3))
        await comes_to(Status.PENDING_APPROVAL)
        approved = await world.approve(by="Ann")
        await comes_to(Status.PAYING)
        await world.advance(31 * DAY)
        report = await world.until(Status.FAILED)
        assert report.decision == approved.decision
        assert lines_of(report) == [LineStatus.PAID, LineStatus.PAID, LineStatus.FAILED]
        assert [paid.order.line for paid in world.ledger] == [1, 2]
        assert len(world.erp.asked) == 5


@requirement("WAIT-EXPIRES")
async def test_a_crash_while_it_waits_does_not_give_an_invoice_more_time(new_world: NewWorld) -> None:
    async with new_world() as world:
        await world.submit()
        deadline = (await world.status()).approval_deadline
        await world.advance(4 * DAY)
        await world.crash_worker()
        await world.restart_worker()
        assert (await world.status()).approval_deadline == deadline
        await world.advance(DAY + timedelta(minutes=1))
        await world.until(Status.EXPIRED)


@requirement("DECIDE-REJECT")
async def test_a_crash_before_the_rejection_changes_nothing(new_world: NewWorld) -> None:
    async with new_world() as world:
        await world.submit()
        await world.crash_worker()
        await world.restart_worker()
        await world.reject()
        await world.until(Status.REJECTED)


@requirement("PAY-ONCE")
async def test_a_crash_while_a_payment_is_under_way_does_not_pay_twice(new_world: NewWorld) -> None:
    async with new_world() as world:
        world.payments.is_slow()
        await world.submit(("1", PAST_DUE), ("2", PAST_DUE))
        await world.approve()
        await world.when(lambda: world.payments.under_way)
        await world.crash_worker()
        world.payments.answers()
        await world.restart_worker()
        await world.advance(timedelta(minutes=1))
        report = await world.until(Status.PAID)
        assert [line.payment_id for line in report.lines] == [paid.payment_id for paid in world.ledger]
        assert len(world.ledger) == 2


# The rest is for the real server, which can be without a worker.


@requirement("SIGNAL-BASELINE")
async def test_a_decision_sent_while_no_worker_runs_is_taken_when_it_comes_back(real_world: NewWorld) -> None:
    async with real_world(signals_approve=True) as world:
        await world.submit()
        await world.crash_worker()
        await world.signal("ApproveInvoice")
        await world.restart_worker()
        report = await world.until(Status.PAID)
        assert report.decision
        assert report.decision.by == "signal"
        assert len(world.ledger) == 1


@requirement("PAY-DUE", "PAY-ONCE")
async def test_a_due_date_that_passes_between_approval_and_payment_while_no_worker_runs_is_paid_late_and_once(
    real_world: NewWorld,
) -> None:
    async with real_world() as world:
        due = await world.due_in(DAY)
        await world.submit(("1", due))
        await world.approve()
        await world.until(Status.PAYING)
        await world.crash_worker()
        await world.advance(datetime.fromisoformat(due) - await world.now())
        assert world.payments.asked == []
        await world.restart_worker()
        await world.until(Status.PAID)
        assert len(world.payments.asked) == len(world.ledger) == 1


async def take_a_task_and_die(world: World) -> None:
    """Poll a task and never answer it, like a worker that is killed during the task."""
    request = PollWorkflowTaskQueueRequest(
        namespace=world.client.namespace,
        task_queue=TaskQueue(name=world.task_queue, kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL),
        identity="killed",
    )
    polled = await world.client.workflow_service.poll_workflow_task_queue(request, timeout=timedelta(seconds=10))
    assert polled.task_token


@requirement("CANCEL-PAYING")
async def test_cancelling_waits_for_the_payment_of_a_killed_worker(real_world: NewWorld) -> None:
    async with real_world() as world:
        await world.submit(("1", await world.due_in(DAY)))
        await world.approve()
        await world.until(Status.PAYING)
        await world.crash_worker()
        await world.signal("ApproveInvoice")
        await take_a_task_and_die(world)
        await world.restart_worker()
        # The task comes back when its time is over; that a worker runs is no reason to say that none does.
        report = await world.cancel()
        assert report.status is Status.CANCELLED
        assert world.payments.asked == []


@requirement("TEMPORAL-BUSY")
async def test_cancelling_again_without_a_worker_reports_the_cancellation(real_world: NewWorld) -> None:
    async with real_world() as world:
        await world.submit()
        await world.cancel()
        await world.crash_worker()
        # The worker polled a moment ago, so Temporal does not know yet that it is gone.
        with pytest.raises(ToolRefused, match="NO_ANSWER: The invoice is cancelled, but its report is not available"):
            await world.cancel()
        await world.restart_worker()
        assert (await world.cancel()).status is Status.CANCELLED
