"""Builds observations by hand: correct runs, and changes that break one rule each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from invoice_mcp.domain.report import (
    DEFAULT_APPROVAL_TIMEOUT,
    AcceptedInvoice,
    AcceptedLine,
    Decision,
    InvoiceReport,
    LineReport,
    LineStatus,
    PaymentOrder,
    Status,
    Verdict,
)
from invoice_mcp.testing import Observations, check
from invoice_mcp.testing.checker.history import ReceivedDecision, Trace
from invoice_mcp.testing.checker.observations import Run
from invoice_mcp.testing.records import Answer, Attempt, Outcome, RecordedPayment

BEGAN = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DEADLINE = BEGAN + DEFAULT_APPROVAL_TIMEOUT
DECIDED = BEGAN + HOUR
ENDED = BEGAN + 2 * HOUR
WORKFLOW_ID = "invoice-A"
_OPEN = {LineStatus.PENDING, LineStatus.SCHEDULED}


def an_invoice(lines: int, due: datetime = BEGAN) -> AcceptedInvoice:
    line = AcceptedLine(description="Widget", amount=Decimal(100), due_date=due)
    return AcceptedInvoice(invoice_id="A", customer="ACME", currency="USD", lines=(line,) * lines)


def a_run(status: Status, *lines: LineStatus, verdict: Verdict | None = None, run_id: str = "1", **trace: Any) -> Run:
    """A consistent run: decided after an hour, ended after two.

    Args:
        lines: The status of each line in its report. A paid line has the payment id `PAY-<line>`.
        trace: Other values of its history.
    """
    invoice = an_invoice(len(lines))
    temporal_status = {Status.CANCELLED: "CANCELED"}.get(status, "COMPLETED" if status.is_terminal else "RUNNING")
    never_started = status is Status.PENDING_VALIDATION or trace.get("validated_at", BEGAN) is None
    deadline = None if never_started else DEADLINE
    report = InvoiceReport(
        workflow_id=WORKFLOW_ID,
        run_id=run_id,
        invoice_id="A",
        customer="ACME",
        currency="USD",
        total=invoice.total,
        status=status,
        workflow_status=temporal_status,
        decision=Decision(verdict=verdict, by="Ann", at=DECIDED) if verdict else None,
        approval_deadline=deadline,
        lines=tuple(_line_report(invoice, number, line) for number, line in enumerate(lines, 1)),
        summary="",
    )
    told = Trace(
        invoice=invoice,
        approval_timeout=DEFAULT_APPROVAL_TIMEOUT,
        decisions=(ReceivedDecision(verdict, DECIDED),) if verdict else (),
        validated_at=BEGAN if deadline else None,
        validation_seen_by=BEGAN if deadline else None,
        last_task_at=DEADLINE if status is Status.EXPIRED else ENDED,
        cancelled_at=ENDED if status is Status.CANCELLED else None,
        ended_at=(DEADLINE if status is Status.EXPIRED else ENDED) if status.is_terminal else None,
        end=temporal_status,
        result=report if temporal_status == "COMPLETED" else None,
        children={f"{run_id}-line-{n}": f"{WORKFLOW_ID}-line-{n}" for n, _ in enumerate(lines, 1)} if verdict else {},
        indexed=(Status.PENDING_VALIDATION, status),
    )
    run = Run(WORKFLOW_ID, run_id, temporal_status, status, report, report, replace(told, **trace))
    return replace(run, completed_children=frozenset(run.trace.children))


def _line_report(invoice: AcceptedInvoice, number: int, status: LineStatus) -> LineReport:
    order = PaymentOrder.for_line(invoice, number)
    return LineReport(
        line=number,
        description=order.description,
        amount=order.amount,
        due_date=order.due_date,
        status=status,
        payment_id=f"PAY-{number}" if status is LineStatus.PAID else None,
        error="INSUFFICIENT_FUNDS" if status is LineStatus.FAILED else None,
        idempotency_key=order.idempotency_key,
    )


def retold(run: Run, *, line: int = 0, **changes: Any) -> Run:
    """The run with changes of its report, or of a line of it, in every source."""
    assert run.report
    if line:
        lines = list(run.report.lines)
        lines[line - 1] = lines[line - 1].model_copy(update=changes)
        changes = {"lines": tuple(lines)}
    report = run.report.model_copy(update=changes)
    result = report if run.trace.result else None
    return replace(run, tool_report=report, query_report=report, trace=replace(run.trace, result=result))


def traced(run: Run, **changes: Any) -> Run:
    """The run with changes of its history."""
    return replace(run, trace=replace(run.trace, **changes))


def a_payment(line: int = 1, *, run_id: str = "1", at: datetime = ENDED, **order: Any) -> RecordedPayment:
    """The payment of a line by the line's workflow in a run."""
    right = PaymentOrder.for_line(an_invoice(line), line)
    return RecordedPayment(right.model_copy(update=order), f"PAY-{line}", at, f"{run_id}-line-{line}")


def payments_of(run: Run) -> list[RecordedPayment]:
    """A payment for each line that the run reports as paid."""
    assert run.report
    paid = [line.line for line in run.report.lines if line.status is LineStatus.PAID]
    return [a_payment(line, run_id=run.run_id) for line in paid]


def an_answer(tool: str = "status", content: dict[str, Any] | None = None, refusal: str = "") -> Answer:
    return Answer(tool, {"workflow_id": WORKFLOW_ID}, content, refusal)


def an_attempt(outcome: Outcome, line: int = 1, *, run_id: str = "1", attempt: int = 1, names: int = 0) -> Attempt:
    """A request by a line's workflow in a run. `names` is the line whose payment id the answer has."""
    order = PaymentOrder.for_line(an_invoice(line), line)
    return Attempt(order, outcome, f"{run_id}-line-{line}", attempt, f"PAY-{names}" if names else "")


def broken(
    *runs: Run,
    ledger: Sequence[RecordedPayment] | None = None,
    answers: Sequence[Answer] = (),
    attempts: Sequence[Attempt] | None = None,
) -> list[str]:
    """The rules that these runs break. By default the ledger has the payments that they report."""
    made = [paid for run in runs for paid in payments_of(run)] if ledger is None else ledger
    found = check(Observations(runs, tuple(made), tuple(answers), None if attempts is None else tuple(attempts)))
    assert all(str(each).startswith(each.rule) for each in found)
    return sorted({violation.rule for violation in found})
