"""Scenarios as code: actions that a Scenario lacks, or faults that the model would notice before the checker runs.

Together with the scenarios that end before the model notices, they prove that each rule of the checker works alone.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from invoice_mcp.domain.report import Status
from invoice_mcp.testing import PAST_DUE, ToolRefused, World
from tests.scenarios.controls.control import Script

_PAST_DEADLINE = timedelta(hours=122)


async def _opposite(world: World) -> None:
    await world.submit(("100", PAST_DUE), ("250", await world.due_in(timedelta(hours=60))))
    await world.approve()
    with suppress(ToolRefused):
        await world.reject()


async def _late(world: World) -> None:
    await world.submit()
    await world.advance(_PAST_DEADLINE)
    with suppress(ToolRefused):
        await world.approve()


async def _decided_then_crashed(world: World) -> None:
    world.erp.is_down(4)
    await world.trigger()
    await world.approve()
    await world.crash_worker()
    await world.restart_worker()


async def _refused(world: World) -> None:
    world.payments.refuses()
    await world.submit()
    await world.approve()
    await world.when(lambda: world.payments.asked)


async def _crashed(world: World) -> None:
    await world.submit(("100", PAST_DUE), ("250", await world.due_in(timedelta(hours=60))))
    await world.approve()
    await world.until(Status.PAYING)
    await world.crash_worker()
    await world.restart_worker()


async def _under_way(world: World) -> None:
    world.payments.is_slow()
    await world.submit()
    await world.approve()
    await world.when(lambda: world.payments.under_way)
    await world.cancel()
    # On a busy machine the answer could come before the cancellation otherwise.
    await world.when(lambda: _is_cancelled(world))
    world.payments.answers()


async def _named_twice(world: World) -> None:
    world.payments.echoes = False
    world.payments.repeats_an_answer(line=2)
    await world.submit(("100", PAST_DUE), ("250", await world.due_in(timedelta(hours=60))))
    await world.approve()
    await world.advance(timedelta(hours=61))
    await world.when(lambda: len(world.payments.answered) == 2)


async def _is_cancelled(world: World) -> bool:
    report = await world.read_report()
    return report.cancelling or report.status.is_terminal


async def _signalled(world: World) -> None:
    await world.submit(("100", PAST_DUE))
    await world.signal("ApproveInvoice")


OPPOSITE = Script("approve reject (checker only)", _opposite)
LATE = Script("advance-122h approve (checker only)", _late)
DECIDED_THEN_CRASHED = Script("erp-down approve crash (checker only)", _decided_then_crashed)
REFUSED = Script("payment-refused-1 approve (checker only)", _refused)
CRASHED = Script("approve crash (checker only)", _crashed)
UNDER_WAY = Script("payment-slow-1 approve cancel (checker only)", _under_way)
NAMED_TWICE = Script("stale-answer-2 approve advance-61h (checker only, nothing echoed)", _named_twice)
SIGNALLED = Script("an approving signal, which the policy refuses (checker only)", _signalled)
STORIES = (OPPOSITE, LATE, DECIDED_THEN_CRASHED, REFUSED, CRASHED, UNDER_WAY, NAMED_TWICE, SIGNALLED)
