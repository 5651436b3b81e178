"""Plays a scenario against the reference model: every answer and report must be one that the model allows.

The model holds every state that the invoice may be in. An answer, or a report, leaves only the states that agree with
it; if none does, the implementation does not conform (as in model-based testing of nondeterministic systems).
"""

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
from invoice_mcp.testing.model.state import ReportedState, Span, reported_state
from invoice_mcp.testing.records import ToolRefused
from invoice_mcp.testing.simulate.failure import ModelMismatchError
from invoice_mcp.testing.world.environment import EnvironmentPool
from invoice_mcp.testing.world.quiescence import await_terminated_lines
from invoice_mcp.testing.world.world import World, open_world

# Seconds of real time for the report to show what the model expects, without virtual time passing.
_REPORT_TIMEOUT = 10.0


async def play(pool: EnvironmentPool, scenario: Scenario) -> None:
    """Play a scenario: hold every answer and report against the model, and check the world at the end.

    Raises:
        AssertionError: A check failed. Its notes have the scenario as Python and the command that reproduces it.
    """
    try:
        async with open_world(pool, **scenario.world_options) as world:
            await ScenarioPlayer(world, scenario).play()
    except Exception as error:
        code, command = (
            render(pool.kind.name, workflows=pool.workflows, sandboxed=pool.sandboxed)
            for render in (scenario.as_code, scenario.command)
        )
        error.add_note(f"\nThe scenario:\n{code}\nReproduce it:\n{command}")
        raise


@dataclass(frozen=True)
class PerformedAction:
    """An action that was performed.

    Attributes:
        answer: OK, or the code of the refusal.
        when: The time before and after.
    """

    action: Action
    answer: str
    when: Span


async def attack(world: World, verb: Verb) -> str:
    """Perform one of `ATTACKS` or `RESETS` on the last invoice through Temporal's client; OK, or the refusal."""
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
                # As `trigger` does: a run that ends before its first task can't answer queries.
                await handle.query("GetInvoiceStatus")
            case _:
                await handle.terminate()
    except RPCError as error:
        return error.status.name
    except WorkflowUpdateFailedError as error:
        return str(getattr(error.cause, "type", error.cause))
    return OK


class ScenarioPlayer:
    """Performs the actions of a scenario, and holds every answer and report against the model.

    Args:
        on_action: Called with every performed action, before its answer is compared.
    """

    def __init__(
        self, world: World, scenario: Scenario, on_action: Callable[[PerformedAction], None] | None = None
    ) -> None:
        self._world = world
        self._scenario = scenario
        self._on_action = on_action
        self._performed: list[str] = []
        # The report in the last action's answer, if it has one.
        self._report: InvoiceReport | None = None

    async def play(self) -> None:
        """Perform all actions. Running the world to its end is up to `open_world`.

        Raises:
            ModelMismatchError: The model does not allow an answer or a report.
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
            # The test server's clock may stand still while a workflow task or an activity is under way.
            await self._catch_up()
        self._performed.append(str(action))
        self._report = None
        loop = asyncio.get_running_loop()
        # An action begins at the time at which the last one ended.
        before, began = self._time, loop.time()
        answer = await self._perform(action)
        after = self._time = await self._now()
        if answer == OK and action.verb in {Verb.TRIGGER, Verb.TRIGGER_CHANGED}:
            # On engines with a clock for each run, the new run's clock differs from the last run's.
            before = after - timedelta(seconds=loop.time() - began)
        if self._on_action is not None:
            self._on_action(PerformedAction(action, answer, Span(before, after)))
        allowed = self._model.allowed_answers(action, Span(before, after))
        if answer not in allowed:
            raise self._mismatch(" or ".join(sorted(allowed)), answer)
        self._model.possible = allowed[answer]
        if self._world.workflow_ids and not self._scenario.eager:
            await self._await_allowed_report()

    async def _catch_up(self) -> None:
        if self._scenario.eager and self._world.workflow_ids:
            now = await self._now()
            self._model.reach_quiescence(Span(now, now))
            await self._await_allowed_report()

    async def _now(self) -> datetime:
        return await self._world.now()

    async def _perform(self, action: Action) -> str:
        """Perform an action; OK, or the code of the refusal."""
        world = self._world
        try:
            match action.verb:
                case Verb.TRIGGER | Verb.TRIGGER_CHANGED:
                    await self._trigger(self._drafts[action.verb])
                case Verb.APPROVE:
                    self._report = await world.approve(**await self._run_argument())
                case Verb.REJECT:
                    self._report = await world.reject(**await self._run_argument())
                case Verb.CANCEL:
                    self._report = await world.cancel(**await self._run_argument())
                case Verb.SIGNAL_APPROVE | Verb.SIGNAL_REJECT:
                    return await self._signal(action)
                case verb if verb in {*ATTACKS, *RESETS}:
                    return await self._attack(verb)
                case Verb.ADVANCE:
                    await world.advance(timedelta(hours=action.hours))
                case Verb.CRASH:
                    await world.crash_worker()
                    await world.restart_worker()
                case _:
                    self._script_fault(action)
        except ToolRefused as refused:
            return refused.code
        return OK

    async def _trigger(self, draft: dict[str, Any]) -> None:
        before = (await self._run_argument()).get("run_id")
        submission = await self._world.trigger(draft)
        if before is not None and submission.run_id != before:
            await self._require_closed(before)

    async def _run_argument(self) -> dict[str, str]:
        """The argument `run_id` of a call, where the scenario names runs: the newest run."""
        if not self._scenario.names_runs or not self._world.workflow_ids:
            return {}
        return {"run_id": (await self._world.handle().describe()).run_id}

    async def _require_closed(self, run_id: str) -> None:
        """Check that a superseded run refuses decisions when it is named, and still answers `status`."""
        world = self._world
        for decide in (world.approve, world.reject):
            try:
                answer = (await decide(run_id=run_id)).summary
            except ToolRefused as refused:
                answer = refused.code
            if answer != ErrorCode.ALREADY_CLOSED:
                raise self._mismatch(f"{ErrorCode.ALREADY_CLOSED} for a decision on the superseded run", answer)
        with suppress(ToolRefused):
            await world.cancel(run_id=run_id)
        await world.status(run_id=run_id)

    async def _signal(self, action: Action) -> str:
        try:
            await self._world.signal("ApproveInvoice" if action.verb is Verb.SIGNAL_APPROVE else "RejectInvoice")
        except RPCError as error:
            return error.status.name
        return OK

    async def _attack(self, verb: Verb) -> str:
        before = (await self._run_argument()).get("run_id") if verb in RESETS else None
        answer = await attack(self._world, verb)
        if before is not None and answer == OK:
            await self._require_closed(before)
        if verb is Verb.TERMINATE and answer == OK and not self._scenario.eager:
            await await_terminated_lines(self._world, self._world.workflow_id)
        return answer

    def _script_fault(self, action: Action) -> None:
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

    async def _await_allowed_report(self) -> None:
        """Wait until the report is one that the model allows, and keep only the model's states that agree with it."""
        allowed = {state.reported for state in self._model.possible}
        loop, pause = asyncio.get_running_loop(), 0.003
        deadline = loop.time() + _REPORT_TIMEOUT
        while (shown := reported_state(self._report or await self._world.read_report())) not in allowed:
            self._report = None
            # A terminal status does not change any more.
            if shown[0].is_terminal or loop.time() > deadline:
                raise self._mismatch(" or ".join(map(_describe, allowed)), _describe(shown))
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.1)
        self._report = None
        self._model.observe(shown)

    def _mismatch(self, expected: str, actual: str) -> ModelMismatchError:
        return ModelMismatchError(expected, actual, ", ".join(self._performed))


def _describe(shown: ReportedState) -> str:
    status, verdict, lines = shown
    return f"{status} ({verdict or 'undecided'}; lines {', '.join(lines)})"
