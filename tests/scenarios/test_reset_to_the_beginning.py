"""A reset of an invoice's run to its beginning as an action of scenarios, on the simulator and on the real server.

What else resets may do, on the real server only, is in test_reset.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import pytest
from temporalio.client import Client

from invoice_mcp.domain.names import line_workflow_id
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
from invoice_mcp.testing.engines import simulated as simulated_engine
from invoice_mcp.testing.model.actions import RESETS
from invoice_mcp.testing.simulate.fuzz.episode import EpisodeRunner
from invoice_mcp.testing.simulate.fuzz.generator import GeneratorOptions, generate_scenario
from invoice_mcp.workflow.parent_lookup import Parent
from tests.requirements import requirement

_LATER = (Line(due_in_hours=60), Line(amount="250", due_in_hours=200))
_APPROVE, _REJECT, _CANCEL = Action(verb=Verb.APPROVE), Action(verb=Verb.REJECT), Action(verb=Verb.CANCEL)
_AGAIN, _CHANGED = Action(verb=Verb.TRIGGER), Action(verb=Verb.TRIGGER_CHANGED)
_RESET, _REAPPLIED = (Action(verb=verb) for verb in RESETS)
_TERMINATE, _REFUSED = Action(verb=Verb.TERMINATE), Action(verb=Verb.PAYMENT_REFUSED)
_PASSES, _LONG = Action(verb=Verb.ADVANCE, hours=61), Action(verb=Verb.ADVANCE, hours=240)
_LOST = Action(verb=Verb.ANSWER_LOST)

SCENARIOS = (
    (_RESET, _APPROVE, _RESET, _APPROVE, _PASSES),
    (_APPROVE, _RESET, _PASSES, _APPROVE),
    (_APPROVE, _PASSES, _RESET, _REJECT, _CHANGED, _AGAIN, _APPROVE, _LONG),
    (_APPROVE, _LONG, _RESET, _REFUSED, _APPROVE, _CHANGED),
    (_LOST, _APPROVE, _PASSES, _RESET, _APPROVE),
    (_APPROVE, _RESET, _TERMINATE, _AGAIN, _APPROVE, _LONG, _AGAIN, _APPROVE),
    (_APPROVE, _PASSES, _TERMINATE, _RESET, _APPROVE, _REAPPLIED, _LONG),
    (_REJECT, _REAPPLIED, _REJECT, _RESET, _APPROVE),
    # No cancellation comes again: what was approved before counts once more.
    (_APPROVE, _CANCEL, _REAPPLIED, _LONG),
    (Action(verb=Verb.SIGNAL_APPROVE), Action(verb=Verb.SIGNAL_REJECT), _REAPPLIED, _RESET, _CANCEL, _REAPPLIED),
)


@pytest.fixture(scope="module")
def simulated() -> Iterator[ScenarioRunner]:
    """A runner on the simulator, in the event loop that its clock needs."""
    with ScenarioRunner(kinds()["simulated"], sandboxed=False) as runner:
        yield runner


@requirement("ATTACK-RESET", "ATTACK-MODEL")
@pytest.mark.parametrize("number", range(len(SCENARIOS)), ids=lambda number: " ".join(map(str, SCENARIOS[number])))
def test_a_reset_does_what_the_model_allows(simulated: ScenarioRunner, number: int) -> None:
    by_task = number % 2 == 1
    scenario = Scenario(
        lines=_LATER, actions=SCENARIOS[number], client_interface="tasks" if by_task else "tools", names_runs=by_task
    )
    simulated.play(scenario)


@requirement("ATTACK-RESET", "ATTACK-MODEL")
async def test_on_the_real_server_too(real_invoice_environments: EnvironmentPool) -> None:
    lines = (Line(), Line(amount="250", due_in_hours=-1))
    actions = (_RESET, _APPROVE, _REAPPLIED, _RESET, _REJECT, _CHANGED)
    await play(real_invoice_environments, Scenario(lines=lines, actions=actions))


async def left_waiting(pool: EnvironmentPool) -> None:
    """A reset abandons line 2: it pays nothing, and reports show what the run before paid."""
    async with open_world(pool) as world:
        await world.submit(("1", PAST_DUE), ("2", await world.due_in(_PASSES_FOR)))
        await world.approve(by="Ann")
        await world.when(lambda: world.ledger)
        new = await world.reset()
        report = await world.until(Status.PENDING_APPROVAL)
        assert (report.run_id, report.decision) == (new, None)
        assert "earlier submissions paid, or perhaps paid: line 1, line 2" in (await world.status()).summary
        await world.advance(2 * _PASSES_FOR)
        line = world.handle(line_workflow_id(world.workflow_id, 2))
        assert (await line.result())["error"] == "NOT_AWAITED"
        assert [paid.order.line for paid in world.ledger] == [1]
        await world.approve(by="Bob")
        report = await world.until(Status.PAID)
        assert report.decision is not None
        assert report.decision.by == "Bob"
        assert [(paid.order.line, paid.run_id != new) for paid in world.ledger] == [(1, True), (2, True)]


_PASSES_FOR = timedelta(hours=30)


@requirement("ATTACK-RESET", "PAY-ONCE")
def test_an_abandoned_line_pays_nothing_until_it_is_approved_again(simulated: ScenarioRunner) -> None:
    simulated.run(left_waiting)


async def ended_before_it_began(pool: EnvironmentPool, *, is_reset_again: bool) -> None:
    """Without a worker, the run that continues after a reset is reset again, or terminated."""
    async with open_world(pool) as world:
        invoice = world.invoice(("1", PAST_DUE))
        await world.trigger(invoice)
        await world.until(Status.PENDING_APPROVAL)
        await world.approve()
        await world.until(Status.PAID)
        await world.crash_worker()
        never = await world.reset()
        await (world.reset() if is_reset_again else world.handle().terminate())
        await world.restart_worker()
        assert (await world.refusal(world.status(run_id=never))).code == "ALREADY_CLOSED"
        assert (await world.refusal(world.approve(run_id=never))).code == "ALREADY_CLOSED"
        assert (await world.refusal(world.trigger({**invoice, "customer": "Another"}))).code == "INVOICE_CONFLICT"
        assert (await world.trigger(invoice)).created is not is_reset_again
        report = await world.until(Status.PENDING_APPROVAL)
        assert "earlier submissions paid, or perhaps paid: line 1" in (await world.status()).summary
        assert report.run_id != never
        await world.approve()
        await world.until(Status.PAID)
        assert [paid.order.line for paid in world.ledger] == [1]
        assert [line.status for line in (await world.status()).lines] == [LineStatus.PAID]


@requirement("ATTACK-RESET")
@pytest.mark.parametrize("is_reset_again", [False, True])
def test_an_invoice_whose_run_never_started_can_be_reset(simulated: ScenarioRunner, is_reset_again: bool) -> None:
    simulated.run(partial(ended_before_it_began, is_reset_again=is_reset_again))


@requirement("ATTACK-RESET")
async def test_an_invoice_whose_run_never_started_can_be_reset_on_the_real_server(
    real_invoice_environments: EnvironmentPool,
) -> None:
    await ended_before_it_began(real_invoice_environments, is_reset_again=False)


@requirement("ATTACK-RESET", "SIMULATE-DETECTS")
def test_a_worker_that_pays_for_any_run_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    async def everybody(_client: Client, _workflow_id: str, _run_id: str) -> Parent:
        return Parent.WAITING

    drawn = [
        each
        for run in range(60)
        if not set(RESETS).isdisjoint(_verbs(each := generate_scenario(3, run, GeneratorOptions())))
    ]
    monkeypatch.setattr(simulated_engine, "find_parent", everybody)
    runner = EpisodeRunner()
    try:
        convicted = {
            str(each): episode.failure.causes for each in drawn if (episode := runner.run(each, "INV-1")).failure
        }
    finally:
        runner.close()
    assert convicted == {"trigger signal-approve signal-approve approve reset": ("S1",)}


def _verbs(scenario: Scenario) -> list[Verb]:
    return [action.verb for action in scenario.actions]


@requirement("ATTACK-RESET")
def test_what_was_paid_two_runs_ago_is_known_after_two_resets(simulated: ScenarioRunner) -> None:
    async def reset_twice(pool: EnvironmentPool) -> list[bool]:
        async with open_world(pool) as world:
            far = await world.due_in(timedelta(days=9))
            await world.submit(("100", PAST_DUE), ("250", far))
            await world.approve()
            await world.when(lambda: world.payments.made)
            await world.reset()
            await world.reset()
            return [line.settled_before for line in (await world.status()).lines]

    # The second line may be paid as well, since its workflow continues.
    assert simulated.run(reset_twice) == [True, True]
