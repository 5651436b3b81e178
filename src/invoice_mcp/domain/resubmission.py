"""The rule of resubmission: what was paid, or may have been, must come back unchanged. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from invoice_mcp.domain.display_text import plain_or_quoted
from invoice_mcp.domain.errors import ErrorCode, RefusedError
from invoice_mcp.domain.invoice import Invoice, idempotency_key
from invoice_mcp.domain.report import InvoiceReport, LineStatus, Status

SettledLines = Mapping[str, str]
"""Line number (as text, from 1) -> idempotency key, of every line that an earlier run paid or may have paid."""

_PAYING = frozenset({Status.APPROVED, Status.PAYING})


def settled_after(report: InvoiceReport, before: SettledLines) -> SettledLines:
    """The lines settled after a run that ended with this report.

    Args:
        before: The lines settled when the run started.
    """
    # A run that was terminated while it paid may have paid any line.
    ended_paying = report.status in _PAYING
    now = {
        str(line.line): line.idempotency_key
        for line in report.lines
        if ended_paying or line.status is LineStatus.PAID or line.unconfirmed
    }
    return {**before, **now}


def line_numbers(settled: SettledLines) -> tuple[int, ...]:
    """Numbers of the settled lines, in order."""
    return tuple(sorted(int(number) for number in settled))


def require_unchanged(invoice: Invoice, settled: SettledLines, *, last: InvoiceReport) -> None:
    """Return if every settled line, the currency and the customer are unchanged.

    Raises:
        RefusedError: INVOICE_CONFLICT, with the lines that are changed or missing.
    """
    if not settled:
        return
    keys = {str(n): idempotency_key(invoice.invoice_id, n, line) for n, line in enumerate(invoice.lines, 1)}
    lines = line_numbers(settled)
    changed = [f"line {number}" for number in lines if keys.get(str(number)) != settled[str(number)]]
    changed += ["currency"] if invoice.currency != last.currency else []
    changed += ["customer"] if invoice.customer != last.customer else []
    if changed:
        paid = ", ".join(str(number) for number in lines)
        what = f"has lines that were paid, or may have been ({paid}), and comes back with changes: {', '.join(changed)}"
        raise conflict_error(
            invoice, f"{what}. Submit them unchanged (nothing is paid twice), or use another invoice_id"
        )


def conflict_error(invoice: Invoice, what: str) -> RefusedError:
    """The refusal of an invoice that contradicts an earlier one with its id."""
    return RefusedError(ErrorCode.INVOICE_CONFLICT, f"invoice {plain_or_quoted(invoice.invoice_id)} {what}.")
