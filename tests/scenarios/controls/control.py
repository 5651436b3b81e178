"""A control, and the run that shows which rules catch it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial

from invoice_mcp.testing import (
    EnvironmentPool,
    ModelMismatchError,
    Scenario,
    ScenarioRunner,
    Violations,
    World,
    kinds,
    open_world,
    play,
)

MODEL = "model"
"""What catches a control instead of a rule: an answer or a report that the model does not allow."""


@dataclass(frozen=True)
class Script:
    """A scenario as code. The checker judges it, the model does not follow it.

    Attributes:
        actions: A description of its actions, in the style of a Scenario.
    """

    actions: str
    play: Callable[[World], Awaitable[None]]

    def __str__(self) -> str:
        return self.actions


@dataclass(frozen=True)
class Control:
    """Workflows that are broken on purpose.

    Attributes:
        name: The broken class.
        wrong: What is wrong with it.
        workflows: The workflows that the worker runs.
        breaks: The rules that must catch it, or MODEL.
        scenarios: The scenarios to play, its own first.
        on_replay: Whether its commands have other values on replay. The simulator compares all values of commands and
            reports S9 before the fault has an effect; servers compare little more than the kinds of commands.
    """

    name: str
    wrong: str
    workflows: tuple[type, ...]
    breaks: frozenset[str]
    scenarios: tuple[Scenario | Script, ...]
    on_replay: bool = False

    def is_caught_by(self, rules: frozenset[str], world: str) -> bool:
        """Whether these rules are enough, on that engine."""
        return self.breaks <= rules or (self.on_replay and world == "simulated" and "S9" in rules)


@dataclass(frozen=True)
class Caught:
    """How workflows were caught.

    Attributes:
        by: The broken rules, or MODEL.
        scenario: The scenario that caught them.
        after: The number of scenarios played, including this one.
        seconds: The duration of all of them, including the start of the environment.
        detail: What was observed.
    """

    by: frozenset[str]
    scenario: str
    after: int
    seconds: float
    detail: str


def catch(control: Control, world: str) -> Caught | None:
    """Play the scenarios of a control in an environment of its own until it is caught; None if it is not.

    Args:
        world: The engine's name.
    """
    # Without the sandbox, which takes a second each time and prevents some of the faults.
    with ScenarioRunner(kinds()[world], control.workflows, sandboxed=False) as runner:
        return first_broken(runner, control.scenarios)


def first_broken(runner: ScenarioRunner, scenarios: Iterable[Scenario | Script]) -> Caught | None:
    """Play scenarios until one breaks a rule or the model."""
    began = time.monotonic()
    for number, scenario in enumerate(scenarios, 1):
        try:
            runner.run(partial(_play, scenario=scenario))
        except (Violations, ModelMismatchError) as broken:
            by = {violation.rule for violation in broken.found} if isinstance(broken, Violations) else {MODEL}
            return Caught(frozenset(by), str(scenario), number, time.monotonic() - began, str(broken))
    return None


async def _play(pool: EnvironmentPool, scenario: Scenario | Script) -> None:
    if isinstance(scenario, Scenario):
        await play(pool, scenario)
        return
    async with open_world(pool) as world:
        await scenario.play(world)
