"""Property-based tests: random invoices and action sequences in both protocol modes conform to the model."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from invoice_mcp.testing import Scenario, ScenarioRunner
from tests.requirements import requirement
from tests.scenarios.strategies import scenarios

pytestmark = pytest.mark.thorough

# Where a server is asked for each example.
patiently = settings(suppress_health_check=[HealthCheck.too_slow])


@requirement("SEQUENCES-RANDOM", "TOOL-PROTOCOLS")
@patiently
@given(scenario=scenarios())
def test_a_random_scenario_conforms_to_the_model(bulk: ScenarioRunner, scenario: Scenario) -> None:
    bulk.play(scenario)


@requirement("SEQUENCES-RANDOM")
@patiently
@given(scenario=scenarios(eager=True))
def test_an_eager_scenario_conforms_to_the_model(real_bulk: ScenarioRunner, scenario: Scenario) -> None:
    real_bulk.play(scenario)
