"""What every world has: invoices under ids of its own, ports that fail on demand, a clock, Temporal's own handles."""

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
"""A due date that has passed: such a line is paid as soon as it is approved."""

DAY = timedelta(days=1)
_numbers = itertools.count(1)


def an_invoice(invoice_id: str, /, *lines: tuple[Any, str], **fields: Any) -> dict[str, Any]:
    """An invoice of lines (amount, due date), as JSON for `trigger`; of one line over 100, due in the past, if none."""
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
    """What a scenario can do and see, whatever the workflow speaks.

    Verbs speak of the last invoice, unless told another.

    Attributes:
        engine: Where this happens.
        erp: The ERP's faults, and what it was asked.
        payments: The gateway's faults, and what it was asked.
        name: What the ids of its invoices begin with: no other world's, unless changed before the first of them.
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

    # -- what a scenario can do ----------------------------------------------------------------------------

    def invoice(self, *lines: tuple[Any, str], **fields: Any) -> dict[str, Any]:
        """A new invoice of lines (amount, due date); by default of one line over 100, due in the past."""
        return an_invoice(
            f"{self.name}-{next(self._invoice_numbers)}", *(lines or ((self._AMOUNT, PAST_DUE),)), **fields
        )

    async def now(self, workflow_id: str = "") -> datetime:
        """The time, in UTC, by the clock of the invoice (by default the last one)."""
        return await self.engine.now(workflow_id or self._last or None)

    async def due_in(self, span: timedelta) -> str:
        """A due date, so far from now."""
        return (await self.now() + span).isoformat()

    async def when(self, happened: Callable[[], object], within: float = HARNESS_TIMEOUT) -> None:
        """Wait for what no status tells, without moving the clock: `await world.when(lambda: world.payments.asked)`.

        Args:
            happened: Whether it has; may be a coroutine function.
        """
        await wait_until(happened, "what `when` was asked for", self._describe_state, within=within)

    def _describe_state(self) -> str:
        return "it was not asked"

    async def ports_answer(self) -> None:
        """Before time passes: a slow port answers, and what is under way there ends."""
        self.erp.answers()
        self.payments.answers()
        await wait_until(lambda: not self.payments.under_way, "payments under way to end", str)

    def heal(self) -> None:
        """The world outside is healthy again: no fault is left, and what waits at a port is answered."""
        self.erp.heal()
        self.payments.heal()

    # -- what there is to see ------------------------------------------------------------------------------

    @property
    def workflow_id(self) -> str:
        """Of the last invoice."""
        assert self._last, "submit an invoice first"
        return self._last

    @property
    def workflow_ids(self) -> tuple[str, ...]:
        """Of every invoice of this world."""
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
        """Every payment made, by invoice and line."""
        return tuple(sorted(self.payments.made, key=lambda paid: (paid.order.invoice_id, paid.order.line)))

    @property
    def client(self) -> Client:
        """Temporal's own client, to do things behind everybody's back."""
        return self.engine.client

    def handle(self, workflow_id: str = "", run_id: str | None = None) -> WorkflowHandle[Any, Any]:
        """Temporal's own handle of an invoice (by default the last one)."""
        return self.client.get_workflow_handle(workflow_id or self.workflow_id, run_id=run_id)

    async def history(self, workflow_id: str = "", run_id: str | None = None) -> WorkflowHistory:
        """The history of an invoice's run, by default the last one's newest."""
        return await self.handle(workflow_id, run_id).fetch_history()
