"""Fuzzing campaigns: generation, shrinking, totals, episodes, and shares of several processes."""

from __future__ import annotations

import shlex
from collections import Counter
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from mcp_types import CallToolResult

from invoice_mcp.cli.simulate import FAULTS as CLI_FAULTS
from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.testing import Action, Line, Scenario, ScenarioRunner, Verb, Violations, kinds
from invoice_mcp.testing.model.actions import FAULTS
from invoice_mcp.testing.simulate.failure import MODEL_MISMATCH, Failure
from invoice_mcp.testing.simulate.fuzz.campaign import Campaign, run_share
from invoice_mcp.testing.simulate.fuzz.episode import Episode, EpisodeRunner
from invoice_mcp.testing.simulate.fuzz.generator import GeneratorOptions, generate_scenario
from invoice_mcp.testing.simulate.fuzz.shrinker import shrink
from invoice_mcp.testing.simulate.fuzz.statistics import DURATION_BUCKETS, Totals
from invoice_mcp.testing.simulate.process.interrupt import StopFlag
from invoice_mcp.testing.simulate.process.loading import load_workflows
from invoice_mcp.testing.simulate.timeline import format_elapsed
from invoice_mcp.testing.world.schema_cache import cache_output_validation, shape_of
from temporal_simulator import START_TIME, TimelineEntry
from tests.requirements import requirement

PAYS_AGAIN = "tests.scenarios.controls.payments:ResubmissionPaysAgain"
LAST_WINS = "tests.scenarios.controls.decisions:LastDecisionWins"


class Limit:
    def __init__(self, value: int) -> None:
        self.value = value


def simulated(campaign: Campaign, which: int = 0, jobs: int = 1) -> Totals:
    """The totals of one share of a campaign."""
    totals = Totals()
    run_share(campaign, campaign.share(which, jobs), totals.merge, Limit(campaign.first + campaign.runs))
    return totals


# -- generation ----------------------------------------------------------------------------------------------------


@requirement("SIMULATE-DETERMINISTIC")
def test_a_seed_and_a_run_number_determine_the_scenario() -> None:
    generated = [generate_scenario(5, run, GeneratorOptions()) for run in range(100)]
    assert generated == [generate_scenario(5, run, GeneratorOptions()) for run in range(100)]
    assert generated != [generate_scenario(6, run, GeneratorOptions()) for run in range(100)]
    assert len(set(generated)) == 100


def test_every_generated_invoice_is_valid() -> None:
    for run in range(500):
        for invoice in generate_scenario(1, run, GeneratorOptions(lines=6)).invoices(
            "INV-1", datetime(2026, 1, 1, tzinfo=UTC)
        ):
            assert len(Invoice.model_validate(invoice).lines) in {*range(1, 7), 11, 12, 13}


def test_every_feature_is_generated_in_some_scenario() -> None:
    generated = [generate_scenario(2, run, GeneratorOptions()) for run in range(500)]
    actions = Counter(action.verb for scenario in generated for action in (*scenario.before, *scenario.actions))
    assert set(actions) == set(Verb)
    assert {scenario.protocol_mode for scenario in generated} == {"auto", "legacy"}
    assert {scenario.client_interface for scenario in generated} == {"tools", "tasks"}
    assert {scenario.seed is None for scenario in generated if not scenario.eager} == {True}
    assert {scenario.seed is None for scenario in generated if scenario.eager} == {False}
    assert {len(scenario.lines) for scenario in generated} >= {1, 2, 3}
    assert {len(scenario.lines) for scenario in generated} <= {1, 2, 3, 11, 12, 13}
    assert max(len(scenario.lines) for scenario in generated) > 10
    assert {scenario.approval_hours for scenario in generated} > {1 / 3600, 120.0, 90 * 24}
    assert {scenario.names_runs for scenario in generated} == {True, False}
    assert {bool(scenario.metadata) for scenario in generated} == {True, False}
    assert {scenario.changes for scenario in generated} == {"description", "amount", "due_date", "customer", "metadata"}
    assert any(0 < line.due_in_hours < 30 / 3600 for scenario in generated for line in scenario.lines)
    assert {line.due_in_hours < 0 for scenario in generated for line in scenario.lines} == {True, False}


@pytest.mark.parametrize(("faults", "rate"), [((), 0.25), (FAULTS, 0.0), ((Verb.CRASH, Verb.ANSWER_LOST), 0.5)])
def test_only_the_chosen_faults_are_generated(faults: tuple[Verb, ...], rate: float) -> None:
    options = GeneratorOptions(faults=faults, fault_rate=rate)
    generated = {
        action.verb
        for run in range(300)
        for action in (*generate_scenario(3, run, options).before, *generate_scenario(3, run, options).actions)
        if action.verb in FAULTS
    }
    assert generated == (set(faults) if rate else set())


def test_the_command_line_knows_every_fault() -> None:
    assert tuple(fault.value for fault in FAULTS) == CLI_FAULTS


# -- shrinking -----------------------------------------------------------------------------------------------------

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


def test_shrinking_leaves_out_what_does_not_matter() -> None:
    def fails(scenario: Scenario) -> bool:
        verbs = [action.verb for action in scenario.actions]
        return Verb.APPROVE in verbs and Verb.REJECT in verbs and len(scenario.lines) > 1

    plain = (Action(verb=Verb.APPROVE), Action(verb=Verb.REJECT))
    assert shrink(LONG, fails) == Scenario(lines=(Line(), Line()), actions=plain, changed_line=2)


def test_shrinking_keeps_a_random_schedule_that_matters() -> None:
    small = shrink(LONG, lambda scenario: scenario.eager and scenario.seed is not None and scenario.seed % 2 == 1)
    assert small == Scenario(lines=(Line(),), eager=True, seed=1)


def test_shrinking_is_limited_and_tries_no_candidate_twice() -> None:
    asked: list[Scenario] = []

    def never(scenario: Scenario) -> bool:
        asked.append(scenario)
        return False

    assert shrink(LONG, never, tries=10) == LONG
    assert len(asked) == 10
    assert shrink(LONG, never) == LONG
    assert len(set(asked[10:])) == len(asked[10:])


# -- totals --------------------------------------------------------------------------------------------------------


def test_totals_add_up() -> None:
    one, other = Totals(), Totals()
    one.add(Episode("PAID", timedelta(days=3), Counter({Verb.CRASH: 2})))
    other.add(Episode("PAID", timedelta(days=400)))
    other.add(Episode("EXPIRED", timedelta(0), Counter({Verb.CRASH: 1, Verb.ERP_DOWN: 1})))
    one.merge(other)
    assert (one.runs, one.virtual_days) == (3, 403)
    assert one.outcomes == {"PAID": 2, "EXPIRED": 1}
    assert one.faults == {"crash": 3, "erp-down": 1}
    assert one.durations == {"under a week": 1, "a year and more": 1, "under a minute": 1}
    assert set(one.durations) <= {name for name, _ in DURATION_BUCKETS}


def test_timeline_entries_show_the_time_since_the_start() -> None:
    at = START_TIME + timedelta(days=12, hours=3, minutes=4, seconds=5)
    assert format_elapsed(TimelineEntry(1, at, "", "")).split() == ["12d", "03:04:05.000"]
    assert format_elapsed(TimelineEntry(1, at + timedelta(milliseconds=20), "", "")).split() == ["12d", "03:04:05.020"]


def test_shapes_differ_by_keys_and_types_not_by_values() -> None:
    assert shape_of({"a": 1, "b": ["x", "y"]}) == shape_of({"a": 2, "b": ["z"]})
    for other in ({"a": 1.5, "b": ["x"]}, {"a": 1}, {"a": None, "b": ["x"]}, {"a": 1, "b": [1]}, {"a": 1, "b": "x"}):
        assert shape_of({"a": 1, "b": ["x"]}) != shape_of(other)


async def test_clients_of_an_environment_share_the_schema_cache_and_failures_are_not_cached() -> None:
    validated: list[Any] = []

    async def validate(_tool: str, result: CallToolResult) -> None:
        validated.append(result.structured_content)
        if result.structured_content == {"a": "no number"}:
            raise RuntimeError("it does not conform")

    known = set[tuple[str, Any]]()
    clients = [cast(Any, SimpleNamespace(session=SimpleNamespace(validate_tool_result=validate))) for _ in range(2)]
    for client in clients:
        cache_output_validation(client, known)
        await client.session.validate_tool_result("t", CallToolResult(content=[], structured_content={"a": 1}))
        await client.session.validate_tool_result("other", CallToolResult(content=[], structured_content={"a": 1}))
        with pytest.raises(RuntimeError):
            await client.session.validate_tool_result(
                "t", CallToolResult(content=[], structured_content={"a": "no number"})
            )
    assert validated == [{"a": 1}, {"a": 1}, {"a": "no number"}, {"a": "no number"}]


# -- episodes ------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
@requirement("SIMULATE-CLEAN")
def test_the_product_passes() -> None:
    totals = simulated(Campaign(runs=150, seed=20))
    assert not totals.failures
    assert totals.runs == sum(totals.outcomes.values()) == sum(totals.durations.values()) == 150
    # A run that was terminated ends with the status that it had.
    ended = {"PAID", "EXPIRED", "REJECTED", "FAILED", "CANCELLED"}
    assert ended <= set(totals.outcomes) <= ended | {"PENDING-VALIDATION", "PENDING-APPROVAL", "PAYING"}
    assert set(totals.faults) == {fault.value for fault in FAULTS}
    assert totals.virtual_days > 150


@requirement("SIMULATE-DETERMINISTIC")
def test_shares_have_the_same_totals_as_the_whole_campaign() -> None:
    campaign = Campaign(runs=30, seed=21, samples=True)
    whole, shared = simulated(campaign), simulated(campaign, 0, 2)
    shared.merge(simulated(campaign, 1, 2))
    assert whole == shared


@requirement("SIMULATE-DETERMINISTIC")
def test_an_episode_does_not_depend_on_earlier_episodes() -> None:
    scenarios = [generate_scenario(22, run, GeneratorOptions()) for run in range(12)]
    one, other = EpisodeRunner(), EpisodeRunner()
    try:
        forward = [one.run(each, f"INV-{number}", with_timeline=True) for number, each in enumerate(scenarios)]
        reverse = reversed([*enumerate(scenarios)])
        backward = [other.run(each, f"INV-{number}", with_timeline=True) for number, each in reverse]
    finally:
        one.close()
        other.close()
    assert forward == backward[::-1]
    assert all(episode.timeline[-1].who == "ledger" for episode in forward)


@pytest.mark.thorough
@requirement("SIMULATE-DETECTS")
@pytest.mark.parametrize(("workflow", "rule"), [(PAYS_AGAIN, "S2"), (LAST_WINS, "S3")])
def test_a_faulty_workflow_is_detected_and_its_failure_shrunk(workflow: str, rule: str) -> None:
    campaign = Campaign(runs=200, seed=3, workflows=(workflow,))
    totals = simulated(campaign)
    [report] = totals.failures
    assert report.episode.failure is not None
    # Or by an earlier symptom: a wrong answer, or a key that is not the line's.
    assert {rule, MODEL_MISMATCH, "S10"} & set(report.episode.failure.causes)
    assert len(report.scenario.actions) <= min(4, len(report.generated.actions))
    assert len(report.scenario.lines) <= 2
    # All runs before it were played, none after it.
    assert totals.runs == report.run + 1 < 200
    assert [entry.number for entry in report.episode.timeline] == sorted(
        entry.number for entry in report.episode.timeline
    )
    clients = [entry.what for entry in report.episode.timeline if entry.who == "client"]
    assert [what.partition(" →")[0] for what in clients][: len(str(report.scenario).split())] == str(
        report.scenario
    ).split()
    with ScenarioRunner(kinds()["simulated"], load_workflows(campaign.workflows), sandboxed=False) as runner:
        with pytest.raises(AssertionError) as error:
            runner.play(report.scenario)
        assert isinstance(error.value, Violations) or report.episode.failure.causes == (MODEL_MISMATCH,)
    assert f"--workflow={workflow}" in report.command
    assert Scenario.model_validate_json(shlex.split(report.command)[-1]) == report.scenario


@pytest.mark.thorough
@requirement("SIMULATE-DETECTS")
def test_keep_going_finds_more_failures() -> None:
    totals = simulated(Campaign(runs=25, seed=3, workflows=(LAST_WINS,), keep_going=True))
    assert totals.runs == 25
    assert len(totals.failures) > 1
    assert [report.run for report in totals.failures] == sorted(report.run for report in totals.failures)


@requirement("SIMULATE-CLI")
def test_a_stop_flag_ends_the_share_after_the_episode_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, totals, campaign = StopFlag(), Totals(), Campaign(runs=50, seed=24)
    run = EpisodeRunner.run

    def stop_in_the_third(
        runner: EpisodeRunner, scenario: Scenario, name: str, *, with_timeline: bool = False
    ) -> Episode:
        if name.endswith("-2"):
            stop.set()
        return run(runner, scenario, name, with_timeline=with_timeline)

    monkeypatch.setattr(EpisodeRunner, "run", stop_in_the_third)
    run_share(campaign, campaign.share(0, 1), totals.merge, Limit(campaign.runs), stop)
    assert totals.runs == 3


@requirement("SIMULATE-CLI")
def test_a_stop_flag_ends_shrinking(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, totals, campaign = StopFlag(), Totals(), Campaign(runs=50, seed=24)
    names: list[str] = []

    def fail(runner: EpisodeRunner, scenario: Scenario, name: str, *, with_timeline: bool = False) -> Episode:
        names.append(name)
        stop.set()
        return Episode("S1", timedelta(), failure=Failure(("S1",), "it is broken"))

    monkeypatch.setattr(EpisodeRunner, "run", fail)
    run_share(campaign, campaign.share(0, 1), totals.merge, Limit(campaign.runs), stop)
    [report] = totals.failures
    assert report.scenario == report.generated
    assert len(names) == 1
