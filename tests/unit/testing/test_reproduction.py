"""`python -m invoice_mcp.testing`: what it plays, refuses and prints. Its printed programs run."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from invoice_mcp.testing import Action, EnvironmentPool, Line, Scenario, Verb, Violations, kinds, play
from invoice_mcp.testing.__main__ import main
from tests.scenarios.controls.catalogue import CONTROLS

pytestmark = pytest.mark.thorough


def again(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m invoice_mcp.testing`."""
    return run("-m", "invoice_mcp.testing", *arguments)


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        encoding="utf-8",
    )


def test_help_names_the_main_options() -> None:
    told = again("--help")
    assert told.returncode == 0
    assert all(
        word in told.stdout
        for word in ("SCENARIO", "--world", "time-skipping|real|", "--times", "--code", "--workflow")
    )
    # Except for the program name and the line breaks.
    short = CliRunner().invoke(main, ["-h"]).output
    assert short.split()[2:] == told.stdout.split()[4:]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["not json"],
        ["[]"],
        ['{"actions": [{"verb": "pay"}]}'],
        ['{"unknown": 1}'],
        ["--world=moon", "{}"],
        ["--times=0", "{}"],
        ["--workflow=nowhere:Class", "{}"],
        ["--workflow=invoice_mcp.workflow.worker:Nothing", "{}"],
        ["--workflow=invoice_mcp.workflow.worker:WORKFLOWS", "{}"],
        ["--workflow=invoice_mcp.workflow.worker", "{}"],
        ["--workflow=", "{}"],
        ["--workflow=pathlib:Path", "{}"],
        ['{"actions": [{"verb": "advance", "hours": 1e300}]}'],
        [Scenario.model_construct(actions=(Action(verb=Verb.ADVANCE, hours=8760000),) * 9).model_dump_json()],
        ['{"lines": [{"due_in_hours": 1e12}]}'],
        ["{}", "{}"],
    ],
)
def test_what_is_no_scenario_is_refused_without_a_traceback(arguments: list[str]) -> None:
    told = CliRunner().invoke(main, arguments)
    assert told.exit_code == 2
    assert told.output.startswith("Usage")


def test_a_refusal_has_no_traceback() -> None:
    told = again("not json")
    assert (told.returncode, told.stdout) == (2, "")
    assert "it is no scenario" in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize("scenario", ['{"customer": ""}', '{"protocol_mode": "future"}'])
def test_a_scenario_that_can_not_be_played_is_refused(scenario: str) -> None:
    told = again(scenario)
    assert told.returncode == 2
    assert "Traceback" not in told.stderr


def test_a_scenario_that_breaks_no_rule_exits_with_0() -> None:
    told = again("--times=2", '{"actions": [{"verb": "reject"}, {"verb": "approve"}]}')
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout == "All rules hold in 2 of 2 runs: trigger reject approve\n"


def test_the_program_it_prints_runs(tmp_path: Path) -> None:
    scenario = Scenario(
        customer='it\'s "quoted" {braces} \\ Zoë',
        lines=(Line(description="two\nlines"), Line(amount="1.50", due_in_hours=2)),
        before=(Action(verb=Verb.ERP_DOWN), Action(verb=Verb.ANSWER_LOST, line=2)),
        actions=(Action(verb=Verb.APPROVE), Action(verb=Verb.ADVANCE), Action(verb=Verb.CANCEL)),
    )
    printed = again("--code", scenario.model_dump_json())
    assert printed.stdout.strip() == scenario.as_code().strip()
    program = tmp_path / "program.py"
    program.write_text(printed.stdout, encoding="utf-8")
    played = run(str(program), cwd=tmp_path)
    assert played.returncode == 0, played.stderr
    program.write_text(printed.stdout.replace("await world.cancel()", "raise AssertionError('as it should')"))
    failed = run(str(program), cwd=tmp_path)
    assert failed.returncode == 1
    assert "as it should" in failed.stderr


@pytest.mark.requirement("HARNESS-REPRODUCE")
async def test_what_a_control_is_caught_by_catches_it_again() -> None:
    control = next(each for each in CONTROLS if each.name == "CompletesThoughCancelled")
    (scenario, *_) = control.scenarios
    assert isinstance(scenario, Scenario)
    pool = EnvironmentPool(kinds()["time-skipping"], control.workflows, sandboxed=False)
    async with pool:
        with pytest.raises(Violations) as broken:
            await play(pool, scenario)
    (note,) = broken.value.__notes__
    command = shlex.split(note.strip().splitlines()[-1])
    assert command[:3] == ["python", "-m", "invoice_mcp.testing"]
    told = again(*command[3:])
    assert told.returncode == 1, told.stderr
    assert "S7" in told.stderr
    printed = again("--code", *command[3:])
    assert f"import {control.name}" in printed.stdout
    played = run("-c", printed.stdout)
    assert played.returncode == 1
    assert "Violations: S7" in played.stderr
    assert again(command[-1]).returncode == 0


def test_a_scenario_that_breaks_a_rule_exits_with_1_and_reports_it() -> None:
    told = run("-c", _WRONG_MODEL, '{"actions": [{"verb": "reject"}]}')
    assert (told.returncode, told.stdout) == (1, "")
    assert "Run 1 of 1: trigger reject" in told.stderr
    assert "expected NOT_FOUND, got OK" in told.stderr


_WRONG_MODEL = """
from invoice_mcp.testing.model import model as _model
from invoice_mcp.testing.__main__ import main

allowed = _model.Model.allowed_answers


def wrong(self, action, when):
    answers = allowed(self, action, when)
    return {"NOT_FOUND": answers["OK"]} if action.verb == "reject" else answers


_model.Model.allowed_answers = wrong
main()
"""
