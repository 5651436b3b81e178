"""`invoice-mcp simulate --exhaustive` and `--path`: what is explored, lived again, and told to people and machines."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from contextlib import suppress
from itertools import product

import pytest
from click.testing import CliRunner, Result
from temporalio import workflow

from invoice_mcp.cli.main import main
from invoice_mcp.testing.simulate.explore.campaign import explore_plan, explore_plans
from invoice_mcp.testing.simulate.explore.plan import ANY, ONE_OF, Plan, plans
from invoice_mcp.testing.simulate.explore.replay import ScheduleId, UnknownScheduleError, replay_path
from invoice_mcp.testing.simulate.process.interrupt import StopFlag
from invoice_mcp.testing.simulate.report.exploration import Exploration
from tests.requirements import requirement

LATE = "tests.scenarios.controls.races:TakesLateSignals"
JUST_RETURNS = "tests.unit.testing.test_exploration:JustReturns"
SIGNALLED = Plan(1, ("signal-approve",))


@workflow.defn(name="InvoiceWorkflow")
class JustReturns:
    """Answers no query: whoever checks it can't ask it for its report."""

    @workflow.run
    async def run(self, request: object) -> str:  # noqa: ARG002
        return "x"


class After(StopFlag):
    """Is asked for after some looks."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self._looks = looks

    @property
    def is_set(self) -> bool:
        self._looks -= 1
        return self._looks < 0


def simulate(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["simulate", *arguments])


# -- explored ------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
@requirement("INTERLEAVINGS-ALL")
def test_every_plan_is_explored_in_one_process_or_in_several() -> None:
    every, told = [Plan(1, ("approve",)), Plan(1, ("cancel",))], [0, 0]

    def tell(lives: int, states: int) -> None:
        told[:] = [told[0] + lives, told[1] + states]

    alone = {result.plan: (result.lives, result.states) for result in explore_plans(every, 1, (), tell)}
    together = {result.plan: (result.lives, result.states) for result in explore_plans(every, 2, (), tell)}
    assert alone == together
    assert set(alone) == {str(plan) for plan in every}
    assert all(states > 1 for _, states in alone.values())
    assert told == [2 * sum(figures) for figures in zip(*alone.values(), strict=True)]


@requirement("INTERLEAVINGS-ALL")
@pytest.mark.parametrize("most", range(4))
def test_plans_have_every_word_of_events_in_them_and_no_other(most: int) -> None:
    def words(events: tuple[str, ...]) -> set[tuple[str, ...]]:
        may = [ONE_OF.get(event, (event,)) for event in events]
        return {word for length in range(len(may) + 1) for word in product(*may[:length])}

    for lines in (1, 2):
        planned = [plan for plan in plans(most) if plan.lines == lines]
        assert set().union(*(words(plan.events) for plan in planned)) == words((ANY,) * most)
        assert len(planned) == 3 ** min(most, 2)


@pytest.mark.thorough
@requirement("INTERLEAVINGS-ALL")
def test_what_is_wrong_is_told_with_its_story() -> None:
    failure = explore_plan(SIGNALLED, (LATE,)).failure
    assert failure is not None
    assert failure.broken is not None
    assert "S8" in failure.broken.by
    told = [(moment.who, moment.what) for moment in failure.story]
    assert told.index(("client", "signal-approve")) < told.index(("InvoiceWorkflow", "is sent signal ApproveInvoice"))
    assert told[-1][0] == "ledger"
    assert explore_plan(SIGNALLED).failure is None


@requirement("INTERLEAVINGS-ALL")
def test_a_story_tells_the_crash_and_the_fault_too() -> None:
    plan, found = Plan(1, ("approve",)), set[str]()
    for branches in range(40):
        try:
            story = replay_path(ScheduleId(plan, (0,) * (branches // 2) + (1 + branches % 2,))).story
        except UnknownScheduleError:
            continue
        found |= {f"{moment.who}: {moment.what}" for moment in story}
    assert {"client: approve", "worker: crash"} <= found
    assert any(what.startswith("gateway: the next payment meets ") for what in found)


@requirement("SIMULATE-CLI")
@pytest.mark.parametrize("jobs", [1, 2])
def test_whoever_asks_for_an_end_is_told_what_is_known_so_far(jobs: int) -> None:
    exhausting = Exploration(1, 1, jobs, (), keeps_going=False)
    if jobs == 1:
        # A look before the plan, and one before each life.
        exhausting.run(After(41))
        assert 20 < exhausting.so_far.executions <= 40
        assert exhausting.so_far.states > 40
        [result] = exhausting.results
        assert not result.is_whole
        assert f"0 plans, {exhausting.so_far.executions} lives" in exhausting.as_text()
    else:
        stop = StopFlag()
        stop.ask()
        exhausting.run(stop)
        assert exhausting.results == []
    told = json.loads(exhausting.as_json())
    assert (told["interrupted"], told["plans"], told["lives"]) == (True, 0, exhausting.so_far.executions)
    assert "Interrupted: the totals so far." in exhausting.as_text()


def test_what_was_counted_counts_though_ctrl_c_came_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    exhausting = Exploration(1, 1, 1, (), keeps_going=False)
    tell = Exploration.tell

    def impatient(self: Exploration, lives: int, states: int) -> None:
        tell(self, lives, states)
        raise KeyboardInterrupt

    monkeypatch.setattr(Exploration, "tell", impatient)
    exhausting.run(StopFlag())
    assert exhausting.is_interrupted
    assert exhausting.results == []
    assert exhausting.so_far.states > 0


# -- told ----------------------------------------------------------------------------------------------------------


@requirement("SIMULATE-CLI")
def test_machines_are_told_in_json() -> None:
    outcome = simulate("--exhaustive", "0", "--lines", "1", "--json")
    assert outcome.exit_code == 0, outcome.output
    told = json.loads(outcome.stdout)
    assert (told["exhaustive"], told["lines"], told["plans"], told["failures"]) == (0, 1, 1, [])
    assert told["interrupted"] is False
    assert told["states"] > 1


@requirement("SIMULATE-CLI")
def test_people_are_told_in_a_table() -> None:
    outcome = simulate("--exhaustive", "0")
    assert outcome.exit_code == 0
    assert "2 plans" in outcome.stdout


@requirement("SIMULATE-CLI")
def test_without_a_bar_each_plan_is_told_when_it_is_done() -> None:
    outcome = simulate("--exhaustive", "1", "--lines", "1", "--keep-going", "--workflow", LATE, "--json")
    lines = outcome.stderr.splitlines()
    form = r"{} of 3: 1 line, \w+ \(and .*\): [\d,]+ lives, [\d,]+ states, \d+\.\d seconds: (kept|broken)"
    told = [re.fullmatch(form.format(number), line) for number, line in enumerate(lines, 1)]
    assert [each[1] if each else each for each in told] == ["broken", "broken", "kept"], lines
    assert json.loads(outcome.stdout)["plans"] == 3


def test_whoever_does_not_read_what_is_told_meanwhile_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ear, mouth = os.pipe()
    os.close(ear)
    with os.fdopen(mouth, "w", buffering=1) as gone:
        monkeypatch.setattr(sys, "stderr", gone)
        exhausting = Exploration(0, 2, 1, (), keeps_going=False)
        exhausting.run(StopFlag())
        monkeypatch.undo()
        with suppress(BrokenPipeError):
            gone.flush()
        # What can't be written any more must not be tried again when it is closed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), gone.fileno())
    assert len(exhausting.results) == 2


@requirement("SIMULATE-CLI", "INTERLEAVINGS-ALL")
@pytest.mark.parametrize(("workflow_name", "by"), [(LATE, "S8"), (JUST_RETURNS, "S9")])
def test_a_failure_is_told_with_the_one_command_that_lives_it_again(workflow_name: str, by: str) -> None:
    found = simulate("--exhaustive", "1", "--lines", "1", "--workflow", workflow_name)
    assert found.exit_code == 1, found.output
    command = [line.strip() for line in found.stdout.splitlines() if "--path" in line]
    plan = found.stdout.splitlines()[0]
    assert [line.rpartition(": ")[2] for line in found.stderr.splitlines()] == ["broken"]
    assert len(command) == 1
    assert by in plan
    program, verb, *arguments = shlex.split(command[0])
    assert (program, verb) == ("invoice-mcp", "simulate")
    again = simulate(*arguments)
    assert again.exit_code == 1, again.output
    # To the letter what was told of it before, but for the table.
    assert again.stdout.strip()
    assert found.stdout.startswith(again.stdout.rstrip("\n"))
    for words in ("Play it again:", "What happened:", " 0d 00:00:00.000  InvoiceWorkflow  begins", "  ledger "):
        assert words in again.stdout
    everything = simulate("--exhaustive=1", "--lines=1", f"--workflow={workflow_name}", "--json")
    assert json.loads(everything.stdout)["failures"] == [json.loads(simulate(*arguments, "--json").stdout)]


def test_whoever_goes_on_finds_more() -> None:
    outcome = simulate("--exhaustive=1", "--lines=1", f"--workflow={JUST_RETURNS}", "--keep-going", "--json")
    assert outcome.exit_code == 1
    assert len(json.loads(outcome.stdout)["failures"]) == len([*plans(1, lines=1)])


def test_what_is_not_simulated_is_exit_status_2() -> None:
    outcome = simulate("--exhaustive=0", "--workflow=tests.other_workflows:GoesOnAsNew")
    assert outcome.exit_code == 2
    assert "is not simulated" in outcome.output
    assert "Traceback" not in outcome.output


# -- one life ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "name"),
    [
        (ScheduleId(SIGNALLED, (0, 0, 1, 0, 0)), "1/signal-approve/0.0.1"),
        (ScheduleId(Plan(2, ("cancel", "any")), ()), "2/cancel,any/0"),
        (ScheduleId(Plan(1, ("approval", "rejection")), (0, 2)), "1/approval,rejection/0.2"),
        (ScheduleId(Plan(2), (3,)), "2/nothing/3"),
    ],
)
def test_a_life_has_a_name(way: ScheduleId, name: str) -> None:
    assert str(way) == name
    named = ScheduleId.named(name)
    assert named.plan == way.plan
    assert str(named) == name


def test_plans_that_nobody_makes_have_no_name() -> None:
    with pytest.raises(ValueError, match="with every fault and with a crash"):
        ScheduleId(Plan(1, crashes=False))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "1",
        "1/approve",
        "1/pay/0",
        "3/approve/0",
        "1/approve/",
        "1/approve/-1",
        "1//0",
        "1/approve/\u0660",
        "1/approve/0_0",
    ],
)
def test_what_names_no_life_is_told(name: str) -> None:
    with pytest.raises(UnknownScheduleError):
        ScheduleId.named(name)


@requirement("SIMULATE-CLI")
def test_a_life_with_nothing_wrong_is_told_too() -> None:
    outcome = simulate("--path=1/approve/0")
    assert outcome.exit_code == 0, outcome.output
    assert "all promises kept" in outcome.stdout
    assert "line-1" in outcome.stdout


# -- refused -------------------------------------------------------------------------------------------------------


@requirement("SIMULATE-CLI")
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("--exhaustive 4", "--exhaustive"),
        ("--exhaustive 1 --html x.html", "leave out --html"),
        ("--exhaustive 1 --workflow no:", "must read module:attribute"),
        ("--exhaustive 1 --runs 1000", "leave out --runs"),
        ("--exhaustive 1 --seed 1 --first 0 --faults all", "leave out --seed, --first, --faults"),
        ("--exhaustive 1 --lines 3", "at most 2 lines"),
        ("--exhaustive 0 --workflow tests.unit.testing.test_loading:OfAnotherType", "replaces none of"),
        ("--path 1/approve/0 --exhaustive 1", "leave out --exhaustive"),
        ("--path 1/approve/0 --jobs 1 --keep-going --lines 1", "leave out --jobs, --keep-going, --lines"),
        # Ids of invoices would be too long.
        (f"--runs 1 --seed {10**60}", "not in the range"),
        (f"--runs 1 --first {10**70}", "not in the range"),
        ("--path 1/approve", "is not written LINES/EVENT,.../BRANCH.BRANCH..."),
        ("--path 1/approve/99", "no life 1/approve/99"),
        (
            "--path 1/approve/0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0",
            "it ends after",
        ),
    ],
)
def test_what_can_not_be_run_is_exit_status_2(wrong: str, told: str) -> None:
    outcome = simulate(*wrong.split())
    assert outcome.exit_code == 2
    assert "Traceback" not in outcome.output
    assert told in " ".join(outcome.output.replace("│", " ").split())
