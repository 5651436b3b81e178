"""The invoice as an MCP task: what `trigger` starts is one, and its one question is the approval."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, CallToolResult, ElicitRequest, ElicitResult
from pydantic import ValidationError
from temporalio.client import Client, WorkflowHandle, WorkflowQueryFailedError

from invoice_mcp.domain.errors import ErrorCode, RefusedError
from invoice_mcp.domain.names import WORKFLOW_TYPE
from invoice_mcp.domain.report import (
    Confirmation,
    DecisionRequest,
    InvoiceReport,
    LineStatus,
    Standing,
    Status,
    Verdict,
    without_idempotency_keys,
)
from invoice_mcp.domain.summary import summarize, with_summary
from invoice_mcp.server.confirmation import ApprovalPolicy, client_name, require_forms
from invoice_mcp.server.forms import decision_request, message_of, read_decision
from invoice_mcp.server.tool_names import UNPREFIXED, ToolNames
from invoice_mcp.server.tool_results import build_result
from invoice_mcp.service.form_keys import form_number, text_digest
from invoice_mcp.service.invoice_service import OTHER_GATEWAY, InvoiceService
from invoice_mcp.service.queries import form_keys
from invoice_mcp.service.settled_lines import with_earlier_runs
from invoice_mcp.workflow.invoice_decisions import MOST_DISMISSALS
from invoice_mcp.workflow.invoice_workflow import InvoiceWorkflow
from mcp_temporal_tasks import TaskBinding
from mcp_temporal_tasks.workflow import TaskState

_STOP_HINT = "Stopping this task does not cancel an approved invoice: for that call the tool `cancel`."
_OTHER_GATEWAY_HINT = (
    f"Nothing is asked here: {OTHER_GATEWAY}. Approve it at a server that is started with those; to reject it, call the"
    " tool `reject`."
)
# Who was faster, or came too late: nothing is asked any more.
_TOO_LATE = frozenset({ErrorCode.ALREADY_DECIDED, ErrorCode.ALREADY_CLOSED})

_POLL_ACTIVE = timedelta(seconds=1)
_POLL_WAITING = timedelta(seconds=2)
_POLL_MAX = timedelta(minutes=1)


def invoice_binding(
    service: InvoiceService, approval: ApprovalPolicy = ApprovalPolicy.ASK, *, names: ToolNames = UNPREFIXED
) -> TaskBinding:
    """Makes `trigger` start a task for clients that know tasks; the others get its plain answer.

    Args:
        approval: Which approvals count; a rejection is taken from anybody.
        names: What the tools are called.
    """
    client = service.client

    async def state(handle: Handle) -> TaskState:
        found = await task_state(service, handle)
        return replace(found, message=names.in_text(found.message or ""))

    async def answer(handle: Handle, responses: Mapping[str, Any], ctx: ServerRequestContext[Any, Any]) -> None:
        [(key, response)] = responses.items()
        decided = read_decision(_parse_response(response))
        if decided is None:
            await _dismiss(service, handle, form_number(key))
            return
        request = (await _open_form(service, handle, await _query_standing(client, handle))).get(key)
        if request is None:
            # Decided or dismissed in the meantime.
            return
        verdict = Verdict.APPROVED if decided.decision == "approve" else Verdict.REJECTED
        if verdict is Verdict.APPROVED:
            require_forms(approval, ctx.session.client_capabilities)
        decision = DecisionRequest(
            by=decided.name or client_name(ctx),
            comment=decided.comment,
            confirmation=Confirmation.TASK,
            shown=text_digest(message_of(request)),
        )
        try:
            await service.decide(verdict, handle.id, handle.run_id, decision)
        except RefusedError as refusal:
            _raise_unless(_TOO_LATE, refusal)

    return TaskBinding(
        tool=names.of("trigger"),
        workflow=WORKFLOW_TYPE,
        without_tasks="answer",
        state=state,
        answer=answer,
        cancellable=partial(_is_cancellable, client),
        result=partial(_read_result, client),
        poll_interval=_POLL_ACTIVE,
    )


Handle = WorkflowHandle[Any, Any]


async def task_state(service: InvoiceService, handle: Handle) -> TaskState:
    """What the workflow's report means for its task."""
    standing = await _query_standing(service.client, handle)
    report = standing.report
    form = await _open_form(service, handle, standing)
    sentences = [summarize(report)]
    if _is_approved(report) and not report.status.is_terminal and not report.cancelling:
        sentences.append(_STOP_HINT)
    if _is_pending_approval(report) and not form:
        sentences.append(_OTHER_GATEWAY_HINT)
    return TaskState(
        message=" ".join(sentences),
        updated_at=standing.changed_at,
        input_requests={
            key: each.model_dump(by_alias=True, mode="json", exclude_none=True) for key, each in form.items()
        },
        poll_interval_ms=_poll_interval(report) // timedelta(milliseconds=1),
    )


async def _open_form(service: InvoiceService, handle: Handle, standing: Standing) -> dict[str, ElicitRequest]:
    """The form that asks for the decision, by its key: the same until it is answered, and a new one after each that was
    dismissed. Empty: nothing is asked, as there is nothing to decide, or an approval would be refused here.

    After very many dismissals it stays the same: what is kept in a history has its limits.
    """
    report = standing.report
    if not _is_pending_approval(report):
        return {}
    execution = await handle.describe()
    if not service.can_approve(execution):
        return {}
    keys = await form_keys(execution)
    dismissals = min(standing.dismissals, MOST_DISMISSALS)
    request = decision_request(report, dismissals)
    return {keys.decision_key(dismissals + 1, message_of(request)): request}


def _is_pending_approval(report: InvoiceReport) -> bool:
    return report.status is Status.PENDING_APPROVAL and report.decision is None


async def _is_cancellable(client: Client, handle: Handle) -> bool:
    """Whether stopping the task cancels the invoice: not once it is approved.

    Hosts stop a task by one key, Escape say, when a person only wants to see it no longer. While the invoice waits,
    nothing is lost by that: nothing is paid, and it may be submitted again. But an approval is a decision about money
    that somebody made on purpose, and that others rely on; it is undone on purpose only, by the tool `cancel`. The
    tasks extension leaves that to the server: "Cancellation is cooperative".
    """
    return not _is_approved((await _query_standing(client, handle)).report)


def _is_approved(report: InvoiceReport) -> bool:
    return report.decision is not None and report.decision.verdict is Verdict.APPROVED


async def _query_standing(client: Client, handle: Handle) -> Standing:
    execution = await handle.describe()
    try:
        standing: Standing = await handle.query(InvoiceWorkflow.standing)
    except WorkflowQueryFailedError:
        # A worker of an older release can't tell since when.
        report = await handle.query(InvoiceWorkflow.report)
        standing = Standing(report=report, changed_at=execution.start_time)
    report = await with_earlier_runs(client, execution, standing.report)
    return standing.model_copy(update={"report": report})


async def _dismiss(service: InvoiceService, handle: Handle, number: int) -> None:
    try:
        await service.dismiss(handle.id, handle.run_id, number)
    except RefusedError as refusal:
        # Another form is asked by now, or there were too many.
        _raise_unless(_TOO_LATE | {ErrorCode.INVALID_ARGUMENT}, refusal)


def _raise_unless(ignored: AbstractSet[ErrorCode], refusal: RefusedError) -> None:
    """Return if it only says that this is not asked any more: such answers are ignored."""
    if refusal.code not in ignored:
        raise MCPError(INTERNAL_ERROR, str(refusal)) from None


def _poll_interval(report: InvoiceReport) -> timedelta:
    """Nothing happens before the next due date; a decision may come at any time by another door."""
    if report.status is Status.PENDING_APPROVAL:
        return _POLL_WAITING
    due = [line.due_date for line in report.lines if line.status is LineStatus.SCHEDULED]
    if report.status is not Status.PAYING or not due or any(line.status is LineStatus.PENDING for line in report.lines):
        return _POLL_ACTIVE
    return min(max(min(due) - datetime.now(UTC), _POLL_ACTIVE), _POLL_MAX)


def _parse_response(response: Any) -> ElicitResult:
    try:
        return ElicitResult.model_validate(response, by_name=False)
    except ValidationError:
        raise ValueError("it is not the result of an elicitation") from None


async def _read_result(client: Client, outcome: Any) -> CallToolResult:
    """The report, as `status` tells it."""
    report = with_summary(InvoiceReport.model_validate(outcome))
    execution = await client.get_workflow_handle(report.workflow_id, run_id=report.run_id).describe()
    return build_result(without_idempotency_keys(await with_earlier_runs(client, execution, report)))
