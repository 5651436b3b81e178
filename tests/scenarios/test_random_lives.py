"""Property-based: random invoices, random words, both eras of MCP, each answer and outcome held against the model."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings

from invoice_mcp.testing import Scenario, StageKeeper, play
from tests.requirements import requirement
from tests.scenarios.strategies import scenarios

# A real server is asked for each example; and a shrunk failure is worth the time.
patiently = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@requirement("WORDS-RANDOM", "TOOL-ERAS")
@patiently
@given(scenario=scenarios())
async def test_a_random_life_goes_as_the_model_says(invoice_stage: StageKeeper, scenario: Scenario) -> None:
    await play(invoice_stage, scenario)


@requirement("WORDS-RANDOM")
@patiently
@given(scenario=scenarios(hasty=True))
async def test_things_done_in_haste_end_in_one_of_the_ways_the_model_allows(
    real_invoice_stage: StageKeeper, scenario: Scenario
) -> None:
    await play(real_invoice_stage, scenario)
