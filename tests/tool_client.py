"""A client with a method for each step of a test, for any MCP server. See also `World`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mcp import Client

from invoice_mcp.domain.report import InvoiceReport, LineStatus
from invoice_mcp.testing import PAST_DUE, ToolRefused, an_invoice
from invoice_mcp.testing.world.tools import Tools

__all__ = ["PAST_DUE", "ToolClient", "an_invoice", "lines_of"]


def lines_of(report: InvoiceReport) -> list[LineStatus]:
    """Return the status of each line."""
    return [line.status for line in report.lines]


@dataclass
class ToolClient:
    """Calls tools; every answer is the structured content."""

    client: Client
    tools: Tools = field(init=False)

    def __post_init__(self) -> None:
        self.tools = Tools(self.client)

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool. Raises ToolRefused if the answer is an error."""
        return await self.tools.call(tool, arguments)

    async def refused(self, tool: str, **arguments: Any) -> ToolRefused:
        """Call a tool that has to refuse, and return the refusal."""
        return await self.tools.refusal(self.call(tool, **arguments))

    async def submit(self, invoice: dict[str, Any], *, until: str = "PENDING-APPROVAL") -> str:
        """Submit an invoice, wait until it has that status, and return its workflow id."""
        workflow_id = str((await self.call("trigger", invoice=invoice))["workflow_id"])
        await self.until(workflow_id, until)
        return workflow_id

    async def until(self, workflow_id: str, *statuses: str, calls: int = 20, patient: bool = False) -> dict[str, Any]:
        """Wait until an invoice has one of these statuses.

        Args:
            patient: Whether to retry after NO_WORKER and NO_ANSWER.
        """
        seen: list[str] = []
        for _ in range(calls):
            try:
                report = await self.call("status", workflow_id=workflow_id, wait_seconds=2 if seen else 0)
            except ToolRefused as refusal:
                if patient and refusal.code in {"NO_WORKER", "NO_ANSWER"}:
                    seen.append(refusal.code)
                    continue
                raise
            if report["status"] in statuses:
                return report
            seen.append(report["status"])
        raise AssertionError(f"{workflow_id} never became {statuses}: {seen}")
