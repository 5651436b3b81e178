"""The MCP server: six tools on an `InvoiceService`, which may be connected after the server has started."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import anyio
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp_types import InputRequiredResult, ToolAnnotations
from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from invoice_mcp import __version__
from invoice_mcp.domain.display_text import plain_or_quoted
from invoice_mcp.domain.invoice import Comment, Invoice, Person
from invoice_mcp.domain.report import (
    MAX_WAIT_SECONDS,
    Confirmation,
    DecisionRequest,
    InvoiceEntry,
    InvoiceReport,
    Status,
    Submission,
    Verdict,
    without_idempotency_keys,
)
from invoice_mcp.server.approval_policy import ApprovalPolicy
from invoice_mcp.server.capabilities import hide_prompts_and_resources
from invoice_mcp.server.confirmation import awaits_decision, client_name, confirm_approval, needs_confirmation
from invoice_mcp.server.deferred_tasks import DeferredTasksExtension
from invoice_mcp.server.errors import ErrorCodeServer
from invoice_mcp.server.tool_names import UNPREFIXED, ToolNames
from invoice_mcp.server.tool_schemas import compact, make_strict, outline, strip_descriptions

if TYPE_CHECKING:
    # Their imports, Temporal's client above all, take longer than the handshake may.
    from invoice_mcp.service.invoice_service import InvoiceService
    from mcp_temporal_tasks import TasksExtension

INSTRUCTIONS = """\
Submit invoices and follow them to payment. An invoice is open for days; Temporal keeps its state, so every tool
answers within seconds and nothing is lost between calls, hosts or restarts.
1. `trigger` submits an invoice and returns its workflow_id. Submitting the same invoice again is safe.
2. The ERP checks it; then it is PENDING-APPROVAL until a person decides or the deadline passes (EXPIRED).
3. `approve` or `reject` passes on a person's decision. Never decide yourself: ask the user first, showing customer,
   amount and lines. The first decision is final. `approve` pays real money; a host that shows forms has the user
   confirm it, so call it also where you would rather not decide: the question then reaches the user.
4. Once approved, each line is paid on its due date; `status` shows the progress (PAYING, then PAID or FAILED).
   `status` with wait_seconds waits for the next change. `cancel` stops what is not paid yet.
5. `list` finds invoices by status when you have no workflow_id.
Errors start with a code (INVOICE_INVALID, NOT_FOUND, ALREADY_DECIDED, ...) and say what to do next. Each answer has a
`summary` to tell the user.
"""


def _none_to_empty(value: object) -> object:
    return "" if value is None else value


def _reject_bool(value: object) -> object:
    # Pydantic accepts true as 1.
    if isinstance(value, bool):
        raise PydanticCustomError("number", "must be a number, not true or false")
    return value


# `str`, not `str | None`: for a union, the SDK parses a text that looks like JSON.
WorkflowId = Annotated[str, Field(description="As returned by `trigger`: invoice-<invoice_id>")]
RunId = Annotated[
    str, BeforeValidator(_none_to_empty), Field(description="Only to address an earlier run; default: the newest")
]
Who = Annotated[
    Person,
    BeforeValidator(_none_to_empty),
    Field(description="Who decided, a person's name, kept as your claim; default: your client's"),
]
Why = Annotated[
    Comment, BeforeValidator(_none_to_empty), Field(description="Why, in the person's words; default: none")
]
WaitSeconds = Annotated[
    # The bounds precede the validator: after it they would not be in the JSON schema.
    float,
    Field(ge=0, le=MAX_WAIT_SECONDS, description="Seconds to wait for the status to change; default 0: answer now"),
    BeforeValidator(_reject_bool),
]
Limit = Annotated[
    int, Field(ge=1, le=100, description="At most this many per page; default 20"), BeforeValidator(_reject_bool)
]
Cursor = Annotated[
    str,
    BeforeValidator(_none_to_empty),
    Field(description="The next_cursor of the previous page, with the same status; default: the first page"),
]


class InvoiceList(BaseModel):
    """Open invoices first, then those that ended last."""

    invoices: list[InvoiceEntry]
    summary: str
    next_cursor: str | None = Field(
        default=None, description="Pass it as cursor for the next page; null: this is the last page"
    )


@dataclass(frozen=True)
class Backend:
    """The service that the tools call, and the policy for approvals."""

    service: InvoiceService
    approval: ApprovalPolicy = ApprovalPolicy.ASK


BackendProvider = Callable[[], Awaitable[Backend]]
"""Returns the backend; waits some seconds for it. Raises RefusedError: TEMPORAL_UNAVAILABLE."""


def build_server(
    service: InvoiceService,
    *,
    name: str = "invoice-mcp",
    approval: ApprovalPolicy = ApprovalPolicy.ASK,
    names: ToolNames = UNPREFIXED,
) -> ErrorCodeServer:
    """Build the server with its tools, and with tasks for clients that declare them.

    It has no state of its own: any number of servers may serve the same invoices.
    """

    async def provide_backend() -> Backend:
        return backend

    backend = Backend(service, approval)
    return build_deferred_server(provide_backend, name=name, names=names)


def build_deferred_server(
    provide_backend: BackendProvider, *, name: str = "invoice-mcp", names: ToolNames = UNPREFIXED
) -> ErrorCodeServer:
    """As `build_server`, before Temporal is connected. Requests that need no Temporal are answered at once."""

    async def extension() -> TasksExtension:
        # Imported with the backend.
        from invoice_mcp.server.task import invoice_binding  # noqa: PLC0415
        from mcp_temporal_tasks import TasksExtension  # noqa: PLC0415

        backend = await provide_backend()
        binding = invoice_binding(backend.service, backend.approval, names=names)
        return TasksExtension(backend.service.client, [binding], retention=backend.service.retention)

    tools = _Tools(provide_backend, names)
    tasks = DeferredTasksExtension(extension, tools={names.of("trigger")})
    return ErrorCodeServer(
        name,
        title="Invoices with human approval",
        instructions=names.in_text(INSTRUCTIONS),
        version=__version__,
        tools=[
            _tool(names, tools.trigger, "Submit an invoice", idempotent=True),
            _tool(names, tools.status, "Status of an invoice", read_only=True),
            _tool(names, tools.approve, "Approve and pay an invoice", idempotent=True, destructive=True),
            _tool(names, tools.reject, "Reject an invoice", idempotent=True, destructive=True),
            _tool(names, tools.cancel, "Cancel an invoice", idempotent=True, destructive=True),
            _tool(names, tools.list, "List invoices", read_only=True),
        ],
        names=names,
        extensions=[tasks],
        middleware=[hide_prompts_and_resources, tasks.subscriptions],
        log_level="WARNING",
    )


def _tool(
    names: ToolNames,
    function: Any,
    title: str,
    *,
    read_only: bool = False,
    destructive: bool = False,
    idempotent: bool = False,
) -> Tool:
    tool = Tool.from_function(
        function,
        name=names.of(function.__name__),
        title=title,
        description=names.in_text(inspect.getdoc(function) or ""),
        annotations=ToolAnnotations(
            title=title,
            read_only_hint=read_only,
            destructive_hint=destructive,
            idempotent_hint=idempotent or read_only,
            open_world_hint=True,
        ),
    )
    parameters = make_strict(compact(tool.parameters))
    for each in parameters.get("properties", {}).values():
        if "description" in each:
            each["description"] = names.in_text(each["description"])
    tool.parameters = {**parameters, "additionalProperties": False}
    output = strip_descriptions(compact(tool.fn_metadata.output_schema or {}))
    # Four tools return a report; only `status` has its whole schema.
    tool.fn_metadata.output_schema = output if read_only else outline(output)
    return tool


def _unconfirmed_decision(by: str, comment: str) -> DecisionRequest:
    """A decision without confirmation, as the caller states it."""
    return DecisionRequest(by=by, comment=comment, confirmation=Confirmation.NONE)


class _Tools:
    """The tools. Their names, signatures and docstrings are what models see."""

    def __init__(self, provide_backend: BackendProvider, names: ToolNames) -> None:
        self._provide_backend = provide_backend
        self._names = names

    async def trigger(self, invoice: Invoice) -> Submission:
        """Submit an invoice for validation, a person's approval, and payment of each line on its due date.

        Returns at once with the workflow_id for all other tools. Submitting the same invoice again returns the existing
        one (created: false); other content under the invoice_id of an open or paid invoice is refused.

        A client with tasks gets a task, which asks the user for the decision and ends with the report. Stopping the
        task cancels the invoice only before it is approved. Afterwards payment continues, and only the tool `cancel`
        withdraws the invoice.
        """
        async with self._answer_within_deadline() as backend:
            submission = await backend.service.trigger(invoice)
        what = "is submitted" if submission.created else "was submitted before"
        summary = f"Invoice {plain_or_quoted(invoice.invoice_id)} {what} and is {submission.status}."
        return submission.model_copy(update={"summary": summary})

    async def status(
        self, workflow_id: WorkflowId, ctx: Context[Any, Any], run_id: RunId = "", wait_seconds: WaitSeconds = 0
    ) -> InvoiceReport:
        """Get the state of an invoice: its status, decision, deadline, and the result of each line."""

        async def progress(waited: float, report: InvoiceReport) -> None:
            await ctx.report_progress(waited, wait_seconds, report.summary)

        if not wait_seconds:
            async with self._answer_within_deadline() as backend:
                return without_idempotency_keys(await backend.service.status(workflow_id, run_id or None))
        began = anyio.current_time()
        service = (await self._provide_backend()).service
        left = max(0.0, wait_seconds - (anyio.current_time() - began))
        return without_idempotency_keys(await service.wait_for_change(workflow_id, run_id or None, left, progress))

    async def approve(
        self, workflow_id: WorkflowId, ctx: Context[Any, Any], run_id: RunId = "", approver: Who = "", comment: Why = ""
    ) -> InvoiceReport | InputRequiredResult:
        """Pass on a person's approval of an invoice: every line is then paid on its due date. Final.

        Repeating it changes nothing; a rejected invoice stays rejected. Once the invoice has ended, the call is refused
        with its final status.

        Call this only after the user has said yes to this invoice and amount. If the host shows forms, one asks the
        user to confirm; NOT_CONFIRMED: it was not answered with yes.
        """
        decision = _unconfirmed_decision(approver or client_name(ctx.request_context), comment)
        async with self._answer_within_deadline() as backend:
            if needs_confirmation(backend.approval, ctx):
                report = await backend.service.status(workflow_id, run_id or None)
                # The confirmation is for this run, not for one started since.
                run_id = report.run_id
                if awaits_decision(report):
                    keys = await backend.service.approval_keys(workflow_id, run_id)
                    outcome = await confirm_approval(report, decision, keys, ctx)
                    if isinstance(outcome, InputRequiredResult):
                        return outcome
                    decision = outcome
            decided = await backend.service.decide(Verdict.APPROVED, workflow_id, run_id or None, decision)
            return without_idempotency_keys(decided)

    async def reject(
        self, workflow_id: WorkflowId, ctx: Context[Any, Any], run_id: RunId = "", approver: Who = "", reason: Why = ""
    ) -> InvoiceReport:
        """Pass on a person's rejection of an invoice: nothing is paid. Final; for an approved one use `cancel`."""
        decision = _unconfirmed_decision(approver or client_name(ctx.request_context), reason)
        async with self._answer_within_deadline() as backend:
            decided = await backend.service.decide(Verdict.REJECTED, workflow_id, run_id or None, decision)
            return without_idempotency_keys(decided)

    async def cancel(self, workflow_id: WorkflowId, run_id: RunId = "", reason: Why = "") -> InvoiceReport:
        """Withdraw an invoice. Before a decision nothing is paid; while paying, lines not yet due are not paid.

        A payment in progress finishes; the report shows which lines were paid. For an approved invoice this is the only
        way to stop it: call it only when the user wants that.
        """
        async with self._answer_within_deadline() as backend:
            return without_idempotency_keys(await backend.service.cancel(workflow_id, run_id or None, reason))

    async def list(
        self,
        status: Annotated[Status | None, Field(description="Only invoices with this status; default: all")] = None,
        limit: Limit = 20,
        cursor: Cursor = "",
    ) -> InvoiceList:
        """List invoices, for example all that are PENDING-APPROVAL: open ones first, then those that ended last.

        If there may be more, the answer has a next_cursor: call again with it and with the same status. Invoices that
        are submitted or change between two pages may be on neither page, or on both.
        """
        async with self._answer_within_deadline() as backend:
            found, next_cursor = await backend.service.list(status, limit, cursor)
            more = await backend.service.count_unindexed(status) if status and not next_cursor else 0
        which = f" {status}" if status else ""
        count = f"{len(found) or 'No'}{' more' if cursor else ''}{which} invoice{'' if len(found) == 1 else 's'}"
        hint = f"; {more} more may match, whose status is not indexed (yet): call `list` without status" if more else ""
        following = "; there may be more: call `list` with cursor set to next_cursor" if next_cursor else ""
        summary = self._names.in_text(f"{count}{following}{hint}.")
        return InvoiceList(invoices=found, next_cursor=next_cursor, summary=summary)

    @asynccontextmanager
    async def _answer_within_deadline(self) -> AsyncIterator[Backend]:
        """Wait for the backend; limit the block to the rest of the time for one answer."""
        began = anyio.current_time()
        backend = await self._provide_backend()
        # Imported with the backend.
        from invoice_mcp.service.errors import ANSWER_WITHIN, shared_deadline  # noqa: PLC0415

        with shared_deadline(ANSWER_WITHIN - (anyio.current_time() - began)):
            yield backend
