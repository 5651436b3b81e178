"""An attacker who reaches Temporal itself, past the MCP server: the model says what each of his requests may do."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.service import RPCError

from invoice_mcp.reports import Status
from invoice_mcp.testing import Action, Line, Scenario, StageRunner, Verb, World, kinds, play
from invoice_mcp.testing._actions import ATTACKS
from invoice_mcp.testing.plugin import NewWorld
from tests.requirements import requirement

_LATER = (Line(due_in_hours=60), Line(amount="250", due_in_hours=200))
_DOWN = Action(verb=Verb.ERP_DOWN)
_APPROVE, _PASSES = Action(verb=Verb.APPROVE), Action(verb=Verb.ADVANCE, hours=61)
_REJECT, _CANCEL = Action(verb=Verb.REJECT), Action(verb=Verb.CANCEL)
_SIGNALS = (Verb.SIGNAL_APPROVE, Verb.SIGNAL_REJECT)

# Of each stage: what is scripted before, and what leads there.
_STAGES: dict[str, tuple[tuple[Action, ...], tuple[Action, ...]]] = {
    "before validation": ((_DOWN,) * 2, ()),
    "waiting": ((), ()),
    "approved, nothing due": ((), (_APPROVE,)),
    "one line paid": ((), (_APPROVE, _PASSES)),
    "a payment is tried again": ((), (Action(verb=Verb.ANSWER_LOST), _APPROVE, _PASSES)),
    "paid": ((), (_APPROVE, Action(verb=Verb.ADVANCE, hours=240))),
    "rejected": ((), (_REJECT,)),
    "cancelled": ((), (_CANCEL,)),
    "expired": ((), (Action(verb=Verb.ADVANCE, hours=122),)),
    "failed": ((Action(verb=Verb.ERP_REFUSES),), ()),
}
# What is asked by the tools afterwards.
_AFTER = (Verb.APPROVE, Verb.CANCEL, Verb.TRIGGER_CHANGED, Verb.TRIGGER, Verb.APPROVE)


@pytest.fixture(scope="module")
def simulated() -> Iterator[StageRunner]:
    """A stage on the simulator, in the event loop that its clock needs."""
    with StageRunner(kinds()["simulated"], sandboxed=False) as runner:
        yield runner


def _attacked(stage: str, *verbs: Verb, signals_approve: bool = False) -> Scenario:
    before, leads_there = _STAGES[stage]
    attacks = tuple(Action(verb=verb) for verb in (*verbs, *_AFTER))
    return Scenario(
        lines=_LATER, before=before, actions=(*leads_there, *attacks, _PASSES), signals_approve=signals_approve
    )


@requirement("ATTACK-MODEL")
@pytest.mark.parametrize("stage", _STAGES)
@pytest.mark.parametrize("verb", [*ATTACKS, *_SIGNALS])
def test_an_attack_does_what_the_model_allows(simulated: StageRunner, verb: Verb, stage: str) -> None:
    simulated.run(partial(play, scenario=_attacked(stage, verb)))


@requirement("ATTACK-MODEL")
@pytest.mark.parametrize("first", [*ATTACKS, *_SIGNALS])
@pytest.mark.parametrize("second", ATTACKS)
def test_so_does_a_second_one(simulated: StageRunner, first: Verb, second: Verb) -> None:
    simulated.run(partial(play, scenario=_attacked("waiting", first, second, signals_approve=True)))


_ENDED = dict.fromkeys(ATTACKS, "NOT_FOUND") | {Verb.RAW_QUERY: "OK", Verb.RAW_CANCEL: "OK"}
_REAL: dict[str, dict[Verb, str]] = {
    "waiting": dict.fromkeys(ATTACKS, "OK"),
    "one line paid": dict.fromkeys(ATTACKS, "OK") | {Verb.RAW_REJECT: "ALREADY_DECIDED"},
    "paid": _ENDED,
}


async def _answer(world: World, verb: Verb) -> str:
    try:
        match verb:
            case Verb.RAW_APPROVE | Verb.RAW_REJECT:
                await world.raw_update(verb.value.removeprefix("raw-"))
            case Verb.RAW_CANCEL:
                await world.handle().cancel()
            case Verb.RAW_QUERY:
                await world.handle().query("GetInvoiceReport")
            case _:
                await world.handle().terminate()
    except RPCError as error:
        return error.status.name
    except WorkflowUpdateFailedError as error:
        return str(getattr(error.cause, "type", error.cause))
    return "OK"


@requirement("ATTACK-MODEL")
@pytest.mark.parametrize("stage", ["waiting", "one line paid", "paid"])
@pytest.mark.parametrize("verb", ATTACKS)
async def test_on_the_real_server_too(real_world: NewWorld, verb: Verb, stage: str) -> None:
    async with real_world() as world:
        due = "2020-01-01T00:00:00Z" if stage != "one line paid" else "2099-01-01T00:00:00Z"
        await world.submit(("100", "2020-01-01T00:00:00Z"), ("250", due))
        if stage != "waiting":
            await world.approve()
            await world.until(Status.PAID if stage == "paid" else Status.PAYING)
            await world.when(lambda: len(world.ledger) == (2 if stage == "paid" else 1))
        assert await _answer(world, verb) == _REAL[stage][verb]
        if verb is Verb.TERMINATE and stage != "paid":
            assert (await world.refusal(world.approve())).code == "ALREADY_CLOSED"
            assert (await world.status()).workflow_status == "TERMINATED"
        elif stage == "one line paid":
            await world.cancel()
