"""The harness catches every workflow that is broken on purpose, and passes the real ones."""

from __future__ import annotations

import pytest

from invoice_mcp.testing import ScenarioRunner
from invoice_mcp.testing.checker.violations import RULES
from tests.requirements import requirement
from tests.scenarios.controls.catalogue import COMMON, CONTROLS
from tests.scenarios.controls.control import MODEL, Control, catch, first_broken

pytestmark = pytest.mark.thorough

# What can go wrong, and which control does it.
MISTAKES = {
    "pays before approval": "PaysBeforeApproval",
    "last decision wins": "LastDecisionWins",
    "counts a failed line as paid": "CountsFailedAsPaid",
    "forgets the deadline": "ForgetsTheDeadline",
    "deadline a day too late": "DeadlineADayLate",
    "deadline a day too early": "DeadlineADayEarly",
    "pays twice on retry": "PaysTwiceOnRetry",
    "ignores the due date": "IgnoresTheDueDate",
    "drops a line": "DropsALine",
    "loses the decision on replay": "LosesDecisionOnReplay",
    "status out of step with the result": "ResultOutOfStep",
    "accepts a decision after the deadline": "AcceptsAfterTheDeadline",
    "hangs on a bad line": "HangsOnABadLine",
    "ignores a cancellation while paying": "IgnoresCancellation",
    "cancels a payment under way": "CancelsWhatIsUnderWay",
    "pays again when submitted again": "ResubmissionPaysAgain",
    "pays a wrong amount": "ForgetsTheCents",
    "expires a minute too late": "ExpiresAMinuteLate",
    "tells a refused line as unconfirmed": "DoubtsARefusal",
    "tells an unanswered line as refused": "SureOfNoAnswer",
    "tells a line as refused that was refused after no answer": "SureOfARepeatedRefusal",
    "tells a line as refused that an earlier run got no answer on": "ForgetsWhatWasSettled",
    "takes another line's payment for a line's own": "TakesAnotherLinesPayment",
    "approves on timeout": "ApprovesOnTimeout",
    "acknowledges the opposite decision": "AcknowledgesTheOpposite",
    "lets a signal approve against the policy": "SignalsAlwaysApprove",
    "goes otherwise on replay": "OtherwiseOnReplay",
}


@requirement("HARNESS-CONTROLS")
@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_a_control_is_caught(request: pytest.FixtureRequest, control: Control) -> None:
    world = request.config.getoption("--bulk")
    caught = catch(control, world)
    assert caught is not None, f"not noticed in {len(control.scenarios)} scenarios: {control.wrong}"
    assert control.is_caught_by(caught.by, world), f"caught by {set(caught.by)} only: {caught.detail}"
    assert caught.after == 1, f"its own scenario did not catch it, but {caught.scenario}"


def test_the_real_workflows_are_not_caught(bulk: ScenarioRunner) -> None:
    broken = first_broken(bulk, COMMON)
    assert broken is None, f"{broken.scenario}: {broken.detail}"


def test_there_is_a_control_for_every_mistake() -> None:
    assert len({control.name for control in CONTROLS}) == len(CONTROLS)
    assert set(MISTAKES.values()) <= {control.name for control in CONTROLS}


def test_every_rule_is_broken_by_a_control() -> None:
    assert {rule for control in CONTROLS for rule in control.breaks} == {*RULES, MODEL}


def test_the_real_workflows_are_played_whatever_catches_a_control() -> None:
    assert {scenario for control in CONTROLS for scenario in control.scenarios} == set(COMMON)
