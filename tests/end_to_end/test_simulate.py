"""`invoice-mcp simulate` as a process: options, reports, interruption."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from click.testing import CliRunner

from invoice_mcp.cli.main import main
from tests.end_to_end.host import PROGRAM
from tests.nightly import at_night
from tests.processes import running_process
from tests.requirements import requirement

LAST_WINS = "tests.scenarios.controls.decisions:LastDecisionWins"


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, "simulate", *arguments], check=False, capture_output=True, text=True, timeout=180, encoding="utf-8"
    )


class Page(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@requirement("SIMULATE-CLI", "CLI-HELP")
def test_help_names_the_options_and_exit_statuses() -> None:
    shown = CliRunner().invoke(main, ["simulate", "--help"])
    assert shown.exit_code == 0
    for text in (
        "--runs",
        "--seed",
        "--faults",
        "--jobs",
        "--json",
        "--html",
        "answer-lost",
        "Exit status: 0",
    ):
        assert text in shown.output
    assert "simulate" in CliRunner().invoke(main, ["--help"]).output


def test_help_imports_neither_the_harness_nor_temporal() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from invoice_mcp.cli.main import main\n"
        "CliRunner().invoke(main, ['--help']); CliRunner().invoke(main, ['simulate', '--help'])\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'temporalio', 'mcp', 'pydantic'}))\n"
        "print('invoice_mcp.testing' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split("\n")[:2] == ["[]", "False"]


@requirement("SIMULATE-CLI")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runs=0"], "--runs"),
        (["--seed=-1"], "--seed"),
        (["--lines=51"], "--lines"),
        (["--faults=earthquake"], "'earthquake' is none of erp-down"),
        (["--faults=1.5"], "from 0 to 1"),
        (["--faults=\u0660.\u0665"], "from 0 to 1"),
        (["--faults=0.1,0.2"], "one number"),
        (["--faults=none,crash"], "'none' can't be combined with anything else"),
        (["--faults=none,0.5"], "'none' can't be combined with anything else"),
        (["--faults=0.5,none"], "'none' can't be combined with anything else"),
        (["--workflow=nowhere:Nothing"], "nowhere:Nothing can't be imported: No module named"),
        (["--workflow=tests.other_workflows:SomebodyElses.run"], "is no workflow"),
        (
            ["--workflow=tests.other_workflows:GoesOnAsNew", "--workflow=tests.parcels.workflows:Return"],
            "replaces none",
        ),
        (["--html=/nowhere/at/all.html"], "there is no directory /nowhere/at"),
        (["--html="], "can't be written: Is a directory"),
        ([f"--html={300 * 'x'}"], "can't be written: File name too long"),
    ],
)
def test_invalid_options_are_refused_before_anything_runs(arguments: list[str], message: str) -> None:
    shown = CliRunner().invoke(main, ["simulate", "--runs=1", *arguments])
    assert shown.exit_code == 2
    assert message in " ".join(re.sub("[│╭╮╰╯─]", " ", shown.output).split())


@requirement("SIMULATE-CLI", "SIMULATE-DETERMINISTIC")
def test_stdout_has_json_alone_and_two_processes_play_the_same_episodes() -> None:
    found: list[dict[str, Any]] = []
    for jobs in (1, 2):
        result = simulate("--runs=40", "--seed=5", "--json", f"--jobs={jobs}")
        assert (result.returncode, result.stderr) == (0, "")
        found.append(json.loads(result.stdout))
        assert found[-1].pop("jobs") == jobs
        assert found[-1].pop("seconds") > 0
        assert found[-1].pop("runs_per_second") > 0
    assert found[0] == found[1]
    assert found[0]["runs"] == sum(found[0]["outcomes"].values()) == 40
    assert found[0]["failures"] == []
    assert found[0]["virtual_days"] > 40


@requirement("SIMULATE-CLI", "SIMULATE-DETECTS")
@pytest.mark.parametrize("jobs", [at_night(1), 2])
def test_a_failure_is_reported_with_the_command_that_reproduces_it(jobs: int, tmp_path: Path) -> None:
    page = tmp_path / "failure.html"
    result = simulate("--runs=500", "--seed=3", f"--workflow={LAST_WINS}", f"--jobs={jobs}", f"--html={page}")
    assert result.returncode == 1
    assert re.search(r"Run \d+: (violates .*S3|model mismatch: expected .*, got )", result.stdout)
    for text in ("Generated:", "Shrunk:", "python -m invoice_mcp.testing --world=simulated", "Timeline:"):
        assert text in result.stdout
    assert re.search(r"^ +0d 00:00:00\.\d{3}  client +trigger → OK$", result.stdout, re.MULTILINE)
    assert re.search(r" InvoiceWorkflow +accepts update (approve|reject)", result.stdout)
    # Each process may find one before it learns of the first.
    assert re.search(rf"failures +│ +[1-{jobs}] ", result.stdout)
    command, *others = re.findall(r"^  python -m (invoice_mcp.testing .*)$", result.stdout, re.MULTILINE)
    assert len(others) < jobs
    reproduced = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)], check=False, capture_output=True, text=True, timeout=180
    )
    assert reproduced.returncode == 1, reproduced.stderr
    shown = Page(page.read_text(encoding="utf-8"))
    assert "Failures" in shown.text
    assert "python -m invoice_mcp.testing" in shown.text
    assert "accepts update" in shown.text


@requirement("SIMULATE-CLI")
def test_the_page_is_self_contained_and_shows_an_episode_of_each_outcome(tmp_path: Path) -> None:
    page = tmp_path / "episodes.html"
    result = simulate("--runs=60", "--seed=9", f"--html={page}", "--json")
    assert result.returncode == 0
    outcomes = json.loads(result.stdout)["outcomes"]
    text = page.read_text(encoding="utf-8")
    shown = Page(text)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in shown.tags}
    assert not [attributes for _, attributes in shown.tags if {"src", "href"} & set(attributes)]
    assert "http" not in text.replace("https://", "http").split("<body>")[0]
    assert [attributes["id"] for tag, attributes in shown.tags if tag == "svg"] == ["outcomes", "durations", "faults"]
    assert sum(tag == "details" for tag, _ in shown.tags) == len(outcomes)
    bars = [attributes for tag, attributes in shown.tags if tag == "rect"]
    assert max(float(bar["width"] or 0) for bar in bars) == 440
    # Names are escaped.
    assert "<dana@example.com>" not in text


@requirement("SIMULATE-CLI")
def test_checking_that_a_page_can_be_written_changes_no_file(tmp_path: Path) -> None:
    old, new = tmp_path / "old.html", tmp_path / "new.html"
    old.write_text("as it was", encoding="utf-8")
    for page in (old, new):
        refused = CliRunner().invoke(main, ["simulate", f"--html={page}", "--workflow=nowhere:Nothing"])
        assert refused.exit_code == 2
    assert old.read_text(encoding="utf-8") == "as it was"
    assert not new.exists()


@requirement("SIMULATE-CLI")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(
    "arguments", [at_night("--runs=2"), "--runs=2 --json", "--exhaustive=0", at_night("--path=1/nothing/0 --json")]
)
def test_a_full_stdout_is_one_error_line_and_a_closed_one_is_none(arguments: str) -> None:
    command = f"{shlex.join(PROGRAM)} simulate {arguments}"
    # Lines of progress on stderr.
    plans = 2 if "exhaustive" in arguments else 0
    full = subprocess.run(["/bin/sh", "-c", f"{command} > /dev/full"], capture_output=True, text=True, check=False)
    lines = full.stderr.splitlines()[plans:]
    assert (full.returncode, lines) == (2, ["Error: The output can't be written: No space left on device"])
    closed = subprocess.run(
        ["/bin/sh", "-c", f"{{ {command}; echo $? >&2; }} | true"], capture_output=True, text=True, check=False
    )
    # The exit status is that of the simulation.
    assert closed.stderr.splitlines()[plans:] == ["0"]
    silent = subprocess.run(["/bin/sh", "-c", f"{command} >&-"], capture_output=True, text=True, check=False)
    assert (silent.returncode, silent.stderr.splitlines()[plans:]) == (0, [])


@requirement("SIMULATE-CLI")
def test_there_are_no_more_processes_than_episodes() -> None:
    result = simulate("--runs=1", "--jobs=64", "--json")
    assert json.loads(result.stdout)["jobs"] == 1


@requirement("SIMULATE-CLI")
@pytest.mark.parametrize("jobs", [at_night(1), 2])
@pytest.mark.parametrize("what", [("--runs=1000000", "--seed=1"), ("--exhaustive=3",)])
def test_ctrl_c_ends_with_the_totals_so_far(what: tuple[str, ...], jobs: int) -> None:
    command = [sys.executable, "-u", "-c", _ANNOUNCING, "--json", *what, f"--jobs={jobs}"]
    with running_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        patience = Timer(180, process.kill)
        patience.start()
        try:
            assert process.stderr.readline() == "started\n"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate()
        finally:
            patience.cancel()
    assert (process.returncode, err) == (130, "")
    data = json.loads(out)
    assert data["interrupted"] is True
    assert 0 < data.get("runs", data.get("executions")) < 1_000_000


# The command, with a line on stderr at the first report of progress.
# A process that a shell starts in the background ignores Ctrl-C, and this test may run there.
_ANNOUNCING = """
import signal
import sys
from invoice_mcp.cli.main import main

def run():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from invoice_mcp.testing.simulate.report.console import Reporter
    from invoice_mcp.testing.simulate.report.exploration import Exploration
    for reporter in (Reporter, Exploration):
        reporter.add = announcing(reporter.add)
    main(["simulate", *sys.argv[1:]])

def announcing(add, announced=[]):
    def add_and_announce(self, *latest):
        add(self, *latest)
        if not announced:
            announced.append(print("started", file=sys.stderr, flush=True))
    return add_and_announce

if __name__ == "__main__":
    run()
"""


@requirement("SIMULATE-CLI")
@pytest.mark.parametrize("jobs", [at_night(1), 2])
def test_a_feature_that_is_not_simulated_is_exit_status_2(jobs: int) -> None:
    workflow = "tests.other_workflows:GoesOnAsNew"
    result = simulate("--runs=20", "--seed=1", f"--workflow={workflow}", f"--jobs={jobs}", "--json")
    assert result.returncode == 2
    assert "is not simulated" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert result.stdout == ""
