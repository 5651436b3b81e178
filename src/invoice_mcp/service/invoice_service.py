"""What can be done with invoices, over one Temporal client: submit, ask, decide, cancel, list. Knows nothing of MCP."""

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

# How long a workflow waits for a worker that was killed in the middle of a task: less than a tool waits for its answer.
_TASK_TIMEOUT = timedelta(seconds=4)
_WORKER_MAY_TAKE = 3.0
# When a wait is over, the last look may take this long.
_LAST_LOOK = 3.0
# How an invoice ends by itself before anything is paid, and never once its cancellation was heard.
_BY_ITSELF = frozenset({Status.FAILED, Status.EXPIRED})
_MOVES_ON_WITHIN = 1.5
_CANCEL_SETTLES_WITHIN = 2.0
# Of the time of an answer so much is kept for finding out why there is no report.
_TO_SPARE = 0.5


class InvoiceService:
    """The verbs. Each ends within ten seconds, with its answer or with `RefusedError` (code, why, what to do next)."""

    def __init__(
        self,
        client: Client,
        *,
        approval_timeout: timedelta = DEFAULT_APPROVAL_TIMEOUT,
        signals_approve: bool = False,
        task_queue: str = TASK_QUEUE,
        probe: Probe | None = None,
    ) -> None:
        """Serve invoices over this client.

        Args:
            approval_timeout, signals_approve: The policy of invoices that are submitted from now on; see `Policy`.
        """
        self._client = client
        self._signals_approve = signals_approve
        self._approval_timeout = approval_timeout
        self._task_queue = task_queue
        self._probe = probe or Probe(client, task_queue=task_queue)

    @property
    def client(self) -> Client:
        """Of the Temporal that keeps the invoices."""
        return self._client

    async def retention(self) -> timedelta:
        """How long Temporal keeps an invoice that has ended."""
        return await self._probe.retention()

    async def trigger(self, invoice: Invoice) -> Submission:
        """Submit an invoice. The same invoice again is the same execution; other content under its id is refused."""
        async with temporal_calls(self._probe):
            while True:
                before = await find_run(self._client, workflow_id_for(invoice.invoice_id))
                standing = await self._standing(invoice, before) if before is not None else {}
                if isinstance(standing, Submission):
                    return standing
                # What was paid in part comes back as it was accepted, or not at all.
                if not standing and (faults := legibility_faults(invoice)):
                    raise RefusedError(
                        ErrorCode.INVOICE_INVALID, f"{faults}. Correct this and call again; nothing was changed."
                    )
                policy = await self._policy()
                # Getting here may have taken seconds, in which others may have gone on.
                if await self._newest_run(invoice) != (before.run_id if before else None):
                    continue
                try:
                    return await self._start(invoice, policy, settled=standing, is_first=before is None)
                except WorkflowAlreadyStartedError as faster:
                    # Somebody else was: look again, unless it is no invoice at all.
                    if await find_run(self._client, faster.workflow_id) is None:
                        raise conflict_error(invoice, "has its workflow id taken by another kind of workflow") from None

    async def status(self, workflow_id: str, run_id: str | None = None) -> InvoiceReport:
        """Everything known of an invoice, now."""
        async with temporal_calls(self._probe):
            return await fetch_report(self._client, await require_run(self._client, workflow_id, run_id))

    def can_approve(self, found: WorkflowExecutionDescription) -> bool:
        """Whether the invoice waits for this server's ERP and gateway: what is asked of a person here says nothing of
        others."""
        return found.task_queue == self._task_queue

    async def approval_keys(self, workflow_id: str, run_id: str) -> FormKeys:
        """Keys of the questions whether an approval of this run is meant.

        Raises:
            RefusedError: NOT_SUPPORTED, as `decide` would, before anybody is asked.
        """
        async with temporal_calls(self._probe):
            found = await require_run(self._client, workflow_id, run_id)
            self._require_own(found)
            return await form_keys(found)

    async def wait_for_change(
        self, workflow_id: str, run_id: str | None, seconds: float, progress: Progress
    ) -> InvoiceReport:
        """As `status`, but answers only when the status has changed, the invoice has ended, or `seconds` are over.

        Where nobody answers any more, it is refused at most five seconds after these, or ten after it was called.
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
            with shared_deadline(min(max(left, _LAST_LOOK), ANSWER_WITHIN)):
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
            report = await self._updated(found, verdict, decision)
            # By now it has usually gone on; with very many lines that takes a moment longer than anybody should wait.
            with anyio.move_on_after(_MOVES_ON_WITHIN):
                return await fetch_report(self._client, await require_run(self._client, found.id, found.run_id))
            return report

    async def dismiss(self, workflow_id: str, run_id: str | None, question: int) -> None:
        """Take note that a form was dismissed that asked for the decision. It decides nothing.

        Raises:
            RefusedError: INVALID_ARGUMENT where that form is not open any more, ALREADY_CLOSED where the invoice is.
        """
        async with temporal_calls(self._probe):
            found = await self._require_open(workflow_id, run_id)
            handle = self._client.get_workflow_handle_for(InvoiceWorkflow.run, found.id, run_id=found.run_id)
            await self._while_open(found, lambda: handle.execute_update(InvoiceWorkflow.dismiss, question))

    async def _updated(
        self, found: WorkflowExecutionDescription, verdict: Verdict, decision: DecisionRequest
    ) -> InvoiceReport:
        handle = self._client.get_workflow_handle_for(InvoiceWorkflow.run, found.id, run_id=found.run_id)
        update = InvoiceWorkflow.approve if verdict is Verdict.APPROVED else InvoiceWorkflow.reject
        return await self._while_open(found, lambda: handle.execute_update(update, decision))

    async def _while_open(self, found: WorkflowExecutionDescription, update: Callable[[], Awaitable[T]]) -> T:
        """Do the update, again if it meets the workflow's end.

        Raises:
            RefusedError: ALREADY_CLOSED, once it has ended.
        """
        while True:
            try:
                return await update()
            except WorkflowUpdateRPCTimeoutOrCancelledError:
                raise TimeoutError from None
            except RPCError as error:
                # It ended in the meantime, or is just about to: then the server gives the update back.
                ended = error.status is RPCStatusCode.NOT_FOUND
                ending = error.status is RPCStatusCode.FAILED_PRECONDITION and "workflow task failure" in error.message
                if not ended and not ending:
                    raise
                await self._require_open(found.id, found.run_id)
                await anyio.sleep(0.05)

    async def cancel(self, workflow_id: str, run_id: str | None, reason: str) -> InvoiceReport:
        """Cancel what is not paid yet. Cancelling twice changes nothing."""
        async with temporal_calls(self._probe):
            found = await require_run(self._client, workflow_id, run_id)
            if found.status is not WorkflowExecutionStatus.CANCELED:
                found = await self._require_open(found.id, found.run_id)
                await self._client.get_workflow_handle(found.id, run_id=found.run_id).cancel(reason=reason)
            report = await self._settled(found)
            if report.status in _BY_ITSELF and all(line.status is LineStatus.NOT_PAID for line in report.lines):
                # Temporal takes the cancellation of what has just ended, too, and does nothing.
                raise _closed(report)
            return report

    async def list(self, status: Status | None = None, limit: int = 20, cursor: str = "") -> Page:
        """Open invoices first, then those that ended last, of one status if named; see `reading.list_page`."""
        async with temporal_calls(self._probe):
            return await list_page(self._client, status, limit, cursor, indexed=await self._probe.indexes_status())

    async def count_unindexed(self, status: Status) -> int:
        """How many invoices may have this status and can't be found by it; 0 also where that can't be told."""
        with suppress(RefusedError):
            async with temporal_calls(self._probe):
                return await count_unindexed(self._client, ended=status.is_terminal)
        return 0

    async def _policy(self) -> Policy:
        """What is in force for a new run, once it is clear that somebody would go on with it."""
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
            # Where nothing was seen under the id, nothing may have come and gone since.
            id_reuse_policy=reuse,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            task_timeout=_TASK_TIMEOUT,
            memo=build_memo(invoice, settled),
            static_summary=f"Invoice {plain_or_quoted(invoice.invoice_id)}: {invoice.currency} {invoice.total}",
        )
        status = Status(await handle.query(InvoiceWorkflow.status))
        return Submission(
            workflow_id=handle.id, run_id=handle.first_execution_run_id or "", status=status, created=True
        )

    async def _standing(self, invoice: Invoice, before: WorkflowExecutionDescription) -> Submission | SettledLines:
        """The submission that stands already; or, where a new run may start, what earlier ones settled."""
        is_running = before.status is WorkflowExecutionStatus.RUNNING
        is_same = await read_memo_text(before, "content_digest") == invoice.content_digest
        if is_running and not is_same:
            raise conflict_error(invoice, "is under way with other content. Cancel it first, or use another invoice_id")
        last = await fetch_report_or_none(self._client, before)
        if last is None or (not is_running and last.status is not Status.PAID):
            settled, told = await find_settled_lines(self._client, before, last)
            if told is not None:
                require_unchanged(invoice, settled, last=told)
            return settled
        if not is_same:
            raise conflict_error(invoice, "is paid, with other content. Use another invoice_id for another invoice")
        return Submission(workflow_id=before.id, run_id=before.run_id, status=last.status, created=False)

    async def _require_worker(self) -> None:
        """Refuse before anything is begun where nobody would go on with it. A worker may just be starting."""
        with anyio.move_on_after(_WORKER_MAY_TAKE):
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
            raise RefusedError(ErrorCode.NOT_SUPPORTED, f"{what}. Approve it at a server that is started with those.")

    async def _settled(self, found: WorkflowExecutionDescription) -> InvoiceReport:
        """The report once a cancellation has had its effect; a payment under way may take longer than we wait.

        Raises:
            RefusedError: NO_WORKER or NO_ANSWER, where no report comes in time. The deadline is
                longer than the workflow task timeout, so a killed worker alone does not cause it.
        """
        report: InvoiceReport | None = None
        with anyio.CancelScope(deadline=anyio.current_effective_deadline() - _TO_SPARE):
            report = await fetch_report(self._client, found)
            with anyio.move_on_after(_CANCEL_SETTLES_WITHIN):
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
            raise await diagnose_timeout(self._probe, "The invoice is cancelled, but its report is not told")
        raise await diagnose_timeout(self._probe, "The cancellation is accepted and not lost, but not taken up yet")


def _closed(report: InvoiceReport) -> RefusedError:
    return RefusedError(ErrorCode.ALREADY_CLOSED, f"the invoice is {report.status} already. {report.summary}")
