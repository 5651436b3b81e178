"""A scenario as data: played on a World, followed by the model, printed so that anybody can play it again."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping
from datetime import datetime, timedelta
from pprint import pformat
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from temporalio.service import RPCError

from invoice_mcp.invoices import Invoice
from invoice_mcp.reports import InvoiceReport
from invoice_mcp.testing._actions import Action, Verb
from invoice_mcp.testing._model import OK, Model
from invoice_mcp.testing._stage import ERAS, StageKeeper
from invoice_mcp.testing._states import Shown, Span, State, shown_by
from invoice_mcp.testing._task_door import DOORS, Door
from invoice_mcp.testing._tools import ToolRefused
from invoice_mcp.testing._world import World, open_world

# Real time in which the invoice gets where it goes without time passing.
_GETS_THERE_WITHIN = 10.0


class Line(BaseModel):
    """A line of the scenario's invoice; it is due so many hours after the scenario begins (negative: before)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    amount: str = "100"
    due_in_hours: float = -1
    description: str = "Widget"


class Scenario(BaseModel):
    """An invoice, and what is done to it. The first thing is always that it is submitted.

    Args:
        changed_line: Which line (from 1) has another text in the changed invoice that TRIGGER_CHANGED submits.
        before: What is done before it is submitted: faults of the ports.
        actions: What is done afterwards.
        era: Which MCP protocol the client speaks.
        door: Whether the client goes by the plain tools or by the task; the outcomes are the same.
        hasty: Don't wait after each action until the invoice has got where it goes. For the real engine: the
            time-skipping server's clock stands still once a workflow ends before its activity has. On the simulator
            together with `seed`.
        seed: Let what could happen in several orders happen in one of chance, where the engine decides that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lines: tuple[Line, ...] = Field(default=(Line(), Line(amount="250", due_in_hours=60)), min_length=1)
    customer: str = "ACME Corp"
    currency: str = "USD"
    changed_line: int = Field(default=2, ge=1)
    before: tuple[Action, ...] = ()
    actions: tuple[Action, ...] = ()
    era: Literal["auto", "legacy"] = ERAS[0]
    door: Door = DOORS[0]
    hasty: bool = False
    seed: int | None = None

    def __str__(self) -> str:
        return " ".join(str(action) for action in (*self.before, Action(verb=Verb.TRIGGER), *self.actions))

    def invoices(self, invoice_id: str, now: datetime) -> tuple[dict[str, Any], dict[str, Any]]:
        """The invoice, and the changed one, of a scenario that begins now."""
        lines = [
            {
                "description": line.description,
                "amount": line.amount,
                "due_date": (now + timedelta(hours=line.due_in_hours)).isoformat(),
            }
            for line in self.lines
        ]
        invoice = {"invoice_id": invoice_id, "customer": self.customer, "currency": self.currency, "lines": lines}
        changed = [dict(line) for line in lines]
        which = min(self.changed_line, len(lines)) - 1
        changed[which]["description"] += ", changed"
        return invoice, {**invoice, "lines": changed}

    def as_code(self, world: str = "time-skipping") -> str:
        """The scenario as a program of its own."""
        begins = [*self.before, Action(verb=Verb.TRIGGER), *self.actions]
        body = "\n".join(f"        {line}" for action in begins for line in _attempt(action).split("\n"))
        scenario = pformat(self.model_dump(mode="json", include={"lines", "customer", "currency", "changed_line"}))
        return _PROGRAM.format(
            world=world,
            era=self.era,
            more=self._more(),
            scenario=scenario.replace("\n", "\n    "),
            body=body,
            command=self.command(world),
        )

    def _more(self) -> str:
        door = "" if self.door == DOORS[0] else f', door="{self.door}"'
        return door if self.seed is None else f"{door}, seed={self.seed}"

    def command(self, world: str = "time-skipping") -> str:
        """The one command that plays it again, followed by the model and checked."""
        told = self.model_dump_json(exclude_defaults=True)
        return f"python -m invoice_mcp.testing --world={world} {shlex.quote(told)}"


def _attempt(action: Action) -> str:
    if not action.code.startswith("await") or action.verb in {Verb.ADVANCE, Verb.CRASH}:
        return action.code
    return f"with suppress(ToolRefused, RPCError):\n    {action.code}"


_PROGRAM = """\
# Checked as every scenario is, but not held against the model. To have that too:
# {command}
from contextlib import suppress
from datetime import timedelta

from temporalio.service import RPCError
from invoice_mcp.testing import Scenario, StageKeeper, ToolRefused, kinds, open_world, run_and_leave

async def main():
    scenario = Scenario.model_validate({scenario})
    async with StageKeeper(kinds()["{world}"]) as keeper, open_world(keeper, era="{era}"{more}) as world:
        invoice, changed = scenario.invoices("INV-1", await world.now())
{body}

run_and_leave(main(), kinds()["{world}"].loop_factory)
"""


class ModelViolated(AssertionError):  # noqa: N818 (a verdict, as `Violations`)
    """An answer or a report that is not among those the model allows."""


async def play(keeper: StageKeeper, scenario: Scenario) -> None:
    """Play a scenario: every answer and report is held against the model, and at the end the world is checked.

    Raises:
        AssertionError: Something is wrong; its notes say how to play it again.
    """
    try:
        async with open_world(keeper, era=scenario.era, door=scenario.door, seed=scenario.seed) as world:
            await _Player(world, scenario).play()
    except Exception as error:
        kind = keeper.kind.name
        error.add_note(f"\nThe scenario:\n{scenario.as_code(kind)}\nPlay it again:\n{scenario.command(kind)}")
        raise


class _Player:
    def __init__(self, world: World, scenario: Scenario) -> None:
        self._world = world
        self._scenario = scenario
        self._done: list[str] = []
        # The report that the last action was answered with, if it was.
        self._told: InvoiceReport | None = None

    async def play(self) -> None:
        world, scenario = self._world, self._scenario
        self._time = await world.now()
        drafts = scenario.invoices(world.invoice()["invoice_id"], self._time)
        self._drafts: Mapping[Verb, dict[str, Any]] = MappingProxyType(
            {Verb.TRIGGER: drafts[0], Verb.TRIGGER_CHANGED: drafts[1]}
        )
        self._model = Model(
            tuple(Invoice.model_validate(draft) for draft in drafts), world.approval_timeout, hasty=scenario.hasty
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
        allowed = self._model.act(action, Span(before, after))
        if answer not in allowed:
            raise ModelViolated(f"{self._story()} was answered {answer}, not {' or '.join(sorted(allowed))}")
        self._model.possible = allowed[answer]
        if self._world.workflow_ids and not self._scenario.hasty:
            await self._get_there()

    async def _catch_up(self) -> None:
        if self._scenario.hasty and self._world.workflow_ids:
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
                    await world.trigger(self._drafts[action.verb])
                case Verb.APPROVE:
                    self._told = await world.approve()
                case Verb.REJECT:
                    self._told = await world.reject()
                case Verb.CANCEL:
                    self._told = await world.cancel()
                case Verb.SIGNAL_APPROVE | Verb.SIGNAL_REJECT:
                    return await self._signalled(action)
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

    async def _signalled(self, action: Action) -> str:
        try:
            await self._world.signal("ApproveInvoice" if action.verb is Verb.SIGNAL_APPROVE else "RejectInvoice")
        except RPCError as error:
            return error.status.name
        return OK

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

    async def _get_there(self) -> None:
        """Wait until the report shows what the model says, and follow only the states that do."""
        allowed: dict[Shown, set[State]] = {}
        for state in self._model.possible:
            allowed.setdefault(state.shows, set()).add(state)
        loop, pause = asyncio.get_running_loop(), 0.003
        patience = loop.time() + _GETS_THERE_WITHIN
        while (shown := shown_by(self._told or await self._world.peek())) not in allowed:
            self._told = None
            # What has ended can't become anything else any more.
            if shown[0].is_terminal or loop.time() > patience:
                expected = " or ".join(_told(each) for each in allowed)
                raise ModelViolated(f"{self._story()} became {_told(shown)}, not {expected}")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.1)
        self._told = None
        self._model.possible = frozenset(allowed[shown])

    def _story(self) -> str:
        return ", ".join(self._done)


def _told(shown: Shown) -> str:
    status, verdict, lines = shown
    return f"{status} ({verdict or 'undecided'}; lines {', '.join(lines)})"
