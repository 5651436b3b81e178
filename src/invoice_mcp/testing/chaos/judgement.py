"""The judgement of an episode after healing: what is lost, stuck, untrue, unreplayable, late or left behind. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from invoice_mcp.domain.report import PaymentOrder, Status
from invoice_mcp.testing.chaos.clients import DISCONNECTED, TIMED_OUT, Acknowledged, Call
from invoice_mcp.testing.chaos.faults import Stop
from invoice_mcp.testing.chaos.gateway import Payment
from invoice_mcp.testing.checker.checker import check
from invoice_mcp.testing.checker.observations import Observations, Run
from invoice_mcp.testing.checker.violations import RULES
from invoice_mcp.testing.records import Answer, RecordedPayment

LATE_BY = 5.0
"""Seconds that an answer may take longer than promised: README grants the machine's own time."""

LATE_BY_FAKE_CLOCK = 20.0
"""The same, with libfaketime: it makes processes some times slower, most of all while they start."""

KINDS: Mapping[str, str] = {
    "lost": "Every submission that was acknowledged is there.",
    "stuck": "Every invoice ends once the world is healthy again (L1, L2).",
    "double-paid": RULES["S2"],
    "wrongly-paid": "No payment without approval, of what is not approved, or before its due date (S1, S5, S6).",
    "untrue": "What was answered, and what is reported, is so (S3, S4, S7 to S10, and every answer on the way).",
    "unreplayable": "Every history replays, strictly, with the code as it is.",
    "late": "Every answer comes within the promised time.",
    "left-behind": "No process, port or file is left behind.",
    "two-servers": "At most one Temporal server writes a database.",
    "damaged": "No database is damaged, and each is in WAL mode.",
    "unjudged": "Everything can be looked at.",
}
"""What an episode can break, and what is promised instead."""


@dataclass(frozen=True)
class Finding:
    """One thing that is not as promised.

    Attributes:
        kind: One of `KINDS`.
        about: Which workflow, client or process.
    """

    kind: str
    about: str
    got: str

    @property
    def expected(self) -> str:
        """What is promised."""
        return KINDS[self.kind]

    def __str__(self) -> str:
        return f"{self.kind} {self.about}: {self.got}"


@dataclass(frozen=True)
class LineRun:
    """One run of a line's workflow: what it was to pay, and between which moments it asked for that.

    Attributes:
        since: When its activity was first scheduled; None: it never was.
        to: When that was over; None: it is not.
    """

    run_id: str
    order: PaymentOrder
    since: datetime | None
    to: datetime | None


def paid_by(payments: Iterable[Payment], lines: Sequence[LineRun]) -> tuple[RecordedPayment, ...]:
    """Which run had each payment made. The gateway can't know: it is the one that asked with this key at that time.

    Where none did at that time, the last one that had asked before. Without any, it is nobody's: run id "".
    """
    found = []
    for payment in payments:
        line = (payment.order.invoice_id, payment.order.line)
        asked = [
            each
            for each in lines
            if each.since is not None and (each.order.invoice_id, each.order.line) == line and each.since <= payment.at
        ]
        during = [each for each in asked if each.to is None or payment.at <= each.to]
        latest = max(during or asked, key=lambda each: each.since or payment.at, default=None)
        found.append(RecordedPayment(payment.order, payment.payment_id, payment.at, latest.run_id if latest else ""))
    return tuple(found)


_KIND_OF_RULE = {"S1": "wrongly-paid", "S2": "double-paid", "S5": "wrongly-paid", "S6": "wrongly-paid", "L1": "stuck"}
_BREAKS_NOTHING = (
    # Who was away at the deadline hears of it late, after an outage.
    "only to expire",
    # A worker that keeps a workflow whose last task Temporal was killed over takes the next one for nondeterminism, and
    # goes on from the history. Whether that replays is judged by itself.
    "failed a task: [TMPRL1100]",
)


def broken_rules(observed: Observations) -> list[Finding]:
    """What the checker of all scenarios finds."""
    return [
        Finding(_KIND_OF_RULE.get(each.rule, "untrue"), each.workflow_id, f"{each.rule}: {each.detail}")
        for each in check(observed)
        if not any(words in each.detail for words in _BREAKS_NOTHING)
    ]


def lost(acknowledged: Iterable[Acknowledged], there: Iterable[Run]) -> list[Finding]:
    """Submissions that were acknowledged, and of whose run nothing is known."""
    known = {(run.workflow_id, run.run_id) for run in there}
    return [
        Finding("lost", each.workflow_id, f"run {each.run_id} was acknowledged, and is not there")
        for each in dict.fromkeys(acknowledged)
        if (each.workflow_id, each.run_id) not in known
    ]


def stuck(runs: Iterable[Run], within: float) -> list[Finding]:
    """Invoices that have not ended."""
    return [
        Finding("stuck", run.workflow_id, f"is {run.status or run.temporal_status} still, {within:.0f} s after healing")
        for run in runs
        if run.temporal_status == "RUNNING"
    ]


def contradicted(answers: Iterable[Answer], observed: Observations) -> list[Finding]:
    """Answers on the way that the end contradicts: an end, a decision or a payment that is not so."""
    runs = {(run.workflow_id, run.run_id): run for run in observed.runs}
    payments = {(paid.order.invoice_id, paid.order.line, paid.payment_id) for paid in observed.ledger}
    found = []
    for answer in answers:
        content = answer.content or {}
        run = runs.get((str(content.get("workflow_id")), str(content.get("run_id"))))
        if run is None or "lines" not in content:
            continue
        reported, final = content, run.report
        if final is not None and Status(reported["status"]).is_terminal and reported["status"] != final.status:
            found.append(_untrue(run, f"{answer.tool} told that it is {reported['status']}, and it is {final.status}"))
        decision = reported.get("decision") or {}
        if decision and final is not None and (final.decision is None or final.decision.verdict != decision["verdict"]):
            end = final.decision.verdict if final.decision else "none"
            found.append(_untrue(run, f"{answer.tool} told the decision {decision['verdict']}, and it is {end}"))
        found += [
            _untrue(
                run, f"{answer.tool} told that line {line['line']} is paid as {line['payment_id']}, which it is not"
            )
            for line in reported["lines"]
            if line["status"] == "PAID" and (reported["invoice_id"], line["line"], line["payment_id"]) not in payments
        ]
    return list(dict.fromkeys(found))


def _untrue(run: Run, got: str) -> Finding:
    return Finding("untrue", run.workflow_id, got)


def late(calls: Iterable[Call], stops: Sequence[Stop], allowance: float = LATE_BY) -> list[Finding]:
    """Calls that took longer than promised, though their server was not stopped meanwhile.

    Args:
        allowance: Seconds by which they may.
    """
    found = []
    for call in calls:
        excused = sum(
            max(0.0, min(call.ended, stop.to) - max(call.began, stop.since))
            for stop in stops
            if stop.name == call.server
        )
        took = call.seconds - excused
        if call.code == DISCONNECTED or took <= call.promised + allowance:
            continue
        how = "without an answer" if call.code == TIMED_OUT else f"until {call.code}"
        got = f"{call.verb} at {call.began:.1f} s took {took:.1f} s {how}, promised are {call.promised:g}"
        found.append(Finding("late", call.client, got))
    return found
