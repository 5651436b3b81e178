"""The checker on workflows that speak as the seed does: it convicts the seed's six faults, and none who is innocent."""

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
from tests.scenarios.baseline.stray import Stray

Scenario = Callable[[BaselineWorld], Coroutine[Any, Any, None]]


async def convictions(
    workflows: Sequence[type], scenario: Scenario, on: EnvironmentPool | None = None
) -> tuple[Violation, ...]:
    """What the checker finds, on a server of its own: one that a hanging workflow was on is of no more use."""
    async with AsyncExitStack() as stack:
        where: EnvironmentPool | Engine | None = on
        if where is None:
            where = await stack.enter_async_context(kinds()["time-skipping"].start())
        try:
            async with open_baseline_world(where, workflows) as seed:
                await scenario(seed)
        except Violations as violations:
            return violations.found
    return ()


async def rejected_then_approved(seed: BaselineWorld) -> None:
    """Both before the ERP has answered: no end of the workflow comes between them."""
    seed.erp.is_slow()
    await seed.start()
    await seed.signal("RejectInvoice")
    await seed.signal("ApproveInvoice")


async def payment_refused(seed: BaselineWorld) -> None:
    seed.payments.refuses(line=2)
    await seed.start(seed.invoice((100, PAST_DUE), (200, PAST_DUE)))
    await seed.signal("ApproveInvoice")
    await seed.until("PAID", "FAILED")


async def line_without_due_date(seed: BaselineWorld) -> None:
    invoice = seed.invoice((100, PAST_DUE), (200, PAST_DUE))
    del invoice["lines"][1]["due_date"]
    await seed.start(invoice)
    await seed.signal("ApproveInvoice")


async def no_lines(seed: BaselineWorld) -> None:
    await seed.start(seed.invoice() | {"lines": []})
    await seed.signal("ApproveInvoice")


async def nobody_decides(seed: BaselineWorld) -> None:
    await seed.start()
    await seed.until("PENDING-APPROVAL")
    await seed.advance(5 * DAY + timedelta(minutes=1))


async def answer_lost(seed: BaselineWorld) -> None:
    seed.payments.loses_the_answer()
    await seed.start()
    await seed.signal("ApproveInvoice")
    await seed.until("PAYING")
    await seed.advance(timedelta(minutes=1))
    await seed.until("PAID", "FAILED")


async def submitted_twice(seed: BaselineWorld) -> None:
    invoice = seed.invoice()
    for _ in range(2):
        await seed.start(invoice)
        await seed.signal("ApproveInvoice")


SIX_FAULTS: dict[Scenario, set[str]] = {
    rejected_then_approved: {"S1", "S3", "S8"},
    payment_refused: {"S4"},
    line_without_due_date: {"S9", "L1"},
    no_lines: {"S9", "L1"},
    nobody_decides: {"S7"},
    answer_lost: {"S2"},
    submitted_twice: {"S2"},
}
"""Scenario -> the promises that the faulty workflow breaks in it."""


def named(scenario: Scenario) -> str:
    return scenario.__name__


@requirement("HARNESS-BASELINE")
@pytest.mark.parametrize("scenario", SIX_FAULTS, ids=named)
async def test_the_faulty_workflow_is_convicted(scenario: Scenario) -> None:
    found = await convictions(FAULTY, scenario)
    assert {each.rule for each in found} == SIX_FAULTS[scenario], found


async def test_an_incomplete_invoice_is_approved_in_time_whenever_it_is() -> None:
    """Nothing says how long it waits: an approval that comes after the ERP's answer is not late."""

    async def approved_once_it_waits(seed: BaselineWorld) -> None:
        invoice = seed.invoice((100, PAST_DUE), (200, PAST_DUE))
        del invoice["lines"][1]["due_date"]
        await seed.start(invoice)
        await seed.until("PENDING-APPROVAL")
        await seed.signal("ApproveInvoice")

    found = await convictions(FAULTY, approved_once_it_waits)
    assert {each.rule for each in found} == {"S9", "L1"}, found


@pytest.mark.parametrize("scenario", SIX_FAULTS, ids=named)
async def test_the_sound_workflow_is_acquitted(scenario: Scenario) -> None:
    assert await convictions(SOUND, scenario) == ()


async def test_a_sound_life_is_acquitted_on_a_stage_that_is_kept() -> None:
    """Lines alike, one of them paid at the third attempt, and one due after the time to decide is over.

    That one is given another line's receipt at first.
    """
    pool = EnvironmentPool(kinds()["time-skipping"])
    try:
        async with open_baseline_world(pool, SOUND) as seed:
            seed.erp.is_down(2)
            seed.payments.is_down(2, line=1)
            seed.payments.repeats_an_answer(line=3)
            invoice = seed.invoice((9.95, PAST_DUE), (9.95, PAST_DUE), (20, await seed.due_in(30 * DAY)))
            invoice["lines"][1]["description"] = invoice["lines"][0]["description"]
            workflow_id = await seed.start(invoice)
            await seed.advance(timedelta(minutes=1))
            await seed.until("PENDING-APPROVAL")
            assert await seed.signal("ApproveInvoice")
            await seed.until("PAYING")
            await seed.advance(29 * DAY)
            assert [paid.order.line for paid in seed.ledger] == [1, 2]
            await seed.advance(2 * DAY)
            await seed.until("PAID")
            assert not await seed.signal("RejectInvoice", workflow_id)
        assert await convictions(FAULTY, no_lines, on=pool)
        assert await convictions(SOUND, no_lines, on=pool) == ()
    finally:
        await pool.close()


async def test_a_scenario_in_which_time_stands_still_is_judged() -> None:
    async def waits(seed: BaselineWorld) -> None:
        await line_without_due_date(seed)
        await seed.advance(DAY)

    assert {each.rule for each in await convictions(FAULTY, waits)} == {"S9", "L1"}


async def test_a_payment_that_is_no_invoices_is_convicted() -> None:
    async def strays(seed: BaselineWorld) -> None:
        line = seed.invoice()["lines"][0]
        await seed.engine.client.execute_workflow("Stray", line, id="stray", task_queue=seed.task_queue)

    found = await convictions([*SOUND, Stray], strays)
    assert [(each.rule, each.workflow_id) for each in found] == [("S1", "unknown to stray")]
