"""The `demo` command: an MCP client submits one invoice to a server of its own and prints the conversation."""

from __future__ import annotations

import asyncio
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
from mcp.client.session import ClientRequestContext
from mcp_types import ElicitRequestFormParams, ElicitRequestURLParams, ElicitResult, TextContent
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from invoice_mcp.adapters.ledger import PaymentLedger
from invoice_mcp.adapters.settings import ledger_path
from invoice_mcp.domain.display_text import printable
from invoice_mcp.domain.errors import ConfigurationError
from invoice_mcp.domain.report import InvoiceReport, Status
from invoice_mcp.server.startup import STARTING_MESSAGE
from mcp_temporal_tasks import CreateTaskResult, DetailedTask, Task, TasksClient

_EXPIRY = timedelta(seconds=3)
_CALL_TIMEOUT = 60.0
_COLOURS = {Status.PAID: "green", Status.FAILED: "red", Status.REJECTED: "yellow", Status.EXPIRED: "yellow"}


class Ending(StrEnum):
    """The statuses that the demo can end with."""

    PAID = "PAID"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"


class DemoError(Exception):
    """The server failed, or refused a request of the demo."""


def sample_invoice() -> dict[str, Any]:
    """Return the sample invoice: ACME Corp, two lines, due in the past."""
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
    """Run the conversation and print it on `console`. Return whether the invoice ended with the status `ending`.

    Args:
        home: The demo keeps its data in a temporary folder below it.
        approval_timeout: How long the invoice waits for a decision; default: five days, three seconds for EXPIRED.
    """
    timeout = approval_timeout or (_EXPIRY if ending is Ending.EXPIRED else None)
    arguments = ["-m", "invoice_mcp", "serve", "--approval", "ask"]
    arguments += ["--approval-timeout", f"{timeout.total_seconds()}s"] if timeout else []
    arguments += ["--fail-validate"] if fail_validate else []
    arguments += ["--fail-payment"] if fail_payment else []
    arguments += ["--accept-embedded-risk"]  # nothing real is paid, and all data is deleted
    temporary_home = _temporary_home(home)
    try:
        server = StdioServerParameters(command=sys.executable, args=arguments, env=_environment(temporary_home))
        conversation = _Conversation(console, ending)
        async with conversation.client(server) as client:
            report = await conversation.run(client)
        await _print_ledger(console, PaymentLedger(ledger_path(temporary_home)))
        return _print_ending(console, report, ending)
    except (DemoError, ExceptionGroup) as failure:
        # The client's task groups wrap an error in exception groups.
        if (known := _demo_error_in(failure)) is None:
            raise
        console.print(f"[red]The server:[/] {escape(str(known))}")
        return False
    finally:
        shutil.rmtree(temporary_home, ignore_errors=True)


def _demo_error_in(failure: Exception) -> DemoError | None:
    if isinstance(failure, ExceptionGroup):
        return next((known for each in failure.exceptions if (known := _demo_error_in(each)) is not None), None)
    return failure if isinstance(failure, DemoError) else None


def _print_ending(console: Console, report: InvoiceReport, ending: Ending) -> bool:
    good = report.status.value == ending.value
    colour = _COLOURS.get(report.status, "red")
    console.print(f"{'Done' if good else 'Unexpected end'}: the invoice is [{colour}]{report.status}[/].")
    return good


def _temporary_home(home: Path) -> Path:
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Path(tempfile.mkdtemp(prefix="demo-", dir=home))
    except OSError as error:
        raise ConfigurationError(f"Can't write below {home}: {error.strerror}. Look at INVOICE_MCP_HOME") from None


def _environment(temporary_home: Path) -> dict[str, str]:
    """The environment of the server, without the user's Temporal, ERP and gateway."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TEMPORAL_", "ERP_URL", "PAYMENTS_URL"))
    }
    return kept | {"INVOICE_MCP_HOME": str(temporary_home)}


async def wait_until_ready(client: Client, within: float = 60.0) -> None:
    """Wait until a server that has just started is connected to Temporal.

    Raises:
        TimeoutError: It took more than `within` seconds.
    """
    async with asyncio.timeout(within):
        while STARTING_MESSAGE in str((await client.call_tool("list", {"limit": 1})).content):
            """Each call waits some seconds for Temporal."""


class _Conversation:
    """Prints what the user says, which tool the agent calls, and what the agent and the form say to the user."""

    def __init__(self, console: Console, ending: Ending) -> None:
        self._console = console
        self._ending = ending
        self._last_message: str | None = None

    @asynccontextmanager
    async def client(self, server: StdioServerParameters) -> AsyncIterator[Client]:
        """Connect a client with tasks, whose user answers forms as `ending` requires."""
        async with AsyncExitStack() as stack:
            client = Client(server, extensions=[TasksClient(on_task=self._on_task)], elicitation_callback=self._on_form)
            try:
                with self._console.status("Starting Temporal, a worker and the MCP server …"):
                    await stack.enter_async_context(client)
                    await wait_until_ready(client)
            except (MCPError, OSError, ExceptionGroup) as error:
                raise DemoError(f"it did not start ({error}). `invoice-mcp serve -v` logs details") from None
            yield client

    async def run(self, client: Client) -> InvoiceReport:
        """Call `trigger` and return the final report, which that one call ends with."""
        invoice = sample_invoice()
        self._print_user(f"Please process invoice {invoice['invoice_id']} of {invoice['customer']}.")
        self._console.print("  [dim]→ trigger(invoice=…)[/]")
        try:
            answer = await client.call_tool("trigger", {"invoice": invoice}, read_timeout_seconds=_CALL_TIMEOUT)
        except MCPError as error:
            raise DemoError(f"the connection was lost ({error.message})") from None
        if answer.is_error or not isinstance(answer.structured_content, dict):
            raise DemoError(" ".join(block.text for block in answer.content if isinstance(block, TextContent)))
        return InvoiceReport.model_validate(answer.structured_content)

    async def _on_task(self, task: Task) -> None:
        """Print each new status message of the task."""
        if isinstance(task, CreateTaskResult):
            self._print_agent(f"Submitted as a task, which may take days: {task.task_id}")
        message = task.status_message
        if isinstance(task, DetailedTask) and task.result is not None:
            message = task.result["structuredContent"]["summary"]
        if message and message != self._last_message:
            self._last_message = message
            self._print_agent(message)

    async def _on_form(
        self,
        context: ClientRequestContext,  # noqa: ARG002
        params: ElicitRequestFormParams | ElicitRequestURLParams,
    ) -> ElicitResult:
        """Show the form and answer it."""
        for line in params.message.splitlines():
            self._console.print(f"  [yellow]┃[/] {escape(line)}")
        match self._ending:
            case Ending.PAID:
                return self._answer_form(decision="approve", comment="Checked.")
            case Ending.REJECTED:
                return self._answer_form(decision="reject", comment="Never ordered.")
            case Ending.EXPIRED:
                self._print_user("… (nobody decides)")
                return ElicitResult(action="cancel")

    def _answer_form(self, *, decision: str, comment: str) -> ElicitResult:
        self._print_user(f"{decision.capitalize()}. {comment}")
        content = {"decision": decision, "comment": comment, "name": "the demo's user"}
        return ElicitResult(action="accept", content={**content})

    def _print_user(self, words: str) -> None:
        self._console.print(f"[bold]You:[/]   {escape(words)}")

    def _print_agent(self, words: str) -> None:
        self._console.print(f"[bold cyan]Agent:[/] {escape(words)}")


async def _print_ledger(console: Console, ledger: PaymentLedger) -> None:
    entries = await ledger.entries()
    if not entries:
        console.print("The payment ledger is empty: nothing was paid.")
        return
    table = Table(title="Payment ledger", title_justify="left")
    for column in ("Payment", "Invoice", "Line", "Description", "Amount"):
        table.add_column(column, justify="right" if column in {"Line", "Amount"} else "left", overflow="fold")
    for entry in sorted(entries, key=lambda entry: (entry.invoice_id, entry.line)):
        amount = f"{entry.currency} {entry.amount}"
        table.add_row(entry.payment_id, entry.invoice_id, str(entry.line), escape(printable(entry.description)), amount)
    console.print(table)
