"""`InvoiceService`: submit, report, decide, cancel and list invoices, over one Temporal client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

import anyio
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from invoice_mcp.domain.display_text import plain_or_quoted, quoted
from invoice_mcp.domain.errors import ErrorCode, RefusedError
from invoice_mcp.domain.invoice import Invoice, legibility_faults
from invoice_mcp.domain.names import TASK_QUEUE, workflow_id_for
from invoice_mcp.domain.report import (
    DEFAULT_APPROVAL_TIMEOUT,
    MAX_WAIT_SECONDS,
    AcceptedInvoice,
    DecisionRequest,
    InvoiceReport,
    InvoiceRequest,
    LineStatus,
    Policy,
    Status,
    Submission,
    Verdict,
)
from invoice_mcp.domain.resubmission import SettledLines, conflict_error, line_numbers, require_unchanged
from invoice_mcp.service.errors import ANSWER_WITHIN, diagnose_timeout, no_worker_error, shared_deadline, temporal_calls
from invoice_mcp.service.form_keys import FormKeys
from invoice_mcp.service.queries import (
    Page,
    build_memo,
    count_unindexed,
    find_run,
    form_keys,
    list_page,
    read_memo_text,
    require_run,
)
from invoice_mcp.service.settled_lines import fetch_report, fetch_report_or_none, find_settled_lines
from invoice_mcp.temporal.probe import Probe
from invoice_mcp.workflow.invoice_workflow import InvoiceWorkflow

T = TypeVar("T")

Progress = Callable[[float, InvoiceReport], Awaitable[None]]

OTHER_GATEWAY = "this invoice was submitted for another ERP and payment gateway than this server's"
APPROVE_ELSEWHERE = "Approve it at a server that is started with those"

# Shorter than the deadline of a tool call, so that calls survive a worker that is killed during a workflow task.
_WORKFLOW_TASK_TIMEOUT = timedelta(seconds=4)
# Seconds.
_WORKER_START_TIMEOUT = 3.0
# For the last query of `wait_for_change`, after the wait.
_LAST_QUERY_TIMEOUT = 3.0
# Terminal statuses that an invoice reaches without payment, and never after the workflow has seen a cancellation.
_ENDS_WITHOUT_CANCEL = frozenset({Status.FAILED, Status.EXPIRED})
_PROGRESS_TIMEOUT = 1.5
_CANCEL_TIMEOUT = 2.0
# Part of the deadline, kept for finding out why there is no report.
_RESERVED = 0.5


class InvoiceService:
    """The operations. Each returns, or raises `RefusedError`, within ten seconds."""

    def __init__(
        self,
        client: Client,
        *,
        approval_timeout: timedelta = DEFAULT_APPROVAL_TIMEOUT,
        signals_approve: bool = False,
        task_queue: str = TASK_QUEUE,
        probe: Probe | None = None,
    ) -> None:
        """Create the service.

        Args:
            approval_timeout, signals_approve: Policy of the invoices submitted by this service; see `Policy`.
        """
        self._client = client
        self._signals_approve = signals_approve
        self._approval_timeout = approval_timeout
        self._task_queue = task_queue
        self._probe = probe or Probe(client, task_queue=task_queue)

    @property
    def client(self) -> Client:
        """The Temporal client."""
        return self._client

    async def retention(self) -> timedelta:
        """How long Temporal keeps invoices that have ended."""
        return await self._probe.retention()

    async def trigger(self, invoice: Invoice) -> Submission:
        """Submit an invoice. Submitting it again returns the same execution; other content under its id is refused."""
        async with temporal_calls(self._probe):
            while True:
                before = await find_run(self._client, workflow_id_for(invoice.invoice_id))
                earlier = await self._find_submission(invoice, before) if before is not None else {}
                if isinstance(earlier, Submission):
                    return earlier
                # An invoice that was paid in part must come back unchanged, so its names are not checked again.
                if not earlier and (faults := legibility_faults(invoice)):
                    raise RefusedError(
                        ErrorCode.INVOICE_INVALID, f"{faults}. Correct this and call again; nothing was changed."
                    )
                policy = await self._policy()
                # This may have taken seconds, in which another client may have started a run.
                if await self._newest_run(invoice) != (before.run_id if before else None):
                    continue
                try:
                    return await self._start(invoice, policy, settled=earlier, is_first=before is None)
                except WorkflowAlreadyStartedError as faster:
                    # Another client was faster: try again, unless the other workflow is no invoice.
                    if await find_run(self._client, faster.workflow_id) is None:
                        raise conflict_error(invoice, "has its workflow id taken by another kind of workflow") from None

    async def status(self, workflow_id: str, run_id: str | None = None) -> InvoiceReport:
        """The report of an invoice."""
        async with temporal_calls(self._probe):
            return await fetch_report(self._client, await require_run(self._client, workflow_id, run_id))

    def can_approve(self, found: WorkflowExecutionDescription) -> bool:
        """Whether the invoice is for this server's ERP and gateway. This server does not take approvals of others."""
        return found.task_queue == self._task_queue

    async def approval_keys(self, workflow_id: str, run_id: str) -> FormKeys:
        """Keys of the forms that confirm an approval of this run.

        Raises:
            RefusedError: NOT_SUPPORTED, as from `decide`, but before a person is asked.
        """
        async with temporal_calls(self._probe):
            found = await require_run(self._client, workflow_id, run_id)
            self._require_own(found)
            return await form_keys(found)

    async def wait_for_change(
        self, workflow_id: str, run_id: str | None, seconds: float, progress: Progress
    ) -> InvoiceReport:
        """As `status`, but waits until the status has changed, the invoice has ended, or `seconds` have passed.

        If Temporal stops answering, raises at most five seconds after that time, or ten after the call.
        """
        began = anyio.current_time()
        first = report = await self.status(workflow_id, run_id)
        pause = 0.1
        while report.status is first.status and not report.status.is_terminal:
            waited = anyio.current_time() - began
            if waited >= min(seconds, MAX_WAIT_SECONDS):
                break
            await progress(waited, report)
            await anyio.sleep(min(pause, seconds - waited))
            pause = min(pause * 1.5, 1.0)
            left = seconds - (anyio.current_time() - began)
            with shared_deadline(min(max(left, _LAST_QUERY_TIMEOUT), ANSWER_WITHIN)):
                report = await self.status(workflow_id, first.run_id)
        return report

    async def decide(
        self, verdict: Verdict, workflow_id: str, run_id: str | None, decision: DecisionRequest
    ) -> InvoiceReport:
        """Approve or reject. The first decision is final; repeating it changes nothing.

        An approval is refused (NOT_SUPPORTED) where `can_approve` says no.
        """
        async with temporal_calls(self._probe):
            found = await self._require_open(workflow_id, run_id)
            if verdict is Verdict.APPROVED:
                self._require_own(found)
            report = await self._send_update(found, verdict, decision)
            # By now the workflow has usually progressed. With many lines that takes longer than a caller should wait.
            with anyio.move_on_after(_PROGRESS_TIMEOUT):
                return await fetch_report(self._client, await require_run(self._client, found.id, found.run_id))
            return report

    async def dismiss(self, workflow_id: str, run_id: str | None, question: int) -> None:
        """Record that a form that asked for the decision was dismissed. Decides nothing.

        Args:
            question: Number of the form, from 1.

        Raises:
            RefusedError: INVALID_ARGUMENT if that form is no longer open, ALREADY_CLOSED if the invoice has ended.
        """
        async with temporal_calls(self._probe):
            found = await self._require_open(workflow_id, run_id)
            handle = self._client.get_workflow_handle_for(InvoiceWorkflow.run, found.id, run_id=found.run_id)
            await self._retry_while_open(found, lambda: handle.execute_update(InvoiceWorkflow.dismiss, question))

    async def _send_update(
        self, found: WorkflowExecutionDescription, verdict: Verdict, decision: DecisionRequest
    ) -> InvoiceReport:
        handle = self._client.get_workflow_handle_for(InvoiceWorkflow.run, found.id, run_id=found.run_id)
        update = InvoiceWorkflow.approve if verdict is Verdict.APPROVED else InvoiceWorkflow.reject
        return await self._retry_while_open(found, lambda: handle.execute_update(update, decision))

    async def _retry_while_open(self, found: WorkflowExecutionDescription, update: Callable[[], Awaitable[T]]) -> T:
        """Send an update, and retry if the workflow closes meanwhile.

        Raises:
            RefusedError: ALREADY_CLOSED, once it has ended.
        """
        while True:
            try:
                return await update()
            except WorkflowUpdateRPCTimeoutOrCancelledError:
                raise TimeoutError from None
            except RPCError as error:
                # The workflow has ended, or is about to: then the server rejects the update.
                ended = error.status is RPCStatusCode.NOT_FOUND
                ending = error.status is RPCStatusCode.FAILED_PRECONDITION and "workflow task failure" in error.message
                if not ended and not ending:
                    raise
                await self._require_open(found.id, found.run_id)
                await anyio.sleep(0.05)

    async def cancel(self, workflow_id: str, run_id: str | None, reason: str) -> InvoiceReport:
        """Cancel the lines that are not paid yet. Cancelling twice changes nothing."""
        async with temporal_calls(self._probe):
            found = await require_run(self._client, workflow_id, run_id)
            if found.status is not WorkflowExecutionStatus.CANCELED:
                found = await self._require_open(found.id, found.run_id)
                await self._client.get_workflow_handle(found.id, run_id=found.run_id).cancel(reason=reason)
            report = await self._report_after_cancelling(found)
            if report.status in _ENDS_WITHOUT_CANCEL and all(
                line.status is LineStatus.NOT_PAID for line in report.lines
            ):
                # Temporal also accepts, and ignores, a cancellation of a workflow that has just ended.
                raise _closed(report)
            return report

    async def list(self, status: Status | None = None, limit: int = 20, cursor: str = "") -> Page:
        """One page of invoices; see `queries.list_page`."""
        async with temporal_calls(self._probe):
            return await list_page(self._client, status, limit, cursor, indexed=await self._probe.indexes_status())

    async def count_unindexed(self, status: Status) -> int:
        """How many invoices may have this status but are not indexed by it; 0 also where that is unknown."""
        with suppress(RefusedError):
            async with temporal_calls(self._probe):
                return await count_unindexed(self._client, ended=status.is_terminal)
        return 0

    async def _policy(self) -> Policy:
        """The policy of a new run. Refuses if there is no worker."""
        await self._require_worker()
        return Policy(
            approval_timeout=self._approval_timeout,
            index_status=await self._probe.indexes_status(),
            signals_approve=self._signals_approve,
        )

    async def _newest_run(self, invoice: Invoice) -> str | None:
        found = await find_run(self._client, workflow_id_for(invoice.invoice_id))
        return found.run_id if found is not None else None

    async def _start(self, invoice: Invoice, policy: Policy, *, settled: SettledLines, is_first: bool) -> Submission:
        reuse = WorkflowIDReusePolicy.REJECT_DUPLICATE if is_first else WorkflowIDReusePolicy.ALLOW_DUPLICATE
        handle = await self._client.start_workflow(
            InvoiceWorkflow.run,
            InvoiceRequest(invoice=AcceptedInvoice.of(invoice), policy=policy, settled=line_numbers(settled)),
            id=workflow_id_for(invoice.invoice_id),
            task_queue=self._task_queue,
            # If there was no run under the id, another client must not have started one since, even one that has ended.
            id_reuse_policy=reuse,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            task_timeout=_WORKFLOW_TASK_TIMEOUT,
            memo=build_memo(invoice, settled),
            static_summary=f"Invoice {plain_or_quoted(invoice.invoice_id)}: {invoice.currency} {invoice.total}",
        )
        status = Status(await handle.query(InvoiceWorkflow.status))
        return Submission(
            workflow_id=handle.id, run_id=handle.first_execution_run_id or "", status=status, created=True
        )

    async def _find_submission(
        self, invoice: Invoice, before: WorkflowExecutionDescription
    ) -> Submission | SettledLines:
        """The existing submission; or, if a new run may start, the lines that earlier runs settled."""
        is_running = before.status is WorkflowExecutionStatus.RUNNING
        is_same = await read_memo_text(before, "content_digest") == invoice.content_digest
        if is_running and not is_same:
            raise conflict_error(invoice, "is under way with other content. Cancel it first, or use another invoice_id")
        last = await fetch_report_or_none(self._client, before)
        if last is None or (not is_running and last.status is not Status.PAID):
            settled, report = await find_settled_lines(self._client, before, last)
            if report is not None:
                require_unchanged(invoice, settled, last=report)
            return settled
        if not is_same:
            raise conflict_error(invoice, "is paid, with other content. Use another invoice_id for another invoice")
        return Submission(workflow_id=before.id, run_id=before.run_id, status=last.status, created=False)

    async def _require_worker(self) -> None:
        """Refuse if there is no worker. Waits for one that is just starting."""
        with anyio.move_on_after(_WORKER_START_TIMEOUT):
            while not await self._probe.has_worker():
                await anyio.sleep(0.1)
            return
        raise no_worker_error("No worker polls for invoices, so nothing was started")

    async def _require_open(self, workflow_id: str, run_id: str | None) -> WorkflowExecutionDescription:
        found = await require_run(self._client, workflow_id, run_id)
        if found.status is not WorkflowExecutionStatus.RUNNING:
            raise _closed(await fetch_report(self._client, found))
        return found

    def _require_own(self, found: WorkflowExecutionDescription) -> None:
        if not self.can_approve(found):
            what = f"{OTHER_GATEWAY} (task queue {quoted(found.task_queue)})"
            raise RefusedError(ErrorCode.NOT_SUPPORTED, f"{what}. {APPROVE_ELSEWHERE}.")

    async def _report_after_cancelling(self, found: WorkflowExecutionDescription) -> InvoiceReport:
        """The report after a cancellation has taken effect, or while a payment under way still finishes.

        Raises:
            RefusedError: NO_WORKER or NO_ANSWER, where no report comes in time. The deadline is longer than the
                workflow task timeout, so a killed worker alone does not cause it.
        """
        report: InvoiceReport | None = None
        with anyio.CancelScope(deadline=anyio.current_effective_deadline() - _RESERVED):
            report = await fetch_report(self._client, found)
            with anyio.move_on_after(_CANCEL_TIMEOUT):
                while not report.status.is_terminal:
                    await anyio.sleep(0.05)
                    report = await fetch_report(self._client, found)
                report = await fetch_report(self._client, await require_run(self._client, found.id, found.run_id))
        if report is not None:
            return report
        found = await require_run(self._client, found.id, found.run_id)
        if found.status is WorkflowExecutionStatus.COMPLETED:
            return await fetch_report(self._client, found)
        if found.status is WorkflowExecutionStatus.CANCELED:
            raise await diagnose_timeout(self._probe, "The invoice is cancelled, but its report is not available")
        raise await diagnose_timeout(self._probe, "The cancellation is accepted and not lost, but not processed yet")


def _closed(report: InvoiceReport) -> RefusedError:
    return RefusedError(ErrorCode.ALREADY_CLOSED, f"the invoice is {report.status} already. {report.summary}")
