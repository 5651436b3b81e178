"""`invoice-mcp simulate --exhaustive` and `--path`: exploration, replay of one execution, and their reports."""

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
from invoice_mcp.testing.simulate.explore.replay import ScheduleId, UnknownScheduleError, replay_schedule
from invoice_mcp.testing.simulate.process.interrupt import StopFlag
from invoice_mcp.testing.simulate.report.exploration import Exploration
from tests.requirements import requirement

LATE = "tests.scenarios.controls.races:TakesLateSignals"
JUST_RETURNS = "tests.unit.testing.test_exploration:JustReturns"
SIGNALLED = Plan(1, ("signal-approve",))


@workflow.defn(name="InvoiceWorkflow")
class JustReturns:
    """Answers no query, so its report can't be checked."""

    @workflow.run
    async def run(self, request: object) -> str:
        return "x"


class StopAfter(StopFlag):
    """Is set after it was read some times."""

    def __init__(self, reads: int) -> None:
        super().__init__()
        self._reads = reads

    @property
    def is_set(self) -> bool:
        self._reads -= 1
        return self._reads < 0


def simulate(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["simulate", *arguments])


# -- exploration ---------------------------------------------------------------------------------------------------


@pytest.mark.thorough
@requirement("INTERLEAVINGS-ALL")
def test_every_plan_is_explored_in_one_process_or_in_several() -> None:
    every, reported = [Plan(1, ("approve",)), Plan(1, ("cancel",))], [0, 0]

    def report(executions: int, states: int) -> None:
        reported[:] = [reported[0] + executions, reported[1] + states]

    alone = {result.plan: (result.executions, result.states) for result in explore_plans(every, 1, (), report)}
    together = {result.plan: (result.executions, result.states) for result in explore_plans(every, 2, (), report)}
    assert alone == together
    assert set(alone) == {str(plan) for plan in every}
    assert all(states > 1 for _, states in alone.values())
    assert reported == [2 * sum(figures) for figures in zip(*alone.values(), strict=True)]


@requirement("INTERLEAVINGS-ALL")
@pytest.mark.parametrize("most", range(4))
def test_plans_cover_every_sequence_of_events_and_no_other(most: int) -> None:
    def sequences(events: tuple[str, ...]) -> set[tuple[str, ...]]:
        may = [ONE_OF.get(event, (event,)) for event in events]
        return {each for length in range(len(may) + 1) for each in product(*may[:length])}

    for lines in (1, 2):
        planned = [plan for plan in plans(most) if plan.lines == lines]
        assert set().union(*(sequences(plan.events) for plan in planned)) == sequences((ANY,) * most)
        assert len(planned) == 3 ** min(most, 2)


@pytest.mark.thorough
@requirement("INTERLEAVINGS-ALL")
def test_a_failure_has_its_timeline() -> None:
    failure = explore_plan(SIGNALLED, (LATE,)).failure
    assert failure is not None
    assert failure.failure is not None
    assert "S8" in failure.failure.causes
    entries = [(entry.who, entry.what) for entry in failure.timeline]
    assert entries.index(("client", "signal-approve")) < entries.index(
        ("InvoiceWorkflow", "receives signal ApproveInvoice")
    )
    assert entries[-1][0] == "ledger"
    assert explore_plan(SIGNALLED).failure is None


@requirement("INTERLEAVINGS-ALL")
def test_a_timeline_shows_crashes_and_faults() -> None:
    plan, found = Plan(1, ("approve",)), set[str]()
    for branches in range(40):
        try:
            timeline = replay_schedule(ScheduleId(plan, (0,) * (branches // 2) + (1 + branches % 2,))).timeline
        except UnknownScheduleError:
            continue
        found |= {f"{entry.who}: {entry.what}" for entry in timeline}
    assert {"client: approve", "worker: crash"} <= found
    assert any(what.startswith("gateway: the next payment meets ") for what in found)


@requirement("SIMULATE-CLI")
@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_exploration_reports_its_totals_so_far(jobs: int) -> None:
    exploration = Exploration(1, 1, jobs, (), keep_going=False)
    if jobs == 1:
        # It is read before the plan, and before each execution.
        exploration.run(StopAfter(41))
        assert 20 < exploration.stats.executions <= 40
        assert exploration.stats.states > 40
        [result] = exploration.results
        assert not result.is_complete
        assert f"0 plans, {exploration.stats.executions} executions" in exploration.as_text()
    else:
        stop = StopFlag()
        stop.set()
        exploration.run(stop)
        assert exploration.results == []
    data = json.loads(exploration.as_json())
    assert (data["interrupted"], data["plans"], data["executions"]) == (True, 0, exploration.stats.executions)
    assert "Interrupted: the totals so far." in exploration.as_text()


def test_counts_survive_a_second_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    exploration = Exploration(1, 1, 1, (), keep_going=False)
    add = Exploration.add

    def interrupt(self: Exploration, executions: int, states: int) -> None:
        add(self, executions, states)
        raise KeyboardInterrupt

    monkeypatch.setattr(Exploration, "add", interrupt)
    exploration.run(StopFlag())
    assert exploration.is_interrupted
    assert exploration.results == []
    assert exploration.stats.states > 0


# -- reports -------------------------------------------------------------------------------------------------------


@requirement("SIMULATE-CLI")
def test_json_report() -> None:
    outcome = simulate("--exhaustive", "0", "--lines", "1", "--json")
    assert outcome.exit_code == 0, outcome.output
    data = json.loads(outcome.stdout)
    assert (data["exhaustive"], data["lines"], data["plans"], data["failures"]) == (0, 1, 1, [])
    assert data["interrupted"] is False
    assert data["states"] > 1


@requirement("SIMULATE-CLI")
def test_table() -> None:
    outcome = simulate("--exhaustive", "0")
    assert outcome.exit_code == 0
    assert "2 plans" in outcome.stdout


@requirement("SIMULATE-CLI")
def test_each_plan_is_reported_in_a_line_where_stderr_is_no_terminal() -> None:
    outcome = simulate("--exhaustive", "1", "--lines", "1", "--keep-going", "--workflow", LATE, "--json")
    lines = outcome.stderr.splitlines()
    form = r"{} of 3: 1 line, \w+ \(and .*\): [\d,]+ executions, [\d,]+ states, \d+\.\d seconds: (passed|failed)"
    matches = [re.fullmatch(form.format(number), line) for number, line in enumerate(lines, 1)]
    assert [each[1] if each else each for each in matches] == ["failed", "failed", "passed"], lines
    assert json.loads(outcome.stdout)["plans"] == 3


def test_a_closed_stderr_does_not_end_the_exploration(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w", buffering=1) as closed:
        monkeypatch.setattr(sys, "stderr", closed)
        exploration = Exploration(0, 2, 1, (), keep_going=False)
        exploration.run(StopFlag())
        monkeypatch.undo()
        with suppress(BrokenPipeError):
            closed.flush()
        # Closing must not try to write the rest once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), closed.fileno())
    assert len(exploration.results) == 2


@requirement("SIMULATE-CLI", "INTERLEAVINGS-ALL")
@pytest.mark.parametrize(("workflow_name", "by"), [(LATE, "S8"), (JUST_RETURNS, "S9")])
def test_a_failure_is_reported_with_the_command_that_replays_it(workflow_name: str, by: str) -> None:
    found = simulate("--exhaustive", "1", "--lines", "1", "--workflow", workflow_name)
    assert found.exit_code == 1, found.output
    command = [line.strip() for line in found.stdout.splitlines() if "--path" in line]
    plan = found.stdout.splitlines()[0]
    assert [line.rpartition(": ")[2] for line in found.stderr.splitlines()] == ["failed"]
    assert len(command) == 1
    assert by in plan
    program, verb, *arguments = shlex.split(command[0])
    assert (program, verb) == ("invoice-mcp", "simulate")
    replayed = simulate(*arguments)
    assert replayed.exit_code == 1, replayed.output
    # The same text, except for the table.
    assert replayed.stdout.strip()
    assert found.stdout.startswith(replayed.stdout.rstrip("\n"))
    for text in ("Reproduce it:", "Timeline:", " 0d 00:00:00.000  InvoiceWorkflow  starts", "  ledger "):
        assert text in replayed.stdout
    everything = simulate("--exhaustive=1", "--lines=1", f"--workflow={workflow_name}", "--json")
    assert json.loads(everything.stdout)["failures"] == [json.loads(simulate(*arguments, "--json").stdout)]


def test_keep_going_finds_more_failures() -> None:
    outcome = simulate("--exhaustive=1", "--lines=1", f"--workflow={JUST_RETURNS}", "--keep-going", "--json")
    assert outcome.exit_code == 1
    assert len(json.loads(outcome.stdout)["failures"]) == len([*plans(1, lines=1)])


def test_what_is_not_simulated_is_exit_status_2() -> None:
    outcome = simulate("--exhaustive=0", "--workflow=tests.other_workflows:GoesOnAsNew")
    assert outcome.exit_code == 2
    assert "is not simulated" in outcome.output
    assert "Traceback" not in outcome.output


# -- schedule ids --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "name"),
    [
        (ScheduleId(SIGNALLED, (0, 0, 1, 0, 0)), "1/signal-approve/0.0.1"),
        (ScheduleId(Plan(2, ("cancel", "any")), ()), "2/cancel,any/0"),
        (ScheduleId(Plan(1, ("approval", "rejection")), (0, 2)), "1/approval,rejection/0.2"),
        (ScheduleId(Plan(2), (3,)), "2/nothing/3"),
    ],
)
def test_a_schedule_id_is_parsed_and_printed(schedule: ScheduleId, name: str) -> None:
    assert str(schedule) == name
    named = ScheduleId.parse(name)
    assert named.plan == schedule.plan
    assert str(named) == name


def test_partial_plans_have_no_schedule_id() -> None:
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
def test_text_that_is_no_schedule_id_is_refused(name: str) -> None:
    with pytest.raises(UnknownScheduleError):
        ScheduleId.parse(name)


@requirement("SIMULATE-CLI")
def test_a_passing_execution_is_reported_too() -> None:
    outcome = simulate("--path=1/approve/0")
    assert outcome.exit_code == 0, outcome.output
    assert ": passed" in outcome.stdout
    assert "line-1" in outcome.stdout


# -- refused options -----------------------------------------------------------------------------------------------


@requirement("SIMULATE-CLI")
@pytest.mark.parametrize(
    ("arguments", "message"),
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
        ("--path 1/approve", "must read LINES/EVENT,.../BRANCH.BRANCH..."),
        ("--path 1/approve/99", "no execution 1/approve/99"),
        (
            "--path 1/approve/0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0",
            "it ends after",
        ),
    ],
)
def test_what_can_not_be_run_is_exit_status_2(arguments: str, message: str) -> None:
    outcome = simulate(*arguments.split())
    assert outcome.exit_code == 2
    assert "Traceback" not in outcome.output
    assert message in " ".join(outcome.output.replace("│", " ").split())
