"""Read invoices from Temporal: find a run, fetch its report, list many."""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from invoice_mcp.domain.display_text import quoted
from invoice_mcp.domain.errors import ErrorCode, RefusedError
from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.names import INVOICE_STATUS, WORKFLOW_TYPE
from invoice_mcp.domain.report import InvoiceEntry, InvoiceReport, Status
from invoice_mcp.domain.resubmission import SettledLines
from invoice_mcp.domain.summary import with_summary
from invoice_mcp.service.form_keys import FormKeys
from invoice_mcp.service.list_cursors import decode_cursor, encode_cursor
from invoice_mcp.workflow.invoice_state import STATUS_KEY
from invoice_mcp.workflow.invoice_workflow import InvoiceWorkflow

_NONCE = "nonce"
_LONGEST_ID = 255


class Page(NamedTuple):
    """One page of a list."""

    invoices: list[InvoiceEntry]
    next_cursor: str | None
    """Cursor of the next page; None if there is none. The next page may be empty if this one was full."""


def build_memo(invoice: Invoice, settled: SettledLines) -> dict[str, Any]:
    """The memo of an invoice's workflow: for lists, and to recognize a resubmission.

    It includes the nonce of the run's form keys (see `FormKeys`), which no tool may show.
    """
    return {
        "content_digest": invoice.content_digest,
        "invoice_id": invoice.invoice_id,
        "customer": invoice.customer,
        "currency": invoice.currency,
        "total": str(invoice.total),
        "settled": dict(settled),
        _NONCE: secrets.token_hex(16),
    }


async def find_run(client: Client, workflow_id: str, run_id: str | None = None) -> WorkflowExecutionDescription | None:
    """The run under this id, by default the newest. None if there is none, or if it is not an invoice's.

    Raises:
        RPCError, RuntimeError: Temporal can't be reached.
    """
    if not _is_possible_id(workflow_id) or (run_id and not _is_possible_id(run_id)):
        return None
    try:
        found = await client.get_workflow_handle(workflow_id, run_id=run_id or None).describe()
    except RPCError as error:
        if is_namespace_missing(error):
            raise
        # A malformed run id is INVALID_ARGUMENT.
        if error.status in {RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT}:
            return None
        raise
    return found if found.workflow_type == WORKFLOW_TYPE else None


def _is_possible_id(text: str) -> bool:
    """Whether the text can be an id. Text that can't be encoded, or is too long, gets no answer from Temporal."""
    return 0 < len(text) <= _LONGEST_ID and text.isprintable()


def is_namespace_missing(error: RPCError) -> bool:
    """Whether NOT_FOUND refers to the namespace itself."""
    details = error.grpc_status.details
    return error.status is RPCStatusCode.NOT_FOUND and any(
        detail.Is(NamespaceNotFoundFailure.DESCRIPTOR) for detail in details
    )


def never_started(error: RPCError) -> bool:
    """Whether a query failed because the run was terminated before its first workflow task."""
    return error.status is RPCStatusCode.FAILED_PRECONDITION and "before WorkflowTaskStarted" in error.message


async def require_run(client: Client, workflow_id: str, run_id: str | None = None) -> WorkflowExecutionDescription:
    """As `find_run`, but raises RefusedError with NOT_FOUND."""
    found = await find_run(client, workflow_id, run_id)
    if found is None:
        which = f"{quoted(workflow_id, 80)}{f' run {quoted(run_id, 80)}' if run_id else ''}"
        hint = "Workflow ids read invoice-<invoice_id>; `list` shows the invoices there are."
        raise RefusedError(ErrorCode.NOT_FOUND, f"there is no invoice under the workflow id {which}. {hint}")
    return found


async def read_memo_text(execution: WorkflowExecution, key: str) -> str | None:
    """A text of the memo; None if there is none, as in a workflow that another client started."""
    value: Any = await execution.memo_value(key, default=None)
    return value if isinstance(value, str) else None


async def form_keys(execution: WorkflowExecution) -> FormKeys:
    """The keys of the forms about this run."""
    return FormKeys(execution.run_id, await read_memo_text(execution, _NONCE))


async def fetch_run_report(client: Client, execution: WorkflowExecution) -> InvoiceReport:
    """The report of one run: the result of a completed one, which needs no worker; otherwise by a query.

    Raises:
        RPCError, RuntimeError: Temporal can't be reached, or no worker polls.
        WorkflowQueryFailedError: The workflow can't tell, for example because its input was never an invoice.
    """
    handle = client.get_workflow_handle_for(InvoiceWorkflow.run, execution.id, run_id=execution.run_id)
    if execution.status is WorkflowExecutionStatus.COMPLETED:
        return with_summary(await handle.result(follow_runs=False))
    report = with_summary(await handle.query(InvoiceWorkflow.report))
    if execution.status in {None, WorkflowExecutionStatus.RUNNING} or report.workflow_status == execution.status.name:
        return report
    # An operator ended it, which the workflow does not see. The report may still show another end: the query's replay
    # also processes events that no workflow task had processed yet.
    ended = execution.status.name
    summary = f"{report.summary} Its workflow was ended from outside ({ended}) and does not go on."
    if report.status in {Status.APPROVED, Status.PAYING}:
        # A payment that was under way finishes, and the workflow does not see its result.
        summary += " Lines that are not reported as paid may have been paid; submitting it again pays no line twice."
    return report.model_copy(update={"workflow_status": ended, "summary": summary})


async def list_page(client: Client, status: Status | None, limit: int, cursor: str, *, indexed: bool) -> Page:
    """The next `limit` invoices, optionally of one status: open ones first, then those that ended last.

    Visibility is eventually consistent. An invoice that starts, or enters or leaves the status, between two pages may
    be on neither of them; one that ends may be on both.

    Args:
        cursor: From the previous page; empty for the first page.

    Raises:
        RefusedError: NOT_SUPPORTED where the server can't list, or can't filter by status; INVALID_ARGUMENT where the
            cursor is not of this list.
    """
    token = decode_cursor(cursor, status)
    query = f"WorkflowType = '{WORKFLOW_TYPE}'"
    if status is not None:
        if not indexed:
            what = f"this Temporal namespace does not index {INVOICE_STATUS}, so invoices can't be listed by status"
            raise RefusedError(ErrorCode.NOT_SUPPORTED, f"{what}. Call `list` without status, then `status` on each.")
        query += f" AND {INVOICE_STATUS} = '{status}'"
        if not status.is_terminal:
            # An invoice that an operator terminated keeps its last status.
            query += " AND ExecutionStatus = 'Running'"
    try:
        found = client.list_workflows(query, page_size=limit, next_page_token=token)
        await found.fetch_next_page()
    except RPCError as error:
        if error.status is RPCStatusCode.UNIMPLEMENTED:
            what = "this Temporal server can't list workflows"
            raise RefusedError(ErrorCode.NOT_SUPPORTED, f"{what}. Call `status` with a workflow id instead.") from None
        raise
    invoices = [await _entry(execution) for execution in found.current_page or ()]
    return Page(invoices, encode_cursor(found.next_page_token, status) if found.next_page_token else None)


async def count_unindexed(client: Client, *, ended: bool) -> int:
    """How many invoices, ended or not, have no status in the index: registered after them, or not indexed yet."""
    execution = f"ExecutionStatus {'!=' if ended else '='} 'Running'"
    query = f"WorkflowType = '{WORKFLOW_TYPE}' AND {execution} AND {INVOICE_STATUS} IS NULL"
    return (await client.count_workflows(query)).count


async def _entry(execution: WorkflowExecution) -> InvoiceEntry:
    indexed = execution.typed_search_attributes.get(STATUS_KEY)
    return InvoiceEntry(
        workflow_id=execution.id,
        run_id=execution.run_id,
        **{key: await read_memo_text(execution, key) for key in ("invoice_id", "customer", "currency", "total")},
        status=Status(indexed) if indexed else None,
        workflow_status=execution.status.name if execution.status else "UNKNOWN",
        submitted_at=execution.start_time,
        closed_at=execution.close_time,
    )
