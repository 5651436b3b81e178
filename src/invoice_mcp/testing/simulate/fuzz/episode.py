"""Episodes: a scenario is played in the simulator, each time in an environment as if it were new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from invoice_mcp.testing.engines.registry import kinds
from invoice_mcp.testing.engines.simulated import Simulated
from invoice_mcp.testing.model.actions import Verb
from invoice_mcp.testing.model.scenario import Scenario
from invoice_mcp.testing.simulate.failure import Failure
from invoice_mcp.testing.simulate.fuzz.conformance import PerformedAction, ScenarioPlayer
from invoice_mcp.testing.simulate.fuzz.runner import ScenarioRunner
from invoice_mcp.testing.simulate.timeline import full_timeline
from invoice_mcp.testing.world.environment import EnvironmentPool
from invoice_mcp.testing.world.world import World, open_world
from invoice_mcp.workflow.worker import WORKFLOWS
from temporal_simulator import START_TIME, NotSimulated, Simulation, TimelineEntry

ENGINE = "simulated"


@dataclass(frozen=True)
class Episode:
    """One simulated run of a scenario.

    Attributes:
        outcome: The status of the invoice's last run at the end; the causes of the failure, if there is one.
        virtual_time: How much virtual time passed.
        faults: How often each fault occurred. A scripted fault that no call met does not count.
        timeline: What happened, in order; if it was asked for, or if the episode failed.
    """

    outcome: str
    virtual_time: timedelta
    faults: Counter[Verb] = field(default_factory=Counter)
    failure: Failure | None = None
    timeline: tuple[TimelineEntry, ...] = ()


class EpisodeRunner:
    """Plays scenarios one after another. What an episode does is the same whichever were played before it."""

    def __init__(self, workflows: Sequence[type] = WORKFLOWS) -> None:
        self._workflows = workflows
        self._runner = self._new_runner()

    def run(self, scenario: Scenario, name: str, *, with_timeline: bool = False) -> Episode:
        """Play a scenario.

        Args:
            name: Prefix of the invoices' ids.
            with_timeline: Return the timeline of a successful episode too.

        Raises:
            NotSimulated: The workflows use a feature that the simulator does not have.
        """
        recorder = _EpisodeRecorder()
        try:
            return self._runner.run(lambda pool: _play(pool, scenario, name, recorder, with_timeline=with_timeline))
        except Exception as error:  # noqa: BLE001 (any error is the episode's failure)
            recorder.raise_if_not_simulated()
            # A failed episode may leave its environment in any state, so the next one gets a new one.
            self.close()
            self._runner = self._new_runner()
            return recorder.failed_episode(Failure.of(error))

    def _new_runner(self) -> ScenarioRunner:
        return ScenarioRunner(kinds()[ENGINE], self._workflows, sandboxed=False)

    def close(self) -> None:
        """Close the environment, whatever state it is in."""
        # A faulty workflow may refuse to be evicted; its failure has been reported already.
        with suppress(Exception):
            self._runner.close()


async def _play(
    pool: EnvironmentPool, scenario: Scenario, name: str, recorder: _EpisodeRecorder, *, with_timeline: bool
) -> Episode:
    async with open_world(pool, **scenario.world_options) as world:
        world.name = name
        recorder.start(world)
        try:
            await ScenarioPlayer(world, scenario, recorder.add_action).play()
        except BaseException:
            recorder.stop()
            raise
        recorder.end_of_actions()
    episode = recorder.successful_episode(with_timeline=with_timeline)
    recorder.engine.reset()
    return episode


class _EpisodeRecorder:
    """Records what a client does in an episode."""

    engine: Simulated

    def __init__(self) -> None:
        self._world: World | None = None
        self._actions: list[TimelineEntry] = []
        self._crashes = 0
        self._last_seen = 0
        self._last: int | None = None

    def start(self, world: World) -> None:
        """Record an episode in this world."""
        assert isinstance(world.engine, Simulated)
        self._world, self.engine = world, world.engine

    def raise_if_not_simulated(self) -> None:
        """Raise the NotSimulated that the episode failed by, if it did: a client only gets INTERNAL."""
        if self._world is not None and isinstance(self._simulation.error, NotSimulated):
            raise self._simulation.error

    @property
    def _simulation(self) -> Simulation:
        return self.engine.simulation

    def add_action(self, performed: PerformedAction) -> None:
        """Add an action to the timeline, before the events that it caused."""
        what = f"{performed.action} → {performed.answer}"
        self._actions.append(TimelineEntry(self._last_seen, performed.when.first, "client", what))
        self._last_seen = self._simulation.event_count
        self._crashes += performed.action.verb is Verb.CRASH

    def end_of_actions(self) -> None:
        """Note that the client does nothing more."""
        what = "does nothing more; the world outside is healthy, time passes"
        self._actions.append(TimelineEntry(self._last_seen, self._simulation.now, "client", what))

    def stop(self) -> None:
        """Leave later events out of the timeline."""
        self._last = self._simulation.event_count

    def successful_episode(self, *, with_timeline: bool) -> Episode:
        """The episode, if nothing failed."""
        assert self._world is not None
        answers = [answer.content for answer in self._world.tools.answers if answer.tool == "status" and answer.content]
        faults = Counter([*self._world.erp.faults_met, *self._world.payments.faults_met])
        if self._crashes:
            faults[Verb.CRASH] = self._crashes
        entries = self._timeline() if with_timeline else ()
        return Episode(str(answers[-1]["status"]), self._simulation.now - START_TIME, faults, timeline=entries)

    def failed_episode(self, failure: Failure) -> Episode:
        """The episode, if something failed."""
        if self._world is None:
            return Episode(failure.causes[0], timedelta(), failure=failure)
        faults = Counter([*self._world.erp.faults_met, *self._world.payments.faults_met])
        outcome = ", ".join(failure.causes)
        return Episode(outcome, self._simulation.now - START_TIME, faults, failure, self._timeline())

    def _timeline(self) -> tuple[TimelineEntry, ...]:
        assert self._world is not None
        return full_timeline(self._simulation, self._actions, self._world.ledger, self._last)
