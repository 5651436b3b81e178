"""Rule S10: every submitted field is unchanged in the workflow, at the ERP, at the gateway and in the report. Pure.

The submitted content is read from the arguments of `trigger`, without the product's types, so that the rule notices a
field that those types lose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.report import AcceptedInvoice, LineReport, PaymentOrder
from invoice_mcp.testing.checker.observations import Observations, Run
from invoice_mcp.testing.checker.violations import Findings
from invoice_mcp.testing.records import Answer, Attempt

_Line = tuple[str, Decimal, datetime]
"""Description, amount, due date in UTC."""


@dataclass(frozen=True)
class Content:
    """The content of an invoice in a canonical form: two spellings of the same invoice are equal."""

    invoice_id: str
    customer: str
    currency: str
    lines: tuple[_Line, ...]
    metadata: Mapping[str, str]

    def differences(self, other: Content) -> Iterator[str]:
        """Describes each difference of another content from this one."""
        for field in ("invoice_id", "customer", "currency", "metadata"):
            one, two = getattr(self, field), getattr(other, field)
            if one != two:
                yield f"{field} {two!r} instead of {one!r}"
        if len(self.lines) != len(other.lines):
            yield f"{len(other.lines)} lines instead of {len(self.lines)}"
        for number, (line, theirs) in enumerate(zip(self.lines, other.lines, strict=False), 1):
            if line != theirs:
                yield f"line {number} {theirs} instead of {line}"


def content_of(invoice: Invoice | AcceptedInvoice) -> Content:
    """The content of a decoded invoice."""
    lines = tuple((line.description, line.amount, line.due_date.astimezone(UTC)) for line in invoice.lines)
    return Content(invoice.invoice_id, invoice.customer, invoice.currency, lines, dict(invoice.metadata))


def submitted(invoice: Any) -> Content | None:
    """The content of an argument of `trigger`, by the documented rules of its fields; None if it can't be read."""
    try:
        return Content(
            invoice["invoice_id"],
            invoice["customer"].strip(),
            invoice.get("currency", "USD").upper(),
            tuple(
                (line["description"].strip(), Decimal(str(line["amount"]).strip()), _parse_due_date(line["due_date"]))
                for line in invoice["lines"]
            ),
            dict(invoice.get("metadata") or {}),
        )
    except (AttributeError, InvalidOperation, LookupError, TypeError, ValueError):
        return None


def _parse_due_date(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def s10(observed: Observations) -> Findings:
    by_run: dict[str, Content] = {}
    by_invoice: dict[str, list[Content]] = {}
    for answer in observed.answers:
        content = _accepted_content(answer)
        if content is not None and answer.content is not None:
            by_invoice.setdefault(content.invoice_id, []).append(content)
            yield from _conflation_errors(
                answer, content, by_run.setdefault(str(answer.content.get("run_id", "")), content)
            )
    for run in observed.runs:
        if run.run_id in by_run:
            for detail in _run_mismatches(run, by_run[run.run_id], observed):
                yield run.workflow_id, detail
    for asked in observed.asked or ():
        requested = content_of(asked)
        if requested.invoice_id in by_invoice and requested not in by_invoice[requested.invoice_id]:
            what = "; ".join(by_invoice[requested.invoice_id][-1].differences(requested))
            yield f"invoice-{requested.invoice_id}", f"the ERP was asked about {what}"
    yield from _key_errors(observed.attempts or ())


def _accepted_content(answer: Answer) -> Content | None:
    """The content that an accepted call of `trigger` submitted."""
    is_taken = answer.tool == "trigger" and answer.content is not None
    return submitted(answer.arguments.get("invoice")) if is_taken else None


def _conflation_errors(answer: Answer, content: Content, first: Content) -> Findings:
    """Two submissions that are answered with the same run must have the same content."""
    assert answer.content is not None
    workflow_id = str(answer.content.get("workflow_id", ""))
    # Written out, since the checker must not take the rule for workflow ids from the code under test.
    if workflow_id != f"invoice-{content.invoice_id}":
        yield workflow_id, f"is the workflow of invoice {content.invoice_id}, by the answer of trigger"
    if content != first:
        yield workflow_id, f"was answered for a submission that has {'; '.join(content.differences(first))}"


def _run_mismatches(run: Run, content: Content, observed: Observations) -> Iterator[str]:
    """What a run stores, reports, sends to the ERP and orders from the gateway, against what was submitted."""
    trace, report = run.trace, run.report
    if trace.invoice is None:
        return
    for detail in content.differences(content_of(trace.invoice)):
        yield f"stores {detail}"
    if observed.approval_timeout is not None and trace.approval_timeout != observed.approval_timeout:
        yield f"should wait {observed.approval_timeout}, but waits {trace.approval_timeout}"
    was_asked = observed.asked is None or content in [content_of(asked) for asked in observed.asked]
    if trace.validated_at is not None and not was_asked:
        yield "was validated, but the ERP was not asked about the submitted content"
    keys: dict[int, str] = {}
    for attempt in observed.attempts or ():
        if attempt.run_id in trace.children:
            yield from _order_mismatches(attempt.order, content)
            keys[attempt.order.line] = attempt.order.idempotency_key
    for line in report.lines if report is not None else ():
        yield from _line_mismatches(line, content, keys)


def _order_mismatches(order: PaymentOrder, content: Content) -> Iterator[str]:
    ordered = (order.invoice_id, order.customer, order.currency)
    if ordered != (content.invoice_id, content.customer, content.currency):
        yield f"the gateway was asked to pay for {ordered}"
    line = (order.description, order.amount, order.due_date.astimezone(UTC))
    if not 1 <= order.line <= len(content.lines) or content.lines[order.line - 1] != line:
        yield f"the gateway was asked to pay {line} for line {order.line}"


def _line_mismatches(line: LineReport, content: Content, keys: Mapping[int, str]) -> Iterator[str]:
    reported = (line.description, line.amount, line.due_date.astimezone(UTC))
    if not 1 <= line.line <= len(content.lines) or content.lines[line.line - 1] != reported:
        yield f"reports line {line.line} as {reported}"
    # Only the workflow's own report has the key; tools leave it out.
    if line.idempotency_key and keys.get(line.line, line.idempotency_key) != line.idempotency_key:
        yield f"reports line {line.line} with the key {line.idempotency_key}, and has paid with {keys[line.line]}"


def _key_errors(attempts: tuple[Attempt, ...]) -> Findings:
    """Every attempt at a line must have the same key, and no other line may have it."""
    of_line: dict[tuple[Any, ...], str] = {}
    lines: dict[str, tuple[Any, ...]] = {}
    for order in (attempt.order for attempt in attempts):
        line = (order.invoice_id, order.line, order.description, order.amount, order.due_date)
        if of_line.setdefault(line, order.idempotency_key) != order.idempotency_key or not order.idempotency_key:
            yield f"invoice-{order.invoice_id}", f"line {order.line} is ordered with more than one key, or with none"
        if lines.setdefault(order.idempotency_key, line) != line:
            what = f"line {order.line} is ordered with the key of line {lines[order.idempotency_key][1]}"
            yield f"invoice-{order.invoice_id}", what
