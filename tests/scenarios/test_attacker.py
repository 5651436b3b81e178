"""An attacker who reaches Temporal itself, past the MCP server: the model says what each of his requests may do."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from functools import partial

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import ResetReapplyType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.service import RPCError
from temporalio.worker import Replayer

from invoice_mcp.errors import Refused
from invoice_mcp.invoices import Invoice
from invoice_mcp.reports import DecisionRequest, Status, Verdict
from invoice_mcp.service import InvoiceService
from invoice_mcp.testing import PAST, Action, Line, Scenario, StageKeeper, StageRunner, Verb, World, kinds, play
from invoice_mcp.testing._actions import ATTACKS
from invoice_mcp.testing.plugin import NewWorld
from invoice_mcp.worker import REPLAY
from tests.desk import an_invoice
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


_FAR = "2099-01-01T00:00:00Z"
# What a reset to the first workflow task may do, no decision being reapplied: the due date of the second line,
# the status to reset at, and how many payments there are then and after a second approval.
# In each case the new run waits for a decision of its own; nothing is paid until it comes; no line is paid twice; the
# same invoice is that run; a line whose workflow the old run left open fails,
# unconfirmed; and a changed one is INVOICE_CONFLICT, also when the run has ended with a line settled.
_RESETS = {
    "waiting": (PAST, Status.PENDING_APPROVAL, 0, 2),
    "a line waits for its due date": (_FAR, Status.PAYING, 1, 1),
    "all paid": (PAST, Status.PAID, 2, 2),
}


@requirement("ATTACK-MODEL")
@pytest.mark.parametrize("case", _RESETS)
async def test_a_reset_asks_again_and_pays_no_line_twice(real_invoice_stage: StageKeeper, case: str) -> None:
    due, at, paid_before, paid_after = _RESETS[case]
    async with real_invoice_stage.take() as stage, asyncio.timeout(40):
        client, payments = stage.engine.client, stage.ports.payments
        service = InvoiceService(client, task_queue=stage.task_queue)
        invoice = Invoice.model_validate(an_invoice(f"RESET-{uuid.uuid4()}", ("1", PAST), ("2", due)))
        first = await service.trigger(invoice)

        async def ignored(_seconds: float, _report: object) -> None: ...

        async def until(status: Status, paid: int) -> str:
            report = await service.status(first.workflow_id)
            while report.status is not status or len(payments.made) < paid:
                report = await service.wait_for_change(first.workflow_id, None, 1, ignored)
            return report.run_id

        async def approve(by: str) -> None:
            await service.decide(Verdict.APPROVED, first.workflow_id, None, DecisionRequest(by=by))

        await until(Status.PENDING_APPROVAL, 0)
        if at is not Status.PENDING_APPROVAL:
            await approve("Ann")
        old = await until(at, paid_before)
        answer = await client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=first.workflow_id, run_id=old),
                reason="an attack",
                # When its first task was completed.
                workflow_task_finish_event_id=4,
                request_id=str(uuid.uuid4()),
                reset_reapply_type=ResetReapplyType.RESET_REAPPLY_TYPE_NONE,
            )
        )
        assert await until(Status.PENDING_APPROVAL, paid_before) == answer.run_id != old
        assert len(payments.made) == paid_before
        assert (await service.trigger(invoice)).run_id == answer.run_id
        cheaper = invoice.lines[0].model_copy(update={"amount": invoice.lines[0].amount / 2})
        changed = invoice.model_copy(update={"lines": (cheaper, *invoice.lines[1:])})
        with pytest.raises(Refused) as conflict:
            await service.trigger(changed)
        assert conflict.value.code == "INVOICE_CONFLICT"
        await approve("Bob")
        await until(Status.FAILED if due == _FAR else Status.PAID, paid_after)
        assert sorted(paid.order.line for paid in payments.made) == list(range(1, paid_after + 1))
        history = await client.get_workflow_handle(first.workflow_id, run_id=answer.run_id).fetch_history()
        await Replayer(**REPLAY).replay_workflow(history)
        with pytest.raises(Refused) as conflict:
            await service.trigger(changed)
        assert conflict.value.code == "INVOICE_CONFLICT"
        if due == _FAR:
            assert [line.unconfirmed for line in (await service.status(first.workflow_id)).lines] == [False, True]
            await client.get_workflow_handle(f"{first.workflow_id}-line-2").terminate()
