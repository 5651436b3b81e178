"""Rules S1, S2, S4, S5 and S6: which payments were made, when, and what the reports say about them. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import chain

from invoice_mcp.domain.report import LineReport, LineStatus, PaymentOrder, Status, Verdict
from invoice_mcp.testing.checker.observations import Observations, Run
from invoice_mcp.testing.checker.violations import Findings
from invoice_mcp.testing.records import Attempt, Outcome, RecordedPayment


def s1(observed: Observations) -> Findings:
    known = {child for run in observed.runs for child in (run.run_id, *run.trace.children)}
    for paid in observed.ledger:
        if paid.run_id not in known:
            yield (
                paid.order.invoice_id,
                f"{_payment(paid)} was made by {paid.run_id or 'nobody'}, no run of the invoice",
            )
    for run in observed.runs:
        decided = run.trace.effective_decision
        for paid in _payments_by(run, observed.ledger):
            if decided is None or decided.verdict is not Verdict.APPROVED:
                how = "without a decision" if decided is None else "though it was rejected first"
                yield run.workflow_id, f"{_payment(paid)} was made {how}"
            elif paid.at < decided.at:
                yield (
                    run.workflow_id,
                    f"{_payment(paid)} was made at {paid.at}, before the approval at {decided.at}",
                )
    yield from _payments_after_reset(observed)


def _payments_after_reset(observed: Observations) -> Findings:
    """Payments of a line that only a reset run had started: the run that replaced it did not request them."""
    begun = Counter((run.workflow_id, child) for run in observed.runs for child in run.trace.children)
    for run in observed.runs:
        ended = run.trace.ended_at
        if ended is None or not run.was_reset:
            continue
        for paid in _payments_by(run, observed.ledger):
            if paid.at > ended and begun[run.workflow_id, paid.run_id] <= 1:
                yield run.workflow_id, f"{_payment(paid)} was made at {paid.at}, after its run was reset"


def s2(observed: Observations) -> Findings:
    lines: dict[tuple[str, int], list[RecordedPayment]] = defaultdict(list)
    for paid in observed.ledger:
        lines[paid.order.invoice_id, paid.order.line].append(paid)
    for (invoice_id, line), payments in lines.items():
        if len(payments) > 1:
            yield invoice_id, f"line {line} was paid {len(payments)} times"


def s4(observed: Observations) -> Findings:
    for run in observed.runs:
        invoice = run.trace.invoice
        if invoice is not None:
            orders = [PaymentOrder.for_line(invoice, number) for number in range(1, len(invoice.lines) + 1)]
            of_it, by_it = _payments_of_invoice(run, observed.ledger), _payments_by(run, observed.ledger)
            for detail in chain(
                _payment_mismatches(run, orders, of_it, by_it),
                _report_errors(run, orders, of_it, by_it),
                _certainty_errors(run, observed.attempts),
            ):
                yield run.workflow_id, detail


def _payment_mismatches(
    run: Run, orders: list[PaymentOrder], of_it: list[RecordedPayment], by_it: list[RecordedPayment]
) -> Iterator[str]:
    """The payments made against the orders of the invoice."""
    if run.status == Status.PAID:
        for order in orders:
            if not _is_paid(order, of_it):
                yield f"is PAID, but not line {order.line} over {order.currency} {order.amount}"
    for paid in by_it:
        if not any(_is_paid(order, [paid]) for order in orders):
            what = f"{_payment(paid)} over {paid.order.currency} {paid.order.amount} for {paid.order.customer}"
            yield f"{what} belongs to no line of the invoice"


def _report_errors(
    run: Run, orders: list[PaymentOrder], of_it: list[RecordedPayment], by_it: list[RecordedPayment]
) -> Iterator[str]:
    """The payments made against the final report."""
    report = run.report
    was_cut_off = run.trace.end == "TERMINATED"
    if report is None or not (report.status.is_terminal or was_cut_off):
        return
    if len(report.lines) != len(orders):
        yield f"has {len(orders)} lines and reports {len(report.lines)}"
        return
    for order, line in zip(orders, report.lines, strict=True):
        if line.status is LineStatus.PAID and not _is_paid(order, _named_by(line, of_it)):
            yield f"reports line {order.line} as paid ({line.payment_id}), but there is no such payment"
        if not report.status.is_terminal:
            # A payment under way at the termination may have been made without the workflow learning of it.
            continue
        if line.status is not LineStatus.PAID and not line.unconfirmed and _is_paid(order, by_it):
            yield f"reports line {order.line} as {line.status}, but paid it"
    in_full = all(line.status is LineStatus.PAID for line in report.lines)
    if report.status.is_terminal and in_full != (report.status is Status.PAID):
        yield f"is {report.status} with lines {[line.status.value for line in report.lines]}"


def _certainty_errors(run: Run, attempts: tuple[Attempt, ...] | None) -> Iterator[str]:
    """What a report states as certain about a failed line, against the gateway's answers to its workflow.

    Only lines whose workflow completed are judged: another one may not have received every answer.
    """
    if run.report is None or attempts is None:
        return
    last_attempts = {
        each.order.line: (n, each) for n, each in enumerate(attempts) if each.run_id in run.completed_children
    }
    for line in run.report.lines:
        if line.status is not LineStatus.FAILED or line.line not in last_attempts:
            continue
        n, last = last_attempts[line.line]
        in_doubt = _is_inconclusive(last, attempts[:n])
        # An attempt that never reached the gateway can also leave doubt. Only the workflow knows of it.
        is_certain = last.outcome is not Outcome.UNKNOWN and not in_doubt and not line.settled_before
        if line.unconfirmed and is_certain and not _is_shared_payment_id(last, attempts):
            yield f"reports line {line.line} as not confirmed, but the gateway {_ANSWERS[last.outcome]}"
        if not line.unconfirmed and (in_doubt or last.outcome is not Outcome.REFUSED):
            how = " after an attempt without a verdict" if last.outcome is Outcome.REFUSED else ""
            yield f"reports line {line.line} as certainly not paid, but the gateway {_ANSWERS[last.outcome]}{how}"


def _is_inconclusive(last: Attempt, before: tuple[Attempt, ...]) -> bool:
    """Whether the payment may have been made, whatever the last answer of the gateway is.

    A refusal is inconclusive if an earlier request with the same key was not refused, or may not have arrived.
    """
    if last.outcome is not Outcome.REFUSED:
        return last.outcome is Outcome.UNKNOWN
    same = [each for each in before if each.order.idempotency_key == last.order.idempotency_key]
    return last.attempt > 1 or any(each.outcome is not Outcome.REFUSED for each in same)


def _is_shared_payment_id(last: Attempt, attempts: tuple[Attempt, ...]) -> bool:
    """Whether the gateway gave the payment id of the last answer for another line as well."""
    return bool(last.payment_id) and any(
        each.payment_id == last.payment_id and each.order.line != last.order.line for each in attempts
    )


_ANSWERS = {
    Outcome.PAID: "confirmed it",
    Outcome.REFUSED: "refused it",
    Outcome.UNKNOWN: "gave no answer",
}


def _named_by(line: LineReport, ledger: list[RecordedPayment]) -> list[RecordedPayment]:
    """The payments with the payment id that a line's report shows."""
    return [paid for paid in ledger if paid.payment_id == line.payment_id]


def _is_paid(order: PaymentOrder, ledger: list[RecordedPayment]) -> bool:
    return any(
        (paid.order.line, paid.order.amount, paid.order.currency, paid.order.customer)
        == (order.line, order.amount, order.currency, order.customer)
        for paid in ledger
    )


def s5(observed: Observations) -> Findings:
    for run in observed.runs:
        unapproved = (
            run.trace.effective_decision is None or run.trace.effective_decision.verdict is not Verdict.APPROVED
        )
        closed = run.status in {Status.REJECTED, Status.EXPIRED}
        if closed or (run.status == Status.CANCELLED and unapproved):
            for paid in _payments_by(run, observed.ledger):
                yield run.workflow_id, f"is {run.status}, but {_payment(paid)} was made"
        if run.trace.started_after_cancel:
            begun = ", ".join(run.trace.started_after_cancel)
            yield run.workflow_id, f"knew of its cancellation before its approval, but started {begun}"


def s6(observed: Observations) -> Findings:
    for run in observed.runs:
        lines = run.trace.invoice.lines if run.trace.invoice else ()
        for paid in _payments_by(run, observed.ledger):
            due = lines[paid.order.line - 1].due_date if paid.order.line <= len(lines) else None
            if due is not None and paid.at < due:
                yield run.workflow_id, f"{_payment(paid)} was made at {paid.at}, due on {due}"


def _payments_by(run: Run, ledger: tuple[RecordedPayment, ...]) -> list[RecordedPayment]:
    """The payments that a run, or a workflow of its lines, made."""
    runs = {run.run_id, *run.trace.children}
    return [paid for paid in ledger if paid.run_id in runs]


def _payments_of_invoice(run: Run, ledger: tuple[RecordedPayment, ...]) -> list[RecordedPayment]:
    """The payments of a run's invoice, by any run."""
    invoice = run.trace.invoice
    return [paid for paid in ledger if invoice is not None and paid.order.invoice_id == invoice.invoice_id]


def _payment(paid: RecordedPayment) -> str:
    return f"the payment of line {paid.order.line} ({paid.payment_id})"
