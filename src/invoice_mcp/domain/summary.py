"""A report in one sentence. Text of others is quoted; the sentence claims nothing that is not recorded. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from invoice_mcp.domain.display_text import plain_or_quoted, quoted
from invoice_mcp.domain.report import Confirmation, Decision, InvoiceReport, LineReport, LineStatus, Status

# The longest text that adapters take from another system, plus our own words before it.
_LONGEST_REASON = 400

# Both forms are reported as what the update said: a client with access to Temporal can send the same update, and could
# read any secret that a proof would be made with.
_HOW_CONFIRMED = {
    Confirmation.FORM: "as the update said: the server's form was answered",
    Confirmation.TASK: "as the update said: the task's form was answered",
    Confirmation.NONE: "on the caller's word; nobody was asked",
    None: "how it was confirmed is not recorded",
}


def summarize(report: InvoiceReport) -> str:
    """One sentence to read aloud: customer, amount, status and what comes next."""
    whose = f"Invoice {plain_or_quoted(report.invoice_id)} from {quoted(report.customer)}"
    how_much = f"over {plain_or_quoted(report.currency)} {report.total:,}"
    return f"{whose} {how_much} {_describe_status(report)}"


def with_summary(report: InvoiceReport) -> InvoiceReport:
    """The report with the summary of this release. Results of release 0.1.0 keep a summary that does not quote."""
    return report.model_copy(update={"summary": summarize(report)})


def describe_decision(decision: Decision) -> str:
    """The verdict, name, time and confirmation of a decision: `approved in the name of "Ann" on …`.

    It says "in the name of" because the name is a claim that nobody has verified.
    """
    verdict, when = decision.verdict.lower(), f"on {format_time(decision.at)}"
    if decision.confirmation is Confirmation.SIGNAL:
        # A signal names nobody.
        return f"{verdict} by a Temporal signal {when}"
    name = f" in the name of {quoted(decision.by)}" if decision.by else ""
    return f"{verdict}{name} {when} ({_HOW_CONFIRMED[decision.confirmation]})"


def _describe_status(report: InvoiceReport) -> str:
    decided = describe_decision(report.decision) if report.decision else ""
    paid = [line.line for line in report.lines if line.status is LineStatus.PAID]
    unpaid = [line for line in report.lines if line.status is not LineStatus.PAID]
    progress = f"{len(paid)} of {len(report.lines)} lines paid"
    uncertain = _list_lines("not confirmed, perhaps paid", [line for line in unpaid if line.unconfirmed])
    before = [line for line in unpaid if line.settled_before and not line.unconfirmed]
    names = [
        f"line {line.line} ({plain_or_quoted(line.error)})" if line.error else f"line {line.line}" for line in before
    ]
    earlier = _list_names("earlier submissions paid, or perhaps paid", names)
    nothing = f"nothing more was paid{earlier}" if before else "nothing was paid"
    match report.status:
        case Status.INITIALIZING | Status.PENDING_VALIDATION:
            early = f"; it was already {decided}" if decided else ""
            return f"is being checked against the ERP{early}."
        case Status.PENDING_APPROVAL:
            if decided:
                return f"was {decided}."
            until = f" until {format_time(report.approval_deadline)}" if report.approval_deadline else ""
            return f"is waiting for approval{until}{_describe_refused_signals(report.refused_signals)}{earlier}."
        case Status.APPROVED | Status.PAYING:
            due = min((line.due_date for line in unpaid), default=None)
            is_ahead = due is not None and report.decision is not None and due > report.decision.at
            following = f"; the next is due on {format_time(due)}" if due is not None and is_ahead else ""
            stopping = "; it is being cancelled, and only payments under way still finish" if report.cancelling else ""
            return f"was {decided or 'approved'} and is being paid: {progress}{stopping or following}."
        case Status.PAID:
            return f"was {decided or 'approved'} and is paid in full."
        case Status.REJECTED:
            return f"was {decided or 'rejected'}; {nothing}."
        case Status.EXPIRED:
            return f"expired: nobody decided in time{_describe_refused_signals(report.refused_signals)}; {nothing}."
        case Status.CANCELLED:
            paid_so_far = f"{progress}{uncertain}{earlier}" if paid or uncertain else nothing
            return f"was cancelled{_describe_reason('reason given', report.reason)}; {paid_so_far}."
        case Status.FAILED:
            certain = _list_lines("not paid", [line for line in unpaid if not line.unconfirmed and line not in before])
            return f"failed{_describe_reason('reason', report.reason)}; {progress}{certain}{uncertain}{earlier}."


def _list_lines(what: str, lines: list[LineReport]) -> str:
    return _list_names(what, [f"line {line.line} ({plain_or_quoted(line.error or line.status)})" for line in lines])


def _list_names(what: str, names: list[str], most: int = 5) -> str:
    if not names:
        return ""
    return f"; {what}: {', '.join(names[:most])}" + (f" and {len(names) - most} more" if len(names) > most else "")


def _describe_refused_signals(signals: int) -> str:
    if not signals:
        return ""
    many = "an approving Temporal signal was" if signals == 1 else f"{signals} approving Temporal signals were"
    return f"; {many} refused, as a person has to be asked"


def _describe_reason(what: str, reason: str | None) -> str:
    return f" ({what}: {quoted(reason, _LONGEST_REASON)})" if reason else ""


def format_time(time: datetime) -> str:
    """A time as `2026-11-28 09:30 UTC`."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
