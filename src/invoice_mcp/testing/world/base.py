"""The part that all worlds share: invoices with unique ids, fake ports, the clock, Temporal handles."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, ClassVar

from temporalio.client import Client, WorkflowHandle, WorkflowHistory

from invoice_mcp.testing.engines.base import HARNESS_TIMEOUT, Engine
from invoice_mcp.testing.records import RecordedPayment
from invoice_mcp.testing.world.fakes import RecordingPayments, ScriptedErp
from invoice_mcp.testing.world.waiting import wait_until

PAST_DUE = "2024-06-30T00:00:00Z"
"""A due date in the past: such a line is paid as soon as its invoice is approved.

    >>> an_invoice("A", ("100", PAST_DUE))["lines"][0]["due_date"]
    '2024-06-30T00:00:00Z'
"""

DAY = timedelta(days=1)
_numbers = itertools.count(1)


def an_invoice(invoice_id: str, /, *lines: tuple[Any, str], **fields: Any) -> dict[str, Any]:
    """An invoice as JSON for `trigger`, with lines (amount, due date); by default one line over 100, past due.

    >>> an_invoice("A", ("12.50", PAST_DUE), customer="Initech")["lines"][0]["amount"]
    '12.50'
    """
    return {
        "invoice_id": invoice_id,
        "customer": "ACME Corp",
        "lines": [
            {"description": f"Widget {number}", "amount": amount, "due_date": due}
            for number, (amount, due) in enumerate(lines or (("100", PAST_DUE),), 1)
        ],
        **fields,
    }


class BaseWorld:
    """What a scenario can do and observe, independent of the workflow's interface.

    Methods refer to the last invoice by default.

    Attributes:
        engine: The engine that runs the scenario.
        erp: The fake ERP, with its faults and its recorded requests.
        payments: The fake gateway, with its faults and its recorded requests.
        name: Prefix of the invoice ids, unique among worlds. It may be changed before the first invoice.
    """

    _PREFIX: ClassVar[str] = "INV"
    _AMOUNT: ClassVar[Any] = "100"

    def __init__(self, engine: Engine, erp: ScriptedErp, payments: RecordingPayments) -> None:
        self.engine = engine
        self.erp = erp
        self.payments = payments
        self._runs: dict[str, list[str]] = {}
        self._last = ""
        self.name = f"{self._PREFIX}-{os.getpid()}-{next(_numbers)}"
        self._invoice_numbers = itertools.count(1)

    # -- actions -----------------------------------------------------------------------------------------

    def invoice(self, *lines: tuple[Any, str], **fields: Any) -> dict[str, Any]:
        """A new invoice with lines (amount, due date); by default one line over 100, past due."""
        return an_invoice(
            f"{self.name}-{next(self._invoice_numbers)}", *(lines or ((self._AMOUNT, PAST_DUE),)), **fields
        )

    async def now(self, workflow_id: str = "") -> datetime:
        """The time in UTC by the clock of an invoice."""
        return await self.engine.now(workflow_id or self._last or None)

    async def due_in(self, span: timedelta) -> str:
        """A due date at this distance from now."""
        return (await self.now() + span).isoformat()

    async def when(self, happened: Callable[[], object], within: float = HARNESS_TIMEOUT) -> None:
        """Wait for a condition, without advancing the clock: `await world.when(lambda: world.payments.asked)`.

        Args:
            happened: The condition; may be a coroutine function.
        """
        await wait_until(happened, "the condition of `when`", self._describe_state, within=within)

    def _describe_state(self) -> str:
        return "its status was not read"

    async def ports_answer(self) -> None:
        """Let slow ports answer, and wait until no payment is under way. Called before time passes."""
        self.erp.answers()
        self.payments.answers()
        await wait_until(lambda: not self.payments.under_way, "payments under way to end", str)

    def heal(self) -> None:
        """Remove all faults, and let slow ports answer."""
        self.erp.heal()
        self.payments.heal()

    # -- observations -------------------------------------------------------------------------------------

    @property
    def workflow_id(self) -> str:
        """The workflow id of the last invoice."""
        assert self._last, "submit an invoice first"
        return self._last

    @property
    def workflow_ids(self) -> tuple[str, ...]:
        """The workflow ids of all invoices of this world."""
        return tuple(self._runs)

    def _track(self, workflow_id: str, run_id: str = "") -> None:
        self._last = workflow_id
        self._add_run(workflow_id, run_id)

    def _add_run(self, workflow_id: str, run_id: str) -> None:
        runs = self._runs.setdefault(workflow_id, [])
        if run_id and run_id not in runs:
            runs.append(run_id)

    @property
    def ledger(self) -> tuple[RecordedPayment, ...]:
        """All payments made, sorted by invoice and line."""
        return tuple(sorted(self.payments.made, key=lambda paid: (paid.order.invoice_id, paid.order.line)))

    @property
    def client(self) -> Client:
        """A Temporal client, for actions without the MCP server."""
        return self.engine.client

    def handle(self, workflow_id: str = "", run_id: str | None = None) -> WorkflowHandle[Any, Any]:
        """The Temporal handle of an invoice."""
        return self.client.get_workflow_handle(workflow_id or self.workflow_id, run_id=run_id)

    async def history(self, workflow_id: str = "", run_id: str | None = None) -> WorkflowHistory:
        """The history of an invoice's run, by default the newest one."""
        return await self.handle(workflow_id, run_id).fetch_history()
