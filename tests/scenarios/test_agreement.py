"""Engine agreement: a scenario has the same answers, reports, payments and commands on every engine."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings

from invoice_mcp.testing import Action, Scenario, ScenarioRunner, Verb, kinds
from invoice_mcp.testing.model.actions import ACTION_ALPHABET
from invoice_mcp.testing.model.sequences import action_sequences
from tests.requirements import requirement
from tests.scenarios.engine_comparison import ScenarioOutcome, outcome_of
from tests.scenarios.strategies import scenarios

pytestmark = pytest.mark.thorough

OTHERS = ("time-skipping", "real")


@pytest.fixture(scope="session", params=OTHERS)
def other(request: pytest.FixtureRequest) -> Iterator[ScenarioRunner]:
    """One of Temporal's own servers."""
    with ScenarioRunner(kinds()[request.param], sandboxed=False) as environment:
        yield environment


@pytest.fixture(scope="session")
def simulated() -> Iterator[ScenarioRunner]:
    with ScenarioRunner(kinds()["simulated"], sandboxed=False) as environment:
        yield environment


def is_started_late(scenario: Scenario) -> bool:
    """Whether an invoice is submitted again after time has passed."""
    verbs = [action.verb for action in scenario.actions]
    later = verbs[verbs.index(Verb.ADVANCE) :] if Verb.ADVANCE in verbs else []
    return Verb.TRIGGER in later or Verb.TRIGGER_CHANGED in later


def require_agreement(one: ScenarioOutcome, other: ScenarioOutcome, engine: str, scenario: Scenario) -> None:
    """On the real server each run has a clock of its own, that begins with real time (`start_time_skipping_v2`).

    So a run that starts after time has passed starts as early as the first one, and may have to wait longer.
    """
    if engine == "real" and len(one.reports) > 1 and is_started_late(scenario):
        one, other = one.without_waiting(), other.without_waiting()
    assert one == other, str(scenario)


def account(environment: ScenarioRunner, scenario: Scenario) -> ScenarioOutcome:
    return environment.run(partial(outcome_of, scenario=scenario))


@requirement("ENGINES-AGREE")
@pytest.mark.parametrize("begin", ACTION_ALPHABET, ids=str)
def test_the_simulator_goes_as_the_servers_do(
    request: pytest.FixtureRequest, simulated: ScenarioRunner, other: ScenarioRunner, begin: Action
) -> None:
    length = request.config.getoption("--agreement")
    for word in (word for word in action_sequences(length) if word[0] == begin):
        scenario = Scenario(actions=word)
        require_agreement(account(simulated, scenario), account(other, scenario), other.kind.name, scenario)


@requirement("ENGINES-AGREE")
@pytest.mark.nightly
@settings(max_examples=settings().max_examples // 10, suppress_health_check=[HealthCheck.too_slow])
@given(scenario=scenarios())
def test_a_random_scenario_has_the_same_outcome_on_the_simulator_and_the_servers(
    simulated: ScenarioRunner, other: ScenarioRunner, scenario: Scenario
) -> None:
    require_agreement(account(simulated, scenario), account(other, scenario), other.kind.name, scenario)
