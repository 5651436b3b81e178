"""Plays a scenario on a World: the model follows it, answer by answer and report by report."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from temporalio.client import WorkflowUpdateFailedError
from temporalio.service import RPCError

from invoice_mcp.domain.errors import ErrorCode
from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.report import InvoiceReport
from invoice_mcp.testing.model.actions import ATTACKS, RESETS, Action, Verb
from invoice_mcp.testing.model.model import OK, Model
from invoice_mcp.testing.model.scenario import Scenario
from invoice_mcp.testing.model.state import Shown, Span, shown_by
from invoice_mcp.testing.records import ToolRefused
from invoice_mcp.testing.world.environment import EnvironmentPool
from invoice_mcp.testing.world.quiescence import terminated_lines_end
from invoice_mcp.testing.world.world import World, open_world

# Real time in which the invoice gets where it goes without time passing.
_GETS_THERE_WITHIN = 10.0


class ModelMismatchError(AssertionError):
    """An answer or a report that is not among those the model allows."""


async def play(pool: EnvironmentPool, scenario: Scenario) -> None:
    """Play a scenario: every answer and report is held against the model, and at the end the world is checked.

    Raises:
        AssertionError: Something is wrong; its notes say how to play it again.
    """
    try:
        async with open_world(pool, **scenario.world) as world:
            await ScenarioPlayer(world, scenario).play()
    except Exception as error:
        told = (
            tell(pool.kind.name, workflows=pool.workflows, sandboxed=pool.sandboxed)
            for tell in (scenario.as_code, scenario.command)
        )
        error.add_note("\nThe scenario:\n{}\nPlay it again:\n{}".format(*told))
        raise


@dataclass(frozen=True)
class PerformedAction:
    """An action that was done: how it was answered, OK or the code of the refusal, and the time before and after."""

    action: Action
    answer: str
    when: Span


async def attack(world: World, verb: Verb) -> str:
    """Do one of `ATTACKS` or `RESETS` to the last invoice by Temporal's own client; OK, or how it is refused."""
    handle = world.handle()
    try:
        match verb:
            case Verb.RAW_APPROVE | Verb.RAW_REJECT:
                await world.raw_update("approve" if verb is Verb.RAW_APPROVE else "reject")
            case Verb.RAW_CANCEL:
                await handle.cancel()
            case Verb.RAW_QUERY:
                await handle.query("GetInvoiceReport")
            case Verb.RESET | Verb.RESET_REAPPLIED:
                await world.reset(reapplies=verb is Verb.RESET_REAPPLIED)
                # As `trigger` does: a run that has not begun can't be asked once it has ended.
                await handle.query("GetInvoiceStatus")
            case _:
                await handle.terminate()
    except RPCError as error:
        return error.status.name
    except WorkflowUpdateFailedError as error:
        return str(getattr(error.cause, "type", error.cause))
    return OK


class ScenarioPlayer:
    """Does what a scenario says, and holds every answer and report against the model.

    Args:
        tell: Is told of everything that was done, before it is judged.
    """

    def __init__(self, world: World, scenario: Scenario, tell: Callable[[PerformedAction], None] | None = None) -> None:
        self._world = world
        self._scenario = scenario
        self._tell = tell
        self._done: list[str] = []
        # The report that the last action was answered with, if it was.
        self._told: InvoiceReport | None = None

    async def play(self) -> None:
        """Play it to the end of its actions; what comes then is the world's.

        Raises:
            ModelMismatchError: An answer or a report is none the model allows.
        """
        world, scenario = self._world, self._scenario
        self._time = await world.now()
        drafts = scenario.invoices(world.invoice()["invoice_id"], self._time)
        self._drafts: Mapping[Verb, dict[str, Any]] = MappingProxyType(
            {Verb.TRIGGER: drafts[0], Verb.TRIGGER_CHANGED: drafts[1]}
        )
        self._model = Model(
            tuple(Invoice.model_validate(draft) for draft in drafts),
            world.approval_timeout,
            eager=scenario.eager,
            signals_approve=scenario.signals_approve,
        )
        for action in scenario.before:
            await self._act(action)
        await self._act(Action(verb=Verb.TRIGGER))
        for action in scenario.actions:
            await self._act(action)
        await self._catch_up()

    async def _act(self, action: Action) -> None:
        if action.verb is Verb.ADVANCE:
            # What needs no time has happened before any passes; else the test server's clock may stand still.
            await self._catch_up()
        self._done.append(str(action))
        self._told = None
        loop = asyncio.get_running_loop()
        # Time goes on from where it was when the last action was done.
        before, began = self._time, loop.time()
        answer = await self._answer(action)
        after = self._time = await self._now()
        if answer == OK and action.verb in {Verb.TRIGGER, Verb.TRIGGER_CHANGED}:
            # Where each run has a clock of its own, a new run's is not the last one's.
            before = after - timedelta(seconds=loop.time() - began)
        if self._tell is not None:
            self._tell(PerformedAction(action, answer, Span(before, after)))
        allowed = self._model.act(action, Span(before, after))
        if answer not in allowed:
            raise ModelMismatchError(f"{self._story()} was answered {answer}, not {' or '.join(sorted(allowed))}")
        self._model.possible = allowed[answer]
        if self._world.workflow_ids and not self._scenario.eager:
            await self._get_there()

    async def _catch_up(self) -> None:
        if self._scenario.eager and self._world.workflow_ids:
            now = await self._now()
            self._model.catch_up(Span(now, now))
            await self._get_there()

    async def _now(self) -> datetime:
        return await self._world.now()

    async def _answer(self, action: Action) -> str:
        """Do it; OK, or the code of the refusal."""
        world = self._world
        try:
            match action.verb:
                case Verb.TRIGGER | Verb.TRIGGER_CHANGED:
                    await self._trigger(self._drafts[action.verb])
                case Verb.APPROVE:
                    self._told = await world.approve(**await self._named())
                case Verb.REJECT:
                    self._told = await world.reject(**await self._named())
                case Verb.CANCEL:
                    self._told = await world.cancel(**await self._named())
                case Verb.SIGNAL_APPROVE | Verb.SIGNAL_REJECT:
                    return await self._signalled(action)
                case verb if verb in {*ATTACKS, *RESETS}:
                    return await self._attacked(verb)
                case Verb.ADVANCE:
                    await world.advance(timedelta(hours=action.hours))
                case Verb.CRASH:
                    await world.crash_worker()
                    await world.restart_worker()
                case _:
                    self._script(action)
        except ToolRefused as refused:
            return refused.code
        return OK

    async def _trigger(self, draft: dict[str, Any]) -> None:
        before = (await self._named()).get("run_id")
        submission = await self._world.trigger(draft)
        if before is not None and submission.run_id != before:
            await self._require_closed(before)

    async def _named(self) -> dict[str, str]:
        """The run that a call is about, where the scenario names runs: the newest one."""
        if not self._scenario.names_runs or not self._world.workflow_ids:
            return {}
        return {"run_id": (await self._world.handle().describe()).run_id}

    async def _require_closed(self, run_id: str) -> None:
        """A run that another one came after is answered for by its name, and nothing can be done to it."""
        world = self._world
        for decide in (world.approve, world.reject):
            try:
                answer = (await decide(run_id=run_id)).summary
            except ToolRefused as refused:
                answer = refused.code
            if answer != ErrorCode.ALREADY_CLOSED:
                raise ModelMismatchError(f"{self._story()}: a decision on the run before was answered {answer}")
        with suppress(ToolRefused):
            await world.cancel(run_id=run_id)
        await world.status(run_id=run_id)

    async def _signalled(self, action: Action) -> str:
        try:
            await self._world.signal("ApproveInvoice" if action.verb is Verb.SIGNAL_APPROVE else "RejectInvoice")
        except RPCError as error:
            return error.status.name
        return OK

    async def _attacked(self, verb: Verb) -> str:
        before = (await self._named()).get("run_id") if verb in RESETS else None
        answer = await attack(self._world, verb)
        if before is not None and answer == OK:
            await self._require_closed(before)
        if verb is Verb.TERMINATE and answer == OK and not self._scenario.eager:
            await terminated_lines_end(self._world, self._world.workflow_id)
        return answer

    def _script(self, action: Action) -> None:
        match action.verb:
            case Verb.ERP_DOWN:
                self._world.erp.is_down()
            case Verb.ERP_REFUSES:
                self._world.erp.refuses()
            case Verb.PAYMENT_DOWN:
                self._world.payments.is_down(line=action.line)
            case Verb.PAYMENT_REFUSED:
                self._world.payments.refuses(line=action.line)
            case Verb.ANSWER_LOST:
                self._world.payments.loses_the_answer(line=action.line)
            case Verb.REFUSED_AGAIN:
                self._world.payments.refuses_again(line=action.line)
            case Verb.STALE_ANSWER:
                self._world.payments.repeats_an_answer(line=action.line)

    async def _get_there(self) -> None:
        """Wait until the report shows what the model says, and follow only the states that do."""
        allowed = {state.shows for state in self._model.possible}
        loop, pause = asyncio.get_running_loop(), 0.003
        patience = loop.time() + _GETS_THERE_WITHIN
        while (shown := shown_by(self._told or await self._world.peek())) not in allowed:
            self._told = None
            # What has ended can't become anything else any more.
            if shown[0].is_terminal or loop.time() > patience:
                expected = " or ".join(_told(each) for each in allowed)
                raise ModelMismatchError(f"{self._story()} became {_told(shown)}, not {expected}")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.1)
        self._told = None
        self._model.saw(shown)

    def _story(self) -> str:
        return ", ".join(self._done)


def _told(shown: Shown) -> str:
    status, verdict, lines = shown
    return f"{status} ({verdict or 'undecided'}; lines {', '.join(lines)})"
