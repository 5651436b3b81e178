"""Line workflows, and operators who terminate or cancel workflows. On the real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from mcp import Client as McpClient
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError

from invoice_mcp.domain.names import line_workflow_id
from invoice_mcp.domain.report import LineStatus, Status
from invoice_mcp.server.tools import build_server
from invoice_mcp.service.invoice_service import InvoiceService
from invoice_mcp.testing import PAST_DUE, World
from invoice_mcp.testing.plugin import NewWorld
from invoice_mcp.testing.world.fakes import RecordingPayments, ScriptedErp
from invoice_mcp.workflow.worker import build_worker
from tests.requirements import requirement
from tests.tool_client import ToolClient, an_invoice, lines_of

LATER = "2090-01-01T00:00:00Z"
TIMER_STARTED = EventType.EVENT_TYPE_TIMER_STARTED


async def timers_of(handle: WorkflowHandle[Any, Any]) -> list[timedelta]:
    """How long the timers are that a workflow has started."""
    try:
        events = [event async for event in handle.fetch_history_events() if event.event_type == TIMER_STARTED]
    except RPCError:  # not there yet
        return []
    return [event.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta() for event in events]


async def waiting_line(world: World, line: int) -> WorkflowHandle[Any, Any]:
    """The workflow of a line, once it waits for its due date: ended in the middle of a task, it would fail that."""
    handle = world.handle(line_workflow_id(world.workflow_id, line))
    await world.when(lambda: timers_of(handle))
    return handle


@requirement("PAY-DUE")
async def test_a_line_due_in_centuries_is_waited_for_in_steps_the_server_can_take(real_world: NewWorld) -> None:
    async with real_world(run_to_end=False) as world:
        await world.submit(("1", "2990-01-01T00:00:00Z"))
        await world.approve()
        line = await waiting_line(world, 1)
        # The server fires any timer after a hundred years, whatever was asked for.
        assert [timer.days for timer in await timers_of(line)] == [90 * 365]


@requirement("PAY-FAILED")
async def test_a_line_whose_workflow_is_ended_from_outside_is_failed_and_unconfirmed(real_world: NewWorld) -> None:
    async with real_world() as world:
        await world.submit(("1", LATER), ("2", PAST_DUE))
        await world.approve()
        await (await waiting_line(world, 1)).terminate()
        report = await world.until(Status.FAILED)
        assert lines_of(report) == [LineStatus.FAILED, LineStatus.PAID]
        assert report.lines[0].error == "TERMINATED"
        assert "not confirmed" in str(report.lines[0].reason)


@requirement("PAY-FAILED")
async def test_a_line_cancelled_from_outside_leaves_the_invoice_failed(real_world: NewWorld) -> None:
    async with real_world() as world:
        await world.submit(("1", LATER), ("2", PAST_DUE))
        await world.approve()
        await (await waiting_line(world, 1)).cancel()
        report = await world.until(Status.FAILED)
        assert lines_of(report) == [LineStatus.CANCELLED, LineStatus.PAID]
        assert "line 1 (CANCELLED)" in report.summary


# An invoice that is itself terminated keeps its last status and never ends: what every world demands at its end (S7,
# L1) can't be had of it. So these two do without a world.


@asynccontextmanager
async def service_of(client: Client, queue: str) -> AsyncIterator[ToolClient]:
    async with (
        build_worker(client, ScriptedErp(), RecordingPayments(), task_queue=queue),
        McpClient(build_server(InvoiceService(client, task_queue=queue))) as session,
    ):
        yield ToolClient(session)


@requirement("START-RESUBMITTED")
async def test_an_invoice_whose_workflow_was_terminated_says_so_and_may_be_submitted_again(
    real_client: Client, invoice_id: str
) -> None:
    async with service_of(real_client, invoice_id) as tools:
        workflow_id = await tools.submit(an_invoice(invoice_id))
        await real_client.get_workflow_handle(workflow_id).terminate()
        report = await tools.call("status", workflow_id=workflow_id)
        assert (report["status"], report["workflow_status"]) == ("PENDING-APPROVAL", "TERMINATED")
        assert "ended from outside" in report["summary"]
        assert (await tools.refused("approve", workflow_id=workflow_id)).code == "ALREADY_CLOSED"
        assert (await tools.call("trigger", invoice=an_invoice(invoice_id)))["created"]


@requirement("START-RESUBMITTED", "PAY-ONCE")
async def test_an_invoice_that_was_terminated_while_paying_can_only_be_resubmitted_unchanged(
    real_client: Client, invoice_id: str
) -> None:
    async with service_of(real_client, invoice_id) as tools:
        workflow_id = await tools.submit(an_invoice(invoice_id, ("1", LATER)))
        await tools.call("approve", workflow_id=workflow_id)
        await tools.until(workflow_id, "PAYING")
        await real_client.get_workflow_handle(workflow_id).terminate()
        changed = await tools.refused("trigger", invoice=an_invoice(invoice_id, ("2", LATER)))
        assert changed.code == "INVOICE_CONFLICT"
        assert (await tools.call("trigger", invoice=an_invoice(invoice_id, ("1", LATER))))["created"]
