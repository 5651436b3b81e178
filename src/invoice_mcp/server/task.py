"""The invoice as an MCP task: `trigger` starts it, and its only question is the approval."""

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
from invoice_mcp.server.approval_policy import ApprovalPolicy
from invoice_mcp.server.confirmation import client_name, require_forms
from invoice_mcp.server.forms import decision_request, message_of, read_decision
from invoice_mcp.server.tool_names import UNPREFIXED, ToolNames
from invoice_mcp.server.tool_results import build_result
from invoice_mcp.service.form_keys import form_number, text_digest
from invoice_mcp.service.invoice_service import APPROVE_ELSEWHERE, OTHER_GATEWAY, InvoiceService
from invoice_mcp.service.queries import form_keys
from invoice_mcp.service.settled_lines import with_earlier_runs
from invoice_mcp.workflow.invoice_decisions import MOST_DISMISSALS
from invoice_mcp.workflow.invoice_workflow import InvoiceWorkflow
from mcp_temporal_tasks import TaskBinding
from mcp_temporal_tasks.workflow import TaskState

_STOP_HINT = "Stopping this task does not cancel an approved invoice: for that call the tool `cancel`."
_OTHER_GATEWAY_HINT = (
    f"Nothing is asked here: {OTHER_GATEWAY}. {APPROVE_ELSEWHERE}; to reject it, call the tool `reject`."
)
# Refusals after another decision, or after the end: the question is closed.
_TOO_LATE = frozenset({ErrorCode.ALREADY_DECIDED, ErrorCode.ALREADY_CLOSED})

_POLL_ACTIVE = timedelta(seconds=1)
_POLL_WAITING = timedelta(seconds=2)
_POLL_MAX = timedelta(minutes=1)


def invoice_binding(
    service: InvoiceService, approval: ApprovalPolicy = ApprovalPolicy.ASK, *, names: ToolNames = UNPREFIXED
) -> TaskBinding:
    """Bind `trigger` to the invoice workflow. Clients without tasks get its plain answer.

    Args:
        approval: What an approval needs; a rejection needs nothing.
        names: The tool names.
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
    """Return the state of the task that follows from the workflow's report."""
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
    """Return the open form by its key; empty if there is no decision to make, or this server would refuse an approval.

    The key changes with each dismissal, up to `MOST_DISMISSALS`: each adds to the workflow's history.
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
    """Whether cancelling the task cancels the invoice: only before it is approved.

    Hosts cancel a task with one key, such as Escape, also when a person only wants to hide it. Before the decision that
    loses nothing: nothing is paid, and the invoice may be submitted again. An approval is a deliberate decision about
    money; only the tool `cancel` undoes it. The tasks extension allows that: "Cancellation is cooperative".
    """
    return not _is_approved((await _query_standing(client, handle)).report)


def _is_approved(report: InvoiceReport) -> bool:
    return report.decision is not None and report.decision.verdict is Verdict.APPROVED


async def _query_standing(client: Client, handle: Handle) -> Standing:
    execution = await handle.describe()
    try:
        standing: Standing = await handle.query(InvoiceWorkflow.standing)
    except WorkflowQueryFailedError:
        # A worker of an older release does not have this query: the time of the last change is unknown.
        report = await handle.query(InvoiceWorkflow.report)
        standing = Standing(report=report, changed_at=execution.start_time)
    report = await with_earlier_runs(client, execution, standing.report)
    return standing.model_copy(update={"report": report})


async def _dismiss(service: InvoiceService, handle: Handle, number: int) -> None:
    try:
        await service.dismiss(handle.id, handle.run_id, number)
    except RefusedError as refusal:
        # INVALID_ARGUMENT: another form is open by now, or there were too many dismissals.
        _raise_unless(_TOO_LATE | {ErrorCode.INVALID_ARGUMENT}, refusal)


def _raise_unless(ignored: AbstractSet[ErrorCode], refusal: RefusedError) -> None:
    """Ignore a refusal with one of these codes; raise any other as a protocol error."""
    if refusal.code not in ignored:
        raise MCPError(INTERNAL_ERROR, str(refusal)) from None


def _poll_interval(report: InvoiceReport) -> timedelta:
    """Before the next due date nothing changes; a decision may come at any time through a tool."""
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
    """Return the final report as the tool `status` does."""
    report = with_summary(InvoiceReport.model_validate(outcome))
    execution = await client.get_workflow_handle(report.workflow_id, run_id=report.run_id).describe()
    return build_result(without_idempotency_keys(await with_earlier_runs(client, execution, report)))
