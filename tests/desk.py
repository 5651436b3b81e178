"""A desk at which a test works: an MCP client of any server, and short verbs for the tools. See also `World`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mcp import Client
from mcp_types import CallToolResult, TextContent

from invoice_mcp.reports import InvoiceReport, LineStatus

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


def lines_of(report: InvoiceReport) -> list[LineStatus]:
    """Where each line stands."""
    return [line.status for line in report.lines]


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
