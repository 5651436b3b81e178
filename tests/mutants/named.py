"""Edits that once broke the product, or its harness, and passed every check. Each has to be noticed.

Unlike those of `operators.py` they are written out: where, which text, and what is there instead. What the harness sees
today it has to see tomorrow, so none of them is sampled: `python -m tests.mutants --named` judges all, and
`test_named.py` some in every run of the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.mutants.generator import Mutant, source


@dataclass(frozen=True)
class Named:
    """One edit.

    Attributes:
        about: What is broken by it.
        file: Of the package.
        old: A text that is there once.
        new: The text in its place.
    """

    about: str
    file: str
    old: str
    new: str

    @property
    def mutant(self) -> Mutant:
        """The mutant that it makes.

        Raises:
            ValueError: The text is not there, or more than once: then this table has to follow the code.
        """
        text = source(self.file).read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file}, {self.about}: it is there {text.count(self.old)} times: {self.old}")
        return Mutant("named", self.about, self.file, text.replace(self.old, self.new))


_MINUTE = '__import__("datetime").timedelta(minutes=1)'
_KNOWN_KEYS = 'self.__dict__.setdefault("sent", [])'

NAMED: tuple[Named, ...] = (
    # What is submitted, on its way.
    Named(
        "metadata is dropped when an invoice is accepted",
        "domain/report.py",
        "return cls.model_validate(invoice.model_dump())",
        'return cls.model_validate(invoice.model_dump(exclude={"metadata"}))',
    ),
    Named(
        "metadata is dropped before the ERP is asked",
        "workflow/activities.py",
        "Invoice.model_validate(accepted.model_dump())",
        'Invoice.model_validate(accepted.model_dump(exclude={"metadata"}))',
    ),
    Named(
        "metadata is not sent to the ERP",
        "adapters/erp.py",
        'invoice.model_dump(mode="json") | {',
        'invoice.model_dump(mode="json", exclude={"metadata"}) | {',
    ),
    Named(
        "metadata is no part of the content digest",
        "domain/invoice.py",
        'return _digest(self.model_dump(mode="json"))',
        'return _digest(self.model_dump(mode="json", exclude={"metadata"}))',
    ),
    # When.
    Named(
        "a window of more than five days is cut by the service",
        "service/invoice_service.py",
        "self._approval_timeout = approval_timeout",
        "self._approval_timeout = min(approval_timeout, DEFAULT_APPROVAL_TIMEOUT)",
    ),
    Named(
        "a window of more than five days is cut by the workflow",
        "workflow/invoice_workflow.py",
        "await workflow.sleep(self._policy.approval_timeout,",
        "await workflow.sleep(min(self._policy.approval_timeout, timedelta(days=5)),",
    ),
    Named(
        "each payment is half a minute early",
        "workflow/line_workflow.py",
        "wait = order.due_date - workflow.now()\n    summary",
        "wait = order.due_date - workflow.now() - timedelta(seconds=30)\n    summary",
    ),
    Named(
        "a line that is due within half a minute is paid at once",
        "workflow/line_workflow.py",
        "while wait > timedelta(0):",
        "while wait > timedelta(seconds=30):",
    ),
    # Which run.
    Named(
        "`list` answers the first page only",
        "service/queries.py",
        "return Page(invoices, encode_cursor(found.next_page_token, status) if found.next_page_token else None)",
        "return Page(invoices, None)",
    ),
    Named(
        "`status` goes to the newest run, whichever is named",
        "service/invoice_service.py",
        "return await fetch_report(self._client, await require_run(self._client, workflow_id, run_id))",
        "return await fetch_report(self._client, await require_run(self._client, workflow_id))",
    ),
    Named(
        "a decision goes to the newest run, whichever is named",
        "service/invoice_service.py",
        "found = await self._require_open(workflow_id, run_id)\n            if verdict",
        "found = await self._require_open(workflow_id, None)\n            if verdict",
    ),
    Named(
        "`cancel` goes to the newest run, whichever is named",
        "service/invoice_service.py",
        "found = await require_run(self._client, workflow_id, run_id)\n            if found.status is not",
        "found = await require_run(self._client, workflow_id)\n            if found.status is not",
    ),
    Named(
        "a start may follow another one though nothing was seen under the id",
        "service/invoice_service.py",
        "WorkflowIDReusePolicy.REJECT_DUPLICATE if is_first else",
        "WorkflowIDReusePolicy.ALLOW_DUPLICATE if is_first else",
    ),
    Named(
        "a run that was terminated while it paid is forgotten by the next submission",
        "domain/resubmission.py",
        "if ended_paying or line.status",
        "if line.status",
    ),
    Named(
        "what earlier runs paid is not told after a reset",
        "service/settled_lines.py",
        "return mark_settled(report, settled)",
        "return report",
    ),
    # Money.
    Named(
        "a line is paid though the newest run of its invoice does not wait for it",
        "workflow/parent_lookup.py",
        "    if not runs:\n        return Parent.NONE",
        "    if not runs:\n        return Parent.WAITING",
    ),
    Named(
        "line numbers of two digits are cut in the idempotency key",
        "domain/invoice.py",
        "return _digest([invoice_id, number, line",
        "return _digest([invoice_id, number % 10, line",
    ),
    Named(
        "the idempotency key is sent with the first attempt only",
        "adapters/payments.py",
        'headers={"Idempotency-Key": order.idempotency_key},',
        f"headers={{}} if order.idempotency_key in {_KNOWN_KEYS} or {_KNOWN_KEYS}.append(order.idempotency_key) else "
        '{"Idempotency-Key": order.idempotency_key},',
    ),
    Named(
        "each attempt has an idempotency key of its own",
        "workflow/activities.py",
        "receipt = await self._payments.pay(order)",
        'order = order.model_copy(update={"idempotency_key": f"{order.idempotency_key}{activity.info().attempt}"})\n'
        "            receipt = await self._payments.pay(order)",
    ),
    Named(
        "the ledger looks a payment up by its line",
        "adapters/ledger.py",
        'FROM payments WHERE idempotency_key = ?", (order.idempotency_key,)',
        'FROM payments WHERE invoice_id = ? AND line = ?", (order.invoice_id, order.line)',
    ),
    # Deciding.
    Named(
        "a decision is taken after a cancellation was asked for",
        "workflow/invoice_workflow.py",
        "            await cancel_and_wait(deadline)\n            raise\n",
        "            await cancel_and_wait(deadline)\n            if self._decision is None:\n                raise\n",
    ),
    Named(
        "a form tells the lines in another currency",
        "server/forms.py",
        "{report.currency} {line.amount:,}, due on",
        "USD {line.amount:,}, due on",
    ),
    Named(
        "a form tells the total in another currency",
        "server/forms.py",
        "pay {plain_or_quoted(report.currency)} {report.total:,}",
        "pay USD {report.total:,}",
    ),
    # Around.
    Named(
        "a takeover starts the embedded server without its WAL settings",
        "temporal/embedded.py",
        'for pragma in ("journal_mode=wal", "synchronous=full"):',
        'for pragma in () if self._endpoint else ("journal_mode=wal", "synchronous=full"):',
    ),
    Named(
        "a worker that is long gone counts as one",
        "temporal/probe.py",
        "return bool(polls) and now - self._last_poll_seen_at <= _POLLS_AT_LEAST_EVERY",
        "return bool(polls)",
    ),
    Named(
        "task answers that the workflow refused are acknowledged",
        "mcp_temporal_tasks/server/tasks.py",
        'raise MCPError(INVALID_PARAMS, f"The workflow refused the responses: {why}") from None',
        'logger.info("refused: %s", why)',
    ),
    Named(
        "task answers that can't be read are acknowledged",
        "mcp_temporal_tasks/server/tasks.py",
        'raise MCPError(INVALID_PARAMS, f"The responses can\'t be taken: {error}") from None',
        'logger.info("not taken: %s", error)',
    ),
    Named(
        "task answers that did not reach the workflow are acknowledged",
        "mcp_temporal_tasks/server/tasks.py",
        "if now.is_open and now.execution.run_id == found.execution.run_id:\n                    raise",
        "if now.is_open and now.execution.run_id == found.execution.run_id:\n                    return",
    ),
    # Beside them, imagined as a careless developer might, and seen by nobody at first.
    Named(
        "a wait for a change goes on with the newest run",
        "service/invoice_service.py",
        "report = await self.status(workflow_id, first.run_id)",
        "report = await self.status(workflow_id, run_id)",
    ),
    Named(
        "`list` of one status also shows invoices that an operator ended",
        "service/queries.py",
        "if not status.is_terminal:",
        "if status is Status.PENDING_APPROVAL:",
    ),
    Named(
        "`list` tells when an invoice began for when it ended",
        "service/queries.py",
        "closed_at=execution.close_time,",
        "closed_at=execution.close_time and execution.start_time,",
    ),
    Named(
        "the customer of a paid line may come back in another case",
        "domain/resubmission.py",
        "if invoice.customer != last.customer",
        "if invoice.customer.lower() != last.customer.lower()",
    ),
    Named(
        "a long form counts the settled lines among those it shows",
        "server/forms.py",
        "settled = sum(line.settled_before for line in rest)",
        "settled = sum(line.settled_before for line in shown)",
    ),
    Named(
        "the runs of other invoices are taken for earlier ones of this one",
        "service/settled_lines.py",
        "AND WorkflowId = '{newest.id}'\"",
        "AND WorkflowId != ''\"",
    ),
    Named(
        "earlier runs are read the newest first",
        "service/settled_lines.py",
        "return sorted(before, key=lambda run: run.start_time)",
        "return sorted(before, key=lambda run: run.start_time, reverse=True)",
    ),
    Named(
        "a line is paid for an invoice that has ended",
        "workflow/parent_lookup.py",
        "if invoice.status is WorkflowExecutionStatus.RUNNING else ()",
        "",
    ),
    Named(
        "a line is paid by a run that nobody waits for",
        "workflow/parent_lookup.py",
        "return Parent.WAITING_FOR_RESET_LINE if is_reset else Parent.NONE",
        "return Parent.WAITING_FOR_RESET_LINE",
    ),
    Named(
        "a line is refused for good while Temporal is away",
        "workflow/parent_lookup.py",
        "if error.status is RPCStatusCode.NOT_FOUND:\n            return Parent.NONE\n        raise",
        "return Parent.NONE",
    ),
    # The harness itself.
    Named("S6 is a minute too lenient", "testing/checker/payments.py", "paid.at < due:", f"paid.at < due - {_MINUTE}:"),
    Named(
        "S8 lets a decision be at the deadline",
        "testing/checker/decisions.py",
        "decision.at >= deadline:",
        "decision.at > deadline:",
    ),
    Named(
        "a decision at the deadline is taken for one in time",
        "testing/checker/history.py",
        "received.at < (self.expires_by",
        "received.at <= (self.expires_by",
    ),
    Named(
        "strict replay leaves out which errors are not retried",
        "temporal_replay/commands/values.py",
        '"non_retryable_error_types": sorted(policy.non_retryable_error_types),',
        '"non_retryable_error_types": [],',
    ),
    Named(
        "strict replay compares the first argument only",
        "temporal_replay/commands/schema.py",
        "held = held.payloads\n",
        "held = held.payloads[:1]\n",
    ),
)


def named() -> Iterator[Mutant]:
    """All of them."""
    return (each.mutant for each in NAMED)
