"""Workflows with the original sample's interface and its six faults:

1. The last of two decisions wins: a rejected invoice can be paid.
2. An invoice becomes PAID although a payment failed.
3. An incomplete invoice, without lines or with a line without a due date, hangs: its workflow tasks fail for ever.
4. Without a decision in time the invoice does not become EXPIRED: its execution fails with status PENDING-APPROVAL.
5. A payment has no idempotency key: if its answer is lost, the retry pays again.
6. An invoice that is submitted twice runs twice, under random ids, and is paid twice.

The sandbox imports this module, so it must not import pytest.
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
        # Fault 3: the line may have no due date.
        wait = datetime.fromisoformat(line["due_date"]) - workflow.now()
        if wait > timedelta():
            await workflow.sleep(wait)
        try:
            # Fault 5: the request has no idempotency key.
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
        # Fault 4: the TimeoutError fails the execution.
        await workflow.wait_condition(lambda: self._approved is not None, timeout=timedelta(days=5))
        if self._approved:
            self._status = "PAYING"
            # Fault 3: `max` fails without lines.
            workflow.logger.info("The largest line is over %s", max(line["amount"] for line in invoice["lines"]))
            # Fault 2: the results of the lines are ignored.
            await asyncio.gather(*(workflow.execute_child_workflow(FaultyLine.run, line) for line in invoice["lines"]))
            self._status = "PAID"
        else:
            self._status = "REJECTED"
        return self._status

    # Fault 1: each decision replaces the one before.
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
