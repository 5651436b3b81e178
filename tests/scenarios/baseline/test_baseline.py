"""The checker on workflows with the original sample's interface: it detects the sample's six faults, and only those."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest

from invoice_mcp.testing import PAST_DUE, Engine, EnvironmentPool, Violations, kinds
from invoice_mcp.testing.baseline.world import BaselineWorld, open_baseline_world
from invoice_mcp.testing.checker.violations import Violation
from invoice_mcp.testing.world.base import DAY
from tests.requirements import requirement
from tests.scenarios.baseline.faulty import FAULTY
from tests.scenarios.baseline.sound import SOUND
from tests.scenarios.baseline.unsubmitted import Stray

Scenario = Callable[[BaselineWorld], Coroutine[Any, Any, None]]


async def violations_of(
    workflows: Sequence[type], scenario: Scenario, on: EnvironmentPool | None = None
) -> tuple[Violation, ...]:
    """What the checker finds. By default on a new server: a hanging workflow makes its server unusable."""
    async with AsyncExitStack() as stack:
        where: EnvironmentPool | Engine | None = on
        if where is None:
            where = await stack.enter_async_context(kinds()["time-skipping"].start())
        try:
            async with open_baseline_world(where, workflows) as world:
                await scenario(world)
        except Violations as violations:
            return violations.found
    return ()


async def rejected_then_approved(world: BaselineWorld) -> None:
    """Both before the ERP answers, so that the workflow can't end between them."""
    world.erp.is_slow()
    await world.start()
    await world.signal("RejectInvoice")
    await world.signal("ApproveInvoice")


async def payment_refused(world: BaselineWorld) -> None:
    world.payments.refuses(line=2)
    await world.start(world.invoice((100, PAST_DUE), (200, PAST_DUE)))
    await world.signal("ApproveInvoice")
    await world.until("PAID", "FAILED")


async def line_without_due_date(world: BaselineWorld) -> None:
    invoice = world.invoice((100, PAST_DUE), (200, PAST_DUE))
    del invoice["lines"][1]["due_date"]
    await world.start(invoice)
    await world.signal("ApproveInvoice")


async def no_lines(world: BaselineWorld) -> None:
    await world.start(world.invoice() | {"lines": []})
    await world.signal("ApproveInvoice")


async def nobody_decides(world: BaselineWorld) -> None:
    await world.start()
    await world.until("PENDING-APPROVAL")
    await world.advance(5 * DAY + timedelta(minutes=1))


async def answer_lost(world: BaselineWorld) -> None:
    world.payments.loses_the_answer()
    await world.start()
    await world.signal("ApproveInvoice")
    await world.until("PAYING")
    await world.advance(timedelta(minutes=1))
    await world.until("PAID", "FAILED")


async def submitted_twice(world: BaselineWorld) -> None:
    invoice = world.invoice()
    for _ in range(2):
        await world.start(invoice)
        await world.signal("ApproveInvoice")


SIX_FAULTS: dict[Scenario, set[str]] = {
    rejected_then_approved: {"S1", "S3", "S8"},
    payment_refused: {"S4"},
    line_without_due_date: {"S9", "L1"},
    no_lines: {"S9", "L1"},
    nobody_decides: {"S7"},
    answer_lost: {"S2"},
    submitted_twice: {"S2"},
}
"""The rules that the faulty workflow violates, by scenario."""


def named(scenario: Scenario) -> str:
    return scenario.__name__


@requirement("HARNESS-BASELINE")
@pytest.mark.parametrize("scenario", SIX_FAULTS, ids=named)
async def test_the_faulty_workflow_violates_the_rules(scenario: Scenario) -> None:
    found = await violations_of(FAULTY, scenario)
    assert {each.rule for each in found} == SIX_FAULTS[scenario], found


async def test_an_approval_of_an_incomplete_invoice_is_never_late() -> None:
    """An incomplete invoice has no deadline that the checker knows."""

    async def approved_when_pending(world: BaselineWorld) -> None:
        invoice = world.invoice((100, PAST_DUE), (200, PAST_DUE))
        del invoice["lines"][1]["due_date"]
        await world.start(invoice)
        await world.until("PENDING-APPROVAL")
        await world.signal("ApproveInvoice")

    found = await violations_of(FAULTY, approved_when_pending)
    assert {each.rule for each in found} == {"S9", "L1"}, found


@pytest.mark.parametrize("scenario", SIX_FAULTS, ids=named)
async def test_the_sound_workflow_passes(scenario: Scenario) -> None:
    assert await violations_of(SOUND, scenario) == ()


async def test_the_sound_workflow_passes_in_a_pooled_environment() -> None:
    """Equal lines, one of them paid at the third attempt, and a line that is due after the approval timeout.

    The last one gets another line's receipt at first.
    """
    pool = EnvironmentPool(kinds()["time-skipping"])
    try:
        async with open_baseline_world(pool, SOUND) as world:
            world.erp.is_down(2)
            world.payments.is_down(2, line=1)
            world.payments.repeats_an_answer(line=3)
            invoice = world.invoice((9.95, PAST_DUE), (9.95, PAST_DUE), (20, await world.due_in(30 * DAY)))
            invoice["lines"][1]["description"] = invoice["lines"][0]["description"]
            workflow_id = await world.start(invoice)
            await world.advance(timedelta(minutes=1))
            await world.until("PENDING-APPROVAL")
            assert await world.signal("ApproveInvoice")
            await world.until("PAYING")
            await world.advance(29 * DAY)
            assert [paid.order.line for paid in world.ledger] == [1, 2]
            await world.advance(2 * DAY)
            await world.until("PAID")
            assert not await world.signal("RejectInvoice", workflow_id)
        assert await violations_of(FAULTY, no_lines, on=pool)
        assert await violations_of(SOUND, no_lines, on=pool) == ()
    finally:
        await pool.close()


async def test_a_scenario_is_checked_although_the_clock_is_stuck() -> None:
    async def wait_a_day(world: BaselineWorld) -> None:
        await line_without_due_date(world)
        await world.advance(DAY)

    assert {each.rule for each in await violations_of(FAULTY, wait_a_day)} == {"S9", "L1"}


async def test_a_payment_without_an_invoice_violates_s1() -> None:
    async def pay_stray(world: BaselineWorld) -> None:
        line = world.invoice()["lines"][0]
        await world.engine.client.execute_workflow("Stray", line, id="stray", task_queue=world.task_queue)

    found = await violations_of([*SOUND, Stray], pay_stray)
    assert [(each.rule, each.workflow_id) for each in found] == [("S1", "unknown to stray")]
