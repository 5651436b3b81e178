"""What the runs under an invoice's workflow id have settled so far, whoever began them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus, WorkflowQueryFailedError
from temporalio.service import RPCError, RPCStatusCode

from invoice_mcp.reading import WORKFLOW_TYPE, report_of
from invoice_mcp.reports import InvoiceReport
from invoice_mcp.resubmission import Settled, settled_after


async def last_report(client: Client, run: WorkflowExecution) -> InvoiceReport | None:
    """The report of a run, or None if it never was an invoice's: started by somebody else, with garbage."""
    try:
        return await report_of(client, run)
    except WorkflowQueryFailedError:
        if run.status is WorkflowExecutionStatus.FAILED:
            return None
        raise


async def settled_by(client: Client, newest: WorkflowExecution) -> tuple[Settled, InvoiceReport | None]:
    """Which lines are settled after this run, and the last report there is.

    A run that `trigger` began tells what was settled before it. Of one that somebody else began, the runs before it
    do, back to the first that tells it; as far as they are listed, which they are a moment after they began.

    Raises:
        RPCError, RuntimeError: Temporal can't be reached, or no worker polls.
    """
    settled: Settled = {}
    reports: list[InvoiceReport] = []
    async with aclosing(_backwards(client, newest)) as runs:
        async for run in runs:
            report = await last_report(client, run)
            reports += [report] if report is not None else []
            told: Any = await run.memo_value("settled", default=None)
            if isinstance(told, dict):
                settled = told
                break
    for report in reversed(reports):
        settled = settled_after(report, settled)
    return settled, reports[0] if reports else None


async def _backwards(client: Client, newest: WorkflowExecution) -> AsyncGenerator[WorkflowExecution]:
    """This run, and those before it, the youngest first."""
    yield newest
    query = f"WorkflowType = '{WORKFLOW_TYPE}' AND WorkflowId = '{newest.id}'"
    try:
        runs = [run async for run in client.list_workflows(query)]
    except RPCError as error:
        # Only servers for tests can't list.
        if error.status is not RPCStatusCode.UNIMPLEMENTED:
            raise
        return
    for run in sorted(runs, key=lambda each: each.start_time, reverse=True):
        if run.start_time <= newest.start_time and run.run_id != newest.run_id:
            yield run
