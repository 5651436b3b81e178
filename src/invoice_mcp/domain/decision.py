"""The rule of decisions: the first one is final, and must be in time. Pure."""

from __future__ import annotations

from datetime import datetime

from invoice_mcp.domain.errors import ErrorCode, RefusedError
from invoice_mcp.domain.report import Decision, Status, Verdict
from invoice_mcp.domain.summary import describe_decision, format_time


def require_open_for(
    verdict: Verdict, *, status: Status, existing: Decision | None, deadline: datetime | None, now: datetime
) -> None:
    """Return if `verdict` may be given now, or repeats the existing decision (which changes nothing).

    Args:
        existing: The decision made before, if any.
        deadline: When the time to decide ends; None while it has not begun.

    Raises:
        RefusedError: ALREADY_CLOSED after a terminal status or the deadline, ALREADY_DECIDED for the opposite verdict.
    """
    if status.is_terminal:
        raise RefusedError(ErrorCode.ALREADY_CLOSED, f"the invoice is {status} and takes no decision any more")
    if existing is not None:
        if existing.verdict is not verdict:
            what = f"the invoice was {describe_decision(existing)}"
            raise RefusedError(ErrorCode.ALREADY_DECIDED, f"{what}; the first decision is final")
    elif deadline is not None and now >= deadline:
        raise RefusedError(ErrorCode.ALREADY_CLOSED, f"the time to decide ended on {format_time(deadline)}")
