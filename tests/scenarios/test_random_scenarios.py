"""Property-based: random invoices, random words, both eras of MCP, each answer and outcome held against the model."""

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
def test_a_random_life_goes_as_the_model_says(bulk: ScenarioRunner, scenario: Scenario) -> None:
    bulk.play(scenario)


@requirement("SEQUENCES-RANDOM")
@patiently
@given(scenario=scenarios(eager=True))
def test_things_done_in_haste_end_in_one_of_the_ways_the_model_allows(
    real_bulk: ScenarioRunner, scenario: Scenario
) -> None:
    real_bulk.play(scenario)
