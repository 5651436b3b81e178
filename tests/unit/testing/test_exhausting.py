"""`invoice-mcp simulate --exhaustive`: what it explores, and how it tells people and machines."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from invoice_mcp.simulate_cli import simulate
from invoice_mcp.testing._exhausting import Exhausting, explore_plan, explore_plans
from invoice_mcp.testing._plans import Plan
from tests.requirements import requirement

LATE = "tests.scenarios.controls.racing:TakesLateSignals"
SIGNALLED = Plan(1, ("signal-approve",), faults=(), crashes=False)


@requirement("ORDER-ALL")
def test_every_plan_is_explored_in_one_process_or_in_several() -> None:
    every, told = [Plan(1, ("approve",)), Plan(1, ("cancel",))], [0, 0]

    def tell(lives: int, states: int) -> None:
        told[:] = [told[0] + lives, told[1] + states]

    alone = {result.plan: (result.lives, result.states) for result in explore_plans(every, 1, (), tell)}
    together = {result.plan: (result.lives, result.states) for result in explore_plans(every, 2, (), tell)}
    assert alone == together
    assert set(alone) == {str(plan) for plan in every}
    assert all(states > 1 for _, states in alone.values())
    for some, figures in zip(told, zip(*alone.values(), strict=True), strict=True):
        assert 0 < some <= 2 * sum(figures)


@requirement("ORDER-ALL")
def test_what_is_wrong_is_told_with_its_path_and_its_story() -> None:
    result = explore_plan(SIGNALLED, (LATE,))
    assert "S8 (" in result.wrong
    assert "Its path: 0 " in result.wrong
    assert any("is sent signal ApproveInvoice" in line for line in result.story)
    assert explore_plan(SIGNALLED).wrong == ""


def test_machines_are_told_in_json() -> None:
    outcome = CliRunner().invoke(simulate, ["--exhaustive", "0", "--lines", "1", "--json"])
    assert outcome.exit_code == 0, outcome.output
    told = json.loads(outcome.stdout)
    assert (told["exhaustive"], told["plans"], told["failures"]) == (0, 1, [])
    assert told["states"] > 1


def test_people_are_told_in_a_table() -> None:
    outcome = CliRunner().invoke(simulate, ["--exhaustive", "0"])
    assert outcome.exit_code == 0
    assert "2 plans" in outcome.stdout


def test_a_failure_is_exit_status_1_and_ends_it_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    exhausting = Exhausting(1, 1, 1, (LATE,), keeps_going=False)
    exhausting.results = [explore_plan(SIGNALLED, (LATE,))]
    exhausting.print()
    assert "broken" in capsys.readouterr().out
    assert [each.plan for each in exhausting.failures] == [str(SIGNALLED)]
    [failure] = exhausting.as_json()["failures"]
    assert failure["story"]


@pytest.mark.parametrize("wrong", ["--exhaustive 4", "--exhaustive 1 --html x.html", "--exhaustive 1 --workflow no:"])
def test_what_can_not_be_run_is_exit_status_2(wrong: str) -> None:
    outcome = CliRunner().invoke(simulate, wrong.split())
    assert outcome.exit_code == 2
    assert "Traceback" not in outcome.output
