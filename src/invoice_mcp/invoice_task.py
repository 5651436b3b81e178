"""The invoice as an MCP task: what `trigger` starts is one, and its one question is the approval."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, CallToolResult, ElicitResult
from pydantic import ValidationError
from temporalio.client import WorkflowHandle, WorkflowQueryFailedError

from invoice_mcp.approval import ApprovalPolicy, require_forms
from invoice_mcp.errors import Code, Refused
from invoice_mcp.questions import decision_in, decision_request
from invoice_mcp.reading import WORKFLOW_TYPE
from invoice_mcp.reports import DecisionRequest, InvoiceReport, LineStatus, Standing, Status, Verdict
from invoice_mcp.service import InvoiceService
from invoice_mcp.summary import retold, summarize
from invoice_mcp.tasks import TaskBinding, tool_result
from invoice_mcp.tasks.workflow import TaskState
from invoice_mcp.workflows import MOST_DISMISSALS, InvoiceWorkflow

_QUESTION = "decision-"
# Who was faster, or came too late: nothing is asked any more.
_SETTLED = frozenset({Code.ALREADY_DECIDED, Code.ALREADY_CLOSED})

_SOON = timedelta(seconds=1)
_WAITING = timedelta(seconds=2)
_FAR = timedelta(minutes=1)


def invoice_binding(service: InvoiceService, approval: ApprovalPolicy = ApprovalPolicy.ASK) -> TaskBinding:
    """Makes `trigger` start a task for clients that know tasks; the others get its plain answer.

    Args:
        approval: Whose approval counts; a rejection is taken from anybody.
    """

    async def answer(handle: Handle, responses: Mapping[str, Any], ctx: ServerRequestContext[Any, Any]) -> None:
        [(key, response)] = responses.items()
        decided = decision_in(_elicited(response))
        if decided is None:
            await _dismissed(service, handle, int(key.removeprefix(_QUESTION)))
            return
        verdict = Verdict.APPROVED if decided.decision == "approve" else Verdict.REJECTED
        if verdict is Verdict.APPROVED:
            require_forms(approval, ctx.session.client_capabilities)
        decision = DecisionRequest(by=decided.name or client_name(ctx), comment=decided.comment)
        try:
            await service.decide(verdict, handle.id, handle.run_id, decision)
        except Refused as refusal:
            _require_in(_SETTLED, refusal)

    return TaskBinding(
        tool="trigger",
        workflow=WORKFLOW_TYPE,
        without_tasks="answer",
        state=task_state,
        answer=answer,
        result=_result,
        poll_interval=_SOON,
    )


Handle = WorkflowHandle[Any, Any]


async def task_state(handle: Handle) -> TaskState:
    """What the workflow's report means for its task."""
    standing = await _standing(handle)
    report = standing.report
    asks = report.status is Status.PENDING_APPROVAL and report.decision is None
    request = decision_request(report).model_dump(by_alias=True, mode="json", exclude_none=True)
    return TaskState(
        message=summarize(report),
        updated_at=standing.changed_at,
        input_requests={question(standing.dismissals): request} if asks else {},
        poll_interval_ms=_poll_interval(report) // timedelta(milliseconds=1),
    )


def question(dismissals: int = 0) -> str:
    """Key of the input request: the same until it is answered, and a new one after each form that was dismissed.

    After very many it stays the same: what is kept in a history has its limits.
    """
    return f"{_QUESTION}{min(dismissals, MOST_DISMISSALS) + 1}"


def client_name(ctx: ServerRequestContext[Any, Any]) -> str:
    """Who decided, when nobody says: the MCP client, by the name it gives itself."""
    params = ctx.session.client_params
    name = params.client_info.name if params else ""
    return f"a user of {name[:100]}" if name.isprintable() and name.strip() else "a user of an MCP client"


async def _standing(handle: Handle) -> Standing:
    try:
        return await handle.query(InvoiceWorkflow.standing)
    except WorkflowQueryFailedError:
        # A worker of an older release can't tell since when.
        report = await handle.query(InvoiceWorkflow.report)
        return Standing(report=report, changed_at=(await handle.describe()).start_time)


async def _dismissed(service: InvoiceService, handle: Handle, number: int) -> None:
    try:
        await service.dismiss(handle.id, handle.run_id, number)
    except Refused as refusal:
        # Another form is asked by now, or there were too many.
        _require_in(_SETTLED | {Code.INVALID_ARGUMENT}, refusal)


def _require_in(ignored: AbstractSet[Code], refusal: Refused) -> None:
    """Return if it only says that this is not asked any more: such answers are ignored."""
    if refusal.code not in ignored:
        raise MCPError(INTERNAL_ERROR, str(refusal)) from None


def _poll_interval(report: InvoiceReport) -> timedelta:
    """Nothing happens before the next due date; a decision may come at any time by another door."""
    if report.status is Status.PENDING_APPROVAL:
        return _WAITING
    due = [line.due_date for line in report.lines if line.status is LineStatus.SCHEDULED]
    if report.status is not Status.PAYING or not due or any(line.status is LineStatus.PENDING for line in report.lines):
        return _SOON
    return min(max(min(due) - datetime.now(UTC), _SOON), _FAR)


def _elicited(response: Any) -> ElicitResult:
    try:
        return ElicitResult.model_validate(response, by_name=False)
    except ValidationError:
        raise ValueError("it is not the result of an elicitation") from None


def _result(outcome: Any) -> CallToolResult:
    """The report, as `status` tells it."""
    return tool_result(retold(InvoiceReport.model_validate(outcome)))
