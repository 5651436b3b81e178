"""A scenario as data: it can be generated, shrunk, and printed as a program and as a command that reproduce it."""

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
    """A line of the scenario's invoice. `due_in_hours` counts from the start of the scenario; negative is past due."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    amount: str = "100"
    due_in_hours: float = Field(default=-1, ge=-MAX_HOURS, le=MAX_HOURS)
    description: str = "Widget"


class Scenario(BaseModel):
    """An invoice, and the actions on it. Submitting the invoice is implied, between `before` and `actions`.

    Attributes:
        lines: The lines of the invoice.
        metadata: The metadata of the invoice, as pairs.
        changed_line: Number, from 1, of the line that differs in the changed invoice that TRIGGER_CHANGED submits.
        changes: What differs in the changed invoice: a field of `changed_line`, the customer or the metadata.
        before: Faults that are scripted before the invoice is submitted.
        actions: Actions after the invoice is submitted.
        protocol_mode: The MCP protocol of the client.
        client_interface: Whether the client uses plain tools or MCP tasks. The outcomes are the same.
        approval_hours: How long the invoice waits for a decision: from a second to 90 days.
        names_runs: Whether calls name the run that they are about. Once another run starts, calls also name the
            earlier runs: they can be read, and no longer changed.
        signals_approve: Whether the policy of the invoice lets the signal ApproveInvoice approve.
        eager: Don't wait for quiescence after each action. Not for the time-skipping server, whose clock stops once
            a workflow closes before its activity has. On the simulator, set `seed` too.
        seed: Seed of the order in which the engine processes simultaneous events, if the engine decides that.

    >>> str(Scenario(actions=(Action(verb=Verb.REJECT), Action(verb=Verb.APPROVE))))
    'trigger reject approve'
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
    def world_options(self) -> dict[str, Any]:
        """The keyword arguments of `open_world` for this scenario."""
        window = timedelta(hours=self.approval_hours)
        return self.model_dump(include={"protocol_mode", "client_interface", "signals_approve", "seed"}) | {
            "approval_timeout": window
        }

    def __str__(self) -> str:
        return " ".join(str(action) for action in (*self.before, Action(verb=Verb.TRIGGER), *self.actions))

    def invoices(self, invoice_id: str, now: datetime) -> tuple[dict[str, Any], dict[str, Any]]:
        """The invoice and the changed invoice, as JSON for `trigger`, of a scenario that starts now."""
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
        """The scenario as a Python program that reproduces it. The arguments are those of `EnvironmentPool`."""
        actions = [*self.before, Action(verb=Verb.TRIGGER), *self.actions]
        body = "\n".join(f"        {line}" for action in actions for line in _guarded(action).split("\n"))
        fields = {"lines", "customer", "currency", "changed_line"}
        fields |= {field for field in ("metadata", "changes") if field in self.model_dump(exclude_defaults=True)}
        scenario = pformat(self.model_dump(mode="json", include=fields))
        others = () if tuple(workflows) == WORKFLOWS else tuple(workflows)
        options = [f", workflows=[{', '.join(each.__name__ for each in others)}]"] if others else []
        options += [] if sandboxed else [", sandboxed=False"]
        return _PROGRAM.format(
            imports="".join(f"from {each.__module__} import {each.__name__}\n" for each in others),
            environment=f'EnvironmentPool(kinds()["{world}"]{"".join(options)})',
            world=world,
            arguments=self._open_world_arguments(),
            scenario=scenario.replace("\n", "\n    "),
            body=body,
            command=self.command(world, workflows=workflows, sandboxed=sandboxed),
        )

    def _open_world_arguments(self) -> str:
        arguments = [f'protocol_mode="{self.protocol_mode}"']
        if self.client_interface != CLIENT_INTERFACES[0]:
            arguments.append(f'client_interface="{self.client_interface}"')
        if self.signals_approve:
            arguments.append("signals_approve=True")
        if self.approval_hours != _DEFAULT_HOURS:
            seconds = timedelta(hours=self.approval_hours).total_seconds()
            arguments.append(f"approval_timeout=timedelta(seconds={seconds!r})")
        if self.seed is not None:
            arguments.append(f"seed={self.seed}")
        return ", ".join(arguments)

    def command(
        self, world: str = "time-skipping", *, workflows: Sequence[type] = WORKFLOWS, sandboxed: bool = True
    ) -> str:
        """The command that plays the scenario again, against the model and the checker."""
        others = () if tuple(workflows) == WORKFLOWS else workflows
        workflow_options = [f"--workflow={each.__module__}:{each.__qualname__}" for each in others]
        options = [f"--world={world}", *workflow_options, *([] if sandboxed else ["--no-sandbox"])]
        data = self.model_dump_json(exclude_defaults=True)
        return f"python -m invoice_mcp.testing {' '.join(options)} {shlex.quote(data)}"


def _guarded(action: Action) -> str:
    if not action.code.startswith("await") or action.verb in {Verb.ADVANCE, Verb.CRASH}:
        return action.code
    return f"with suppress(ToolRefused, RPCError, WorkflowUpdateFailedError):\n    {action.code}"


_PROGRAM = """\
# The checker runs; the model does not. To run both:
# {command}
from contextlib import suppress
from datetime import timedelta

from temporalio.client import WorkflowUpdateFailedError
from temporalio.service import RPCError
from invoice_mcp.testing import Scenario, EnvironmentPool, ToolRefused, kinds, open_world, run_and_exit
{imports}
async def main():
    scenario = Scenario.model_validate({scenario})
    async with {environment} as pool, open_world(pool, {arguments}) as world:
        invoice, changed = scenario.invoices("INV-1", await world.now())
{body}

run_and_exit(main(), kinds()["{world}"].loop_factory)
"""
