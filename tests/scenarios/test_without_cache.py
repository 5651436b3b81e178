"""Lives on the real server with a worker that forgets: every workflow task replays the whole history.

Any nondeterminism fails the task at once; any handler that runs on when its workflow is evicted hangs the worker.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp import Client
from temporalio.client import Client as TemporalClient

from invoice_mcp.server import build_server
from invoice_mcp.service import InvoiceService
from invoice_mcp.testing import RecordingPayments, ScriptedErp
from invoice_mcp.worker import build_worker
from tests.desk import PAST, Desk, an_invoice

LATER = "2090-01-01T00:00:00Z"


@asynccontextmanager
async def forgetful_desk(client: TemporalClient, queue: str, payments: RecordingPayments) -> AsyncIterator[Desk]:
    async with (
        build_worker(client, ScriptedErp(), payments, task_queue=queue, max_cached_workflows=0),
        Client(build_server(InvoiceService(client, task_queue=queue))) as session,
    ):
        yield Desk(session)


async def test_an_invoice_is_paid_by_a_worker_that_forgets(real_client: TemporalClient, invoice_id: str) -> None:
    payments = RecordingPayments()
    async with forgetful_desk(real_client, invoice_id, payments) as desk:
        workflow_id = await desk.submit(an_invoice(invoice_id, ("1", PAST), ("2", PAST), ("3", PAST)))
        await desk.call("approve", workflow_id=workflow_id)
        await desk.until(workflow_id, "PAID")
    assert [paid.order.line for paid in payments.of_invoice(invoice_id)] == [1, 2, 3]


async def test_an_invoice_is_cancelled_while_paying_by_a_worker_that_forgets(
    real_client: TemporalClient, invoice_id: str
) -> None:
    payments = RecordingPayments()
    async with forgetful_desk(real_client, invoice_id, payments) as desk:
        workflow_id = await desk.submit(an_invoice(invoice_id, ("1", PAST), ("2", LATER), ("3", LATER)))
        await desk.call("approve", workflow_id=workflow_id)
        while not payments.made:
            await desk.call("status", workflow_id=workflow_id, wait_seconds=0.1)
        await desk.call("cancel", workflow_id=workflow_id)
        report = await desk.until(workflow_id, "CANCELLED")
    assert [line["status"] for line in report["lines"]] == ["PAID", "CANCELLED", "CANCELLED"]
    assert len(payments.made) == 1
