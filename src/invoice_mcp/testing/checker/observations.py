"""What there is to see of a scenario when it has ended, from every side: ledger, reports, histories."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from pydantic import ValidationError
from temporalio.api.common.v1 import Payload
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowQueryFailedError,
)

from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.names import VALIDATE_AGAINST_ERP
from invoice_mcp.domain.report import AcceptedInvoice, InvoiceReport, InvoiceRequest
from invoice_mcp.testing.checker.history import Trace, parse_history
from invoice_mcp.testing.records import Answer, Attempt, Form, RecordedPayment, ToolRefused

ReadRequest = Callable[[dict[str, Any]], tuple[AcceptedInvoice, timedelta] | None]


@dataclass(frozen=True)
class Run:
    """One run of an invoice's workflow.

    Attributes:
        temporal_status: What Temporal says of the execution, such as COMPLETED.
        status: What the seed's query GetInvoiceStatus answers; "" where it can't.
        approved: What the seed's query IsInvoiceApproved answers, where no report tells the decision; None where it
            can't.
        tool_report: The report the tool `status` gives; None where there is no such tool, or it refuses.
        queried: The report the query GetInvoiceReport gives; None where there is no such query.
        trace: What its history tells.
        children_failed: Why tasks of its lines' workflows failed, one text each.
        open_children: Workflow ids of lines that have not ended.
        first_run_id: The run with which its history begins: another one, if it goes on after a reset.
        was_reset: Whether another run goes on instead of it.
        told_by_children: Run ids of lines' workflows that have ended by themselves, and so have told their outcome.
    """

    workflow_id: str
    run_id: str
    temporal_status: str
    status: str
    tool_report: InvoiceReport | None
    query_report: InvoiceReport | None
    trace: Trace
    approved: bool | None = None
    failed_child_tasks: tuple[str, ...] = ()
    open_children: tuple[str, ...] = ()
    completed_children: frozenset[str] = frozenset()
    first_run_id: str = ""
    was_reset: bool = False

    @property
    def continues_reset(self) -> bool:
        """Whether it goes on after a reset."""
        return self.first_run_id not in {"", self.run_id}

    @property
    def report(self) -> InvoiceReport | None:
        """The report, from whichever side there is one."""
        return self.tool_report or self.query_report or self.trace.result


@dataclass(frozen=True)
class Observations:
    """All of it.

    Attributes:
        runs: Of each invoice its runs, oldest first.
        ledger: Every payment that was made.
        answers: Every answer of a tool, in order.
        attempts: Every request to the gateway and how it was answered, in order; None where nobody recorded that.
        asked: Every invoice that the ERP was asked about, in order; None where nobody recorded that.
        approval_timeout: How long invoices that were submitted here were to wait; None where nobody says.
        forms: The text of every form that asked for a decision, and of which run.
        lists_all: Whether a list has every invoice that was submitted before: no index lags behind.
    """

    runs: tuple[Run, ...]
    ledger: tuple[RecordedPayment, ...]
    answers: tuple[Answer, ...] = ()
    attempts: tuple[Attempt, ...] | None = None
    asked: tuple[Invoice, ...] | None = None
    approval_timeout: timedelta | None = None
    forms: tuple[Form, ...] = ()
    lists_all: bool = False


def parse_product_request(request: dict[str, Any]) -> tuple[AcceptedInvoice, timedelta] | None:
    """What the input of the product's workflow asks for."""
    try:
        read = InvoiceRequest.model_validate(request)
    except ValidationError:
        return None
    return read.invoice, read.policy.approval_timeout


async def observe(
    client: Client,
    runs: Mapping[str, Sequence[str]],
    *,
    ledger: tuple[RecordedPayment, ...],
    answers: tuple[Answer, ...] = (),
    attempts: tuple[Attempt, ...] | None = None,
    report: Callable[..., Awaitable[InvoiceReport]] | None = None,
    read_request: ReadRequest = parse_product_request,
    validation: str = VALIDATE_AGAINST_ERP,
) -> Observations:
    """Look at every run of these workflows.

    Args:
        runs: Workflow id -> the run ids known of it; the newest run is always seen.
        report: Asks the tool `status`, given workflow id and run id.
        read_request: As for `parse_history`.
        validation: As for `parse_history`.
    """
    read = partial(fetch_trace, client, read_request=read_request, validation=validation)
    seen = []
    for workflow_id, known in runs.items():
        newest = await client.get_workflow_handle(workflow_id).describe()
        for run_id in (each for each in known if each != newest.run_id):
            earlier = await client.get_workflow_handle(workflow_id, run_id=run_id).describe()
            seen.append(await _run(client, earlier, report, read))
        seen.append(await _run(client, newest, report, read))
    return Observations(tuple(seen), ledger, answers, attempts)


async def _run(
    client: Client,
    described: WorkflowExecutionDescription,
    report: Callable[..., Awaitable[InvoiceReport]] | None,
    read: Callable[[WorkflowHandle[Any, Any]], Awaitable[Trace]],
) -> Run:
    handle = client.get_workflow_handle(described.id, run_id=described.run_id)
    told = None
    if report is not None:
        with suppress(ToolRefused):
            told = await report(handle.id, run_id=handle.run_id)
    trace = await read(handle)
    children = {
        run_id: await read(client.get_workflow_handle(workflow_id, run_id=run_id))
        for run_id, workflow_id in trace.children.items()
    }
    # A query of a workflow that fails its tasks is not refused but left waiting. And they are asked one after another,
    # though each has to replay what has ended: of two at once the second is lost now and then, on the test server.
    can_answer = not trace.is_failing and (trace.has_completed_task or trace.end == "RUNNING")
    return Run(
        workflow_id=handle.id,
        run_id=handle.run_id or "",
        temporal_status=(described.status or WorkflowExecutionStatus.RUNNING).name,
        status=str((await _query(handle, "GetInvoiceStatus", str) if can_answer else None) or ""),
        tool_report=told,
        query_report=await _query(handle, "GetInvoiceReport", InvoiceReport)
        if can_answer and report is not None
        else None,
        trace=trace,
        approved=await _query(handle, "IsInvoiceApproved", bool) if can_answer and report is None else None,
        failed_child_tasks=tuple(failure for child in children.values() for failure in child.failed_tasks),
        open_children=tuple(trace.children[run_id] for run_id, child in children.items() if child.end == "RUNNING"),
        first_run_id=described.raw_description.workflow_execution_info.first_run_id,
        was_reset=bool(described.raw_description.workflow_extended_info.reset_run_id),
        completed_children=frozenset(run_id for run_id, child in children.items() if child.end == "COMPLETED"),
    )


async def _query(handle: WorkflowHandle[Any, Any], query: str, kind: type[Any]) -> Any:
    try:
        return await handle.query(query, result_type=kind, rpc_timeout=timedelta(seconds=10))
    except WorkflowQueryFailedError:
        return None


async def fetch_trace(
    client: Client,
    handle: WorkflowHandle[Any, Any],
    read_request: ReadRequest,
    validation: str = VALIDATE_AGAINST_ERP,
) -> Trace:
    """Read the history of one run, as it is now."""
    converter = client.data_converter.payload_converter

    def decode(payloads: Sequence[Payload], kind: type[Any]) -> Any:
        # What another kind of workflow returns is nothing to read here.
        with suppress(ValidationError, LookupError, RuntimeError, TypeError, ValueError):
            return converter.from_payloads(payloads[:1], [kind])[0]
        return None

    return parse_history(
        [event async for event in handle.fetch_history_events()], decode, read_request, validation=validation
    )
