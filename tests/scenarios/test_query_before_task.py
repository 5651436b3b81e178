"""A query that a new worker answers from a replay, before it takes the workflow task that waits: on the real server.

Core then delivers the task's events with the time of the task before: docs/upstream/query-before-task.md. The order is
brought about here by the server's own rules. It keeps the next task of a workflow for the worker that completed the
last one, and a query as well; each goes to any worker when its own time for that is over. Now and then the server hands
out the task first all the same; so each test does this to several invoices at once. The simulator meets this order for
certain: tests/scenarios/test_interleavings.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.api.enums.v1 import TaskQueueKind
from temporalio.api.taskqueue.v1 import StickyExecutionAttributes, TaskQueue
from temporalio.api.workflowservice.v1 import PollWorkflowTaskQueueRequest, RespondWorkflowTaskCompletedRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, Worker

from invoice_mcp.adapters.erp import Erp
from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.report import DecisionRequest, InvoiceReport, LineStatus, Status, Verdict
from invoice_mcp.service.invoice_service import InvoiceService
from invoice_mcp.testing import PAST_DUE, an_invoice
from invoice_mcp.testing.world.base import DAY
from invoice_mcp.testing.world.fakes import RecordingPayments, ScriptedErp
from invoice_mcp.workflow.activities import InvoiceActivities
from invoice_mcp.workflow.worker import REPLAY, WORKFLOWS, build_worker
from tests.requirements import requirement
from tests.tool_client import lines_of

# How long the server keeps a task, and a query, for the worker that is gone.
_KEPT = timedelta(seconds=2)
# The shortest poll that a server takes. It answers a second before that is over.
_SHORTEST_POLL = timedelta(seconds=2.2)
_ANSWERED_AFTER = timedelta(seconds=1.2)
_AT_ONCE = 3
# From the beginning of an invoice to the moment that its clock must not know of.
_AHEAD = timedelta(seconds=6)
# So long before that moment the worker is seen for the last time. A second later the server takes it for gone.
_LAST_SEEN = timedelta(seconds=1)
# The query is anybody's by now, the task, which came a second after it, is not.
_COMES_BACK = _KEPT - _LAST_SEEN + timedelta(seconds=0.6)


# Where the machine is too slow to be ready by that moment, another invoice is tried with more time.
_TRIES = 4


class TooSlowError(Exception):
    """The order that a test is about can't come about any more: the workflow's clock is not behind."""


async def until(moment: datetime) -> None:
    """Wait for a moment of real time."""
    await asyncio.sleep((moment - datetime.now(UTC)).total_seconds())


@dataclass
class Scene:
    """One invoice on the real server, with workers that come and go.

    Attributes:
        service: The tools' service, for the same task queue.
    """

    client: Client
    queue: str
    service: InvoiceService
    payments: RecordingPayments

    def worker(self) -> Worker:
        """The production worker."""
        options: dict[str, Any] = {"task_queue": self.queue, "graceful_shutdown_timeout": timedelta(0)}
        return build_worker(self.client, ScriptedErp(), self.payments, **options)

    async def submit(self, *dues: str) -> WorkflowHandle[Any, Any]:
        """Submit an invoice, and wait until it is validated."""
        invoice = an_invoice(self.queue, *(("1", due) for due in dues))
        submitted = await self.service.trigger(Invoice.model_validate(invoice))
        await self.until(submitted.workflow_id, lambda report: report.status is not Status.PENDING_VALIDATION)
        return self.client.get_workflow_handle(submitted.workflow_id)

    def workflows(self) -> Worker:
        """The worker's workflows alone."""
        runner = REPLAY["workflow_runner"]
        return Worker(self.client, task_queue=self.queue, workflows=WORKFLOWS, workflow_runner=runner)

    def activities(self, client: Client, erp: Erp) -> Worker:
        """The worker's activities alone: they are asked while no workflow has a worker."""
        activities = InvoiceActivities(erp, self.payments).all()
        return Worker(client, task_queue=self.queue, activities=activities, graceful_shutdown_timeout=timedelta(0))

    async def until(self, workflow_id: str, stands: Callable[[InvoiceReport], bool]) -> InvoiceReport:
        """Wait until its report is as wanted."""
        async with asyncio.timeout(20):
            while not stands(report := await self.service.status(workflow_id)):
                await asyncio.sleep(0.02)
        return report

    async def complete_a_task_and_die(self, handle: WorkflowHandle[Any, Any], before: datetime) -> None:
        """Be a worker that completes one task, promises to remember the workflow, and is never seen again.

        Until it is replayed, the workflow's clock shows when that task began: a moment before the one that is given.
        """
        begins = before - _LAST_SEEN - _ANSWERED_AFTER
        if datetime.now(UTC) >= begins:
            raise TooSlowError
        await until(begins)
        service, namespace = self.client.workflow_service, self.client.namespace
        queue = TaskQueue(name=self.queue, kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL)
        own = TaskQueue(name=f"{self.queue}-gone", kind=TaskQueueKind.TASK_QUEUE_KIND_STICKY, normal_name=self.queue)
        # A server takes the promise of a worker that it has just seen poll.
        await service.poll_workflow_task_queue(
            PollWorkflowTaskQueueRequest(namespace=namespace, task_queue=own), timeout=_SHORTEST_POLL
        )
        # No handler has this name, so the task has nothing to command.
        await handle.signal("Nothing")
        polled = await service.poll_workflow_task_queue(
            PollWorkflowTaskQueueRequest(namespace=namespace, task_queue=queue), timeout=timedelta(seconds=10)
        )
        promise = StickyExecutionAttributes(worker_task_queue=own)
        promise.schedule_to_start_timeout.FromTimedelta(_KEPT)
        await service.respond_workflow_task_completed(
            RespondWorkflowTaskCompletedRequest(
                namespace=namespace, task_token=polled.task_token, sticky_attributes=promise
            )
        )
        if polled.started_time.ToDatetime(UTC) >= before:
            raise TooSlowError

    async def replays(self, handle: WorkflowHandle[Any, Any]) -> Exception | None:
        """Why the history does not replay; None if it does."""
        history = await handle.fetch_history()
        return (await Replayer(**REPLAY).replay_workflow(history, raise_on_replay_failure=False)).replay_failure


def scene(client: Client, queue: str, **policy: Any) -> Scene:
    """A scene with a task queue of its own."""
    return Scene(client, queue, InvoiceService(client, task_queue=queue, **policy), RecordingPayments())


async def at_once(play: Callable[[str, timedelta], Awaitable[None]], invoice_id: str) -> None:
    """Play it for several invoices, each with a task queue, and a time until the moment that matters, of its own."""

    async def in_time(number: int) -> None:
        for tried in range(_TRIES):
            try:
                return await play(f"{invoice_id}-{number}-{tried}", _AHEAD * 2**tried)
            except TooSlowError:
                continue
        raise TooSlowError

    await asyncio.gather(*map(in_time, range(_AT_ONCE)))


@requirement("CANCEL-PAYING", "HISTORY-NONDETERMINISM")
async def test_cancelled_while_a_line_is_due_and_a_query_waits_the_history_still_replays(
    real_client: Client, invoice_id: str
) -> None:
    async def cancelled(queue: str, ahead: timedelta) -> None:
        here = scene(real_client, queue)
        due = datetime.now(UTC) + ahead
        async with here.worker():
            handle = await here.submit(due.isoformat(), (due + DAY).isoformat())
            await here.service.decide(Verdict.APPROVED, handle.id, None, DecisionRequest(by="Ann"))
            await here.until(handle.id, lambda report: lines_of(report)[1] is LineStatus.SCHEDULED)
        await here.complete_a_task_and_die(handle, before=due)
        query = asyncio.create_task(handle.query("GetInvoiceReport", result_type=InvoiceReport))
        await until(due)
        await handle.cancel()
        await until(due + _COMES_BACK)
        async with here.worker():
            # Temporal may answer it before the cancellation is taken up, and after.
            seen = await query
            assert seen.cancelling or seen.status is Status.CANCELLED
            report = await here.until(handle.id, lambda report: report.status.is_terminal)
        assert report.status is Status.CANCELLED
        assert lines_of(report)[1] is LineStatus.CANCELLED
        assert await here.replays(handle) is None
        assert len(here.payments.made) == lines_of(report).count(LineStatus.PAID)

    await at_once(cancelled, invoice_id)


@requirement("DECIDE-EDGE", "SIGNAL-BASELINE", "HISTORY-NONDETERMINISM")
async def test_a_signal_after_the_deadline_does_not_count_where_a_query_is_answered_first(
    real_client: Client, invoice_id: str
) -> None:
    async def signalled(queue: str, ahead: timedelta) -> None:
        here = scene(real_client, queue, approval_timeout=ahead, signals_approve=True)
        async with here.worker():
            handle = await here.submit(PAST_DUE)
            deadline = (await here.service.status(handle.id)).approval_deadline
            assert deadline is not None
        await here.complete_a_task_and_die(handle, before=deadline)
        query = asyncio.create_task(handle.query("GetInvoiceReport", result_type=InvoiceReport))
        await until(deadline + timedelta(seconds=0.5))
        await handle.signal("ApproveInvoice")
        await until(deadline + _COMES_BACK)
        async with here.worker():
            await query
            report = await here.until(handle.id, lambda report: report.status.is_terminal)
        assert report.status is Status.EXPIRED
        assert report.decision is None
        assert here.payments.asked == []
        assert await here.replays(handle) is None

    await at_once(signalled, invoice_id)


class _SlowErp:
    def __init__(self) -> None:
        self.accepts = asyncio.Event()

    async def validate(self, invoice: Invoice) -> None:
        await self.accepts.wait()


@requirement("DECIDE-EDGE", "HISTORY-NONDETERMINISM")
@pytest.mark.nightly
async def test_an_update_before_the_real_deadline_counts_where_a_query_is_answered_before_the_erps_answer(
    real_client: Client, invoice_id: str
) -> None:
    # A client, and so a worker, of its own: it must not be taken for one that knows the workflow.
    other = await Client.connect(real_client.service_client.config.target_host, data_converter=pydantic_data_converter)

    async def approved(queue: str, ahead: timedelta) -> None:
        here, erp = scene(real_client, queue, approval_timeout=_AHEAD), _SlowErp()
        async with here.activities(other, erp):
            async with here.workflows():
                submitted = await here.service.trigger(Invoice.model_validate(an_invoice(queue, ("1", PAST_DUE))))
                await here.until(submitted.workflow_id, lambda report: report.status is Status.PENDING_VALIDATION)
            handle = real_client.get_workflow_handle(submitted.workflow_id)
            begins = datetime.now(UTC) + ahead
            await here.complete_a_task_and_die(handle, before=begins)
            asked = begins + timedelta(seconds=8)
            await until(asked)
            query = asyncio.create_task(handle.query("GetInvoiceReport", result_type=InvoiceReport))
            answered = asked + timedelta(seconds=1)
            await until(answered)
            erp.accepts.set()
            came_back = answered + _COMES_BACK
            await until(came_back)
            async with here.workflows():
                await query
                report = await here.until(handle.id, lambda report: report.status is Status.PENDING_APPROVAL)
                assert report.approval_deadline is not None
                # Told too early, by about four seconds, unless the task was taken first.
                await until(min(report.approval_deadline + timedelta(seconds=0.5), came_back + _AHEAD - _LAST_SEEN))
                report = await here.service.decide(Verdict.APPROVED, handle.id, None, DecisionRequest(by="Ann"))
                assert report.decision is not None
                await here.until(handle.id, lambda report: report.status is Status.PAID)
        assert await here.replays(handle) is None

    await at_once(approved, invoice_id)
