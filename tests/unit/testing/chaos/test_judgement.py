"""The judgement, on made-up observations: what is a finding, and what is none."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.report import (
    AcceptedInvoice,
    Decision,
    InvoiceReport,
    LineReport,
    LineStatus,
    PaymentOrder,
    Status,
    Verdict,
)
from invoice_mcp.testing.chaos import judgement
from invoice_mcp.testing.chaos.campaign import Plan, Totals
from invoice_mcp.testing.chaos.clients import DISCONNECTED, TIMED_OUT, Acknowledged, Call
from invoice_mcp.testing.chaos.episode import Verdict as EpisodeVerdict
from invoice_mcp.testing.chaos.evidence import damaged
from invoice_mcp.testing.chaos.faults import Stop
from invoice_mcp.testing.chaos.gateway import Payment
from invoice_mcp.testing.chaos.generator import generate_schedule
from invoice_mcp.testing.chaos.journal import Entry
from invoice_mcp.testing.chaos.judgement import Finding, LineRun
from invoice_mcp.testing.chaos.report import Reporter
from invoice_mcp.testing.checker.history import Trace
from invoice_mcp.testing.checker.observations import Observations, Run
from invoice_mcp.testing.records import Answer, RecordedPayment
from tests.requirements import requirement
from tests.tool_client import an_invoice

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
INVOICE = AcceptedInvoice.model_validate(
    Invoice.model_validate(an_invoice("A", ("10", "2024-06-30T00:00:00Z"))).model_dump()
)
ORDER = PaymentOrder.for_line(INVOICE, 1)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def a_report(end: Status, /, **changes: Any) -> InvoiceReport:
    line = LineReport(line=1, description="Widget 1", amount=Decimal(10), due_date=ORDER.due_date, **changes)
    decision = Decision(verdict=Verdict.APPROVED, by="Ann", at=NOON)
    return InvoiceReport(
        workflow_id="invoice-A",
        run_id="R",
        invoice_id="A",
        customer="ACME Corp",
        currency="USD",
        total=Decimal(10),
        status=end,
        workflow_status="COMPLETED",
        decision=decision,
        lines=(line,),
        summary="",
    )


def a_run(status: Status = Status.PAID, temporal_status: str = "COMPLETED") -> Run:
    report = a_report(status, status=LineStatus.PAID, payment_id="P-1") if status is Status.PAID else a_report(status)
    return Run("invoice-A", "R", temporal_status, status, report, report, Trace(invoice=INVOICE))


# -- whose payment ---------------------------------------------------------------------------------------------


@requirement("CHAOS-JUDGEMENT")
@pytest.mark.parametrize(
    ("at", "run_id"),
    [(-1, ""), (0.5, "first"), (2.5, "first"), (5, "second"), (99, "second")],
    ids=["before anybody asked", "while the first asks", "between", "while the second asks", "after all"],
)
def test_a_payment_is_of_the_run_that_asked_for_it_at_that_time(at: float, run_id: str) -> None:
    lines = [LineRun("first", ORDER, after(0), after(2)), LineRun("second", ORDER, after(4), after(6))]
    [paid] = judgement.paid_by([Payment(ORDER, "P-1", after(at))], lines)
    assert paid == RecordedPayment(ORDER, "P-1", after(at), run_id)


@requirement("CHAOS-JUDGEMENT")
def test_a_payment_of_another_line_or_of_one_that_never_asked_is_nobodys() -> None:
    other = ORDER.model_copy(update={"line": 2})
    lines = [LineRun("other", other, after(0), None), LineRun("idle", ORDER, None, None)]
    assert [each.run_id for each in judgement.paid_by([Payment(ORDER, "P-1", after(1))], lines)] == [""]


# -- what is found ---------------------------------------------------------------------------------------------


@requirement("CHAOS-JUDGEMENT")
def test_what_was_acknowledged_and_is_not_there_is_lost() -> None:
    acknowledged = [Acknowledged("invoice-A", "R"), Acknowledged("invoice-B", "S")]
    assert [each.about for each in judgement.lost(acknowledged, [a_run()])] == ["invoice-B"]


@requirement("CHAOS-JUDGEMENT")
def test_what_runs_still_is_stuck() -> None:
    runs = [a_run(), a_run(Status.PAYING, "RUNNING")]
    [found] = judgement.stuck(runs, 90)
    assert (found.kind, found.about) == ("stuck", "invoice-A")


@requirement("CHAOS-JUDGEMENT")
def test_a_line_that_is_paid_twice_is_found_by_the_checker() -> None:
    run = replace(a_run(), trace=Trace(invoice=INVOICE, children={"L": "invoice-A-line-1"}))
    twice = tuple(RecordedPayment(ORDER, f"P-{n}", after(n), "L") for n in (1, 2))
    kinds = {found.kind for found in judgement.broken_rules(Observations((run,), twice))}
    assert {"double-paid", "wrongly-paid"} <= kinds  # nobody approved it, either


@requirement("CHAOS-JUDGEMENT")
@pytest.mark.parametrize(
    ("told", "why"),
    [
        (a_report(Status.FAILED), "told that it is FAILED, and it is PAID"),
        (
            a_report(Status.PAYING, status=LineStatus.PAID, payment_id="P-9"),
            "told that line 1 is paid as P-9, which it is not",
        ),
        (
            a_report(Status.PAYING).model_copy(
                update={"decision": Decision(verdict=Verdict.REJECTED, by="Bob", at=NOON)}
            ),
            "told the decision REJECTED, and it is APPROVED",
        ),
    ],
)
def test_an_answer_that_the_end_contradicts_is_untrue(told: InvoiceReport, why: str) -> None:
    observed = Observations((a_run(),), (RecordedPayment(ORDER, "P-1", NOON, "L"),))
    answers = [Answer("status", {}, told.model_dump(mode="json"), "")] * 2
    [found] = judgement.contradicted(answers, observed)
    assert found.kind == "untrue"
    assert why in found.got


@requirement("CHAOS-JUDGEMENT")
def test_an_answer_on_the_way_is_true() -> None:
    observed = Observations((a_run(),), (RecordedPayment(ORDER, "P-1", NOON, "L"),))
    waiting = a_report(Status.PENDING_APPROVAL).model_copy(update={"decision": None})
    paid = a_report(Status.PAID, status=LineStatus.PAID, payment_id="P-1")
    answers = [Answer("status", {}, each.model_dump(mode="json"), "") for each in (waiting, paid)]
    answers += [Answer("list", {}, {"invoices": []}, ""), Answer("status", {}, None, "NO_WORKER: none")]
    assert judgement.contradicted(answers, observed) == []


def a_call(seconds: float, code: str = "OK") -> Call:
    return Call("client-0", "serve-0", "status", 10.0, 10.0 + seconds, code, 10.0)


@requirement("CHAOS-JUDGEMENT")
@pytest.mark.parametrize(
    ("call", "stops", "is_late"),
    [
        (a_call(14), (), False),
        (a_call(16), (), True),
        (a_call(45, TIMED_OUT), (), True),
        (a_call(45, DISCONNECTED), (), False),
        (a_call(16), (Stop("serve-0", 1, 12, 15),), False),
        (a_call(16), (Stop("temporal", 1, 12, 15),), True),
        (a_call(16), (Stop("serve-0", 1, 0, 10.5),), True),
        (a_call(40), (Stop("serve-0", 1, 12),), False),
    ],
    ids=[
        "in time",
        "late",
        "never",
        "no server",
        "stopped itself",
        "another stopped",
        "stopped before",
        "stopped still",
    ],
)
def test_an_answer_is_late_unless_its_server_was_stopped(call: Call, stops: tuple[Stop, ...], is_late: bool) -> None:
    assert bool(judgement.late([call], stops)) is is_late


@requirement("CHAOS-JUDGEMENT")
def test_a_database_that_sqlite_finds_damaged_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "temporal.db"
    path.write_bytes(b"SQLite format 3\0" + b"garbage" * 100)
    assert [found.kind for found in damaged([path, tmp_path / "missing.db"])] == ["damaged"]


@requirement("CHAOS-JUDGEMENT")
@pytest.mark.parametrize(("mode", "is_found"), [("wal", False), ("delete", True)])
def test_a_database_that_is_not_in_wal_mode_is_a_finding(mode: str, is_found: bool, tmp_path: Path) -> None:
    path = tmp_path / "temporal.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA journal_mode={mode}")
        database.execute("CREATE TABLE t (x)")
    assert bool(damaged([path])) is is_found


# -- the report ------------------------------------------------------------------------------------------------


def a_verdict(*findings: Finding) -> EpisodeVerdict:
    return EpisodeVerdict(
        generate_schedule(7),
        20.0,
        findings,
        Counter({"PAID": 2, "EXPIRED": 1}),
        Counter({"kill": 2, "pay lose-after": 3}),
        1,
        5,
        9,
        2.5,
        (a_call(1.0), a_call(3.0)),
        (Entry(1.0, "fault", "kills serve-0 (17)"), Entry(2.0, "gateway", "is asked to pay A line 1", "pay", 1)),
    )


@requirement("CHAOS-REPORT")
def test_a_failure_is_reported_with_expected_got_timeline_and_command_in_80_columns() -> None:
    reporter = Reporter(Plan(seed=7, runs=2))
    reporter.add(a_verdict())
    reporter.add(a_verdict(Finding("lost", "invoice-A", "run R was acknowledged, and is not there")))
    text = reporter.as_text()
    assert "expected: Every submission that was acknowledged is there." in text
    assert "got:      run R was acknowledged, and is not there" in text
    assert "invoice-mcp chaos --seed 7 --runs 1" in text
    assert "kills serve-0 (17)" in text
    assert "is asked to pay A line 1" in text
    assert "2 of 2" in text
    assert all(len(line) <= 80 for line in text.splitlines())


@requirement("CHAOS-REPORT")
def test_a_schedule_that_no_seed_gives_is_printed_with_the_command() -> None:
    by_hand = replace(generate_schedule(7), window=31.0)
    reporter = Reporter(Plan(seed=7, schedule=by_hand))
    reporter.add(replace(a_verdict(Finding("lost", "invoice-A", "gone")), schedule=by_hand))
    text = reporter.as_text()
    assert "invoice-mcp chaos --schedule schedule.txt" in text
    assert "  window 31\n" in text


@requirement("CHAOS-REPORT")
def test_the_same_comes_as_json() -> None:
    reporter = Reporter(Plan(seed=7, runs=2))
    reporter.add(a_verdict())
    reporter.add(a_verdict(Finding("lost", "invoice-A", "gone")))
    data = json.loads(reporter.as_json())
    assert (data["episodes"], data["faults_total"], data["findings"]["lost"]) == (2, 10, 1)
    [failure] = data["failures"]
    assert failure["findings"][0]["got"] == "gone"
    assert failure["schedule"] == str(generate_schedule(7))
    assert failure["command"].startswith("invoice-mcp chaos --seed 7")


@requirement("CHAOS-REPORT")
def test_totals_add_up() -> None:
    totals = Totals()
    for _ in range(3):
        totals.add(a_verdict())
    assert (totals.episodes, totals.faults.total(), totals.missed, totals.failed) == (3, 15, 3, [])
