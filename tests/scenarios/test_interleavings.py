"""Exhaustive in another way: not what is done, but in which order everything happens that is set off by it."""

from __future__ import annotations

import asyncio

import pytest

from invoice_mcp.line_workflow import PayLineItem
from invoice_mcp.testing import Violations
from invoice_mcp.testing._exhaustive import Plan, lives_of, plans
from invoice_mcp.testing.simulator import Explored, explore, live_again
from invoice_mcp.workflows import InvoiceWorkflow
from tests.requirements import requirement
from tests.scenarios.controls.lines import PaysTwiceOnRetry
from tests.scenarios.controls.racing import TakesLateSignals

pytestmark = pytest.mark.thorough


def explored(plan: Plan, workflows: tuple[type, ...] | None = None) -> Explored:
    life = lives_of(plan) if workflows is None else lives_of(plan, workflows)
    return asyncio.run(explore(life))


@requirement("ORDER-ALL")
@pytest.mark.parametrize("plan", [*plans(0), *plans(1, lines=1)], ids=str)
def test_no_order_of_things_breaks_a_promise(plan: Plan) -> None:
    found = explored(plan)
    assert found.ended >= 2
    assert found.states > found.lives


@requirement("ORDER-ALL")
def test_a_decision_in_the_same_task_as_the_deadline_is_among_the_orders() -> None:
    plan = Plan(1, ("signal-approve",), faults=(), crashes=False)
    with pytest.raises(Violations) as broken:
        explored(plan, (TakesLateSignals, PayLineItem))
    assert {violation.rule for violation in broken.value.found} & {"S1", "S8"}


@requirement("ORDER-ALL")
def test_a_crash_between_a_payment_and_its_record_is_among_the_orders() -> None:
    plan = Plan(1, ("approve",), faults=(), crashes=True)
    with pytest.raises(Violations) as broken:
        explored(plan, (InvoiceWorkflow, PaysTwiceOnRetry))
    assert "S2" in {violation.rule for violation in broken.value.found}
    assert explored(Plan(1, ("approve",), faults=(), crashes=False), (InvoiceWorkflow, PaysTwiceOnRetry)).ended


@requirement("ORDER-ALL")
def test_what_was_found_can_be_lived_again_by_its_path() -> None:
    life = lives_of(Plan(1, ("signal-approve",), faults=(), crashes=False), (TakesLateSignals, PayLineItem))
    with pytest.raises(Violations) as broken:
        asyncio.run(explore(life))
    [note] = broken.value.__notes__
    path = tuple(int(branch) for branch in note.removeprefix("Its path: ").split())
    with pytest.raises(Violations) as again:
        asyncio.run(live_again(life, path))
    assert again.value.found == broken.value.found
