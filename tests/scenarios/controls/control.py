"""A control and how it is shown to be caught."""

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
"""What catches a control, if it is no rule of the checker: an answer or a report the model does not allow."""


@dataclass(frozen=True)
class Script:
    """A scenario that the model does not follow: only what is left behind is checked.

    Attributes:
        told: What is done, in the words of a Scenario.
    """

    told: str
    play: Callable[[World], Awaitable[None]]

    def __str__(self) -> str:
        return self.told


@dataclass(frozen=True)
class Control:
    """Workflows that are broken on purpose.

    Attributes:
        name: The class that is broken.
        wrong: What is wrong with it.
        workflows: What the worker is given.
        breaks: Every rule it has to be caught by, or MODEL.
        scenarios: That catch it, its own first.
        on_replay: It tells other values when it is replayed. The simulator compares everything that a workflow wants
            to the letter, and notices that before anything comes of it (S9); servers compare little more than kinds.
    """

    name: str
    wrong: str
    workflows: tuple[type, ...]
    breaks: frozenset[str]
    scenarios: tuple[Scenario | Script, ...]
    on_replay: bool = False

    def is_caught_by(self, rules: frozenset[str], world: str) -> bool:
        """Whether these are what it has to be caught by there."""
        return self.breaks <= rules or (self.on_replay and world == "simulated" and "S9" in rules)


@dataclass(frozen=True)
class Caught:
    """How workflows were caught.

    Attributes:
        by: Rules, or MODEL.
        scenario: In which one.
        after: How many scenarios were played, this one included.
        seconds: All of them took, the start of the stage included.
        seen: What was wrong.
    """

    by: frozenset[str]
    scenario: str
    after: int
    seconds: float
    seen: str


def catch(control: Control, world: str) -> Caught | None:
    """Play the scenarios of a control on a stage of its own, until it is caught; None if it is not.

    Args:
        world: The engine's name.
    """
    # Outside of the sandbox, which would take a second each time, and prevents some of what is to be caught.
    with ScenarioRunner(kinds()[world], control.workflows, sandboxed=False) as environment:
        return first_broken(environment, control.scenarios)


def first_broken(environment: ScenarioRunner, scenarios: Iterable[Scenario | Script]) -> Caught | None:
    """Play scenarios until one is broken."""
    began = time.monotonic()
    for number, scenario in enumerate(scenarios, 1):
        try:
            environment.run(partial(_play, scenario=scenario))
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
