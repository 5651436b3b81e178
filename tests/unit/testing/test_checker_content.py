"""The checker, S10, and S5 and S7 for calls, lists and forms: each rule fails, alone, on its own violation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.report import DEFAULT_APPROVAL_TIMEOUT, AcceptedInvoice, LineStatus, Status, Verdict
from invoice_mcp.testing import Observations, check
from invoice_mcp.testing.checker.content import submitted
from invoice_mcp.testing.records import Answer, Attempt, Form, Outcome
from tests.requirements import requirement
from tests.unit.testing.run_builders import BEGAN, WORKFLOW_ID, a_run, an_attempt, payments_of, retold, traced

PAID = a_run(Status.PAID, LineStatus.PAID, LineStatus.PAID, verdict=Verdict.APPROVED)
DUE = BEGAN.isoformat()
LINE = {"description": "Widget", "amount": "100", "due_date": DUE}
INVOICE: dict[str, Any] = {"invoice_id": "A", "customer": "ACME", "currency": "USD", "lines": [LINE, LINE]}
TRIGGERED = Answer("trigger", {"invoice": INVOICE}, {"workflow_id": WORKFLOW_ID, "run_id": "1"}, "")
ASKED = (Invoice.model_validate(INVOICE),)
ATTEMPTS = (an_attempt(Outcome.PAID, names=1), an_attempt(Outcome.PAID, 2, names=2))


def rules(
    run: Any = PAID, *answers: Answer, attempts: Sequence[Attempt] = ATTEMPTS, submits: Any = TRIGGERED, **more: Any
) -> list[str]:
    """The rules that this run breaks, with its submission."""
    seen = {"asked": ASKED, "approval_timeout": DEFAULT_APPROVAL_TIMEOUT, **more}
    observed = Observations((run,), tuple(payments_of(run)), (submits, *answers), tuple(attempts), **seen)
    return sorted({violation.rule for violation in check(observed)})


def resubmitted(**changes: Any) -> Answer:
    return replace(TRIGGERED, arguments={"invoice": {**INVOICE, **changes}})


@requirement("CONTENT-KEPT")
def test_unchanged_content_breaks_no_rule() -> None:
    assert rules() == []
    lines = [{**LINE, "description": " Widget ", "amount": 100}, {**LINE, "amount": 100.0}]
    assert rules(submits=resubmitted(customer=" ACME\n", currency="usd", lines=lines, metadata={})) == []


@requirement("CONTENT-KEPT")
@pytest.mark.parametrize(
    "changes",
    [
        {"customer": "Else"},
        {"currency": "EUR"},
        {"metadata": {"purchase_order": "4711"}},
        {"lines": [LINE]},
        *({"lines": [LINE, {**LINE, **other}]} for other in ({"description": "Gadget"}, {"amount": "100.01"})),
        {"lines": [LINE, {**LINE, "due_date": (BEGAN + timedelta(microseconds=1)).isoformat()}]},
    ],
    ids=str,
)
def test_s10_a_field_that_is_lost_or_another_on_its_way(changes: dict[str, Any]) -> None:
    assert rules(submits=resubmitted(**changes)) == ["S10"]
    # Nor may the answer be the run of an earlier submission.
    assert rules(PAID, resubmitted(**changes)) == ["S10"]
    asked = (*ASKED, Invoice.model_validate({**INVOICE, **changes}))
    assert rules(asked=asked) == ["S10"]
    assert rules(asked=asked[1:]) == ["S10"]


def test_s10_each_line_is_held_against_its_own() -> None:
    gadget = {**LINE, "description": "Gadget"}
    for lines, which in (([LINE, gadget], 2), ([gadget, LINE], 1)):
        draft = {**INVOICE, "lines": lines}
        accepted = AcceptedInvoice.of(Invoice.model_validate(draft))
        run = retold(traced(PAID, invoice=accepted), line=which, description="Gadget")
        submits, asked = resubmitted(lines=lines), (Invoice.model_validate(draft),)
        orders = [attempt.order for attempt in ATTEMPTS]
        orders[which - 1] = orders[which - 1].model_copy(update={"description": "Gadget"})
        attempts = [replace(attempt, order=order) for attempt, order in zip(ATTEMPTS, orders, strict=True)]
        assert rules(run, submits=submits, asked=asked, attempts=attempts) == []
        assert "S10" in rules(run, submits=submits, asked=asked)
        assert "S10" in rules(retold(run, line=which, description="Widget"), submits=submits, asked=asked)


def test_s10_a_window_that_is_cut() -> None:
    assert rules(approval_timeout=DEFAULT_APPROVAL_TIMEOUT + timedelta(seconds=1)) == ["S10"]
    assert rules(approval_timeout=None) == []


def test_s10_an_erp_that_is_never_asked() -> None:
    assert rules(asked=()) == ["S10"]
    unchecked = a_run(Status.FAILED, LineStatus.NOT_PAID, LineStatus.NOT_PAID, validated_at=None)
    assert rules(unchecked, asked=(), attempts=()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"invoice_id": "B"},
        {"customer": "Else"},
        {"currency": "EUR"},
        {"description": "Gadget"},
        {"amount": Decimal(99)},
        {"due_date": BEGAN + timedelta(microseconds=1)},
        {"line": 3},
        {"line": 0},
    ],
    ids=str,
)
def test_s10_a_gateway_that_is_asked_for_something_else(changes: dict[str, Any]) -> None:
    order = ATTEMPTS[1].order.model_copy(update={**changes, "idempotency_key": "another"})
    assert "S10" in rules(attempts=(ATTEMPTS[0], replace(ATTEMPTS[1], order=order)))


@pytest.mark.parametrize("key", ["another", "", ATTEMPTS[0].order.idempotency_key])
def test_s10_a_line_with_a_key_that_is_not_its_own(key: str) -> None:
    again = replace(ATTEMPTS[1], order=ATTEMPTS[1].order.model_copy(update={"idempotency_key": key}))
    assert rules(attempts=(*ATTEMPTS, again)) == ["S10"]
    assert rules(attempts=(ATTEMPTS[0], again)) == ["S10"]
    # Reports of tools have no keys.
    assert rules(retold(PAID, line=2, idempotency_key=key)) == (["S10"] if key else [])


def test_s10_an_id_that_is_not_the_invoices() -> None:
    elsewhere = replace(TRIGGERED, content={"workflow_id": "invoice-B", "run_id": "2"})
    assert rules(submits=elsewhere) == ["S10"]


def test_what_can_not_be_read_was_not_submitted() -> None:
    for draft in (None, 7, {}, {**INVOICE, "lines": [{**LINE, "amount": "much"}]}, {**INVOICE, "lines": 1}):
        assert submitted(draft) is None
    assert rules(submits=replace(TRIGGERED, content=None, refusal="INVOICE_INVALID: no")) == []


def test_s5_a_line_that_starts_after_the_cancellation_was_received() -> None:
    assert rules(traced(PAID, started_after_cancel=("invoice-A-line-1",))) == ["S5"]


@pytest.mark.parametrize("tool", ["status", "approve", "reject", "cancel"])
def test_s7_an_answer_for_another_run_or_workflow(tool: str) -> None:
    assert PAID.report is not None
    content = PAID.report.model_dump(mode="json")
    for named, broken in (({"run_id": "1"}, []), ({"run_id": ""}, []), ({"run_id": "2"}, ["S7"])):
        assert rules(PAID, Answer(tool, {"workflow_id": WORKFLOW_ID, **named}, content, "")) == broken
    assert rules(PAID, Answer(tool, {"workflow_id": "invoice-B"}, content, "")) == ["S7"]


def test_s7_a_list_that_is_too_long_too_short_or_of_others() -> None:
    def listed(*run_ids: str, **arguments: Any) -> Answer:
        entries = [{"run_id": run_id, "status": "PAID"} for run_id in run_ids]
        return Answer("list", arguments, {"invoices": entries}, "")

    for answer in (listed("1"), listed("1", "2", limit=2), listed("2", limit=1), listed(status="FAILED")):
        assert rules(PAID, answer, lists_all=True) == []
    for answer in (listed("1", "1"), listed("1", "2", limit=1), listed(), listed("1", status="FAILED")):
        assert rules(PAID, answer, lists_all=True) == ["S7"]
    assert rules(PAID, listed()) == []


FORM = 'Approve or reject invoice A: pay USD 200 to "ACME".\n1. "W": USD 100, due on 2026\n2. "EUR 1": USD 100, due'


def test_s7_a_form_that_asks_about_something_else() -> None:
    for message, broken in (
        (FORM, []),
        (FORM.replace("USD 200", "EUR 200"), ["S7"]),
        (FORM.replace("USD 100, due on", "EUR 100, due on"), ["S7"]),
        (FORM.replace("USD 100, due on", "USD 10, due on"), ["S7"]),
        (FORM.replace("invoice A", "invoice B").replace("ACME", "B").replace("Approve", "Do"), ["S7"]),
        (FORM.partition("\n2.")[0], ["S7"]),
    ):
        assert rules(forms=(Form(WORKFLOW_ID, "1", message),)) == broken
    assert rules(forms=(Form(WORKFLOW_ID, "another", ""),)) == []
