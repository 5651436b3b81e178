"""Property-based: random invoices, random words, both eras of MCP, each answer and outcome held against the model."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from invoice_mcp.testing import Scenario, StageKeeper, play
from tests.requirements import requirement
from tests.scenarios.strategies import scenarios

pytestmark = pytest.mark.thorough

# A server is asked for each example.
patiently = settings(suppress_health_check=[HealthCheck.too_slow])
# The real server takes ten times as long for a life.
seldom = settings(patiently, max_examples=max(settings().max_examples // 4, 10))


@requirement("WORDS-RANDOM", "TOOL-ERAS")
@patiently
@given(scenario=scenarios())
async def test_a_random_life_goes_as_the_model_says(invoice_stage: StageKeeper, scenario: Scenario) -> None:
    await play(invoice_stage, scenario)


@requirement("WORDS-RANDOM")
@seldom
@given(scenario=scenarios(hasty=True))
async def test_things_done_in_haste_end_in_one_of_the_ways_the_model_allows(
    real_invoice_stage: StageKeeper, scenario: Scenario
) -> None:
    await play(real_invoice_stage, scenario)
