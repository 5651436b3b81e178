"""Collects the observations of a finished scenario: ledger, tool answers, reports, queries and histories."""

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
        temporal_status: Temporal's status of the execution, such as COMPLETED.
        status: The answer to the query GetInvoiceStatus; "" if there is none.
        approved: The answer to the query IsInvoiceApproved, if no report has the decision; None if there is none.
        tool_report: The report of the tool `status`; None if there is no such tool, or it refuses.
        query_report: The report of the query GetInvoiceReport; None if there is no such query.
        trace: The facts in its history.
        failed_child_tasks: The message of each failed workflow task of its lines.
        open_children: Workflow ids of lines that are still open.
        first_run_id: The run with which the history begins: another run, if this one continues after a reset.
        was_reset: Whether another run replaced it by a reset.
        completed_children: Run ids of the lines' workflows that completed, and so returned their outcome.
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
        """Whether this run continues another one after a reset."""
        return self.first_run_id not in {"", self.run_id}

    @property
    def report(self) -> InvoiceReport | None:
        """The report by the tool, the query or the result, whichever exists."""
        return self.tool_report or self.query_report or self.trace.result


@dataclass(frozen=True)
class Observations:
    """The observations of one scenario, which `check` judges.

    Attributes:
        runs: The runs of each invoice, oldest first.
        ledger: Every payment that was made.
        answers: Every answer of a tool, in order.
        attempts: Every request to the gateway with its outcome, in order; None if not recorded.
        asked: Every invoice that the ERP was asked about, in order; None if not recorded.
        approval_timeout: How long submitted invoices wait for a decision; None if unknown.
        forms: The text of every form that asked for a decision, and its run.
        lists_all: Whether `list` shows every submitted invoice at once, without a delayed index.

    Example:
        observed = await world.observe()
        assert not check(observed)
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
    """The invoice and the approval timeout in the input of the product's workflow; None if it is no invoice."""
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
    """Collect the observations of every run of these workflows.

    Args:
        runs: Workflow id -> its known run ids. The newest run is always included.
        report: Calls the tool `status` with a workflow id and a run id.
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
    tool_report = None
    if report is not None:
        with suppress(ToolRefused):
            tool_report = await report(handle.id, run_id=handle.run_id)
    trace = await read(handle)
    children = {
        run_id: await read(client.get_workflow_handle(workflow_id, run_id=run_id))
        for run_id, workflow_id in trace.children.items()
    }
    # A query of a workflow that fails its tasks waits for ever. The queries run one after another, since the
    # time-skipping server sometimes loses the second of two concurrent queries.
    can_answer = not trace.is_failing and (trace.has_completed_task or trace.end == "RUNNING")
    return Run(
        workflow_id=handle.id,
        run_id=handle.run_id or "",
        temporal_status=(described.status or WorkflowExecutionStatus.RUNNING).name,
        status=str((await _query(handle, "GetInvoiceStatus", str) if can_answer else None) or ""),
        tool_report=tool_report,
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
    """Fetch and parse the history of one run."""
    converter = client.data_converter.payload_converter

    def decode(payloads: Sequence[Payload], kind: type[Any]) -> Any:
        # Results of other kinds of workflows can't be decoded, and don't matter here.
        with suppress(ValidationError, LookupError, RuntimeError, TypeError, ValueError):
            return converter.from_payloads(payloads[:1], [kind])[0]
        return None

    return parse_history(
        [event async for event in handle.fetch_history_events()], decode, read_request, validation=validation
    )
