"""An attacker who reaches Temporal itself, past the MCP server: the model says what each of his requests may do.

What a reset may do is in test_reset.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from invoice_mcp.domain.report import LineStatus, Status
from invoice_mcp.testing import (
    PAST_DUE,
    Action,
    EnvironmentPool,
    Line,
    Scenario,
    ScenarioRunner,
    Verb,
    kinds,
    open_world,
    play,
)
from invoice_mcp.testing.model.actions import ATTACKS
from invoice_mcp.testing.simulate.fuzz.conformance import attack
from invoice_mcp.testing.simulate.fuzz.generator import GeneratorOptions, generate_scenario
from tests.requirements import requirement

_LATER = (Line(due_in_hours=60), Line(amount="250", due_in_hours=200))
_DOWN = Action(verb=Verb.ERP_DOWN)
_APPROVE, _PASSES = Action(verb=Verb.APPROVE), Action(verb=Verb.ADVANCE, hours=61)
_REJECT, _CANCEL = Action(verb=Verb.REJECT), Action(verb=Verb.CANCEL)
_QUERY, _RAW_APPROVE, _RAW_REJECT = Verb.RAW_QUERY, Verb.RAW_APPROVE, Verb.RAW_REJECT
_RAW_CANCEL, _TERMINATE = Verb.RAW_CANCEL, Verb.TERMINATE
_SIGNALS = (Verb.SIGNAL_APPROVE, Verb.SIGNAL_REJECT)
_EVERY = (*ATTACKS, *_SIGNALS)
# What is asked by the tools afterwards.
_AFTER = (Verb.APPROVE, Verb.CANCEL, Verb.TRIGGER_CHANGED, Verb.TRIGGER, Verb.APPROVE)

# For each status: the scripted faults, and the actions that lead to it.
_OPEN: dict[str, tuple[tuple[Action, ...], tuple[Action, ...]]] = {
    "before validation": ((_DOWN,) * 2, ()),
    "waiting": ((), ()),
}
_APPROVED: dict[str, tuple[tuple[Action, ...], tuple[Action, ...]]] = {
    "approved, nothing due": ((), (_APPROVE,)),
    "one line paid": ((), (_APPROVE, _PASSES)),
    "a payment is tried again": ((), (Action(verb=Verb.ANSWER_LOST), _APPROVE, _PASSES)),
}
_ENDED: dict[str, tuple[tuple[Action, ...], tuple[Action, ...]]] = {
    "paid": ((), (_APPROVE, Action(verb=Verb.ADVANCE, hours=240))),
    "rejected": ((), (_REJECT,)),
    "cancelled": ((), (_CANCEL,)),
    "expired": ((), (Action(verb=Verb.ADVANCE, hours=122),)),
    "failed": ((Action(verb=Verb.ERP_REFUSES),), ()),
}
# The attacks of one scenario, in a row. After an attack without effect the next one meets the same status: after a
# query, a signal that the policy refuses, a repeated decision, and any attack on a closed invoice.
_ATTACKED = [
    *((prefix, (_QUERY, Verb.SIGNAL_APPROVE, each), False) for prefix in _OPEN for each in (_RAW_APPROVE, _RAW_REJECT)),
    *((prefix, (_QUERY, Verb.SIGNAL_APPROVE, each), False) for prefix in _OPEN for each in (_RAW_CANCEL, _TERMINATE)),
    *((prefix, (Verb.SIGNAL_REJECT, *ATTACKS), False) for prefix in _OPEN),
    *(
        (prefix, (_QUERY, _RAW_APPROVE, _RAW_REJECT, *_SIGNALS, each), False)
        for prefix in _APPROVED
        for each in (_RAW_CANCEL, _TERMINATE)
    ),
    *((prefix, _EVERY, False) for prefix in _ENDED),
    # A second attack, after one that has changed something.
    *(
        ("waiting", (first, _QUERY, _RAW_APPROVE, _RAW_REJECT, *last), True)
        for first in (_RAW_APPROVE, Verb.SIGNAL_APPROVE, _RAW_REJECT, Verb.SIGNAL_REJECT, _RAW_CANCEL, _TERMINATE)
        for last in ([(_RAW_CANCEL,), (_TERMINATE,)] if "approve" in first else [(_RAW_CANCEL, _TERMINATE)])
    ),
]


@pytest.fixture(scope="module")
def simulated() -> Iterator[ScenarioRunner]:
    """A runner on the simulator, in the event loop that its clock needs."""
    with ScenarioRunner(kinds()["simulated"], sandboxed=False) as runner:
        yield runner


@requirement("ATTACK-MODEL")
@pytest.mark.parametrize(
    ("prefix", "verbs", "signals_approve"), _ATTACKED, ids=[f"{each[0]}: {' '.join(each[1])}" for each in _ATTACKED]
)
def test_attacks_do_what_the_model_allows(
    simulated: ScenarioRunner, prefix: str, verbs: tuple[Verb, ...], signals_approve: bool
) -> None:
    before, leads_there = {**_OPEN, **_APPROVED, **_ENDED}[prefix]
    attacks = tuple(Action(verb=verb) for verb in (*verbs, *_AFTER))
    actions = (*leads_there, *attacks, _PASSES)
    simulated.play(Scenario(lines=_LATER, before=before, actions=actions, signals_approve=signals_approve))


# Of the attacks on the real server: those in a row, what leads there, and when the second line is due.
_REAL = {
    "waiting: approve": ((), -1, (_QUERY, _RAW_APPROVE, *ATTACKS)),
    "waiting: reject": ((), -1, (_RAW_REJECT, _RAW_APPROVE)),
    "waiting: cancel": ((), -1, (_RAW_CANCEL, _RAW_REJECT)),
    "waiting: terminate": ((), -1, (_TERMINATE, *ATTACKS)),
    "one line paid: cancel": ((_APPROVE,), 60, (_QUERY, _RAW_APPROVE, _RAW_REJECT, _RAW_CANCEL)),
    "one line paid: terminate": ((_APPROVE,), 60, (_TERMINATE, Verb.TRIGGER_CHANGED)),
}


@requirement("ATTACK-MODEL")
@pytest.mark.parametrize("case", _REAL)
async def test_on_the_real_server_too(real_invoice_environments: EnvironmentPool, case: str) -> None:
    leads_there, due, verbs = _REAL[case]
    lines = (Line(), Line(amount="250", due_in_hours=due))
    actions = (*leads_there, *(Action(verb=verb) for verb in (*verbs, Verb.APPROVE)))
    await play(real_invoice_environments, Scenario(lines=lines, actions=actions))


async def terminated_during_a_payment(pool: EnvironmentPool, *, is_answered_first: bool) -> None:
    """A slow gateway works on line 1 while the invoice is terminated; then that is submitted and approved again.

    Args:
        is_answered_first: The gateway answers before that; else after it.
    """
    async with open_world(pool) as world:
        invoice = world.invoice(("1", PAST_DUE), ("2", "2090-01-01T00:00:00Z"))
        await world.trigger(invoice)
        await world.until(Status.PENDING_APPROVAL)
        world.payments.is_slow()
        await world.approve()
        await world.when(lambda: world.payments.under_way)
        assert await attack(world, Verb.TERMINATE) == "OK"

        async def is_reported_correctly() -> bool:
            report = await world.status()
            assert (report.status, report.workflow_status) == (Status.PAYING, "TERMINATED")
            assert "Lines that are not reported as paid may have been paid" in report.summary
            refusal = await world.refusal(world.trigger({**invoice, "customer": "Another"}))
            assert refusal.code == "INVOICE_CONFLICT"
            [entry] = [each for each in await world.list() if each["workflow_id"] == world.workflow_id]
            return (entry["status"], entry["workflow_status"]) == ("PAYING", "TERMINATED")

        # Lists are updated a moment later.
        await world.when(is_reported_correctly)
        if is_answered_first:
            await world.ports_answer()
            await world.when(is_reported_correctly)
        assert (await world.trigger(invoice)).created
        waiting = await world.until(Status.PENDING_APPROVAL)
        assert "earlier submissions paid, or perhaps paid: line 1, line 2" in waiting.summary
        await world.approve()
        await world.when(lambda: world.ledger)
        await world.ports_answer()
        await world.cancel()
        report = await world.until(Status.CANCELLED)
        assert [line.status for line in report.lines] == [LineStatus.PAID, LineStatus.CANCELLED]
        assert [paid.order.line for paid in world.ledger] == [1]


@requirement("ATTACK-MODEL", "PAY-ONCE")
@pytest.mark.parametrize("is_answered_first", [True, False])
def test_a_payment_under_way_while_the_invoice_is_terminated_is_made_once(
    simulated: ScenarioRunner, is_answered_first: bool
) -> None:
    simulated.run(partial(terminated_during_a_payment, is_answered_first=is_answered_first))


@requirement("ATTACK-MODEL", "PAY-ONCE")
async def test_so_it_is_on_the_real_server(real_invoice_environments: EnvironmentPool) -> None:
    await terminated_during_a_payment(real_invoice_environments, is_answered_first=False)


async def terminated_before_a_rejection_is_received(pool: EnvironmentPool) -> None:
    """The invoice is terminated before a worker receives its rejection by signal. The report shows both."""
    async with open_world(pool) as world:
        invoice = world.invoice(("1", PAST_DUE))
        await world.trigger(invoice)
        await world.until(Status.PENDING_APPROVAL)
        await world.crash_worker()
        await world.signal("RejectInvoice")
        assert await attack(world, Verb.TERMINATE) == "OK"
        await world.restart_worker()
        report = await world.status()
        assert report.workflow_status == "TERMINATED"
        assert "was ended from outside (TERMINATED)" in report.summary
        assert (await world.refusal(world.approve())).code == "ALREADY_CLOSED"
        assert (await world.trigger(invoice)).created
        await world.approve()
        await world.until(Status.PAID)


@requirement("ATTACK-MODEL")
def test_an_invoice_terminated_before_it_received_a_rejection_may_be_submitted_again(simulated: ScenarioRunner) -> None:
    simulated.run(terminated_before_a_rejection_is_received)


@requirement("ATTACK-MODEL")
async def test_it_may_on_the_real_server(real_invoice_environments: EnvironmentPool) -> None:
    await terminated_before_a_rejection_is_received(real_invoice_environments)


@requirement("ATTACK-MODEL")
def test_attacks_occur_in_eager_scenarios_too(simulated: ScenarioRunner) -> None:
    drawn = [generate_scenario(7, run, GeneratorOptions(eager_share=1.0)) for run in range(8)]
    attacked = [each for each in drawn if any(action.verb in ATTACKS for action in each.actions)]
    assert len(attacked) > 2
    for scenario in attacked:
        simulated.play(scenario)
