"""A desk at which a test works: an MCP client, and short verbs for the tools."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from mcp import Client
from mcp_types import CallToolResult, TextContent
from temporalio.testing import WorkflowEnvironment

from invoice_mcp.invoices import Invoice
from invoice_mcp.reports import PaymentOrder, PaymentReceipt
from invoice_mcp.server import build_server
from invoice_mcp.service import InvoiceService
from invoice_mcp.testing import RecordingPayments, ScriptedErp
from invoice_mcp.worker import build_worker

PAST = "2024-06-30T00:00:00Z"


def an_invoice(invoice_id: str, *lines: tuple[str, str], **fields: Any) -> dict[str, Any]:
    """An invoice of lines (amount, due date); one line of 100, due in the past, if none is given."""
    return {
        "invoice_id": invoice_id,
        "customer": "ACME Corp",
        "lines": [
            {"description": f"Widget {number}", "amount": amount, "due_date": due}
            for number, (amount, due) in enumerate(lines or (("100", PAST),), 1)
        ],
        **fields,
    }


class ToolRefusedError(Exception):
    """A tool answered with an error; the text is all the client saw."""

    @property
    def code(self) -> str:
        return str(self).partition(":")[0]


@dataclass
class Desk:
    """The tools, as a test speaks of them. Every answer is the structured content."""

    client: Client
    progress: list[tuple[float, str | None]] = field(default_factory=list)
    submitted: set[str] = field(default_factory=set)

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool. Raises ToolRefusedError where the answer is an error."""

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001
            self.progress.append((progress, message))

        answer = await self.client.call_tool(tool, arguments, progress_callback=on_progress, read_timeout_seconds=60)
        assert isinstance(answer, CallToolResult)
        text = "".join(block.text for block in answer.content if isinstance(block, TextContent))
        if answer.is_error:
            raise ToolRefusedError(text)
        assert isinstance(answer.structured_content, dict)
        if tool == "trigger":
            self.submitted.add(answer.structured_content["workflow_id"])
        return answer.structured_content

    async def refused(self, tool: str, **arguments: Any) -> ToolRefusedError:
        """Call a tool that must refuse, and return how it does."""
        try:
            answer = await self.call(tool, **arguments)
        except ToolRefusedError as refusal:
            return refusal
        raise AssertionError(f"{tool} should have refused, but answered {answer}")

    async def submit(self, invoice: dict[str, Any], *, until: str = "PENDING-APPROVAL") -> str:
        """Submit an invoice, wait until it has that status, and return its workflow id."""
        workflow_id = str((await self.call("trigger", invoice=invoice))["workflow_id"])
        await self.until(workflow_id, until)
        return workflow_id

    async def until(self, workflow_id: str, *statuses: str, calls: int = 20, patient: bool = False) -> dict[str, Any]:
        """Follow an invoice, change by change, until it has one of these statuses. Patient: take NO_WORKER for a
        "not yet", as its text says."""
        seen: list[str] = []
        for _ in range(calls):
            try:
                report = await self.call("status", workflow_id=workflow_id, wait_seconds=2 if seen else 0)
            except ToolRefusedError as refusal:
                if patient and refusal.code == "NO_WORKER":
                    seen.append(refusal.code)
                    continue
                raise
            if report["status"] in statuses:
                return report
            seen.append(report["status"])
        raise AssertionError(f"{workflow_id} never became {statuses}: {seen}")


class Ports:
    """The scripted ports of the test that runs now, behind the one worker of the session."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.erp, self.payments = ScriptedErp(), RecordingPayments()

    async def validate(self, invoice: Invoice) -> None:
        await self.erp.validate(invoice)

    async def pay(self, order: PaymentOrder) -> PaymentReceipt:
        return await self.payments.pay(order)


@dataclass(frozen=True)
class Stage:
    """A time-skipping server and a worker on it."""

    environment: WorkflowEnvironment
    ports: Ports


@asynccontextmanager
async def open_stage(environment: WorkflowEnvironment) -> AsyncIterator[Stage]:
    ports = Ports()
    async with build_worker(environment.client, ports, ports):
        yield Stage(environment, ports)


@dataclass
class Skipping(Desk):
    """A desk on the time-skipping server, with scripted ports."""

    stage: Stage = field(kw_only=True)

    @property
    def erp(self) -> ScriptedErp:
        return self.stage.ports.erp

    @property
    def payments(self) -> RecordingPayments:
        return self.stage.ports.payments

    async def advance(self, span: timedelta) -> None:
        await self.stage.environment.sleep(span)

    async def now(self) -> datetime:
        return (await self.stage.environment.get_current_time()).astimezone(UTC)

    async def due_in(self, span: timedelta) -> str:
        return (await self.now() + span).isoformat()


@asynccontextmanager
async def skipping_desk(
    stage: Stage, *, mode: str = "auto", approval_timeout: timedelta = timedelta(days=5)
) -> AsyncIterator[Skipping]:
    """A client on the production server and worker; only the ports are scripted, and new for each desk."""
    stage.ports.renew()
    client = stage.environment.client
    server = build_server(InvoiceService(client, approval_timeout=approval_timeout))
    async with Client(server, mode=mode) as session:
        desk = Skipping(session, stage=stage)
        yield desk
        # What stays open would hold up the clock of whoever comes next. Cancelled rather than terminated: this server
        # loses count of its clock's locks when a workflow is terminated in the middle of a task.
        for workflow_id in desk.submitted:
            with suppress(ToolRefusedError):
                await desk.call("cancel", workflow_id=workflow_id)
                await desk.until(workflow_id, "CANCELLED", "PAID", "FAILED", "EXPIRED", "REJECTED")
