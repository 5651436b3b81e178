"""Workflows with the original sample's interface and none of its six faults (see faulty.py).

They show that the checker has no false positives. The sandbox imports this module, so it must not import pytest.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError

ATTEMPT = timedelta(seconds=30)
THRICE = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=3)
WINDOW = timedelta(days=5)


def is_complete(invoice: dict[str, Any]) -> bool:
    """Whether the invoice has lines, and each line everything that a payment needs."""
    lines = invoice.get("lines") or []
    return bool(lines) and all(line.keys() >= {"description", "amount", "due_date"} for line in lines)


@workflow.defn(name="PayLineItem")
class SoundLine:
    @workflow.run
    async def run(self, line: dict[str, Any]) -> str:
        wait = datetime.fromisoformat(line["due_date"]) - workflow.now()
        if wait > timedelta():
            await workflow.sleep(wait)
        try:
            await workflow.execute_activity(
                "payment_gateway", line, start_to_close_timeout=ATTEMPT, retry_policy=THRICE
            )
        except ActivityError:
            return "FAILED"
        return "PAID"


@workflow.defn(name="InvoiceWorkflow")
class SoundInvoice:
    def __init__(self) -> None:
        self._status = "INITIALIZING"
        self._approved: bool | None = None
        self._deadline: datetime | None = None

    @workflow.run
    async def run(self, invoice: dict[str, Any]) -> str:
        self._status = await self._process(invoice)
        return self._status

    async def _process(self, invoice: dict[str, Any]) -> str:
        if not is_complete(invoice):
            return "FAILED"
        self._status = "PENDING-VALIDATION"
        try:
            await workflow.execute_activity(
                "validate_against_erp", invoice, start_to_close_timeout=ATTEMPT, retry_policy=THRICE
            )
        except ActivityError:
            return "FAILED"
        self._status, self._deadline = "PENDING-APPROVAL", workflow.now() + WINDOW
        try:
            await workflow.wait_condition(lambda: self._approved is not None, timeout=WINDOW)
        except TimeoutError:
            return "EXPIRED"
        if not self._approved:
            return "REJECTED"
        self._status = "PAYING"
        lines = [
            # The key depends on the invoice, not on the run that pays it.
            line | {"idempotency_key": f"{invoice['invoice_id']}-{number}"}
            for number, line in enumerate(invoice["lines"], 1)
        ]
        ends = await asyncio.gather(*(workflow.execute_child_workflow(SoundLine.run, line) for line in lines))
        return "PAID" if set(ends) == {"PAID"} else "FAILED"

    @workflow.signal(name="ApproveInvoice")
    def approve(self) -> None:
        self._decide(approved=True)

    @workflow.signal(name="RejectInvoice")
    def reject(self) -> None:
        self._decide(approved=False)

    def _decide(self, *, approved: bool) -> None:
        if self._approved is None and (self._deadline is None or workflow.now() < self._deadline):
            self._approved = approved

    @workflow.query(name="GetInvoiceStatus")
    def status(self) -> str:
        return self._status

    @workflow.query(name="IsInvoiceApproved")
    def is_approved(self) -> bool:
        if self._approved is None:
            raise ApplicationError("there is no decision yet")
        return self._approved


SOUND = (SoundInvoice, SoundLine)
