"""`invoice-mcp simulate`, as a user meets it."""

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
    """What is in a page."""

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
def test_help_teaches() -> None:
    shown = CliRunner().invoke(main, ["simulate", "--help"])
    assert shown.exit_code == 0
    for words in (
        "--runs",
        "--seed",
        "--faults",
        "--jobs",
        "--json",
        "--html",
        "answer-lost",
        "Exit status: 0",
    ):
        assert words in shown.output
    assert "simulate" in CliRunner().invoke(main, ["--help"]).output


def test_help_imports_neither_the_harness_nor_temporal() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from invoice_mcp.cli.main import main\n"
        "CliRunner().invoke(main, ['--help']); CliRunner().invoke(main, ['simulate', '--help'])\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'temporalio', 'mcp', 'pydantic'}))\n"
        "print('invoice_mcp.testing' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split("\n")[:2] == ["[]", "False"]


@requirement("SIMULATE-CLI")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--runs=0"], "--runs"),
        (["--seed=-1"], "--seed"),
        (["--lines=51"], "--lines"),
        (["--faults=earthquake"], "'earthquake' is none of erp-down"),
        (["--faults=1.5"], "from 0 to 1"),
        (["--faults=\u0660.\u0665"], "from 0 to 1"),
        (["--faults=0.1,0.2"], "one number"),
        (["--faults=none,crash"], "'none' leaves room for nothing else"),
        (["--faults=none,0.5"], "'none' leaves room for nothing else"),
        (["--faults=0.5,none"], "'none' leaves room for nothing else"),
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
def test_what_makes_no_sense_is_refused_before_anything_is_lived(arguments: list[str], told: str) -> None:
    shown = CliRunner().invoke(main, ["simulate", "--runs=1", *arguments])
    assert shown.exit_code == 2
    assert told in " ".join(re.sub("[│╭╮╰╯─]", " ", shown.output).split())


@requirement("SIMULATE-CLI", "SIMULATE-DETERMINISTIC")
def test_json_is_all_there_is_on_stdout_and_two_processes_live_the_same() -> None:
    found: list[dict[str, Any]] = []
    for jobs in (1, 2):
        told = simulate("--runs=40", "--seed=5", "--json", f"--jobs={jobs}")
        assert (told.returncode, told.stderr) == (0, "")
        found.append(json.loads(told.stdout))
        assert found[-1].pop("jobs") == jobs
        assert found[-1].pop("seconds") > 0
        assert found[-1].pop("runs_per_second") > 0
    assert found[0] == found[1]
    assert found[0]["runs"] == sum(found[0]["outcomes"].values()) == 40
    assert found[0]["failures"] == []
    assert found[0]["virtual_days"] > 40


@requirement("SIMULATE-CLI", "SIMULATE-DETECTS")
@pytest.mark.parametrize("jobs", [at_night(1), 2])
def test_a_broken_workflow_is_told_with_all_it_takes_to_play_it_again(jobs: int, tmp_path: Path) -> None:
    page = tmp_path / "failure.html"
    told = simulate("--runs=500", "--seed=3", f"--workflow={LAST_WINS}", f"--jobs={jobs}", f"--html={page}")
    assert told.returncode == 1
    assert re.search(r"Run \d+ breaks S3|Run \d+ breaks .*model", told.stdout)
    for words in ("Drawn:", "Shrunk:", "python -m invoice_mcp.testing --world=simulated", "What happened:"):
        assert words in told.stdout
    assert re.search(r"^ +0d 00:00:00\.\d{3}  client +trigger → OK$", told.stdout, re.MULTILINE)
    assert re.search(r" InvoiceWorkflow +accepts update (approve|reject)", told.stdout)
    # Each process may have met one by the time it hears that there is one already.
    assert re.search(rf"runs that break a promise +│ +[1-{jobs}] ", told.stdout)
    command, *others = re.findall(r"^  python -m (invoice_mcp.testing .*)$", told.stdout, re.MULTILINE)
    assert len(others) < jobs
    again = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)], check=False, capture_output=True, text=True, timeout=180
    )
    assert again.returncode == 1, again.stderr
    shown = Page(page.read_text(encoding="utf-8"))
    assert "What failed" in shown.text
    assert "python -m invoice_mcp.testing" in shown.text
    assert "accepts update" in shown.text


@requirement("SIMULATE-CLI")
def test_the_page_needs_nothing_else_and_tells_a_life_of_each_outcome(tmp_path: Path) -> None:
    page = tmp_path / "lives.html"
    told = simulate("--runs=60", "--seed=9", f"--html={page}", "--json")
    assert told.returncode == 0
    outcomes = json.loads(told.stdout)["outcomes"]
    text = page.read_text(encoding="utf-8")
    shown = Page(text)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in shown.tags}
    assert not [attributes for _, attributes in shown.tags if {"src", "href"} & set(attributes)]
    assert "http" not in text.replace("https://", "http").split("<body>")[0]
    assert [attributes["id"] for tag, attributes in shown.tags if tag == "svg"] == ["outcomes", "spans", "faults"]
    assert sum(tag == "details" for tag, _ in shown.tags) == len(outcomes)
    bars = [attributes for tag, attributes in shown.tags if tag == "rect"]
    assert max(float(bar["width"] or 0) for bar in bars) == 440
    # What somebody calls himself is text, whatever it looks like.
    assert "<dana@example.com>" not in text


@requirement("SIMULATE-CLI")
def test_looking_whether_a_page_can_be_written_leaves_things_as_they_are(tmp_path: Path) -> None:
    old, new = tmp_path / "old.html", tmp_path / "new.html"
    old.write_text("as it was", encoding="utf-8")
    for page in (old, new):
        refused = CliRunner().invoke(main, ["simulate", f"--html={page}", "--workflow=nowhere:Nothing"])
        assert refused.exit_code == 2
    assert old.read_text(encoding="utf-8") == "as it was"
    assert not new.exists()


@requirement("SIMULATE-CLI")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="nothing is full here")
@pytest.mark.parametrize(
    "arguments", [at_night("--runs=2"), "--runs=2 --json", "--exhaustive=0", at_night("--path=1/nothing/0 --json")]
)
def test_what_can_not_be_printed_is_told_in_a_line_and_whoever_reads_no_more_is_left_alone(arguments: str) -> None:
    command = f"{shlex.join(PROGRAM)} simulate {arguments}"
    # That of which a line is told meanwhile.
    plans = 2 if "exhaustive" in arguments else 0
    full = subprocess.run(["/bin/sh", "-c", f"{command} > /dev/full"], capture_output=True, text=True, check=False)
    told = full.stderr.splitlines()[plans:]
    assert (full.returncode, told) == (2, ["Error: What came of it can't be written: No space left on device"])
    closed = subprocess.run(
        ["/bin/sh", "-c", f"{{ {command}; echo $? >&2; }} | true"], capture_output=True, text=True, check=False
    )
    # It tells how it went all the same.
    assert closed.stderr.splitlines()[plans:] == ["0"]
    silent = subprocess.run(["/bin/sh", "-c", f"{command} >&-"], capture_output=True, text=True, check=False)
    assert (silent.returncode, silent.stderr.splitlines()[plans:]) == (0, [])


@requirement("SIMULATE-CLI")
def test_there_are_no_more_processes_than_lives() -> None:
    told = simulate("--runs=1", "--jobs=64", "--json")
    assert json.loads(told.stdout)["jobs"] == 1


@requirement("SIMULATE-CLI")
@pytest.mark.parametrize("jobs", [at_night(1), 2])
@pytest.mark.parametrize("what", [("--runs=1000000", "--seed=1"), ("--exhaustive=3",)])
def test_ctrl_c_ends_with_the_totals_so_far(what: tuple[str, ...], jobs: int) -> None:
    command = [sys.executable, "-u", "-c", _TELLS, "--json", *what, f"--jobs={jobs}"]
    with running_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        patience = Timer(180, process.kill)
        patience.start()
        try:
            assert process.stderr.readline() == "some are lived\n"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate()
        finally:
            patience.cancel()
    assert (process.returncode, err) == (130, "")
    told = json.loads(out)
    assert told["interrupted"] is True
    assert 0 < told.get("runs", told.get("lives")) < 1_000_000


# As the command, but it says when the first lives are lived.
# What a shell runs in the background ignores Ctrl-C from its birth, and this test may be run there.
_TELLS = """
import signal
import sys
from invoice_mcp.cli.main import main

def run():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from invoice_mcp.testing.simulate.report.exploration import Exploration
    from invoice_mcp.testing.simulate.report.console import Reporter
    for teller in (Reporter, Exploration):
        teller.tell = tells(teller.tell)
    main(["simulate", *sys.argv[1:]])

def tells(tell, told=[]):
    def told_first(self, *latest):
        tell(self, *latest)
        if not told:
            told.append(print("some are lived", file=sys.stderr, flush=True))
    return told_first

if __name__ == "__main__":
    run()
"""


@requirement("SIMULATE-CLI")
@pytest.mark.parametrize("jobs", [at_night(1), 2])
def test_what_is_not_simulated_is_told(jobs: int) -> None:
    workflow = "tests.other_workflows:GoesOnAsNew"
    told = simulate("--runs=20", "--seed=1", f"--workflow={workflow}", f"--jobs={jobs}", "--json")
    assert told.returncode == 2
    assert "is not simulated" in told.stderr
    assert told.stderr.splitlines()[-1].startswith("Error: ")
    assert told.stdout == ""
