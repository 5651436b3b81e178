"""The strategies generate only valid scenarios, and cover all features."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis.errors import NoSuchExample

from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.testing import Scenario, Verb
from tests.scenarios.strategies import CURRENCIES, scenarios

pytestmark = pytest.mark.thorough

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@given(scenario=scenarios())
def test_every_scenario_is_of_two_valid_invoices_that_differ(scenario: Scenario) -> None:
    invoice, changed = (Invoice.model_validate(draft) for draft in scenario.invoices("INV-1", NOW))
    assert 1 <= len(invoice.lines) <= 20
    assert invoice.content_digest != changed.content_digest
    smallest = Decimal(1).scaleb(-CURRENCIES[invoice.currency])
    assert all(line.amount == line.amount.quantize(smallest) for line in invoice.lines)
    assert all(action.line <= len(invoice.lines) for action in (*scenario.before, *scenario.actions))


@given(scenario=scenarios())
def test_every_scenario_survives_a_round_trip_through_json(scenario: Scenario) -> None:
    assert Scenario.model_validate_json(scenario.model_dump_json(exclude_defaults=True)) == scenario


@given(scenario=scenarios(eager=True))
def test_eager_scenarios_let_no_time_pass(scenario: Scenario) -> None:
    assert scenario.eager
    assert Verb.ADVANCE not in {action.verb for action in scenario.actions}


CORNERS: dict[str, Callable[[Scenario], bool]] = {
    "twenty lines": lambda scenario: len(scenario.lines) == 20,
    "three decimals": lambda scenario: scenario.currency == "KWD",
    "a few cents": lambda scenario: any(Decimal(line.amount) < Decimal("0.1") for line in scenario.lines),
    "due years ahead": lambda scenario: any(line.due_in_hours > 24 * 365 for line in scenario.lines),
    "due years ago": lambda scenario: any(line.due_in_hours < -24 * 365 for line in scenario.lines),
    "hostile text": lambda scenario: any("DROP TABLE" in line.description for line in scenario.lines),
    "metadata": lambda scenario: bool(scenario.metadata),
    "other metadata the second time": lambda scenario: scenario.changes == "metadata",
    "ninety days to decide": lambda scenario: scenario.approval_hours == 24 * 90,
    "runs that are named": lambda scenario: scenario.names_runs,
    "the older protocol": lambda scenario: scenario.protocol_mode == "legacy",
    "an ERP that stays down": lambda scenario: sum(each.verb is Verb.ERP_DOWN for each in scenario.before) == 5,
    "a mix": lambda scenario: {Verb.CANCEL, Verb.CRASH, Verb.ANSWER_LOST} <= {each.verb for each in scenario.actions},
}


def test_every_corner_is_drawn() -> None:
    missing = set(CORNERS)

    def was_the_last(scenario: Scenario) -> bool:
        missing.difference_update([corner for corner in missing if CORNERS[corner](scenario)])
        return not missing

    # How small such a scenario could be is of no interest.
    once = settings(max_examples=2_000, derandomize=True, database=None, phases=[Phase.generate])
    with suppress(NoSuchExample):
        find(scenarios(), was_the_last, settings=once)
    assert missing == set()
