"""Every interleaving of small plans keeps the rules, and the reduction leaves out no outcome.

Where `test_action_sequences.py` is exhaustive in the actions, this is exhaustive in the order of the events they cause.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails

from invoice_mcp.domain.report import LineStatus
from invoice_mcp.testing import Violations
from invoice_mcp.testing.simulate.explore import plan as _plans
from invoice_mcp.testing.simulate.explore.execution import ControlledExecution, executions_of
from invoice_mcp.testing.simulate.explore.partial_order_reduction import LineReduction, UnsoundReductionError
from invoice_mcp.testing.simulate.explore.plan import ONE_OF, Plan, plans
from invoice_mcp.workflow.invoice_workflow import InvoiceWorkflow
from invoice_mcp.workflow.line_workflow import PayLineItem
from temporal_simulator import ChoiceSequence, Event, ExplorationStats, MemoizingRunner, connect, explore, replay_path
from temporal_simulator.server.task_input import serialized
from temporal_simulator.worker.memoize import MemoizedInstance
from tests.nightly import at_night
from tests.requirements import requirement
from tests.scenarios.controls.lines import PaysTwiceOnRetry, SureOfARepeatedRefusal
from tests.scenarios.controls.payments import TakesAnotherLinesPayment
from tests.scenarios.controls.races import StopsLinesByTheClock, TakesLateSignals, TakesSignalsByTheClock
from tests.scenarios.controls.replacement import in_place_of_invoice

pytestmark = pytest.mark.thorough


def explore_all(plan: Plan, workflows: tuple[type, ...] | None = None) -> ExplorationStats:
    execute = executions_of(plan) if workflows is None else executions_of(plan, workflows)
    return asyncio.run(explore(execute))


@requirement("INTERLEAVINGS-ALL")
@pytest.mark.parametrize("plan", [*plans(0), *plans(1, lines=1)], ids=str)
def test_no_interleaving_violates_a_rule(plan: Plan) -> None:
    found = explore_all(plan)
    assert found.executions >= 5
    assert found.states > found.executions


@requirement("INTERLEAVINGS-ALL")
def test_a_decision_in_the_same_task_as_the_deadline_is_explored() -> None:
    plan = Plan(1, ("signal-approve",), faults=(), crashes=False)
    with pytest.raises(Violations) as broken:
        explore_all(plan, (TakesLateSignals, PayLineItem))
    assert {violation.rule for violation in broken.value.found} & {"S1", "S8"}


@requirement("INTERLEAVINGS-ALL", "HISTORY-NONDETERMINISM")
@pytest.mark.parametrize(
    ("plan", "broken", "rules"),
    [
        (Plan(2, ("approve", "cancel"), faults=()), StopsLinesByTheClock, {"S9"}),
        (Plan(1, ("signal-approve",), faults=()), TakesSignalsByTheClock, {"S1", "S8", "S9"}),
    ],
    ids=["cancelled", "signalled"],
)
def test_a_query_that_is_answered_before_the_task_is_explored(
    plan: Plan, broken: type[InvoiceWorkflow], rules: set[str]
) -> None:
    with pytest.raises(Violations) as found:
        explore_all(plan, (broken, PayLineItem))
    assert {violation.rule for violation in found.value.found} & rules
    if plan.lines == 1:
        # Without such a query the workflow passes this plan. With two lines that takes long to show.
        assert explore_all(replace(plan, queries=False), (broken, PayLineItem)).executions


@requirement("INTERLEAVINGS-ALL")
def test_a_crash_between_a_payment_and_its_record_is_explored() -> None:
    plan = Plan(1, ("approve",), faults=(), crashes=True)
    with pytest.raises(Violations) as broken:
        explore_all(plan, (InvoiceWorkflow, PaysTwiceOnRetry))
    assert "S2" in {violation.rule for violation in broken.value.found}
    assert explore_all(Plan(1, ("approve",), faults=(), crashes=False), (InvoiceWorkflow, PaysTwiceOnRetry)).executions


@requirement("INTERLEAVINGS-ALL", "PAY-UNCONFIRMED")
def test_a_key_that_is_refused_again_is_explored() -> None:
    plan = Plan(1, ("approve",), faults=("refused-again",), crashes=False)
    with pytest.raises(Violations) as broken:
        explore_all(plan, (InvoiceWorkflow, SureOfARepeatedRefusal))
    assert {violation.rule for violation in broken.value.found} == {"S4"}


@requirement("INTERLEAVINGS-ALL", "PAY-AMBIGUOUS")
def test_the_receipt_of_another_line_is_explored() -> None:
    plan = Plan(2, ("approve",), faults=("stale-answer",), crashes=False)
    assert explore_all(plan).executions >= 5
    with pytest.raises(Violations) as broken:
        explore_all(plan, (TakesAnotherLinesPayment, PayLineItem))
    assert {violation.rule for violation in broken.value.found} == {"S4"}


class NoReduction(LineReduction):
    """Explores the events of lines in every order, too."""

    def persistent_set(self, events: Sequence[Event]) -> list[Event]:
        return []


class Unreduced(ControlledExecution):
    """No reduction, a crash at every point, and states that are equal only if the histories are."""

    reduction_type = NoReduction

    def _options(self) -> list[Any]:
        can_crash, self.can_crash = self.can_crash, False
        options = super()._options()
        self.can_crash = can_crash
        return [*options, self._crash] if can_crash and options else options

    def _state(self) -> Hashable:
        runs = self.simulation.runs()
        histories = tuple((run.run_id, run.history_digest(), run.tasks.digest(), run.status) for run in runs)
        under_way = tuple(str([(seq, each.digest()) for seq, each in sorted(run.activities.items())]) for run in runs)
        made = tuple((paid.order.line, paid.at) for paid in self.payments.made)
        left = self.plan.events[self.done :], self.faults, self.payments.refused_keys, self.can_crash
        return self.simulation.event_queue.digest(), histories, under_way, made, left


class RecordingInstance(MemoizedInstance):
    """Records every activation of a run's code, with the state of the code and the time."""

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        happened = [job for job in act.jobs if job.WhichOneof("variant") not in {"query_workflow", "remove_from_cache"}]
        if happened and not act.is_replaying:
            knows = self.fingerprint() if self._activations else b""
            activations.append((act.run_id, knows, tuple(sorted(serialized(happened))), act.timestamp.ToNanoseconds()))
        return super().activate(act)


class RecordingRunner(MemoizingRunner):
    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        return RecordingInstance(self, det)


activations: list[Hashable] = []


def outcomes_of(kind: type[ControlledExecution], plan: Plan) -> tuple[set[object], set[Hashable], ExplorationStats]:
    """All outcomes of a plan's executions, all activations in them, and the counts.

    An outcome is the result of each run, the payments, the gateway's answers, and when.
    """
    outcomes: set[object] = set()
    all_activations: set[Hashable] = set()

    class Observed(kind):  # type: ignore[misc, valid-type]
        async def _check(self) -> None:
            await super()._check()
            client = connect(self.simulation, data_converter=pydantic_data_converter)
            report = await client.get_workflow_handle(self.invoice.workflow_id).query("GetInvoiceReport")
            runs = sorted((run.workflow_id, run.status) for run in self.simulation.runs())
            made = [(paid.order.line, paid.at) for paid in self.payments.made]
            answered = sorted((each.order.line, each.outcome) for each in self.payments.answered)
            outcomes.add(str((report, runs, made, answered, self.simulation.now)))
            all_activations.update(activations)

    runner = RecordingRunner()

    async def run(branches: ChoiceSequence) -> None:
        activations.clear()
        await Observed(plan, runner=runner).run(branches)

    return outcomes, all_activations, asyncio.run(explore(run))


def require_same_outcomes(
    reduced: type[ControlledExecution], full: type[ControlledExecution], plan: Plan, *, activations_too: bool = True
) -> None:
    """Compare the outcomes of both. Without queries: they are explored at each task of the invoice, without reduction.

    Args:
        activations_too: Whether the activations must be the same, too.
    """
    plan = replace(plan, queries=False)
    outcomes, activations, stats = outcomes_of(reduced, plan)
    all_outcomes, all_activations, full_stats = outcomes_of(full, plan)
    assert outcomes == all_outcomes
    assert not activations_too or activations == all_activations
    assert stats.states < full_stats.states


@requirement("INTERLEAVINGS-ALL")
@pytest.mark.parametrize(
    "plan",
    [
        Plan(1, ("approve",), faults=()),
        Plan(1, ("signal-reject", "cancel"), faults=(), crashes=False),
        at_night(Plan(1, ("approve", "cancel"), faults=(), crashes=False)),
        at_night(Plan(2, ("approve",), faults=(), crashes=False)),
        Plan(1, ("cancel",)),
    ],
    ids=str,
)
def test_the_reduction_leaves_out_no_outcome(plan: Plan) -> None:
    # Two reasons for other activations with the same outcomes. A due line is asked to stop as well; the acknowledgement
    # and the line's end reach the invoice in more orders than are explored. And the validator of a waiting update does
    # not run on replay, so the SDK's own frames differ.
    are_same = plan.events != ("approve", "cancel") and not (plan.crashes and "approve" in plan.events)
    require_same_outcomes(ControlledExecution, Unreduced, plan, activations_too=are_same)


@requirement("INTERLEAVINGS-ALL")
@pytest.mark.nightly
@pytest.mark.parametrize("alternatives", ONE_OF)
def test_a_plan_with_alternatives_has_the_outcomes_of_the_single_plans(alternatives: str) -> None:
    def of(second: str) -> tuple[set[object], set[Hashable]]:
        outcomes, activations, _ = outcomes_of(
            ControlledExecution, Plan(1, ("approve", second), faults=(), crashes=False)
        )
        return outcomes, activations

    one_by_one = [of(event) for event in ONE_OF[alternatives]]
    together = tuple(set().union(*sets) for sets in zip(*one_by_one, strict=True))
    assert of(alternatives) == together


@requirement("INTERLEAVINGS-ALL")
@pytest.mark.nightly
def test_a_plan_with_two_faults_has_the_outcomes_of_the_plans_with_one() -> None:
    # With either fault the payment is made and its answer lost; only what follows differs.
    def of(*faults: str) -> tuple[set[object], set[Hashable]]:
        plan = Plan(1, ("approve", "cancel"), faults=faults, crashes=False)
        outcomes, activations, _ = outcomes_of(ControlledExecution, plan)
        return outcomes, activations

    one_by_one = [of(fault) for fault in ("answer-lost", "refused-again")]
    together = tuple(set().union(*sets) for sets in zip(*one_by_one, strict=True))
    assert of("answer-lost", "refused-again") == together


@requirement("INTERLEAVINGS-ALL")
@pytest.mark.nightly
def test_an_update_and_a_signal_share_a_plan_and_states() -> None:
    update, signal, both = (explore_all(Plan(1, (event,))) for event in (*ONE_OF["approval"], "approval"))
    # A signal has a workflow task of its own and leaves a marker, so only the states before and after it are shared.
    assert max(update.states, signal.states) < both.states < update.states + signal.states


@requirement("INTERLEAVINGS-ALL")
def test_equal_ends_are_checked_once() -> None:
    observations = list[str]()

    class Observed(ControlledExecution):
        async def _observe(self) -> Any:
            observations.append(str(observed := await super()._observe()))
            return observed

    def executions(**known: Any) -> int:
        async def run(branches: ChoiceSequence) -> None:
            await Observed(Plan(1, ("approve",)), runner=runner, **known).run(branches)

        return asyncio.run(explore(run)).executions

    runner = MemoizingRunner()
    assert executions() == len(observations)
    every, observations[:] = [*observations], []
    assert executions(checked_ends=set()) > len(observations)
    assert {*observations} == {*every}


class Late(ControlledExecution):
    """Explores nothing before the invoice has started a line."""

    def _options(self) -> list[Any]:
        options = super()._options()
        return options if len(self.simulation.runs()) > 1 else options[:1]


class UnreducedLate(Late, Unreduced):
    pass


@requirement("INTERLEAVINGS-ALL")
@pytest.mark.parametrize(
    "plan",
    [
        at_night(Plan(1, ("approve", "cancel"), faults=())),
        Plan(1, ("approve", "signal-reject", "cancel"), faults=(), crashes=False),
    ],
    ids=str,
)
def test_the_reduction_leaves_out_no_outcome_of_a_later_line(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    # Only lines that are due later are cancelled.
    monkeypatch.setattr(_plans, "_DUE", (timedelta(hours=60),))
    require_same_outcomes(Late, UnreducedLate, plan, activations_too=not plan.crashes)


@in_place_of_invoice
class CancelsALine(InvoiceWorkflow):
    """Cancels every line that is due later, without having been cancelled."""

    def _update_line(self, number: int, **changes: object) -> None:
        super()._update_line(number, **changes)
        if changes.get("status") is LineStatus.SCHEDULED:
            self._cancels = asyncio.create_task(self._cancel_line(number))


@requirement("INTERLEAVINGS-ALL")
def test_a_workflow_that_breaks_the_assumption_of_the_reduction_is_reported() -> None:
    with pytest.raises(UnsoundReductionError, match="cancellation is delivered"):
        explore_all(Plan(2, ("approve",), faults=(), crashes=False), (CancelsALine, PayLineItem))


@requirement("INTERLEAVINGS-ALL")
def test_a_failed_execution_can_be_replayed_by_its_path() -> None:
    execute = executions_of(Plan(1, ("signal-approve",), faults=(), crashes=False), (TakesLateSignals, PayLineItem))
    with pytest.raises(Violations) as broken:
        asyncio.run(explore(execute))
    [note] = broken.value.__notes__
    path = tuple(int(branch) for branch in note.removeprefix("Its path: ").split())
    with pytest.raises(Violations) as replayed:
        asyncio.run(replay_path(execute, path))
    assert replayed.value.found == broken.value.found
