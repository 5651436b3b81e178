"""The MCP server: six tools over one InvoiceService."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp_types import InputRequiredResult, ToolAnnotations
from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from invoice_mcp import __version__
from invoice_mcp.approval import ApprovalPolicy, awaits_decision, confirmed, needs_confirmation
from invoice_mcp.calls import one_answer
from invoice_mcp.invoice_task import client_name, invoice_binding
from invoice_mcp.invoices import Comment, Invoice, Person
from invoice_mcp.question_keys import QuestionKeys
from invoice_mcp.reading import InvoiceEntry
from invoice_mcp.reports import Confirmation, DecisionRequest, InvoiceReport, Status, Verdict
from invoice_mcp.service import LONGEST_WAIT, InvoiceService, Submission
from invoice_mcp.tasks import TasksExtension
from invoice_mcp.tool_errors import CodedServer

INSTRUCTIONS = """\
Submit invoices and see them through to payment. An invoice lives for days; its state is kept by Temporal, so every
tool answers within seconds and nothing is lost between calls, hosts or restarts.
1. `trigger` submits an invoice and returns its workflow_id. Submitting the same invoice again is safe.
2. The ERP checks it; then it is PENDING-APPROVAL until a person decides or the deadline passes (EXPIRED).
3. `approve` or `reject` passes on a person's decision. Never decide yourself: ask the user first, showing customer,
   amount and lines. The first decision is final. `approve` pays real money; a host that shows forms has the user
   confirm it, so call it also where you would rather not decide: the question then reaches the user.
4. Once approved, each line is paid on its due date; `status` tells how far it is (PAYING, then PAID or FAILED).
   `status` with wait_seconds waits for the next change. `cancel` stops what is not paid yet.
5. `list` finds invoices by status when you have no workflow_id.
Errors start with a code (INVOICE_INVALID, NOT_FOUND, ALREADY_DECIDED, ...) and say what to do next. Each answer has a
`summary` to tell the user.
"""


def _text(value: object) -> object:
    return "" if value is None else value


def _number(value: object) -> object:
    # To Pydantic, true is 1.
    if isinstance(value, bool):
        raise PydanticCustomError("number", "must be a number, not true or false")
    return value


# Plain `str`, not `str | None`: the SDK reads a text that looks like JSON as JSON where other types are possible.
WorkflowId = Annotated[str, Field(description="As returned by trigger: invoice-<invoice_id>")]
RunId = Annotated[str, BeforeValidator(_text), Field(description="Only to address an earlier run; default: the newest")]
Who = Annotated[
    Person,
    BeforeValidator(_text),
    Field(description="Who decided, a person's name, kept as your claim; default: your client's"),
]
Why = Annotated[Comment, BeforeValidator(_text), Field(description="Why, in the person's words")]
WaitSeconds = Annotated[
    float,
    BeforeValidator(_number),
    Field(ge=0, le=LONGEST_WAIT, description="Wait up to this long for the status to change; 0: answer now"),
]
Limit = Annotated[int, BeforeValidator(_number), Field(ge=1, le=100, description="At most this many on a page")]
Cursor = Annotated[
    str,
    BeforeValidator(_text),
    Field(description="The next_cursor of the page before, with the same status; default: the first page"),
]


class InvoiceList(BaseModel):
    """Open invoices first, then those that ended last."""

    invoices: list[InvoiceEntry]
    summary: str
    next_cursor: str | None = Field(
        default=None, description="Pass it as cursor for the next page; null: there is none"
    )


def build_server(
    service: InvoiceService, *, name: str = "invoice-mcp", approval: ApprovalPolicy = ApprovalPolicy.ASK
) -> CodedServer:
    """The server with all its tools, and with tasks for clients that know them.

    It keeps no state of its own: any number of them may serve the same invoices.
    """
    tools = _Tools(service, approval)
    tasks = TasksExtension(service.client, [invoice_binding(service, approval)], retention=service.retention)
    trigger = _tool(tools.trigger, "Submit an invoice", idempotent=True)
    status = _tool(tools.status, "Where an invoice stands", read_only=True)
    # As a task it ends with the report.
    trigger.fn_metadata.output_schema = _either(trigger.fn_metadata.output_schema, status.fn_metadata.output_schema)
    return CodedServer(
        name,
        title="Invoices with human approval",
        instructions=INSTRUCTIONS,
        version=__version__,
        tools=[
            trigger,
            status,
            _tool(tools.approve, "Approve and pay an invoice", idempotent=True, destructive=True),
            _tool(tools.reject, "Reject an invoice", idempotent=True, destructive=True),
            _tool(tools.cancel, "Cancel an invoice", idempotent=True, destructive=True),
            _tool(tools.list, "List invoices", read_only=True),
        ],
        extensions=[tasks],
        middleware=[tasks.listening],
        log_level="WARNING",
    )


def _tool(
    function: Any, title: str, *, read_only: bool = False, destructive: bool = False, idempotent: bool = False
) -> Tool:
    tool = Tool.from_function(
        function,
        title=title,
        description=inspect.getdoc(function),
        annotations=ToolAnnotations(
            title=title,
            read_only_hint=read_only,
            destructive_hint=destructive,
            idempotent_hint=idempotent or read_only,
            open_world_hint=True,
        ),
    )
    tool.parameters["additionalProperties"] = False
    return tool


def _either(*schemas: dict[str, Any] | None) -> dict[str, Any]:
    """The schema of an object that fits one of these."""
    given = [schema for schema in schemas if schema]
    definitions = {name: each for schema in given for name, each in schema.get("$defs", {}).items()}
    alternatives = [{key: value for key, value in schema.items() if key != "$defs"} for schema in given]
    return {"type": "object", "anyOf": alternatives, "$defs": definitions}


def _on_its_word(by: str, comment: str) -> DecisionRequest:
    """A decision that nobody was asked about."""
    return DecisionRequest(by=by, comment=comment, confirmation=Confirmation.NONE)


class _Tools:
    """The tools, as a model sees them: names, signatures and docstrings are the public surface."""

    def __init__(self, service: InvoiceService, approval: ApprovalPolicy) -> None:
        self._service = service
        self._approval = approval

    async def trigger(self, invoice: Invoice) -> Submission:
        """Submit an invoice for validation, a person's approval, and payment of each line on its due date.

        Returns at once with the workflow_id to use in every other tool. The same invoice submitted again returns the
        one that is there (created: false); other content under an invoice_id that is under way or paid is refused.

        For a client with tasks it is a task, which asks the user for the decision and ends with the report. Stopping
        the task cancels the invoice while it waits for its decision. Once it is approved, stopping the task stops
        nothing: the invoice goes on being paid, and only the tool `cancel` withdraws it.
        """
        return await self._service.trigger(invoice)

    async def status(
        self, workflow_id: WorkflowId, ctx: Context[Any, Any], run_id: RunId = "", wait_seconds: WaitSeconds = 0
    ) -> InvoiceReport:
        """Tell where an invoice stands: its status, decision, deadline, and what became of each line."""

        async def progress(waited: float, report: InvoiceReport) -> None:
            await ctx.report_progress(waited, wait_seconds, report.summary)

        return await self._service.wait_for_change(workflow_id, run_id or None, wait_seconds, progress)

    async def approve(
        self, workflow_id: WorkflowId, ctx: Context[Any, Any], run_id: RunId = "", approver: Who = "", comment: Why = ""
    ) -> InvoiceReport | InputRequiredResult:
        """Pass on a person's approval: every line is then paid on its due date. Final; a rejected invoice stays so.

        Repeating it changes nothing; once the invoice has ended it is refused with how it ended.

        Call this only after the user has said yes to this invoice and amount. Where the host shows forms, one asks to
        confirm; NOT_CONFIRMED: it was not answered with yes.
        """
        decision = _on_its_word(approver or client_name(ctx.request_context), comment)
        with one_answer():
            if needs_confirmation(self._approval, ctx):
                report = await self._service.status(workflow_id, run_id or None)
                # What is confirmed is this run, and no other that may have begun meanwhile.
                run_id = report.run_id
                if awaits_decision(report):
                    keys = QuestionKeys(run_id, await self._service.nonce(workflow_id, run_id))
                    outcome = await confirmed(report, decision, keys, ctx)
                    if isinstance(outcome, InputRequiredResult):
                        return outcome
                    decision = outcome
            return await self._service.decide(Verdict.APPROVED, workflow_id, run_id or None, decision)

    async def reject(
        self, workflow_id: WorkflowId, ctx: Context[Any, Any], run_id: RunId = "", approver: Who = "", reason: Why = ""
    ) -> InvoiceReport:
        """Pass on a person's rejection: nothing is paid. Final; an approved invoice stays approved (see cancel)."""
        decision = _on_its_word(approver or client_name(ctx.request_context), reason)
        return await self._service.decide(Verdict.REJECTED, workflow_id, run_id or None, decision)

    async def cancel(self, workflow_id: WorkflowId, run_id: RunId = "", reason: Why = "") -> InvoiceReport:
        """Withdraw an invoice. Before a decision nothing is paid; while paying, lines not yet due are not paid.

        A payment under way finishes; the report tells which lines were paid. For an approved invoice this is the only
        way: call it only when the user wants that.
        """
        return await self._service.cancel(workflow_id, run_id or None, reason)

    async def list(
        self,
        status: Annotated[Status | None, Field(description="Only invoices with this status")] = None,
        limit: Limit = 20,
        cursor: Cursor = "",
    ) -> InvoiceList:
        """List invoices, for example all that are PENDING-APPROVAL: open ones first, then those that ended last.

        Where there may be more, the answer has a next_cursor: call again with it, and with the same status. Of invoices
        that are submitted or change between two pages, some may be on none of them, or on two.
        """
        with one_answer():
            found, next_cursor = await self._service.list(status, limit, cursor)
            more = await self._service.unindexed(status) if status and not next_cursor else 0
        which = f" {status}" if status else ""
        count = f"{len(found) or 'No'}{' more' if cursor else ''}{which} invoice{'' if len(found) == 1 else 's'}"
        hint = f"; {more} more may be, whose status is not indexed (yet): call `list` without status" if more else ""
        following = "; there may be more: call `list` with cursor set to next_cursor" if next_cursor else ""
        return InvoiceList(invoices=found, next_cursor=next_cursor, summary=f"{count}{following}{hint}.")
