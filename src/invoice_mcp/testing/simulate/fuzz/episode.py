"""One run of a simulation: a scenario is lived in the simulator, and told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from invoice_mcp.testing.checker.violations import Violations
from invoice_mcp.testing.engines.registry import kinds
from invoice_mcp.testing.engines.simulated import Simulated
from invoice_mcp.testing.model.actions import Verb
from invoice_mcp.testing.model.scenario import Scenario
from invoice_mcp.testing.records import Paid
from invoice_mcp.testing.simulate.fuzz.conformance import ModelMismatchError, PerformedAction, ScenarioPlayer
from invoice_mcp.testing.simulate.fuzz.runner import ScenarioRunner
from invoice_mcp.testing.world.environment import EnvironmentPool
from invoice_mcp.testing.world.world import World, open_world
from invoice_mcp.workflow.worker import WORKFLOWS
from temporal_simulator import START_TIME, NotSimulated, Simulation, TimelineEntry, timeline

MODEL_MISMATCH = "model"
"""What convicts a life, if it is no promise: an answer or a report that the model does not allow."""

ENGINE = "simulated"


@dataclass(frozen=True)
class Failure:
    """What was wrong with a life.

    Attributes:
        by: The promises it breaks, or `MODEL_MISMATCH`, or the name of what was raised.
        seen: What was seen.
    """

    by: tuple[str, ...]
    seen: str


@dataclass(frozen=True)
class Episode:
    """How a scenario was lived.

    Attributes:
        outcome: The status its last run ended with; what convicted it, if anything did.
        lived: How much virtual time passed.
        faults: Those that were met, not merely scripted.
        story: What happened, in order; where it was asked for, and where something is wrong.
    """

    outcome: str
    lived: timedelta
    faults: Counter[Verb] = field(default_factory=Counter)
    broken: Failure | None = None
    story: tuple[TimelineEntry, ...] = ()


class EpisodeRunner:
    """Lives scenarios one after another, each as if it were the first."""

    def __init__(self, workflows: Sequence[type] = WORKFLOWS) -> None:
        self._workflows = workflows
        self._runner = self._begun()

    def live(self, scenario: Scenario, name: str, *, tells: bool = False) -> Episode:
        """Live a scenario.

        Args:
            name: What the ids of its invoices begin with.
            tells: Tell its story, too, if nothing is wrong with it.

        Raises:
            NotSimulated: The workflows want what the simulator does not know.
        """
        told = _Told()
        try:
            return self._runner.run(lambda pool: _live(pool, scenario, name, told, tells=tells))
        except Exception as error:  # noqa: BLE001 (whatever it is, it is told)
            told.require_simulated()
            # What is left of it may be anything: the next one has a stage of its own.
            self.close()
            self._runner = self._begun()
            return told.broken(verdict(error))

    def _begun(self) -> ScenarioRunner:
        return ScenarioRunner(kinds()[ENGINE], self._workflows, sandboxed=False)

    def close(self) -> None:
        """End the stage, whatever is left on it."""
        # A broken workflow may refuse to leave, and has been told already.
        with suppress(Exception):
            self._runner.__exit__()


async def _live(pool: EnvironmentPool, scenario: Scenario, name: str, told: _Told, *, tells: bool) -> Episode:
    async with open_world(pool, **scenario.world) as world:
        world.name = name
        told.begin(world)
        try:
            await ScenarioPlayer(world, scenario, told.add).play()
        except BaseException:
            told.end()
            raise
        told.left_alone()
    life = told.life(tells=tells)
    told.engine.begin_again()
    return life


def verdict(error: Exception) -> Failure:
    """What an exception that ended a life says is wrong with it."""
    if isinstance(error, Violations):
        return Failure(tuple(sorted({violation.rule for violation in error.found})), str(error))
    if isinstance(error, ModelMismatchError):
        return Failure((MODEL_MISMATCH,), str(error))
    return Failure((type(error).__name__,), str(error) or repr(error))


class _Told:
    """Follows a life from outside, and tells it."""

    engine: Simulated

    def __init__(self) -> None:
        self._world: World | None = None
        self._moments: list[TimelineEntry] = []
        self._crashes = 0
        self._seen = 0
        self._last: int | None = None

    def begin(self, world: World) -> None:
        """It begins in this world."""
        assert isinstance(world.engine, Simulated)  # noqa: S101 (no other engine is asked for)
        self._world, self.engine = world, world.engine

    def require_simulated(self) -> None:
        """See whether it failed because its workflows want too much: to whoever asks, the server only says INTERNAL.

        Raises:
            NotSimulated: They do.
        """
        if self._world is not None and isinstance(self._simulation.error, NotSimulated):
            raise self._simulation.error

    @property
    def _simulation(self) -> Simulation:
        return self.engine.simulation

    def add(self, done: PerformedAction) -> None:
        """Something was done: before everything that it led to."""
        self._moments.append(TimelineEntry(self._seen, done.when.first, "client", f"{done.action} → {done.answer}"))
        self._seen = self._simulation.event_count
        self._crashes += done.action.verb is Verb.CRASH

    def left_alone(self) -> None:
        """Nothing more is done to it."""
        what = "does nothing more; the world outside is healthy, time passes"
        self._moments.append(TimelineEntry(self._seen, self._simulation.now, "client", what))

    def end(self) -> None:
        """What happens from now on is no part of it."""
        self._last = self._simulation.event_count

    def life(self, *, tells: bool) -> Episode:
        """It, when nothing was wrong with it."""
        assert self._world is not None  # noqa: S101 (it has begun)
        answers = [answer.content for answer in self._world.tools.answers if answer.tool == "status" and answer.content]
        faults = Counter([*self._world.erp.faults_met, *self._world.payments.faults_met])
        if self._crashes:
            faults[Verb.CRASH] = self._crashes
        story = self._story() if tells else ()
        return Episode(str(answers[-1]["status"]), self._simulation.now - START_TIME, faults, story=story)

    def broken(self, verdict: Failure) -> Episode:
        """It, when something was."""
        if self._world is None:
            return Episode(verdict.by[0], timedelta(), broken=verdict)
        faults = Counter([*self._world.erp.faults_met, *self._world.payments.faults_met])
        outcome = ", ".join(verdict.by)
        return Episode(outcome, self._simulation.now - START_TIME, faults, verdict, self._story())

    def _story(self) -> tuple[TimelineEntry, ...]:
        assert self._world is not None  # noqa: S101 (it has begun)
        return in_order(self._simulation, self._moments, self._world.ledger, self._last)


def in_order(
    simulation: Simulation, done: Sequence[TimelineEntry], ledger: Sequence[Paid], last: int | None = None
) -> tuple[TimelineEntry, ...]:
    """All that happened, and at the end what was paid.

    Args:
        done: What was done from outside; the number of each is that of the event before, so it comes before what it
            led to.
        last: Number of the last event that belongs to it.
    """
    happened = [each for each in timeline(simulation) if last is None or each.number <= last]
    order = sorted([*happened, *done], key=lambda moment: moment.number)
    paid = ", ".join(f"line {paid.order.line}: {paid.order.amount} at {paid.at:%F %T}" for paid in ledger)
    return (*order, TimelineEntry(simulation.event_count + 1, simulation.now, "ledger", paid or "nothing was paid"))
