"""Exhaustive in another way: not what is done, but in which order everything happens that is set off by it."""

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
from invoice_mcp.testing.simulate.explore.plan import ONE_OF, Plan, plans
from invoice_mcp.testing.simulate.explore.reduction import LineReduction, UnsoundReductionError
from invoice_mcp.workflow.invoice_workflow import InvoiceWorkflow
from invoice_mcp.workflow.line_workflow import PayLineItem
from temporal_simulator import ChoiceSequence, Event, ExplorationStats, MemoizingRunner, connect, explore, replay_path
from temporal_simulator.server.workflow_tasks import _told
from temporal_simulator.worker.memoize import MemoizedInstance
from tests.nightly import at_night
from tests.requirements import requirement
from tests.scenarios.controls.lines import PaysTwiceOnRetry, SureOfARepeatedRefusal
from tests.scenarios.controls.payments import TakesAnotherLinesPayment
from tests.scenarios.controls.races import StopsLinesByTheClock, TakesLateSignals, TakesSignalsByTheClock
from tests.scenarios.controls.replacement import in_place_of_invoice

pytestmark = pytest.mark.thorough


def explored(plan: Plan, workflows: tuple[type, ...] | None = None) -> ExplorationStats:
    life = executions_of(plan) if workflows is None else executions_of(plan, workflows)
    return asyncio.run(explore(life))


@requirement("INTERLEAVINGS-ALL")
@pytest.mark.parametrize("plan", [*plans(0), *plans(1, lines=1)], ids=str)
def test_no_order_of_things_breaks_a_promise(plan: Plan) -> None:
    found = explored(plan)
    assert found.executions >= 5
    assert found.states > found.executions


@requirement("INTERLEAVINGS-ALL")
def test_a_decision_in_the_same_task_as_the_deadline_is_among_the_orders() -> None:
    plan = Plan(1, ("signal-approve",), faults=(), crashes=False)
    with pytest.raises(Violations) as broken:
        explored(plan, (TakesLateSignals, PayLineItem))
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
def test_a_query_that_is_answered_before_the_task_is_among_the_orders(
    plan: Plan, broken: type[InvoiceWorkflow], rules: set[str]
) -> None:
    with pytest.raises(Violations) as convicted:
        explored(plan, (broken, PayLineItem))
    assert {violation.rule for violation in convicted.value.found} & rules
    if plan.lines == 1:
        # Without such a query this workflow does nothing wrong that the plan has in it. With two lines it takes long.
        assert explored(replace(plan, queries=False), (broken, PayLineItem)).executions


@requirement("INTERLEAVINGS-ALL")
def test_a_crash_between_a_payment_and_its_record_is_among_the_orders() -> None:
    plan = Plan(1, ("approve",), faults=(), crashes=True)
    with pytest.raises(Violations) as broken:
        explored(plan, (InvoiceWorkflow, PaysTwiceOnRetry))
    assert "S2" in {violation.rule for violation in broken.value.found}
    assert explored(Plan(1, ("approve",), faults=(), crashes=False), (InvoiceWorkflow, PaysTwiceOnRetry)).executions


@requirement("INTERLEAVINGS-ALL", "PAY-UNCONFIRMED")
def test_a_key_that_is_refused_again_is_among_the_orders() -> None:
    plan = Plan(1, ("approve",), faults=("refused-again",), crashes=False)
    with pytest.raises(Violations) as broken:
        explored(plan, (InvoiceWorkflow, SureOfARepeatedRefusal))
    assert {violation.rule for violation in broken.value.found} == {"S4"}


@requirement("INTERLEAVINGS-ALL", "PAY-AMBIGUOUS")
def test_the_receipt_of_another_line_is_among_the_orders() -> None:
    plan = Plan(2, ("approve",), faults=("stale-answer",), crashes=False)
    assert explored(plan).executions >= 5
    with pytest.raises(Violations) as broken:
        explored(plan, (TakesAnotherLinesPayment, PayLineItem))
    assert {violation.rule for violation in broken.value.found} == {"S4"}


class NoReduction(LineReduction):
    """Explores the events of lines in every order."""

    def persistent_set(self, events: Sequence[Event]) -> list[Event]:  # noqa: ARG002
        return []


class EveryOrder(ControlledExecution):
    """Nothing is left out, nothing is done at once, and only what has the same history is the same."""

    reduction_type = NoReduction

    def _options(self) -> list[Any]:
        can_crash, self.can_crash = self.can_crash, False
        options = super()._options()
        self.can_crash = can_crash
        return [*options, self._crash] if can_crash and options else options

    def _state(self) -> Hashable:
        runs = self.simulation.runs()
        told = tuple((run.run_id, run.history_digest(), run.tasks.digest(), run.status) for run in runs)
        under_way = tuple(str([(seq, each.digest()) for seq, each in sorted(run.activities.items())]) for run in runs)
        made = tuple((paid.order.line, paid.at) for paid in self.payments.made)
        left = self.plan.events[self.done :], self.faults, self.payments.refused_keys, self.can_crash
        return self.simulation.event_queue.digest(), told, under_way, made, left


class Hearing(MemoizedInstance):
    """Notes what the code of a run is told, knowing what, and when."""

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        happened = [job for job in act.jobs if job.WhichOneof("variant") not in {"query_workflow", "remove_from_cache"}]
        if happened and not act.is_replaying:
            knows = self.knows() if self._told else b""
            heard.append((act.run_id, knows, tuple(sorted(_told(happened))), act.timestamp.ToNanoseconds()))
        return super().activate(act)


class HearingRunner(MemoizingRunner):
    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        return Hearing(self, det)


heard: list[Hashable] = []


def shown(kind: type[ControlledExecution], plan: Plan) -> tuple[set[object], set[Hashable], ExplorationStats]:
    """What all its lives show.

    Every way in which it can end: what each run has come to, the payments, how the gateway answered, and when. And
    everything that the code of the runs is ever told, knowing what.
    """
    endings: set[object] = set()
    everything: set[Hashable] = set()

    class Ending(kind):  # type: ignore[misc, valid-type]
        async def _check(self) -> None:
            await super()._check()
            client = connect(self.simulation, data_converter=pydantic_data_converter)
            report = await client.get_workflow_handle(self.invoice.workflow_id).query("GetInvoiceReport")
            runs = sorted((run.workflow_id, run.status) for run in self.simulation.runs())
            made = [(paid.order.line, paid.at) for paid in self.payments.made]
            answered = sorted((each.order.line, each.outcome) for each in self.payments.answered)
            endings.add(str((report, runs, made, answered, self.simulation.now)))
            everything.update(heard)

    runner = HearingRunner()

    async def run(branches: ChoiceSequence) -> None:
        heard.clear()
        await Ending(plan, runner=runner).run(branches)

    return endings, everything, asyncio.run(explore(run))


def require_the_same(
    few: type[ControlledExecution], every: type[ControlledExecution], plan: Plan, *, told: bool = True
) -> None:
    """Queries before a task are explored at each task of the invoice: nothing of them is left out.

    Args:
        told: Whether the code of all runs is also told the same; else only the endings are the same.
    """
    plan = replace(plan, queries=False)
    endings_of_few, told_by_few, explored_few = shown(few, plan)
    endings_of_all, told_by_all, explored_all = shown(every, plan)
    assert endings_of_few == endings_of_all
    assert not told or told_by_few == told_by_all
    assert explored_few.states < explored_all.states


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
def test_what_is_left_out_would_have_shown_nothing_else(plan: Plan) -> None:
    # A line that is due is asked to stop as well. That it was asked, and that it ended, the invoice learns in more
    # orders than are explored; they end alike. And where an update that waits is replayed, its validator has not run:
    # the SDK's own frames differ by that, though nothing comes of it.
    is_told_alike = plan.events != ("approve", "cancel") and not (plan.crashes and "approve" in plan.events)
    require_the_same(ControlledExecution, EveryOrder, plan, told=is_told_alike)


@requirement("INTERLEAVINGS-ALL")
@pytest.mark.nightly
@pytest.mark.parametrize("word", ONE_OF)
def test_plans_that_name_the_second_event_too_show_the_same_together(word: str) -> None:
    def of(second: str) -> tuple[set[object], set[Hashable]]:
        endings, told, _ = shown(ControlledExecution, Plan(1, ("approve", second), faults=(), crashes=False))
        return endings, told

    one_by_one = [of(event) for event in ONE_OF[word]]
    together = tuple(set().union(*sets) for sets in zip(*one_by_one, strict=True))
    assert of(word) == together


@requirement("INTERLEAVINGS-ALL")
@pytest.mark.nightly
def test_a_plan_with_two_faults_shows_what_those_with_one_show_together() -> None:
    # After either the payment is made and its answer lost; only what follows is another thing.
    def of(*faults: str) -> tuple[set[object], set[Hashable]]:
        endings, told, _ = shown(ControlledExecution, Plan(1, ("approve", "cancel"), faults=faults, crashes=False))
        return endings, told

    one_by_one = [of(fault) for fault in ("answer-lost", "refused-again")]
    together = tuple(set().union(*sets) for sets in zip(*one_by_one, strict=True))
    assert of("answer-lost", "refused-again") == together


@requirement("INTERLEAVINGS-ALL")
@pytest.mark.nightly
def test_two_ways_to_decide_share_a_plan_and_states() -> None:
    way, other, both = (explored(Plan(1, (event,))) for event in (*ONE_OF["approval"], "approval"))
    # A signal waits for a task of its own, and leaves a marker: only what is before and after has the same states.
    assert max(way.states, other.states) < both.states < way.states + other.states


@requirement("INTERLEAVINGS-ALL")
def test_an_end_that_was_seen_is_looked_at_once() -> None:
    looks = list[str]()

    class Looked(ControlledExecution):
        async def _observe(self) -> Any:
            looks.append(str(seen := await super()._observe()))
            return seen

    def executions(**known: Any) -> int:
        async def run(branches: ChoiceSequence) -> None:
            await Looked(Plan(1, ("approve",)), runner=runner, **known).run(branches)

        return asyncio.run(explore(run)).executions

    runner = MemoizingRunner()
    assert executions() == len(looks)
    every, looks[:] = [*looks], []
    assert executions(checked_ends=set()) > len(looks)
    assert {*looks} == {*every}


class Late(ControlledExecution):
    """Nothing is explored before the invoice has a line."""

    def _options(self) -> list[Any]:
        options = super()._options()
        return options if len(self.simulation.runs()) > 1 else options[:1]


class EveryOrderLate(Late, EveryOrder):
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
def test_what_is_left_out_of_a_lines_life_would_have_shown_nothing_else(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only what is due later is cancelled.
    monkeypatch.setattr(_plans, "_DUE", (timedelta(hours=60),))
    require_the_same(Late, EveryOrderLate, plan, told=not plan.crashes)


@in_place_of_invoice
class CancelsALine(InvoiceWorkflow):
    """Cancels whatever is due later, though nobody wants that."""

    def _update_line(self, number: int, **changes: object) -> None:
        super()._update_line(number, **changes)
        if changes.get("status") is LineStatus.SCHEDULED:
            self._cancels = asyncio.create_task(self._cancel_line(number))


@requirement("INTERLEAVINGS-ALL")
def test_an_order_that_was_taken_not_to_matter_and_does_is_told() -> None:
    with pytest.raises(UnsoundReductionError, match="cancellation is delivered"):
        explored(Plan(2, ("approve",), faults=(), crashes=False), (CancelsALine, PayLineItem))


@requirement("INTERLEAVINGS-ALL")
def test_what_was_found_can_be_lived_again_by_its_path() -> None:
    life = executions_of(Plan(1, ("signal-approve",), faults=(), crashes=False), (TakesLateSignals, PayLineItem))
    with pytest.raises(Violations) as broken:
        asyncio.run(explore(life))
    [note] = broken.value.__notes__
    path = tuple(int(branch) for branch in note.removeprefix("Its path: ").split())
    with pytest.raises(Violations) as again:
        asyncio.run(replay_path(life, path))
    assert again.value.found == broken.value.found
