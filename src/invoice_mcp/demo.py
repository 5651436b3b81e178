"""The demo: one invoice, from submission to its end, told by a real MCP client of a real server."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Any

from mcp import Client, MCPError, StdioServerParameters
from mcp_types import TextContent
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from invoice_mcp.errors import ConfigurationError
from invoice_mcp.ledger import PaymentLedger
from invoice_mcp.ports import ledger_path
from invoice_mcp.reports import InvoiceReport, Status

_EXPIRES_AFTER = timedelta(seconds=3)
_ENDS_WITHIN = 60.0
_COLOURS = {Status.PAID: "green", Status.FAILED: "red", Status.REJECTED: "yellow", Status.EXPIRED: "yellow"}


class Ending(StrEnum):
    """The endings the demo can play."""

    PAID = "PAID"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"


class DemoError(Exception):
    """The server did not do what the demo asked."""


def sample_invoice() -> dict[str, Any]:
    """The sample invoice: ACME Corp, two lines, due in the past."""
    text = files("invoice_mcp").joinpath("samples/invoice_acme.json").read_text(encoding="utf-8")
    invoice: dict[str, Any] = json.loads(text)
    return invoice


async def play(
    ending: Ending,
    console: Console,
    *,
    home: Path,
    approval_timeout: timedelta | None = None,
    fail_validate: bool = False,
    fail_payment: bool = False,
) -> bool:
    """Play the conversation and tell it on `console`. True if the invoice ended as `ending` says.

    Args:
        home: A folder of its own is made below it, and removed at the end.
        approval_timeout: How long the invoice waits; default: five days, three seconds for EXPIRED.
    """
    window = approval_timeout or (_EXPIRES_AFTER if ending is Ending.EXPIRED else None)
    arguments = ["-m", "invoice_mcp", "serve"]
    arguments += ["--approval-timeout", f"{window.total_seconds()}s"] if window else []
    arguments += ["--fail-validate"] if fail_validate else []
    arguments += ["--fail-payment"] if fail_payment else []
    stage = _stage(home)
    try:
        server = StdioServerParameters(command=sys.executable, args=arguments, env=_environment(stage))
        async with AsyncExitStack() as stack:
            with console.status("Starting Temporal, a worker and the MCP server …"):
                client = await stack.enter_async_context(_started(server))
            report = await _Conversation(client, console).hold(ending)
        await _show_ledger(console, PaymentLedger(ledger_path(stage)))
        return _tell_ending(console, report, ending)
    except DemoError as failure:
        console.print(f"[red]The server:[/] {escape(str(failure))}")
        return False
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _tell_ending(console: Console, report: InvoiceReport, ending: Ending) -> bool:
    good = report.status.value == ending.value
    colour = _COLOURS.get(report.status, "red")
    console.print(f"{'Done' if good else 'Not as it should be'}: the invoice is [{colour}]{report.status}[/].")
    return good


@asynccontextmanager
async def _started(server: StdioServerParameters) -> AsyncIterator[Client]:
    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(Client(server))
        except (MCPError, OSError, ExceptionGroup) as error:
            raise DemoError(f"it did not start ({error}). `invoice-mcp serve -v` tells more") from None
        yield client


def _stage(home: Path) -> Path:
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Path(tempfile.mkdtemp(prefix="demo-", dir=home))
    except OSError as error:
        raise ConfigurationError(
            f"No data can be kept under {home}: {error.strerror}. Look at INVOICE_MCP_HOME"
        ) from None


def _environment(stage: Path) -> dict[str, str]:
    """The demo is about itself: whatever else is configured for this user stays untouched."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TEMPORAL_") and name not in {"ERP_URL", "PAYMENTS_URL"}
    }
    return kept | {"INVOICE_MCP_HOME": str(stage)}


class _Conversation:
    """What the user says, which tool the agent then calls, and what it hears."""

    def __init__(self, client: Client, console: Console) -> None:
        self._client = client
        self._console = console

    async def hold(self, ending: Ending) -> InvoiceReport:
        """Play it to its end and return the last report."""
        invoice = sample_invoice()
        self._says(f"Please process invoice {invoice['invoice_id']} of {invoice['customer']}.")
        workflow_id = str((await self._call("trigger", invoice=invoice))["workflow_id"])
        self._hears(f"Submitted as {workflow_id}.")
        self._says("Where does it stand?")
        report = await self._report("status", workflow_id=workflow_id)
        report = await self._follow(report, {Status.INITIALIZING, Status.PENDING_VALIDATION})
        if report.status is Status.PENDING_APPROVAL:
            report = await self._decide(report, ending)
        return await self._follow(report, {Status.PENDING_APPROVAL, Status.APPROVED, Status.PAYING})

    async def _decide(self, report: InvoiceReport, ending: Ending) -> InvoiceReport:
        which = {"workflow_id": report.workflow_id, "approver": "the demo's user"}
        match ending:
            case Ending.PAID:
                self._says("I have checked it. Approve.")
                return await self._report("approve", **which, comment="Checked.")
            case Ending.REJECTED:
                self._says("We never ordered this. Reject.")
                return await self._report("reject", **which, reason="Never ordered.")
            case Ending.EXPIRED:
                self._says("… (nobody decides)")
                return report

    async def _follow(self, report: InvoiceReport, passing: set[Status]) -> InvoiceReport:
        """Wait until the invoice has another status than those it only passes, and tell each change."""
        with self._console.status("Waiting for the next status …"):
            while report.status in passing:
                report = await self._report("status", workflow_id=report.workflow_id, wait_seconds=10)
        return report

    async def _report(self, tool: str, **arguments: Any) -> InvoiceReport:
        report = InvoiceReport.model_validate(await self._call(tool, **arguments))
        self._hears(report.summary)
        return report

    async def _call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        shown = ", ".join(
            f"{key}={'…' if isinstance(value, dict) else repr(value)}" for key, value in arguments.items()
        )
        self._console.print(f"  [dim]→ {tool}({escape(shown)})[/]")
        try:
            answer = await self._client.call_tool(tool, arguments, read_timeout_seconds=_ENDS_WITHIN)
        except MCPError as error:
            raise DemoError(f"it went away ({error.message})") from None
        if answer.is_error or not isinstance(answer.structured_content, dict):
            raise DemoError(" ".join(block.text for block in answer.content if isinstance(block, TextContent)))
        return answer.structured_content

    def _says(self, words: str) -> None:
        self._console.print(f"[bold]You:[/]   {escape(words)}")

    def _hears(self, words: str) -> None:
        self._console.print(f"[bold cyan]Agent:[/] {escape(words)}")


async def _show_ledger(console: Console, ledger: PaymentLedger) -> None:
    entries = await ledger.entries()
    if not entries:
        console.print("The payment ledger is empty: nothing was paid.")
        return
    table = Table(title="Payment ledger", title_justify="left")
    for column in ("Payment", "Invoice", "Line", "Description", "Amount"):
        table.add_column(column, justify="right" if column in {"Line", "Amount"} else "left", overflow="fold")
    for entry in sorted(entries, key=lambda entry: (entry.invoice_id, entry.line)):
        amount = f"{entry.currency} {entry.amount}"
        table.add_row(entry.payment_id, entry.invoice_id, str(entry.line), escape(entry.description), amount)
    console.print(table)
