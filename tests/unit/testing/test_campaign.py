"""Random lives: how they are drawn, lived, shared between processes, shrunk and told."""

from __future__ import annotations

import shlex
from collections import Counter
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from mcp_types import CallToolResult

from invoice_mcp.cli.simulate import FAULTS as TOLD_FAULTS
from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.testing import Action, Line, Scenario, ScenarioRunner, Verb, Violations, kinds
from invoice_mcp.testing.simulate.fuzz.campaign import Plan, run_share
from invoice_mcp.testing.simulate.fuzz.episode import MODEL_MISMATCH, Episode, EpisodeRunner, Failure
from invoice_mcp.testing.simulate.fuzz.generator import FAULTS, GeneratorOptions, generate_scenario
from invoice_mcp.testing.simulate.fuzz.shrinker import shrink
from invoice_mcp.testing.simulate.fuzz.statistics import DURATION_BUCKETS, Totals, format_elapsed
from invoice_mcp.testing.simulate.process.interrupt import StopFlag
from invoice_mcp.testing.simulate.process.loading import load_workflows
from invoice_mcp.testing.world.schema_cache import shape_of, validate_each_shape_once
from temporal_simulator import START_TIME, TimelineEntry
from tests.requirements import requirement

PAYS_AGAIN = "tests.scenarios.controls.payments:ResubmissionPaysAgain"
LAST_WINS = "tests.scenarios.controls.decisions:LastDecisionWins"


class Limit:
    def __init__(self, value: int) -> None:
        self.value = value


def simulated(plan: Plan, which: int = 0, jobs: int = 1) -> Totals:
    """What a share comes to."""
    totals = Totals()
    run_share(plan, plan.share(which, jobs), totals.take, Limit(plan.first + plan.runs))
    return totals


# -- drawn ---------------------------------------------------------------------------------------------------------


@requirement("SIMULATE-DETERMINISTIC")
def test_a_number_is_always_drawn_alike_and_another_otherwise() -> None:
    drawn = [generate_scenario(5, run, GeneratorOptions()) for run in range(100)]
    assert drawn == [generate_scenario(5, run, GeneratorOptions()) for run in range(100)]
    assert drawn != [generate_scenario(6, run, GeneratorOptions()) for run in range(100)]
    assert len(set(drawn)) == 100


def test_every_drawn_invoice_can_be_submitted() -> None:
    for run in range(500):
        for invoice in generate_scenario(1, run, GeneratorOptions(lines=6)).invoices(
            "INV-1", datetime(2026, 1, 1, tzinfo=UTC)
        ):
            assert len(Invoice.model_validate(invoice).lines) in {*range(1, 7), 11, 12, 13}


def test_everything_is_drawn_some_time() -> None:
    drawn = [generate_scenario(2, run, GeneratorOptions()) for run in range(500)]
    actions = Counter(action.verb for scenario in drawn for action in (*scenario.before, *scenario.actions))
    assert set(actions) == set(Verb)
    assert {scenario.protocol_mode for scenario in drawn} == {"auto", "legacy"}
    assert {scenario.client_interface for scenario in drawn} == {"tools", "tasks"}
    assert {scenario.seed is None for scenario in drawn if not scenario.eager} == {True}
    assert {scenario.seed is None for scenario in drawn if scenario.eager} == {False}
    assert {len(scenario.lines) for scenario in drawn} >= {1, 2, 3}
    assert {len(scenario.lines) for scenario in drawn} <= {1, 2, 3, 11, 12, 13}
    assert max(len(scenario.lines) for scenario in drawn) > 10
    assert {scenario.approval_hours for scenario in drawn} > {1 / 3600, 120.0, 90 * 24}
    assert {scenario.names_runs for scenario in drawn} == {True, False}
    assert {bool(scenario.metadata) for scenario in drawn} == {True, False}
    assert {scenario.changes for scenario in drawn} == {"description", "amount", "due_date", "customer", "metadata"}
    assert any(0 < line.due_in_hours < 30 / 3600 for scenario in drawn for line in scenario.lines)
    assert {line.due_in_hours < 0 for scenario in drawn for line in scenario.lines} == {True, False}


@pytest.mark.parametrize(("faults", "rate"), [((), 0.25), (FAULTS, 0.0), ((Verb.CRASH, Verb.ANSWER_LOST), 0.5)])
def test_only_what_is_asked_for_goes_wrong(faults: tuple[Verb, ...], rate: float) -> None:
    options = GeneratorOptions(faults=faults, rate=rate)
    drawn = {
        action.verb
        for run in range(300)
        for action in (*generate_scenario(3, run, options).before, *generate_scenario(3, run, options).actions)
        if action.verb in FAULTS
    }
    assert drawn == (set(faults) if rate else set())


def test_the_command_line_calls_faults_by_their_names() -> None:
    assert tuple(fault.value for fault in FAULTS) == TOLD_FAULTS


# -- shrunk --------------------------------------------------------------------------------------------------------

LONG = Scenario(
    lines=(Line(amount="12.50", due_in_hours=700, description="Bolts"), Line(), Line(due_in_hours=3)),
    customer="Somebody",
    protocol_mode="legacy",
    client_interface="tasks",
    before=(Action(verb=Verb.PAYMENT_DOWN, line=2), Action(verb=Verb.ERP_DOWN)),
    actions=tuple(Action(verb=verb) for verb in (Verb.APPROVE, Verb.CRASH, Verb.ADVANCE, Verb.REJECT, Verb.CANCEL)),
    eager=True,
    seed=4711,
)


def test_what_does_not_matter_is_left_out() -> None:
    def fails(scenario: Scenario) -> bool:
        verbs = [action.verb for action in scenario.actions]
        return Verb.APPROVE in verbs and Verb.REJECT in verbs and len(scenario.lines) > 1

    plain = (Action(verb=Verb.APPROVE), Action(verb=Verb.REJECT))
    assert shrink(LONG, fails) == Scenario(lines=(Line(), Line()), actions=plain, changed_line=2)


def test_an_order_of_chance_stays_where_it_matters() -> None:
    small = shrink(LONG, lambda scenario: scenario.eager and scenario.seed is not None and scenario.seed % 2 == 1)
    assert small == Scenario(lines=(Line(),), eager=True, seed=1)


def test_shrinking_ends_after_so_many_tries_and_asks_nothing_twice() -> None:
    asked: list[Scenario] = []

    def never(scenario: Scenario) -> bool:
        asked.append(scenario)
        return False

    assert shrink(LONG, never, tries=10) == LONG
    assert len(asked) == 10
    assert shrink(LONG, never) == LONG
    assert len(set(asked[10:])) == len(asked[10:])


# -- told ----------------------------------------------------------------------------------------------------------


def test_totals_add_up() -> None:
    one, other = Totals(), Totals()
    one.add(Episode("PAID", timedelta(days=3), Counter({Verb.CRASH: 2})))
    other.add(Episode("PAID", timedelta(days=400)))
    other.add(Episode("EXPIRED", timedelta(0), Counter({Verb.CRASH: 1, Verb.ERP_DOWN: 1})))
    one.take(other)
    assert (one.runs, one.virtual_days) == (3, 403)
    assert one.outcomes == {"PAID": 2, "EXPIRED": 1}
    assert one.faults == {"crash": 3, "erp-down": 1}
    assert one.spans == {"under a week": 1, "a year and more": 1, "under a minute": 1}
    assert set(one.spans) <= {name for name, _ in DURATION_BUCKETS}


def test_when_something_was_is_told_from_the_beginning() -> None:
    at = START_TIME + timedelta(days=12, hours=3, minutes=4, seconds=5)
    assert format_elapsed(TimelineEntry(1, at, "", "")).split() == ["12d", "03:04:05.000"]
    assert format_elapsed(TimelineEntry(1, at + timedelta(milliseconds=20), "", "")).split() == ["12d", "03:04:05.020"]


def test_shapes_differ_by_keys_and_types_not_by_values() -> None:
    assert shape_of({"a": 1, "b": ["x", "y"]}) == shape_of({"a": 2, "b": ["z"]})
    for other in ({"a": 1.5, "b": ["x"]}, {"a": 1}, {"a": None, "b": ["x"]}, {"a": 1, "b": [1]}, {"a": 1, "b": "x"}):
        assert shape_of({"a": 1, "b": ["x"]}) != shape_of(other)


async def test_the_clients_of_a_stage_share_which_shapes_conform_and_no_failure_is_spared() -> None:
    validated: list[Any] = []

    async def validate(_tool: str, result: CallToolResult) -> None:
        validated.append(result.structured_content)
        if result.structured_content == {"a": "no number"}:
            raise RuntimeError("it does not conform")

    known = set[tuple[str, Any]]()
    clients = [cast(Any, SimpleNamespace(session=SimpleNamespace(validate_tool_result=validate))) for _ in range(2)]
    for client in clients:
        validate_each_shape_once(client, known)
        await client.session.validate_tool_result("t", CallToolResult(content=[], structured_content={"a": 1}))
        await client.session.validate_tool_result("other", CallToolResult(content=[], structured_content={"a": 1}))
        with pytest.raises(RuntimeError):
            await client.session.validate_tool_result(
                "t", CallToolResult(content=[], structured_content={"a": "no number"})
            )
    assert validated == [{"a": 1}, {"a": 1}, {"a": "no number"}, {"a": "no number"}]


# -- lived ---------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
@requirement("SIMULATE-CLEAN")
def test_the_real_workflows_break_nothing() -> None:
    totals = simulated(Plan(runs=150, seed=20))
    assert not totals.failures
    assert totals.runs == sum(totals.outcomes.values()) == sum(totals.spans.values()) == 150
    # A run that was terminated ends with the status that it had.
    ended = {"PAID", "EXPIRED", "REJECTED", "FAILED", "CANCELLED"}
    assert ended <= set(totals.outcomes) <= ended | {"PENDING-VALIDATION", "PENDING-APPROVAL", "PAYING"}
    assert set(totals.faults) == {fault.value for fault in FAULTS}
    assert totals.virtual_days > 150


@requirement("SIMULATE-DETERMINISTIC")
def test_shares_come_to_the_same_as_the_whole() -> None:
    plan = Plan(runs=30, seed=21, samples=True)
    whole, shared = simulated(plan), simulated(plan, 0, 2)
    shared.take(simulated(plan, 1, 2))
    assert whole == shared


@requirement("SIMULATE-DETERMINISTIC")
def test_a_life_is_the_same_whatever_was_lived_before() -> None:
    scenarios = [generate_scenario(22, run, GeneratorOptions()) for run in range(12)]
    forth, back = EpisodeRunner(), EpisodeRunner()
    try:
        told = [forth.live(each, f"INV-{number}", tells=True) for number, each in enumerate(scenarios)]
        again = [back.live(each, f"INV-{number}", tells=True) for number, each in reversed([*enumerate(scenarios)])]
    finally:
        forth.close()
        back.close()
    assert told == again[::-1]
    assert all(life.story[-1].who == "ledger" for life in told)


@pytest.mark.thorough
@requirement("SIMULATE-DETECTS")
@pytest.mark.parametrize(("workflow", "rule"), [(PAYS_AGAIN, "S2"), (LAST_WINS, "S3")])
def test_a_broken_workflow_is_convicted_and_its_failure_made_small(workflow: str, rule: str) -> None:
    plan = Plan(runs=200, seed=3, workflows=(workflow,))
    totals = simulated(plan)
    [told] = totals.failures
    assert told.life.broken is not None
    # Or by what is wrong before it comes to that: by an answer, or by a key that is not the line's.
    assert {rule, MODEL_MISMATCH, "S10"} & set(told.life.broken.by)
    assert len(told.scenario.actions) <= min(4, len(told.drawn.actions))
    assert len(told.scenario.lines) <= 2
    # All of the lives before it were lived, none after it.
    assert totals.runs == told.run + 1 < 200
    assert [moment.number for moment in told.life.story] == sorted(moment.number for moment in told.life.story)
    clients = [moment.what for moment in told.life.story if moment.who == "client"]
    assert [what.partition(" →")[0] for what in clients][: len(str(told.scenario).split())] == str(
        told.scenario
    ).split()
    with ScenarioRunner(kinds()["simulated"], load_workflows(plan.workflows), sandboxed=False) as runner:
        with pytest.raises(AssertionError) as again:
            runner.play(told.scenario)
        assert isinstance(again.value, Violations) or told.life.broken.by == (MODEL_MISMATCH,)
    assert f"--workflow={workflow}" in told.command
    assert Scenario.model_validate_json(shlex.split(told.command)[-1]) == told.scenario


@pytest.mark.thorough
@requirement("SIMULATE-DETECTS")
def test_whoever_goes_on_finds_more() -> None:
    totals = simulated(Plan(runs=25, seed=3, workflows=(LAST_WINS,), keeps_going=True))
    assert totals.runs == 25
    assert len(totals.failures) > 1
    assert [told.run for told in totals.failures] == sorted(told.run for told in totals.failures)


@requirement("SIMULATE-CLI")
def test_whoever_asks_for_an_end_gets_it_after_the_life_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, totals, plan = StopFlag(), Totals(), Plan(runs=50, seed=24)
    live = EpisodeRunner.live

    def third_is_interrupted(lives: EpisodeRunner, scenario: Scenario, name: str, *, tells: bool = False) -> Episode:
        if name.endswith("-2"):
            stop.ask()
        return live(lives, scenario, name, tells=tells)

    monkeypatch.setattr(EpisodeRunner, "live", third_is_interrupted)
    run_share(plan, plan.share(0, 1), totals.take, Limit(plan.runs), stop)
    assert totals.runs == 3


@requirement("SIMULATE-CLI")
def test_then_nothing_smaller_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, totals, plan = StopFlag(), Totals(), Plan(runs=50, seed=24)
    names: list[str] = []

    def breaks(lives: EpisodeRunner, scenario: Scenario, name: str, *, tells: bool = False) -> Episode:  # noqa: ARG001
        names.append(name)
        stop.ask()
        return Episode("S1", timedelta(), broken=Failure(("S1",), "it is broken"))

    monkeypatch.setattr(EpisodeRunner, "live", breaks)
    run_share(plan, plan.share(0, 1), totals.take, Limit(plan.runs), stop)
    [told] = totals.failures
    assert told.scenario == told.drawn
    assert len(names) == 1
