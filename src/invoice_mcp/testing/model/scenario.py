"""A scenario as data: it can be drawn, shrunk, and printed so that anybody can play it again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime, timedelta
from pprint import pformat
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from invoice_mcp.domain.report import DEFAULT_APPROVAL_TIMEOUT
from invoice_mcp.testing.model.actions import (
    CLIENT_INTERFACES,
    MAX_HOURS,
    PROTOCOL_MODES,
    Action,
    ClientInterface,
    Verb,
)
from invoice_mcp.workflow.worker import WORKFLOWS

_DEFAULT_HOURS = DEFAULT_APPROVAL_TIMEOUT / timedelta(hours=1)


class Line(BaseModel):
    """A line of the scenario's invoice; it is due so many hours after the scenario begins (negative: before)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    amount: str = "100"
    due_in_hours: float = Field(default=-1, ge=-MAX_HOURS, le=MAX_HOURS)
    description: str = "Widget"


class Scenario(BaseModel):
    """An invoice, and what is done to it. The first thing is always that it is submitted.

    Args:
        changed_line: Which line (from 1) has another text in the changed invoice that TRIGGER_CHANGED submits.
        before: What is done before it is submitted: faults of the ports.
        actions: What is done afterwards.
        protocol_mode: Which MCP protocol the client speaks.
        client_interface: Whether the client goes by the plain tools or by the task; the outcomes are the same.
        metadata: Of the invoice.
        changes: What is different in the changed invoice: a field of `changed_line`, its customer or its metadata.
        approval_hours: How long the invoice waits for a decision: from a second to 90 days.
        names_runs: Whether the calls name the run that they are about. Once another run begins, those before it are
            asked for by name, too: they are answered for, and nothing can be done to them.
        signals_approve: Whether the signal ApproveInvoice approves, by the policy that the invoice is submitted with.
        eager: Don't wait after each action until the invoice has got where it goes. For the real engine: the
            time-skipping server's clock stands still once a workflow ends before its activity has. On the simulator
            together with `seed`.
        seed: Let what could happen in several orders happen in one of chance, where the engine decides that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lines: tuple[Line, ...] = Field(default=(Line(), Line(amount="250", due_in_hours=60)), min_length=1)
    customer: str = "ACME Corp"
    currency: str = "USD"
    metadata: tuple[tuple[str, str], ...] = ()
    changed_line: int = Field(default=2, ge=1)
    changes: Literal["description", "amount", "due_date", "customer", "metadata"] = "description"
    before: tuple[Action, ...] = ()
    actions: tuple[Action, ...] = ()
    protocol_mode: Literal["auto", "legacy"] = PROTOCOL_MODES[0]
    client_interface: ClientInterface = CLIENT_INTERFACES[0]
    approval_hours: float = Field(default=_DEFAULT_HOURS, ge=1 / 3600, le=90 * 24)
    names_runs: bool = False
    signals_approve: bool = True
    eager: bool = False
    seed: int | None = None

    @model_validator(mode="after")
    def _check_total_time(self) -> Self:
        passes = sum(action.hours for action in (*self.before, *self.actions) if action.verb is Verb.ADVANCE)
        if passes > MAX_HOURS:
            raise ValueError(f"it takes {passes:g} hours, and may take {MAX_HOURS}")
        return self

    @property
    def world(self) -> dict[str, Any]:
        """What `open_world` is given for it."""
        window = timedelta(hours=self.approval_hours)
        return self.model_dump(include={"protocol_mode", "client_interface", "signals_approve", "seed"}) | {
            "approval_timeout": window
        }

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
        invoice: dict[str, Any] = {
            "invoice_id": invoice_id,
            "customer": self.customer,
            "currency": self.currency,
            "lines": lines,
        }
        if self.metadata:
            invoice["metadata"] = dict(self.metadata)
        return invoice, self._changed(invoice, lines)

    def _changed(self, invoice: dict[str, Any], lines: Sequence[dict[str, str]]) -> dict[str, Any]:
        which = min(self.changed_line, len(lines)) - 1
        changed = [dict(line) for line in lines]
        match self.changes:
            case "customer":
                return {**invoice, "customer": f"{self.customer}, changed"}
            case "metadata":
                return {**invoice, "metadata": {**dict(self.metadata), "changed": "yes"}}
            case "amount":
                changed[which]["amount"] = f"1{lines[which]['amount']}"
            case "due_date":
                moved = datetime.fromisoformat(lines[which]["due_date"]) + timedelta(seconds=1)
                changed[which]["due_date"] = moved.isoformat()
            case _:
                changed[which]["description"] += ", changed"
        return {**invoice, "lines": changed}

    def as_code(
        self, world: str = "time-skipping", *, workflows: Sequence[type] = WORKFLOWS, sandboxed: bool = True
    ) -> str:
        """The scenario as a program of its own; the arguments are those of `EnvironmentPool`."""
        begins = [*self.before, Action(verb=Verb.TRIGGER), *self.actions]
        body = "\n".join(f"        {line}" for action in begins for line in _guarded(action).split("\n"))
        told = {"lines", "customer", "currency", "changed_line"}
        told |= {field for field in ("metadata", "changes") if field in self.model_dump(exclude_defaults=True)}
        scenario = pformat(self.model_dump(mode="json", include=told))
        others = () if tuple(workflows) == WORKFLOWS else tuple(workflows)
        options = [f", workflows=[{', '.join(each.__name__ for each in others)}]"] if others else []
        options += [] if sandboxed else [", sandboxed=False"]
        return _PROGRAM.format(
            imports="".join(f"from {each.__module__} import {each.__name__}\n" for each in others),
            environment=f'EnvironmentPool(kinds()["{world}"]{"".join(options)})',
            world=world,
            protocol_mode=self.protocol_mode,
            more=self._open_world_arguments(),
            scenario=scenario.replace("\n", "\n    "),
            body=body,
            command=self.command(world, workflows=workflows, sandboxed=sandboxed),
        )

    def _open_world_arguments(self) -> str:
        client_interface = (
            "" if self.client_interface == CLIENT_INTERFACES[0] else f', client_interface="{self.client_interface}"'
        )
        signals = ", signals_approve=True" if self.signals_approve else ""
        window = timedelta(hours=self.approval_hours)
        waits = (
            ""
            if self.approval_hours == _DEFAULT_HOURS
            else f", approval_timeout=timedelta(seconds={window.total_seconds()!r})"
        )
        seed = "" if self.seed is None else f", seed={self.seed}"
        return f"{client_interface}{signals}{waits}{seed}"

    def command(
        self, world: str = "time-skipping", *, workflows: Sequence[type] = WORKFLOWS, sandboxed: bool = True
    ) -> str:
        """The one command that plays it again, followed by the model and checked."""
        others = () if tuple(workflows) == WORKFLOWS else workflows
        named = [f"--workflow={each.__module__}:{each.__qualname__}" for each in others]
        words = [f"--world={world}", *named, *([] if sandboxed else ["--no-sandbox"])]
        told = self.model_dump_json(exclude_defaults=True)
        return f"python -m invoice_mcp.testing {' '.join(words)} {shlex.quote(told)}"


def _guarded(action: Action) -> str:
    if not action.code.startswith("await") or action.verb in {Verb.ADVANCE, Verb.CRASH}:
        return action.code
    return f"with suppress(ToolRefused, RPCError, WorkflowUpdateFailedError):\n    {action.code}"


_PROGRAM = """\
# Checked as every scenario is, but not held against the model. To have that too:
# {command}
from contextlib import suppress
from datetime import timedelta

from temporalio.client import WorkflowUpdateFailedError
from temporalio.service import RPCError
from invoice_mcp.testing import Scenario, EnvironmentPool, ToolRefused, kinds, open_world, run_and_exit
{imports}
async def main():
    scenario = Scenario.model_validate({scenario})
    async with {environment} as pool, open_world(pool, protocol_mode="{protocol_mode}"{more}) as world:
        invoice, changed = scenario.invoices("INV-1", await world.now())
{body}

run_and_exit(main(), kinds()["{world}"].loop_factory)
"""
