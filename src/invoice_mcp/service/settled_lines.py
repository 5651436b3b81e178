"""What the runs under an invoice's workflow id have settled so far, whoever began them."""

from __future__ import annotations

from typing import Any

from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowQueryFailedError,
)
from temporalio.service import RPCError, RPCStatusCode

from invoice_mcp.domain.line_outcomes import line_outcomes
from invoice_mcp.domain.names import WORKFLOW_TYPE
from invoice_mcp.domain.report import InvoiceReport, LineOutcome, LineStatus
from invoice_mcp.domain.resubmission import SettledLines, settled_after
from invoice_mcp.domain.summary import summarize, with_summary
from invoice_mcp.service import queries as reading


async def fetch_report(client: Client, execution: WorkflowExecutionDescription) -> InvoiceReport:
    """As `reading.fetch_report`; of a run that was reset also with what the runs before it paid, or may have paid.

    Such a run has the input of the first one, which tells nothing of that.
    """
    report = await reading.fetch_run_report(client, execution)
    return await with_earlier_runs(client, execution, report)


async def with_earlier_runs(
    client: Client, execution: WorkflowExecutionDescription, report: InvoiceReport
) -> InvoiceReport:
    """The report of a run, and where that was reset also what the runs before it settled; see `fetch_report`."""
    if not _is_reset(execution):
        return report
    settled: SettledLines = {}
    for run in await _earlier_runs(client, execution):
        before = await fetch_report_or_none(client, run)
        settled = {**settled, **(await _settled_in_memo(run) or {})}
        settled = settled_after(before, settled) if before is not None else settled
    return mark_settled(report, settled)


def mark_settled(report: InvoiceReport, settled: SettledLines) -> InvoiceReport:
    """The report, with these lines as settled before. Pure.

    One of them that it tells as refused may be paid all the same: by the same rule as in the workflow, unconfirmed.
    """
    lines = [
        line.model_copy(update={"settled_before": line.settled_before or str(line.line) in settled})
        for line in report.lines
    ]
    for line in report.lines:
        if line.status is LineStatus.FAILED and not line.unconfirmed:
            refused = LineOutcome(status=LineStatus.FAILED, error=line.error, reason=line.reason)
            outcome = line_outcomes(lines, line.line, refused)[line.line]
            lines[line.line - 1] = lines[line.line - 1].model_copy(update=outcome.model_dump())
    # A second sentence, on how the run ended, stays.
    sentence = summarize(report)
    end = report.summary.removeprefix(sentence) if report.summary.startswith(sentence) else ""
    told = with_summary(report.model_copy(update={"lines": tuple(lines)}))
    return told.model_copy(update={"summary": f"{told.summary}{end}"})


async def fetch_report_or_none(client: Client, run: WorkflowExecution) -> InvoiceReport | None:
    """The report of a run, or None if it never was an invoice's: started by somebody else, with garbage; or if somebody
    ended it before it did anything.
    """
    try:
        return await reading.fetch_run_report(client, run)
    except RPCError as error:
        if not reading.never_started(error):
            raise
        return None
    except WorkflowQueryFailedError:
        if run.status is WorkflowExecutionStatus.FAILED:
            return None
        raise


async def find_settled_lines(
    client: Client, newest: WorkflowExecutionDescription, report: InvoiceReport | None
) -> tuple[SettledLines, InvoiceReport | None]:
    """Which lines are settled after this run, and the report of the last run that settled some, or of the last one.

    A run that `trigger` began tells what was settled before it. Of one that somebody else began, or that was reset to
    an earlier time, all runs under its id are asked; as far as they are listed, which they are a moment after they
    began.

    Args:
        report: This run's own, as `fetch_report_or_none` gives it.

    Raises:
        RPCError, RuntimeError: Temporal can't be reached, or no worker polls.
    """
    told: list[tuple[WorkflowExecution, InvoiceReport | None]] = []
    if await _settled_in_memo(newest) is None or _is_reset(newest):
        told = [(run, await fetch_report_or_none(client, run)) for run in await _earlier_runs(client, newest)]
    settled: SettledLines = {}
    last: InvoiceReport | None = None
    for run, each in (*told, (newest, report)):
        settled = {**settled, **(await _settled_in_memo(run) or {})}
        if each is not None:
            last = each if last is None or not settled_after(last, {}) or settled_after(each, {}) else last
            settled = settled_after(each, settled)
    return settled, last


async def _settled_in_memo(run: WorkflowExecution) -> SettledLines | None:
    told: Any = await run.memo_value("settled", default=None)
    return told if isinstance(told, dict) else None


def _is_reset(run: WorkflowExecutionDescription) -> bool:
    """Whether it goes on from the middle of another run: what that one did later, its memo does not tell."""
    first = run.raw_description.workflow_execution_info.first_run_id
    return bool(first) and first != run.run_id


async def _earlier_runs(client: Client, newest: WorkflowExecution) -> list[WorkflowExecution]:
    """The runs under its id that began before it, the oldest first."""
    query = f"WorkflowType = '{WORKFLOW_TYPE}' AND WorkflowId = '{newest.id}'"
    try:
        runs = [run async for run in client.list_workflows(query)]
    except RPCError as error:
        # Only servers for tests can't list.
        if error.status is not RPCStatusCode.UNIMPLEMENTED:
            raise
        return []
    before = [run for run in runs if run.start_time <= newest.start_time and run.run_id != newest.run_id]
    return sorted(before, key=lambda run: run.start_time)
