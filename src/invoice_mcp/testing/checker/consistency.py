"""Rules S7 and S9: tools, queries, results, history and ledger agree, and no call or workflow task fails. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain

from invoice_mcp.domain.errors import ErrorCode
from invoice_mcp.domain.report import Confirmation, InvoiceReport, LineStatus, Status, without_idempotency_keys
from invoice_mcp.testing.checker.decisions import is_same_decision
from invoice_mcp.testing.checker.observations import Observations, Run
from invoice_mcp.testing.checker.violations import Findings

_QUOTED = re.compile('"[^"]*"')
_TEMPORAL_STATUSES = {Status.CANCELLED: "CANCELED"}
_SINGLE_INVOICE_TOOLS = frozenset({"status", "approve", "reject", "cancel"})
_MONEY = re.compile(r"\b([A-Z]{3}) ([0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?)")
# A form shows at most this many lines; the others as a sum.
_MAX_FORM_LINES = 50
_CONFIRMED_BY_FORM = frozenset({Confirmation.FORM, Confirmation.TASK})


def s7(observed: Observations) -> Findings:
    children: dict[str, set[str]] = {}
    for run in observed.runs:
        # The lines of this run and of the runs before it.
        known = children.setdefault(run.workflow_id, set())
        before = {each.order.line for each in observed.ledger if each.run_id in known}
        known.update(run.trace.children)
        paid = sorted(each.order.line for each in observed.ledger if each.run_id in known)
        for detail in chain(
            _end_mismatches(run), _report_mismatches(run), _denied_payments(run, paid), _forgotten_payments(run, before)
        ):
            yield run.workflow_id, detail
    yield from _wrong_targets(observed)
    yield from _list_errors(observed)
    yield from _form_errors(observed)


def _wrong_targets(observed: Observations) -> Findings:
    """Tool answers about another workflow, or another run, than the call named."""
    for answer in observed.answers:
        for name in (
            ("workflow_id", "run_id") if answer.tool in _SINGLE_INVOICE_TOOLS and answer.content is not None else ()
        ):
            expected, shown = answer.arguments.get(name), (answer.content or {}).get(name)
            if expected and shown != expected:
                yield str(answer.arguments["workflow_id"]), f"{answer.tool} of {name} {expected} answered for {shown}"


def _list_errors(observed: Observations) -> Findings:
    """Answers of `list` against its arguments and the submissions before: each run once, and none missing."""
    known: set[str] = set()
    for answer in observed.answers:
        content = answer.content or {}
        if answer.tool == "trigger" and content:
            known.add(str(content.get("run_id", "")))
        if answer.tool != "list" or not content:
            continue
        limit, status = int(answer.arguments.get("limit", 20)), answer.arguments.get("status")
        entries = content["invoices"]
        if len({entry.get("run_id") for entry in entries}) != len(entries) or len(entries) > limit:
            yield "", f"list of at most {limit} has {len(entries)} entries: too many, or some of them twice"
        if status and any(entry.get("status") != status for entry in entries):
            yield "", f"list of {status} has {[entry['status'] for entry in entries]}"
        if not status and observed.lists_all and len(entries) < min(limit, len(known)):
            yield "", f"list of at most {limit} has {len(entries)} entries, and {len(known)} were submitted"


def _form_errors(observed: Observations) -> Findings:
    """Forms that ask for a decision, against the invoice: its id, and every amount with its currency."""
    runs = {run.run_id: run for run in observed.runs}
    for form in observed.forms:
        run = runs.get(form.run_id)
        invoice = run.trace.invoice if run is not None else None
        if invoice is None:
            continue
        # Quoted text comes from the submitter.
        shown = _MONEY.findall(_QUOTED.sub("", form.message))
        wanted = [(invoice.currency, f"{amount:,}") for amount in (invoice.total, *(x.amount for x in invoice.lines))]
        if invoice.invoice_id not in form.message or shown[: _MAX_FORM_LINES + 1] != wanted[: _MAX_FORM_LINES + 1]:
            yield form.workflow_id, f"its form shows {shown} instead of {wanted}"


def _end_mismatches(run: Run) -> Iterator[str]:
    """Temporal's status of the execution against the invoice's status."""
    if run.temporal_status != run.trace.end:
        yield f"is {run.temporal_status}, but {run.trace.end} by its history"
    # A reset leaves the workflows of lines open.
    if run.temporal_status != "RUNNING" and run.open_children and not run.was_reset:
        yield f"has ended, but leaves open {', '.join(run.open_children)}"
    if run.temporal_status == "RUNNING" or run.status not in set(Status):
        return
    status = Status(run.status)
    if run.trace.end == "TERMINATED" and (run.trace.is_interrupted or not status.is_terminal):
        # A terminated workflow keeps the status that it had, or was about to have.
        return
    if not status.is_terminal:
        yield f"has ended ({run.temporal_status}) with the status {status}"
    elif _TEMPORAL_STATUSES.get(status, "COMPLETED") != run.temporal_status:
        yield f"is {status}, but its execution {run.temporal_status}"
    elif status is Status.CANCELLED and run.trace.cancelled_at is None:
        yield "is CANCELLED without a request"


def _report_mismatches(run: Run) -> Iterator[str]:
    """The tool, the queries, the result, the search attribute and the history against each other."""
    report, result = run.report, run.trace.result
    if run.trace.text_result is not None and run.trace.text_result != run.status:
        yield f"ended with {run.trace.text_result}, and is {run.status} by GetInvoiceStatus"
    if report is None:
        return
    if run.query_report is not None and run.tool_report is None:
        yield "has a report by its query, but none by the tool"
    own = (
        _with_settled_lines(run.query_report, run.tool_report)
        if run.tool_report and run.query_report and run.continues_reset
        else run.query_report
    )
    if run.tool_report and own and not _agree(run.tool_report, own, run):
        yield f"the tool reports {run.tool_report}, the query {run.query_report}"
    if result is not None and run.query_report is not None and not _agree(result, run.query_report, run):
        yield f"ended with {result}, the query reports {run.query_report}"
    if result is None and run.temporal_status == "COMPLETED":
        yield "has completed without a report as its result"
    if report.status != run.status:
        yield f"is {run.status} by GetInvoiceStatus, {report.status} by its report"
    if report.workflow_status != run.temporal_status:
        yield f"is {run.temporal_status}, but reports {report.workflow_status}"
    if run.trace.indexed and run.trace.indexed[-1] != report.status and not run.trace.is_interrupted:
        yield f"is {report.status}, but indexed as {run.trace.indexed[-1]}"
    yield from _history_mismatches(run, report)
    if report.decision is not None and not run.trace.decisions:
        yield f"reports a decision ({report.decision.verdict}) that was never sent"


def _denied_payments(run: Run, paid: list[int]) -> Iterator[str]:
    """The summary against the ledger: a reader who believes that nothing was paid may pay a second time."""
    # Quoted text comes from others.
    shown = _QUOTED.sub("", run.report.summary) if run.report is not None else ""
    if paid and "nothing was paid" in shown:
        yield f"reports that nothing was paid, but the ledger has line {', '.join(map(str, paid))}"


def _forgotten_payments(run: Run, before: set[int]) -> Iterator[str]:
    """A run that continues after a reset, against the payments of the runs before, which its own input doesn't have.

    Args:
        before: Numbers of the lines that earlier runs paid.
    """
    lines = run.tool_report.lines if run.tool_report is not None and run.continues_reset else ()
    if forgotten := [line.line for line in lines if line.line in before and not line.settled_before]:
        yield f"does not report what earlier runs paid: line {', '.join(map(str, forgotten))}"


def _with_settled_lines(report: InvoiceReport, shown: InvoiceReport) -> InvoiceReport:
    """A run's own report with what the tool adds after a reset: the lines that earlier runs settled.

    A failed line among them is unconfirmed, and its reason says so.
    """
    lines = tuple(
        line.model_copy(
            update={
                "settled_before": True,
                "unconfirmed": line.status is LineStatus.FAILED,
                "reason": other.reason if line.status is LineStatus.FAILED else line.reason,
            }
        )
        if other.settled_before
        else line
        for line, other in zip(report.lines, shown.lines, strict=True)
    )
    return report.model_copy(update={"lines": lines, "summary": shown.summary})


def _agree(one: InvoiceReport, other: InvoiceReport, run: Run) -> bool:
    """Whether two reports agree. The times of the deadline and of a decision may be those of a replay."""
    deadlines = (one.approval_deadline, other.approval_deadline)
    if all(each is not None and run.trace.is_possible_deadline(each) for each in deadlines):
        other = other.model_copy(update={"approval_deadline": one.approval_deadline})
    if run.trace.end == "TERMINATED":
        # The workflow does not know of its termination. All other fields are as before.
        other = other.model_copy(update={"workflow_status": one.workflow_status, "summary": one.summary})
    if one.decision != other.decision and is_same_decision(one.decision, other.decision, run):
        other = other.model_copy(update={"decision": one.decision, "summary": one.summary})
    # Tools leave out idempotency keys.
    return without_idempotency_keys(one) == without_idempotency_keys(other)


def _history_mismatches(run: Run, report: InvoiceReport) -> Iterator[str]:
    """A report against the history of its run. Tool, query and result may agree on something wrong."""
    trace, invoice = run.trace, run.trace.invoice
    if (report.workflow_id, report.run_id) != (run.workflow_id, run.run_id):
        yield f"reports on {report.workflow_id} {report.run_id}"
    if invoice is not None:
        shown = (report.invoice_id, report.customer, report.currency, report.total)
        expected = (invoice.invoice_id, invoice.customer, invoice.currency, invoice.total)
        if shown != expected:
            yield f"reports an invoice {shown}, but was started with {expected}"
        lines = [(line.description, line.amount, line.due_date) for line in report.lines]
        wanted = [(line.description, line.amount, line.due_date) for line in invoice.lines]
        if lines != wanted:
            yield f"reports lines {lines}, but was started with {wanted}"
    if report.approval_deadline is not None and not trace.is_possible_deadline(report.approval_deadline):
        yield f"reports the deadline {report.approval_deadline}, but it is {trace.deadline}"
    decision, decided = report.decision, trace.effective_decision
    if decision is not None and decided is not None and decision.verdict is decided.verdict:
        if not decided.is_seen_at(decision.at):
            yield f"was decided at {decided.at}, but reports {decision.at}"
        if decided.by not in {"", decision.by}:
            yield f"was decided by {decided.by}, but reports {decision.by}"
    if decision is not None and (decision.confirmation in _CONFIRMED_BY_FORM) != (decision.shown is not None):
        yield f"reports a confirmation by {decision.confirmation} that showed {decision.shown}"
    if report.cancelling and report.status.is_terminal:
        yield "has ended, but reports a cancellation under way"


def s9(observed: Observations) -> Findings:
    for run in observed.runs:
        for failure in (*run.trace.failed_tasks, *run.failed_child_tasks):
            yield run.workflow_id, f"failed a task: {failure}"
    for answer in observed.answers:
        workflow_id = str(answer.arguments.get("workflow_id", ""))[:80]
        if answer.content is None:
            if answer.code not in set(ErrorCode) or answer.code == ErrorCode.INTERNAL:
                yield workflow_id, f"{answer.tool} answered {answer.refusal[:300]!r}"
            if "Traceback" in answer.refusal or 'File "' in answer.refusal:
                yield workflow_id, f"{answer.tool} answered with a traceback"
