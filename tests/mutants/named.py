"""Named mutants: edits that once broke product or harness and survived every check. Each has to be killed.

Unlike mutants of operators they are listed here as text replacements. `python -m tests.mutants.code_mutants` tests all
of them, `test_named.py` some in every test run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.mutants.generator import Mutant, source


@dataclass(frozen=True)
class NamedMutant:
    """A named mutant.

    Attributes:
        about: The fault that the edit introduces.
        file: The file; see `generator.source`.
        old: A text that occurs once in the file.
        new: Its replacement.
    """

    about: str
    file: str
    old: str
    new: str

    @property
    def mutant(self) -> Mutant:
        """The mutant.

        Raises:
            ValueError: The text does not occur exactly once: update this table after the code has changed.
        """
        text = source(self.file).read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file}, {self.about}: {text.count(self.old)} matches of {self.old}")
        return Mutant("named", self.about, self.file, text.replace(self.old, self.new))


_MINUTE = '__import__("datetime").timedelta(minutes=1)'
_KNOWN_KEYS = 'self.__dict__.setdefault("sent", [])'

NAMED_MUTANTS: tuple[NamedMutant, ...] = (
    # Content of the invoice.
    NamedMutant(
        "metadata is dropped when an invoice is accepted",
        "domain/report.py",
        "return cls.model_validate(invoice.model_dump())",
        'return cls.model_validate(invoice.model_dump(exclude={"metadata"}))',
    ),
    NamedMutant(
        "metadata is dropped before the ERP is asked",
        "workflow/activities.py",
        "Invoice.model_validate(accepted.model_dump())",
        'Invoice.model_validate(accepted.model_dump(exclude={"metadata"}))',
    ),
    NamedMutant(
        "metadata is not sent to the ERP",
        "adapters/erp.py",
        'invoice.model_dump(mode="json") | {',
        'invoice.model_dump(mode="json", exclude={"metadata"}) | {',
    ),
    NamedMutant(
        "metadata is no part of the content digest",
        "domain/invoice.py",
        'return _digest(self.model_dump(mode="json"))',
        'return _digest(self.model_dump(mode="json", exclude={"metadata"}))',
    ),
    # Times.
    NamedMutant(
        "a window of more than five days is cut by the service",
        "service/invoice_service.py",
        "self._approval_timeout = approval_timeout",
        "self._approval_timeout = min(approval_timeout, DEFAULT_APPROVAL_TIMEOUT)",
    ),
    NamedMutant(
        "a window of more than five days is cut by the workflow",
        "workflow/invoice_workflow.py",
        "await workflow.sleep(self._policy.approval_timeout,",
        "await workflow.sleep(min(self._policy.approval_timeout, timedelta(days=5)),",
    ),
    NamedMutant(
        "each payment is half a minute early",
        "workflow/line_workflow.py",
        "wait = order.due_date - workflow.now()\n    summary",
        "wait = order.due_date - workflow.now() - timedelta(seconds=30)\n    summary",
    ),
    NamedMutant(
        "a line that is due within half a minute is paid at once",
        "workflow/line_workflow.py",
        "while wait > timedelta(0):",
        "while wait > timedelta(seconds=30):",
    ),
    # Runs.
    NamedMutant(
        "`list` answers the first page only",
        "service/queries.py",
        "return Page(invoices, encode_cursor(found.next_page_token, status) if found.next_page_token else None)",
        "return Page(invoices, None)",
    ),
    NamedMutant(
        "`status` goes to the newest run, whichever is named",
        "service/invoice_service.py",
        "return await fetch_report(self._client, await require_run(self._client, workflow_id, run_id))",
        "return await fetch_report(self._client, await require_run(self._client, workflow_id))",
    ),
    NamedMutant(
        "a decision goes to the newest run, whichever is named",
        "service/invoice_service.py",
        "found = await self._require_open(workflow_id, run_id)\n            if verdict",
        "found = await self._require_open(workflow_id, None)\n            if verdict",
    ),
    NamedMutant(
        "`cancel` goes to the newest run, whichever is named",
        "service/invoice_service.py",
        "found = await require_run(self._client, workflow_id, run_id)\n            if found.status is not",
        "found = await require_run(self._client, workflow_id)\n            if found.status is not",
    ),
    NamedMutant(
        "a start may follow another one though nothing was seen under the id",
        "service/invoice_service.py",
        "WorkflowIDReusePolicy.REJECT_DUPLICATE if is_first else",
        "WorkflowIDReusePolicy.ALLOW_DUPLICATE if is_first else",
    ),
    NamedMutant(
        "a run that was terminated while it paid is forgotten by the next submission",
        "domain/resubmission.py",
        "if ended_paying or line.status",
        "if line.status",
    ),
    NamedMutant(
        "what earlier runs paid is not told after a reset",
        "service/settled_lines.py",
        "return mark_settled(report, settled)",
        "return report",
    ),
    # Money.
    NamedMutant(
        "a line is paid though the newest run of its invoice does not wait for it",
        "workflow/parent_lookup.py",
        "    if not runs:\n        return Parent.NONE",
        "    if not runs:\n        return Parent.WAITING",
    ),
    NamedMutant(
        "line numbers of two digits are cut in the idempotency key",
        "domain/invoice.py",
        "return _digest([invoice_id, number, line",
        "return _digest([invoice_id, number % 10, line",
    ),
    NamedMutant(
        "the idempotency key is sent with the first attempt only",
        "adapters/payments.py",
        'headers={"Idempotency-Key": order.idempotency_key},',
        f"headers={{}} if order.idempotency_key in {_KNOWN_KEYS} or {_KNOWN_KEYS}.append(order.idempotency_key) else "
        '{"Idempotency-Key": order.idempotency_key},',
    ),
    NamedMutant(
        "each attempt has an idempotency key of its own",
        "workflow/activities.py",
        "receipt = await self._payments.pay(order)",
        'order = order.model_copy(update={"idempotency_key": f"{order.idempotency_key}{activity.info().attempt}"})\n'
        "            receipt = await self._payments.pay(order)",
    ),
    NamedMutant(
        "the ledger looks a payment up by its line",
        "adapters/ledger.py",
        'FROM payments WHERE idempotency_key = ?", (order.idempotency_key,)',
        'FROM payments WHERE invoice_id = ? AND line = ?", (order.invoice_id, order.line)',
    ),
    # Decisions.
    NamedMutant(
        "a decision is taken after a cancellation was asked for",
        "workflow/invoice_workflow.py",
        "            await cancel_and_wait(deadline)\n            raise\n",
        "            await cancel_and_wait(deadline)\n            if self._decision is None:\n                raise\n",
    ),
    NamedMutant(
        "a form tells the lines in another currency",
        "server/forms.py",
        "{report.currency} {line.amount:,}, due on",
        "USD {line.amount:,}, due on",
    ),
    NamedMutant(
        "a form tells the total in another currency",
        "server/forms.py",
        "pay {plain_or_quoted(report.currency)} {report.total:,}",
        "pay USD {report.total:,}",
    ),
    # Servers and tasks.
    NamedMutant(
        "a takeover starts the embedded server without its WAL settings",
        "temporal/embedded.py",
        'for pragma in ("journal_mode=wal", "synchronous=full"):',
        'for pragma in () if self._endpoint else ("journal_mode=wal", "synchronous=full"):',
    ),
    NamedMutant(
        "a worker that is long gone counts as one",
        "temporal/probe.py",
        "return bool(polls) and now - self._last_poll_seen_at <= _POLLS_AT_LEAST_EVERY",
        "return bool(polls)",
    ),
    NamedMutant(
        "task answers that the workflow refused are acknowledged",
        "mcp_temporal_tasks/server/tasks.py",
        'raise MCPError(INVALID_PARAMS, f"The workflow refused the responses: {why}") from None',
        'logger.info("refused: %s", why)',
    ),
    NamedMutant(
        "task answers that can't be read are acknowledged",
        "mcp_temporal_tasks/server/tasks.py",
        'raise MCPError(INVALID_PARAMS, f"The responses can\'t be taken: {error}") from None',
        'logger.info("not taken: %s", error)',
    ),
    NamedMutant(
        "task answers that did not reach the workflow are acknowledged",
        "mcp_temporal_tasks/server/tasks.py",
        "if now.is_open and now.execution.run_id == task.execution.run_id:\n                    raise",
        "if now.is_open and now.execution.run_id == task.execution.run_id:\n                    return",
    ),
    # Faults that a careless developer might introduce; these survived at first.
    NamedMutant(
        "a wait for a change goes on with the newest run",
        "service/invoice_service.py",
        "report = await self.status(workflow_id, first.run_id)",
        "report = await self.status(workflow_id, run_id)",
    ),
    NamedMutant(
        "`list` of one status also shows invoices that an operator ended",
        "service/queries.py",
        "if not status.is_terminal:",
        "if status is Status.PENDING_APPROVAL:",
    ),
    NamedMutant(
        "`list` tells when an invoice began for when it ended",
        "service/queries.py",
        "closed_at=execution.close_time,",
        "closed_at=execution.close_time and execution.start_time,",
    ),
    NamedMutant(
        "the customer of a paid line may come back in another case",
        "domain/resubmission.py",
        "if invoice.customer != last.customer",
        "if invoice.customer.lower() != last.customer.lower()",
    ),
    NamedMutant(
        "a long form counts the settled lines among those it shows",
        "server/forms.py",
        "settled = sum(line.settled_before for line in rest)",
        "settled = sum(line.settled_before for line in shown)",
    ),
    NamedMutant(
        "the runs of other invoices are taken for earlier ones of this one",
        "service/settled_lines.py",
        "AND WorkflowId = '{newest.id}'\"",
        "AND WorkflowId != ''\"",
    ),
    NamedMutant(
        "earlier runs are read the newest first",
        "service/settled_lines.py",
        "return sorted(before, key=lambda run: run.start_time)",
        "return sorted(before, key=lambda run: run.start_time, reverse=True)",
    ),
    NamedMutant(
        "a line is paid for an invoice that has ended",
        "workflow/parent_lookup.py",
        "if invoice.status is WorkflowExecutionStatus.RUNNING else ()",
        "",
    ),
    NamedMutant(
        "a line is paid by a run that nobody waits for",
        "workflow/parent_lookup.py",
        "return Parent.WAITING_FOR_RESET_LINE if is_reset else Parent.NONE",
        "return Parent.WAITING_FOR_RESET_LINE",
    ),
    NamedMutant(
        "a line is refused for good while Temporal is away",
        "workflow/parent_lookup.py",
        "if error.status is RPCStatusCode.NOT_FOUND:\n            return Parent.NONE\n        raise",
        "return Parent.NONE",
    ),
    # The harness.
    NamedMutant(
        "S6 is a minute too lenient", "testing/checker/payments.py", "paid.at < due:", f"paid.at < due - {_MINUTE}:"
    ),
    NamedMutant(
        "S8 lets a decision be at the deadline",
        "testing/checker/decisions.py",
        "decision.at >= deadline:",
        "decision.at > deadline:",
    ),
    NamedMutant(
        "a decision at the deadline is taken for one in time",
        "testing/checker/history.py",
        "received.at < (self.expires_by",
        "received.at <= (self.expires_by",
    ),
    NamedMutant(
        "strict replay leaves out which errors are not retried",
        "temporal_replay/commands/values.py",
        '"non_retryable_error_types": sorted(policy.non_retryable_error_types),',
        '"non_retryable_error_types": [],',
    ),
    NamedMutant(
        "strict replay compares the first argument only",
        "temporal_replay/commands/schema.py",
        "held = held.payloads\n",
        "held = held.payloads[:1]\n",
    ),
)


def named_mutants() -> Iterator[Mutant]:
    """Return the named mutants."""
    return (each.mutant for each in NAMED_MUTANTS)
