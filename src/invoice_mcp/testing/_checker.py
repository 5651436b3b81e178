"""The promises S1 to S9, checked on what a scenario has left behind: ledger, reports and histories. Pure.

It knows nothing of what the scenario did, and nothing of how the workflow works.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from types import MappingProxyType

from invoice_mcp.errors import Code
from invoice_mcp.reports import Decision, InvoiceReport, LineReport, LineStatus, PaymentOrder, Status, Verdict
from invoice_mcp.testing._observations import Observations, Run
from invoice_mcp.testing._ports import Paid
from invoice_mcp.testing._trace import Arrival

RULES: Mapping[str, str] = MappingProxyType(
    {
        "S1": "No payment without an accepted approval.",
        "S2": "At most one payment per line, whatever is retried, killed, resubmitted or duplicated.",
        "S3": "The first decision never changes.",
        "S4": "PAID exactly when every line has one payment of the right amount; FAILED names exactly the unpaid ones.",
        "S5": "REJECTED, EXPIRED, or CANCELLED before approval: zero payments.",
        "S6": "No payment before its due date.",
        "S7": "The MCP answer, the query, the result and the history agree.",
        "S8": "A decision before the deadline counts, after it is refused.",
        "S9": "No input makes a tool answer with a traceback or leaves a workflow failing its tasks.",
        "L1": "Once decided or expired, with the outside world healthy, every invoice ends.",
    }
)
"""What is promised of every scenario, however it went."""


@dataclass(frozen=True)
class Violation:
    """A promise broken: which one, by which workflow, and what was seen."""

    rule: str
    workflow_id: str
    seen: str

    def __str__(self) -> str:
        return f"{self.rule} ({RULES[self.rule]}) {self.workflow_id}: {self.seen}"


class Violations(AssertionError):  # noqa: N818 (as pytest's own failures, it is no error of the harness)
    """A scenario broke promises.

    Attributes:
        found: All of them.
    """

    def __init__(self, found: list[Violation]) -> None:
        super().__init__("\n".join(str(violation) for violation in found))
        self.found = tuple(found)


def check(observed: Observations) -> list[Violation]:
    """Every promise that is broken, the same one of the same workflow once."""
    first: dict[tuple[str, str], Violation] = {}
    for rule, finds in _CHECKS.items():
        for workflow_id, seen in finds(observed):
            first.setdefault((rule, workflow_id), Violation(rule, workflow_id, seen))
    return list(first.values())


Found = Iterator[tuple[str, str]]


def _paid_by(run: Run, ledger: tuple[Paid, ...]) -> list[Paid]:
    """What a run had paid, itself or through its lines' workflows."""
    runs = {run.run_id, *run.trace.children}
    return [paid for paid in ledger if paid.run_id in runs]


def _of(run: Run, ledger: tuple[Paid, ...]) -> list[Paid]:
    """What was paid of a run's invoice, by whichever run."""
    invoice = run.trace.invoice
    return [paid for paid in ledger if invoice is not None and paid.order.invoice_id == invoice.invoice_id]


def _s1(observed: Observations) -> Found:
    known = {child for run in observed.runs for child in (run.run_id, *run.trace.children)}
    for paid in observed.ledger:
        if paid.run_id not in known:
            yield paid.order.invoice_id, f"{_payment(paid)} was made by {paid.run_id or 'nobody'}, no run of it"
    for run in observed.runs:
        decided = run.trace.decided
        for paid in _paid_by(run, observed.ledger):
            if decided is None or decided.verdict is not Verdict.APPROVED:
                how = "without a decision" if decided is None else "though it was rejected first"
                yield run.workflow_id, f"{_payment(paid)} was made {how}"
            elif paid.at < decided.at:
                yield run.workflow_id, f"{_payment(paid)} was made at {paid.at}, before the approval at {decided.at}"


def _s2(observed: Observations) -> Found:
    lines: dict[tuple[str, int], list[Paid]] = defaultdict(list)
    for paid in observed.ledger:
        lines[paid.order.invoice_id, paid.order.line].append(paid)
    for (invoice_id, line), payments in lines.items():
        if len(payments) > 1:
            yield invoice_id, f"line {line} was paid {len(payments)} times"


def _s3(observed: Observations) -> Found:
    for run in observed.runs:
        first, report = run.trace.decided, run.report
        if report is not None and report.decision is not None and first is not None:
            made = report.decision
            if made.verdict is not first.verdict:
                yield run.workflow_id, f"was {first.verdict} first, at {first.at}, but is {made.verdict} by {made.by}"
        if run.approved is not None and first is not None and run.approved != (first.verdict is Verdict.APPROVED):
            yield run.workflow_id, f"was {first.verdict} first, at {first.at}, but answers approved={run.approved}"
    told: dict[str, object] = {}
    for answer in observed.answers:
        content = answer.content or {}
        decision, run_id = content.get("decision"), str(content.get("run_id"))
        if decision is not None and told.setdefault(run_id, decision) != decision:
            yield str(content["workflow_id"]), f"its decision was told as {told[run_id]}, then as {decision}"
    for run in observed.runs:
        if run.report is not None and run.run_id in told:
            last = run.report.decision
            if last is None or last != Decision.model_validate(told[run.run_id]):
                yield run.workflow_id, f"its decision was told as {told[run.run_id]}, and is {last} in the end"


def _s4(observed: Observations) -> Found:
    for run in observed.runs:
        invoice = run.trace.invoice
        if invoice is not None:
            orders = [PaymentOrder.for_line(invoice, number) for number in range(1, len(invoice.lines) + 1)]
            of_it, by_it = _of(run, observed.ledger), _paid_by(run, observed.ledger)
            for seen in chain(_pays_otherwise(run, orders, of_it, by_it), _misreports(run, orders, of_it, by_it)):
                yield run.workflow_id, seen


def _pays_otherwise(run: Run, orders: list[PaymentOrder], of_it: list[Paid], by_it: list[Paid]) -> Iterator[str]:
    """What was paid against what was to be paid."""
    if run.status == Status.PAID:
        for order in orders:
            if not _is_paid(order, of_it):
                yield f"is PAID, but not line {order.line} over {order.currency} {order.amount}"
    for paid in by_it:
        if not any(_is_paid(order, [paid]) for order in orders):
            what = f"{_payment(paid)} over {paid.order.currency} {paid.order.amount} for {paid.order.customer}"
            yield f"{what} is of no line of it"


def _misreports(run: Run, orders: list[PaymentOrder], of_it: list[Paid], by_it: list[Paid]) -> Iterator[str]:
    """What was paid against the report of how it ended."""
    report = run.report
    if report is None or not report.status.is_terminal:
        return
    if len(report.lines) != len(orders):
        yield f"has {len(orders)} lines and reports {len(report.lines)}"
        return
    for order, line in zip(orders, report.lines, strict=True):
        if line.status is LineStatus.PAID and not _is_paid(order, _named(line, of_it)):
            yield f"reports line {order.line} as paid ({line.payment_id}), which it is not"
        if line.status is not LineStatus.PAID and not line.unconfirmed and _is_paid(order, by_it):
            yield f"reports line {order.line} as {line.status}, but paid it"
    in_full = all(line.status is LineStatus.PAID for line in report.lines)
    if in_full != (report.status is Status.PAID):
        yield f"is {report.status} with lines {[line.status.value for line in report.lines]}"


def _named(line: LineReport, ledger: list[Paid]) -> list[Paid]:
    """The payments that a line's report names."""
    return [paid for paid in ledger if paid.payment_id == line.payment_id]


def _is_paid(order: PaymentOrder, ledger: list[Paid]) -> bool:
    return any(
        (paid.order.line, paid.order.amount, paid.order.currency, paid.order.customer)
        == (order.line, order.amount, order.currency, order.customer)
        for paid in ledger
    )


def _s5(observed: Observations) -> Found:
    for run in observed.runs:
        unapproved = run.trace.decided is None or run.trace.decided.verdict is not Verdict.APPROVED
        closed = run.status in {Status.REJECTED, Status.EXPIRED}
        if closed or (run.status == Status.CANCELLED and unapproved):
            for paid in _paid_by(run, observed.ledger):
                yield run.workflow_id, f"is {run.status}, but {_payment(paid)} was made"


def _s6(observed: Observations) -> Found:
    for run in observed.runs:
        lines = run.trace.invoice.lines if run.trace.invoice else ()
        for paid in _paid_by(run, observed.ledger):
            due = lines[paid.order.line - 1].due_date if paid.order.line <= len(lines) else None
            if due is not None and paid.at < due:
                yield run.workflow_id, f"{_payment(paid)} was made at {paid.at}, due on {due}"


_ENDS_AS = {Status.CANCELLED: "CANCELED"}


def _s7(observed: Observations) -> Found:
    for run in observed.runs:
        for seen in chain(_ends_differently(run), _tells_differently(run)):
            yield run.workflow_id, seen


def _ends_differently(run: Run) -> Iterator[str]:
    """Temporal's own view of the execution against the invoice's status."""
    if run.temporal_status != run.trace.end:
        yield f"is {run.temporal_status}, and {run.trace.end} by its history"
    if run.temporal_status != "RUNNING" and run.open_children:
        yield f"has ended, but not {', '.join(run.open_children)}"
    if run.temporal_status == "RUNNING" or run.status not in set(Status):
        return
    status = Status(run.status)
    if not status.is_terminal:
        yield f"has ended ({run.temporal_status}) with the status {status}"
    elif _ENDS_AS.get(status, "COMPLETED") != run.temporal_status:
        yield f"is {status}, but its execution {run.temporal_status}"
    elif status is Status.CANCELLED and run.trace.cancelled_at is None:
        yield "is CANCELLED, which nobody asked for"


def _tells_differently(run: Run) -> Iterator[str]:
    """The tool, the queries, the result, the search attribute and the history against each other."""
    report, result = run.report, run.trace.result
    if run.trace.returned is not None and run.trace.returned != run.status:
        yield f"ended with {run.trace.returned}, and is {run.status} by the seed's query"
    if report is None:
        return
    if run.queried is not None and run.told is None:
        yield "can't be asked for by the tool"
    if run.told and run.queried and not _agree(run.told, run.queried):
        yield f"the tool tells {run.told}, the query {run.queried}"
    if result is not None and run.queried is not None and not _agree(result, run.queried):
        yield f"ended with {result}, the query tells {run.queried}"
    if result is None and run.temporal_status == "COMPLETED":
        yield "has completed without a report as its result"
    if report.status != run.status:
        yield f"is {run.status} by the seed's query, {report.status} by its report"
    if report.workflow_status != run.temporal_status:
        yield f"is {run.temporal_status}, but tells {report.workflow_status}"
    if run.trace.indexed and run.trace.indexed[-1] != report.status:
        yield f"is {report.status}, but indexed as {run.trace.indexed[-1]}"
    yield from _tells_another_story(run, report)
    if report.decision is not None and not run.trace.arrivals:
        yield f"tells a decision ({report.decision.verdict}) that nobody sent"


def _agree(one: InvoiceReport, other: InvoiceReport) -> bool:
    """Whether two reports tell the same, but for the moment of a signal.

    On the time-skipping server a signal that arrives while a task is under way was seen once to be dated by the next
    task when the history was replayed, ten milliseconds later than when it was handled.
    """
    if one.decision and other.decision and abs(one.decision.at - other.decision.at) < timedelta(seconds=1):
        decision = other.decision.model_copy(update={"at": one.decision.at})
        other = other.model_copy(update={"decision": decision})
    return one == other


def _is_same(one: datetime, other: datetime | None) -> bool:
    """Histories count in nanoseconds, and the SDK takes them for floats on their way into a workflow."""
    return other is not None and abs(one - other) < timedelta(milliseconds=1)


def _tells_another_story(run: Run, report: InvoiceReport) -> Iterator[str]:
    """A report against the history of its run: all sides can agree on what is not so."""
    trace, invoice = run.trace, run.trace.invoice
    if (report.workflow_id, report.run_id) != (run.workflow_id, run.run_id):
        yield f"tells of {report.workflow_id} {report.run_id}"
    if invoice is not None:
        told = (report.invoice_id, report.customer, report.currency, report.total)
        asked = (invoice.invoice_id, invoice.customer, invoice.currency, invoice.total)
        if told != asked:
            yield f"tells of an invoice {told}, but is about {asked}"
        lines = [(line.description, line.amount, line.due_date) for line in report.lines]
        wanted = [(line.description, line.amount, line.due_date) for line in invoice.lines]
        if lines != wanted:
            yield f"tells of lines {lines}, but has {wanted}"
    if report.approval_deadline is not None and not _is_same(report.approval_deadline, trace.deadline):
        yield f"tells the deadline {report.approval_deadline}, which is {trace.deadline}"
    decision, decided = report.decision, trace.decided
    if decision is not None and decided is not None and decision.verdict is decided.verdict:
        if abs(decision.at - decided.at) >= timedelta(seconds=1):
            yield f"was decided at {decided.at}, but tells {decision.at}"
        if decided.by not in {"", decision.by}:
            yield f"was decided by {decided.by}, but tells {decision.by}"
    if report.cancelling and report.status.is_terminal:
        yield "has ended, but tells that it is being cancelled"


def _s8(observed: Observations) -> Found:
    for run in observed.runs:
        deadline, decided = run.trace.deadline, run.trace.decided
        report = run.report
        decision = report.decision if report else None
        if deadline is not None and decision is not None and decision.at >= deadline:
            yield run.workflow_id, f"took a decision at {decision.at}, after its deadline {deadline}"
        if (
            deadline is not None
            and run.status == Status.EXPIRED
            and run.trace.ended_at
            and run.trace.ended_at < deadline
        ):
            yield run.workflow_id, f"expired at {run.trace.ended_at}, before its deadline {deadline}"
        if decided is not None and run.temporal_status != "RUNNING" and not _counts(decided, run):
            yield run.workflow_id, f"was {decided.verdict} in time, at {decided.at}, but is {run.status}"
        if decided is not None and report is not None and report.decision is None:
            yield run.workflow_id, f"was {decided.verdict} in time, at {decided.at}, but tells no decision"
        if decided is None and decision is not None and run.trace.arrivals:
            yield run.workflow_id, f"tells a decision ({decision.verdict}), and none came in time"
        if decided is None and run.status in {Status.REJECTED, Status.PAYING, Status.PAID}:
            yield run.workflow_id, f"is {run.status} without a decision in time"


def _counts(decided: Arrival, run: Run) -> bool:
    """Whether a run ended as this decision allows. One that can't be asked how it ended is not judged."""
    cancelled_at = run.trace.cancelled_at
    match run.status:
        case "":
            return True
        case Status.EXPIRED:
            return False
        case Status.CANCELLED if cancelled_at is not None:
            # A rejection ends the invoice: there is nothing left to cancel, unless both came at once.
            return decided.verdict is Verdict.APPROVED or cancelled_at <= decided.at
        case status:
            return (status == Status.REJECTED) == (decided.verdict is Verdict.REJECTED)


def _s9(observed: Observations) -> Found:
    for run in observed.runs:
        for failure in (*run.trace.failed_tasks, *run.children_failed):
            yield run.workflow_id, f"failed a task: {failure}"
    for answer in observed.answers:
        which = str(answer.arguments.get("workflow_id", ""))[:80]
        if answer.content is None:
            if answer.code not in set(Code) or answer.code == Code.INTERNAL:
                yield which, f"{answer.tool} answered {answer.refusal[:300]!r}"
            if "Traceback" in answer.refusal or 'File "' in answer.refusal:
                yield which, f"{answer.tool} answered with a traceback"


def _payment(paid: Paid) -> str:
    return f"the payment of line {paid.order.line} ({paid.payment_id})"


_CHECKS: Mapping[str, Callable[[Observations], Found]] = MappingProxyType(
    {"S1": _s1, "S2": _s2, "S3": _s3, "S4": _s4, "S5": _s5, "S6": _s6, "S7": _s7, "S8": _s8, "S9": _s9}
)
