"""Lines settled by all runs under an invoice's workflow id: paid, or perhaps paid."""

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
from invoice_mcp.service.queries import fetch_run_report, never_started


async def fetch_report(client: Client, execution: WorkflowExecutionDescription) -> InvoiceReport:
    """The report of a run. Of a reset run it includes the lines that earlier runs paid, or may have paid.

    A reset run has the input of the first run, which does not contain them.
    """
    report = await fetch_run_report(client, execution)
    return await with_earlier_runs(client, execution, report)


async def with_earlier_runs(
    client: Client, execution: WorkflowExecutionDescription, report: InvoiceReport
) -> InvoiceReport:
    """As `fetch_report`, with a report that was fetched before."""
    if not _is_reset(execution):
        return report
    settled: SettledLines = {}
    for run in await _earlier_runs(client, execution):
        before = await fetch_report_or_none(client, run)
        settled = {**settled, **(await _settled_in_memo(run) or {})}
        settled = settled_after(before, settled) if before is not None else settled
    return mark_settled(report, settled)


def mark_settled(report: InvoiceReport, settled: SettledLines) -> InvoiceReport:
    """The report, with these lines marked as settled before. Pure.

    A marked line that was refused becomes unconfirmed, by the rule of `line_outcomes`.
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
    # Keep a second sentence, about how the run ended.
    sentence = summarize(report)
    end = report.summary.removeprefix(sentence) if report.summary.startswith(sentence) else ""
    marked = with_summary(report.model_copy(update={"lines": tuple(lines)}))
    return marked.model_copy(update={"summary": f"{marked.summary}{end}"})


async def fetch_report_or_none(client: Client, run: WorkflowExecution) -> InvoiceReport | None:
    """The report of a run; None if it has none.

    It has none if its input was never an invoice, or if it was terminated before its first workflow task.
    """
    try:
        return await fetch_run_report(client, run)
    except RPCError as error:
        if not never_started(error):
            raise
        return None
    except WorkflowQueryFailedError:
        if run.status is WorkflowExecutionStatus.FAILED:
            return None
        raise


async def find_settled_lines(
    client: Client, newest: WorkflowExecutionDescription, report: InvoiceReport | None
) -> tuple[SettledLines, InvoiceReport | None]:
    """The lines settled after the newest run, and the report of the last run that settled any, or of the last run.

    The memo of a run that `trigger` started contains the lines settled before it. For other runs, and for a run that
    was reset, all runs under the id are queried, as far as visibility lists them already.

    Args:
        report: Of the newest run, from `fetch_report_or_none`.

    Raises:
        RPCError, RuntimeError: Temporal can't be reached, or no worker polls.
    """
    earlier: list[tuple[WorkflowExecution, InvoiceReport | None]] = []
    if await _settled_in_memo(newest) is None or _is_reset(newest):
        earlier = [(run, await fetch_report_or_none(client, run)) for run in await _earlier_runs(client, newest)]
    settled: SettledLines = {}
    last: InvoiceReport | None = None
    for run, each in (*earlier, (newest, report)):
        settled = {**settled, **(await _settled_in_memo(run) or {})}
        if each is not None:
            last = each if last is None or not settled_after(last, {}) or settled_after(each, {}) else last
            settled = settled_after(each, settled)
    return settled, last


async def _settled_in_memo(run: WorkflowExecution) -> SettledLines | None:
    settled: Any = await run.memo_value("settled", default=None)
    return settled if isinstance(settled, dict) else None


def _is_reset(run: WorkflowExecutionDescription) -> bool:
    """Whether the run is a reset of another one. Its memo lacks what that run did after the reset point."""
    first = run.raw_description.workflow_execution_info.first_run_id
    return bool(first) and first != run.run_id


async def _earlier_runs(client: Client, newest: WorkflowExecution) -> list[WorkflowExecution]:
    """The runs under its id that started before it, the oldest first."""
    query = f"WorkflowType = '{WORKFLOW_TYPE}' AND WorkflowId = '{newest.id}'"
    try:
        runs = [run async for run in client.list_workflows(query)]
    except RPCError as error:
        # Only test servers can't list.
        if error.status is not RPCStatusCode.UNIMPLEMENTED:
            raise
        return []
    before = [run for run in runs if run.start_time <= newest.start_time and run.run_id != newest.run_id]
    return sorted(before, key=lambda run: run.start_time)
