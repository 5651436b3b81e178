"""Workflows that speak as the seed does, written to be wrong in the six ways in which it is:

1. Of two decisions the last one wins: an invoice that was rejected can be paid.
2. A payment that fails leaves its invoice PAID all the same.
3. An incomplete invoice, with a line that has no due date or with no line at all, hangs: its tasks fail for ever.
4. When nobody decides in time the invoice does not become EXPIRED: its execution fails, and it stays PENDING-APPROVAL.
5. A payment carries no idempotency key: one whose answer is lost is made again by the retry.
6. An invoice that is submitted twice runs twice, under ids of no meaning, and is paid twice.

No pytest here: Temporal's sandbox imports this.
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


@workflow.defn(name="PayLineItem")
class FaultyLine:
    @workflow.run
    async def run(self, line: dict[str, Any]) -> str:
        # Fault 3: a line without a due date.
        wait = datetime.fromisoformat(line["due_date"]) - workflow.now()
        if wait > timedelta():
            await workflow.sleep(wait)
        try:
            # Fault 5: neither here nor in the line is anything by which the gateway could know it again.
            await workflow.execute_activity(
                "payment_gateway", line, start_to_close_timeout=ATTEMPT, retry_policy=THRICE
            )
        except ActivityError as error:
            return f"not paid: {error.cause}"
        return "paid"


@workflow.defn(name="InvoiceWorkflow")
class FaultyInvoice:
    def __init__(self) -> None:
        self._status = "INITIALIZING"
        self._approved: bool | None = None

    @workflow.run
    async def run(self, invoice: dict[str, Any]) -> str:
        self._status = "PENDING-VALIDATION"
        await workflow.execute_activity(
            "validate_against_erp", invoice, start_to_close_timeout=ATTEMPT, retry_policy=THRICE
        )
        self._status = "PENDING-APPROVAL"
        # Fault 4: what this raises when the time is over fails the execution.
        await workflow.wait_condition(lambda: self._approved is not None, timeout=timedelta(days=5))
        if self._approved:
            self._status = "PAYING"
            # Fault 3: no lines.
            workflow.logger.info("The largest line is over %s", max(line["amount"] for line in invoice["lines"]))
            # Fault 2: how a line has ended is not looked at.
            await asyncio.gather(*(workflow.execute_child_workflow(FaultyLine.run, line) for line in invoice["lines"]))
            self._status = "PAID"
        else:
            self._status = "REJECTED"
        return self._status

    # Fault 1: the next one simply takes the place of the one before.
    @workflow.signal(name="ApproveInvoice")
    def approve(self) -> None:
        self._approved = True

    @workflow.signal(name="RejectInvoice")
    def reject(self) -> None:
        self._approved = False

    @workflow.query(name="GetInvoiceStatus")
    def status(self) -> str:
        return self._status

    @workflow.query(name="IsInvoiceApproved")
    def is_approved(self) -> bool:
        if self._approved is None:
            raise ApplicationError("there is no decision yet")
        return self._approved


FAULTY = (FaultyInvoice, FaultyLine)
