"""The rule of content, S10: every field that was submitted is the same wherever it gets to. Pure.

What was submitted is read from the calls of `trigger` themselves, and not by the product's own types: a field that
those lose is seen, too.
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
    """Everything that an invoice says. Two that mean the same are equal, however they are written."""

    invoice_id: str
    customer: str
    currency: str
    lines: tuple[_Line, ...]
    metadata: Mapping[str, str]

    def differences(self, other: Content) -> Iterator[str]:
        """Where another one says something else."""
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
    """What a decoded invoice says."""
    lines = tuple((line.description, line.amount, line.due_date.astimezone(UTC)) for line in invoice.lines)
    return Content(invoice.invoice_id, invoice.customer, invoice.currency, lines, dict(invoice.metadata))


def submitted(invoice: Any) -> Content | None:
    """What an invoice says that `trigger` was given, by what is promised of its fields; None if it can't be read."""
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
            for seen in _run_mismatches(run, by_run[run.run_id], observed):
                yield run.workflow_id, seen
    for asked in observed.asked or ():
        other = content_of(asked)
        if other.invoice_id in by_invoice and other not in by_invoice[other.invoice_id]:
            what = "; ".join(by_invoice[other.invoice_id][-1].differences(other))
            yield f"invoice-{other.invoice_id}", f"the ERP was asked about {what}"
    yield from _key_errors(observed.attempts or ())


def _accepted_content(answer: Answer) -> Content | None:
    """What was submitted with a call of `trigger` that was not refused."""
    is_taken = answer.tool == "trigger" and answer.content is not None
    return submitted(answer.arguments.get("invoice")) if is_taken else None


def _conflation_errors(answer: Answer, content: Content, first: Content) -> Findings:
    """Two submissions that are answered with one run must be the same."""
    assert answer.content is not None
    workflow_id = str(answer.content.get("workflow_id", ""))
    # Spelt out: the checker knows by itself how an invoice's workflow is called.
    if workflow_id != f"invoice-{content.invoice_id}":
        yield workflow_id, f"is what {content.invoice_id} was submitted as"
    if content != first:
        yield workflow_id, f"was taken for what was submitted with {'; '.join(content.differences(first))}"


def _run_mismatches(run: Run, content: Content, observed: Observations) -> Iterator[str]:
    """What a run keeps, reports, asks the ERP and has paid, against what was submitted."""
    trace, report = run.trace, run.report
    if trace.invoice is None:
        return
    for seen in content.differences(content_of(trace.invoice)):
        yield f"keeps {seen}"
    if observed.approval_timeout is not None and trace.approval_timeout != observed.approval_timeout:
        yield f"was to wait {observed.approval_timeout}, and waits {trace.approval_timeout}"
    was_asked = observed.asked is None or content in [content_of(asked) for asked in observed.asked]
    if trace.validated_at is not None and not was_asked:
        yield "was validated, and the ERP was not asked about what was submitted"
    keys: dict[int, str] = {}
    for attempt in observed.attempts or ():
        if attempt.run_id in trace.children:
            yield from _order_mismatches(attempt.order, content)
            keys[attempt.order.line] = attempt.order.idempotency_key
    for line in report.lines if report is not None else ():
        yield from _line_mismatches(line, content, keys)


def _order_mismatches(order: PaymentOrder, content: Content) -> Iterator[str]:
    other = (order.invoice_id, order.customer, order.currency)
    if other != (content.invoice_id, content.customer, content.currency):
        yield f"the gateway was asked to pay for {other}"
    line = (order.description, order.amount, order.due_date.astimezone(UTC))
    if not 1 <= order.line <= len(content.lines) or content.lines[order.line - 1] != line:
        yield f"the gateway was asked to pay {line} for line {order.line}"


def _line_mismatches(line: LineReport, content: Content, keys: Mapping[int, str]) -> Iterator[str]:
    other = (line.description, line.amount, line.due_date.astimezone(UTC))
    if not 1 <= line.line <= len(content.lines) or content.lines[line.line - 1] != other:
        yield f"reports line {line.line} as {other}"
    # The workflow's own report has it; what a tool answers has none.
    if line.idempotency_key and keys.get(line.line, line.idempotency_key) != line.idempotency_key:
        yield f"reports line {line.line} with the key {line.idempotency_key}, and has paid with {keys[line.line]}"


def _key_errors(attempts: tuple[Attempt, ...]) -> Findings:
    """The same line has the same key, however often it is asked for, and no other line has it."""
    of_line: dict[tuple[Any, ...], str] = {}
    lines: dict[str, tuple[Any, ...]] = {}
    for order in (attempt.order for attempt in attempts):
        line = (order.invoice_id, order.line, order.description, order.amount, order.due_date)
        if of_line.setdefault(line, order.idempotency_key) != order.idempotency_key or not order.idempotency_key:
            yield f"invoice-{order.invoice_id}", f"line {order.line} is asked for with more than one key, or none"
        if lines.setdefault(order.idempotency_key, line) != line:
            what = f"line {order.line} is asked for with the key of line {lines[order.idempotency_key][1]}"
            yield f"invoice-{order.invoice_id}", what
