"""What the outcome of one line's payment says of the invoice's lines. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from invoice_mcp.domain.report import LineOutcome, LineReport, LineStatus

PAYMENT_ID_REUSED = "PAYMENT_ID_REUSED"
"""Error code of lines for which the payment system named the same payment."""


def line_outcomes(lines: Sequence[LineReport], number: int, outcome: LineOutcome) -> Mapping[int, LineOutcome]:
    """The outcomes to record when line `number` (from 1) has ended with `outcome`: line number -> outcome.

    Two outcomes are not taken as they are, but as unconfirmed:

    * A payment id that another line has, too. One of the lines was given the other's receipt, and nobody can say
      which; so all lines with that id become unconfirmed.
    * A refusal of a line that an earlier submission paid, or may have paid.

    Args:
        lines: All lines of the invoice, as reported so far.
    """
    if outcome.status is LineStatus.FAILED and not outcome.unconfirmed and lines[number - 1].settled_before:
        return {number: unconfirmed_outcome(outcome.error or "ERROR", repeated_refusal(outcome.reason or ""))}
    alike = {number, *(line.line for line in lines if outcome.payment_id and line.payment_id == outcome.payment_id)}
    if len(alike) == 1:
        return {number: outcome}
    numbers = ", ".join(str(each) for each in sorted(alike))
    reason = f"The payment system named one payment, {outcome.payment_id}, for several lines: {numbers}"
    doubtful = unconfirmed_outcome(PAYMENT_ID_REUSED, reason).model_copy(update={"payment_id": outcome.payment_id})
    return dict.fromkeys(sorted(alike), doubtful)


def unconfirmed_outcome(code: str, reason: str) -> LineOutcome:
    """The outcome of a payment that may or may not have been made.

    Args:
        reason: What happened. Why submitting again is safe is added.
    """
    advice = "submitting the invoice again is safe, a payment that was made is never made twice"
    text = f"{reason.rstrip('.')}. Whether the payment was made is not confirmed; {advice}"
    return LineOutcome(status=LineStatus.FAILED, error=code, reason=text, unconfirmed=True)


def repeated_refusal(reason: str) -> str:
    """The reason of a refusal that came after an earlier request without a verdict."""
    return f"A repeated request was refused: {reason}"
