"""`invoice-mcp histories ...` on another project's workflows, and with every kind of usage mistake."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from invoice_mcp.cli.main import main as cli
from temporal_replay import Recording, add_to_paths, write_recording
from tests.nightly import at_night
from tests.processes import running_process
from tests.replay import parcel_workflows
from tests.requirements import requirement

COMMAND = (sys.executable, "-m", "invoice_mcp", "histories")
PARCELS = ("--workflows", "parcels:WORKFLOWS")
CHECK = ("check", "--jobs", "1")  # one process replays four recordings faster than two start


MAKERS = """
def raises():
    return {}["no workflows"]

async def later():
    return []
"""
REFUSED = """
import random
from temporalio import workflow

NUMBER = random.randint(1, 6)

@workflow.defn(name="Parcel")
class Refused:
    @workflow.run
    async def run(self, parcel: dict) -> str:
        return str(NUMBER)

WORKFLOWS = [Refused]
TWICE = [Refused, Refused]
"""


@pytest.fixture
def project(parcel_recordings: Mapping[str, Recording], tmp_path: Path) -> Path:
    """Another project: a module with workflows, and recordings beside it."""
    shutil.copy(parcel_workflows.__file__, tmp_path / "parcels.py")
    (tmp_path / "makers.py").write_text(MAKERS, encoding="utf-8")
    (tmp_path / "refused.py").write_text(REFUSED, encoding="utf-8")
    for name, recording in parcel_recordings.items():
        write_recording(recording, tmp_path / "histories" / "from_1" / f"{name}.json")
    return tmp_path


def histories(*arguments: str, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False, **options)


def unmeasured() -> dict[str, str]:
    """The environment without coverage measurement, which would wait forever for a thread that never ends."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


def change(project: Path, old: str, new: str) -> None:
    module = project / "parcels.py"
    text = module.read_text(encoding="utf-8")
    assert text.count(old) == 1
    module.write_text(text.replace(old, new), encoding="utf-8")


@requirement("HISTORY-PROJECTS")
def test_workflows_of_another_project_are_checked(project: Path) -> None:
    done = histories(*CHECK, *PARCELS, cwd=project)
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 recordings replayed in" in done.stdout
    assert "all clean" in done.stdout

    change(project, "timeout=timedelta(days=3)", "timeout=timedelta(days=4)")
    done = histories(*CHECK, *PARCELS, cwd=project)
    assert done.returncode == 1
    assert "✗ from_1/waiting.json (Parcel) drift" in done.stdout
    assert re.search(r"event \d+, StartTimer: start_to_fire_timeout\n +was 3d\n +now 4d\n", done.stdout)
    assert '[[drift]]\n    recording = "from_1/delivered.json"' in done.stdout
    assert histories(*CHECK, *PARCELS, "--no-strict", cwd=project).returncode == 0

    change(project, "            weigh,\n", "            stamp,\n")
    done = histories(*CHECK, *PARCELS, "histories/from_1/waiting.json", cwd=project)
    assert done.returncode == 1
    assert "recorded: event 6: ScheduleActivity weigh (1)\n    now:      ScheduleActivity stamp (1)" in done.stdout
    assert 'if workflow.patched("name-the-change"):' in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@requirement("HISTORY-PROJECTS")
def test_the_entry_that_the_report_proposes_accepts_the_drift(project: Path) -> None:
    change(project, '"it is lost"', '"it is gone"')
    done = histories(*CHECK, *PARCELS, cwd=project)
    entry = done.stdout[done.stdout.index("[[drift]]") :].split("\n\n")[0]
    entry = "\n".join(line.strip() for line in entry.splitlines()).replace('reason = ""', 'reason = "says so"')
    (project / "histories" / "accepted-drift.toml").write_text(entry, encoding="utf-8")
    done = histories(*CHECK, *PARCELS, cwd=project)
    assert done.returncode == 0, done.stdout
    assert "1 accepted" in done.stdout


def test_the_report_is_available_as_json_and_junit(project: Path) -> None:
    change(project, '"it is lost"', '"it is \x07 <gone>"')
    done = histories(*CHECK, *PARCELS, "--json", "--junit", "out/report.xml", cwd=project)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert not report["clean"]
    assert [outcome["recording"] for outcome in report["outcomes"] if outcome["drift"]] == ["from_1/lost.json"]
    suite = ElementTree.parse(project / "out" / "report.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("4", "1")
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "(Parcel) drift"
    assert "now it is \\x07 <gone>" in str(failure.text)


@requirement("HISTORY-COVERAGE")
def test_coverage_as_json_prints_only_json(project: Path) -> None:
    change(project, "            weigh,\n", "            stamp,\n")
    change(project, "        weight = await", "        print('weighing')\n        weight = await")
    done = histories("coverage", *PARCELS, "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    unknown = json.loads(done.stdout)["unknown"]
    assert unknown == [f"from_1/{name}.json" for name in ("delivered", "lost", "waiting")]


HANGS = "        with workflow.unsafe.sandbox_unrestricted():\n            __import__('time').sleep(600)\n"
START = "        workflow.upsert_search_attributes([CITY"


@requirement("HISTORY-HANGS")
def test_coverage_reports_code_that_hangs_and_continues(project: Path) -> None:
    change(
        project,
        "        await workflow.sleep(timedelta(milliseconds=10))\n",
        f"{HANGS}        await workflow.sleep(0.01)\n",
    )
    done = histories("coverage", *PARCELS, "--time-limit", "3s", "--json", cwd=project, env=unmeasured())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["unknown"] == ["from_1/label.json"]


@requirement("HISTORY-HANGS")
def test_a_workflow_that_hangs_is_not_pulled(project: Path) -> None:
    # Nothing is fetched: what is there is proved in this process, as `pull` does.
    change(project, START, HANGS + START)
    code = (
        "from pathlib import Path\n"
        "from invoice_mcp.cli.histories import run\n"
        "from invoice_mcp.exit import exit_process\n"
        "from temporal_replay import RecordingError, Target, read_recording, scrub_and_prove\n"
        "recording = read_recording(Path('histories/from_1/lost.json'))\n"
        "try:\n"
        "    run(scrub_and_prove(recording, Target('parcels:WORKFLOWS').load(), time_limit=3), may_hang=True)\n"
        "except RecordingError as why:\n"
        "    print(why)\n"
        "    exit_process(1)\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=project, env=unmeasured(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.endswith("its replay did not end within 3 s\n")


@pytest.mark.parametrize("command", ["check", "coverage"])
def test_a_progress_bar_advances_on_a_terminal(project: Path, command: str) -> None:
    status, shown = on_a_terminal(project, command, *PARCELS)
    assert status == 0, shown
    assert "Replaying" in shown
    assert "0/4" in shown
    assert "4/4" in shown


def on_a_terminal(cwd: Path, *arguments: str) -> tuple[int, str]:
    """Exit status, and the output on stderr, which is a terminal."""
    ours, theirs = pty.openpty()
    shown = b""
    with (
        os.fdopen(ours, "rb", buffering=0) as terminal,
        running_process([*COMMAND, *arguments], cwd=cwd, stdout=subprocess.DEVNULL, stderr=theirs) as process,
    ):
        os.close(theirs)
        with suppress(OSError):  # Linux raises OSError when the other end is closed
            while part := terminal.read(4096):
                shown += part
        return process.wait(timeout=60), shown.decode()


NO_WORKER = (
    "no worker would start with refused:Refused, preparing it fails: "
    "RestrictedWorkflowAccessError: Cannot access random.randint"
)
MISTAKES = {
    "no such folder": (("check", *PARCELS, "nowhere"), "nowhere does not exist"),
    "no such module": ((*CHECK, "--workflows", "parcel:WORKFLOWS"), "can't be imported: No module named 'parcel'"),
    "no such name": (("coverage", "--workflows", "tests.replay.parcel_workflows:WORK"), "has no attribute 'WORK'"),
    "no colon": (("coverage", "--workflows", "parcels"), "must read module:attribute"),
    "no workflows": (
        ("coverage", "--workflows", "tests.replay.parcel_workflows:CITY"),
        "must be a list of workflow classes",
    ),
    "no workflow": (("coverage", "--workflows", "pathlib:Path"), "must be a list of workflow classes"),
    "no data converter": (
        (
            "coverage",
            "--workflows",
            "tests.replay.parcel_workflows:WORKFLOWS",
            "--data-converter",
            "tests.replay.parcel_workflows:CITY",
        ),
        "is not a temporalio.converter",
    ),
    "a function that raises": (("coverage", "--workflows", "makers:raises"), "makers:raises can't be called: KeyError"),
    "a function that is async": (("coverage", "--workflows", "makers:later"), "makers:later is async"),
    "no duration": (("check", *PARCELS, "--time-limit", "soon"), "is not a duration"),
    "two of one name": (("coverage", "--workflows", "refused:TWICE"), "more than one workflow handles Parcel"),
    "code that the sandbox refuses, checked": ((*CHECK, "--workflows", "refused:WORKFLOWS"), NO_WORKER),
    "code that the sandbox refuses, covered": (("coverage", "--workflows", "refused:WORKFLOWS"), NO_WORKER),
    "code that the sandbox refuses, pulled": (
        ("pull", "--query", "", "--workflows", "refused:WORKFLOWS", "--address", "127.0.0.1:9"),
        NO_WORKER,
    ),
    "recorded already": (("record", "--release", "1"), "A release is recorded once"),
    "no query": (("pull",), "Missing option '--query'"),
    "nothing to cover": (("coverage", "nowhere"), "nowhere does not exist"),
}


@requirement("HISTORY-GATE")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_usage_mistake_is_one_line_and_exit_status_2(
    project: Path, mistake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(str(project))
    arguments, expected = MISTAKES[mistake]
    done = CliRunner().invoke(cli, ["histories", *arguments])
    assert done.exit_code == 2, done.output
    assert expected in done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)


@requirement("HISTORY-GATE")
@pytest.mark.parametrize("command", [("pull", "--query", ""), ("coverage", *PARCELS)], ids=["pull", "coverage"])
@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.1:9", "Temporal can't be reached"), ("somewhere", "must read host:port")],
    ids=["unreachable", "malformed"],
)
def test_an_unreachable_temporal_server_is_reported(
    project: Path, command: tuple[str, ...], address: str, expected: str
) -> None:
    done = histories(*command, "--address", address, cwd=project)
    assert done.returncode == 2, done.stdout
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


@requirement("HISTORY-GATE")
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_report_that_can_not_be_written_is_still_printed(project: Path, form: tuple[str, ...]) -> None:
    change(project, '"it is lost"', '"it is gone"')
    done = histories(*CHECK, *PARCELS, "--junit", "parcels.py/report.xml", *form, cwd=project)
    assert done.returncode == 2, done.stdout
    assert done.stderr == "Error: parcels.py/report.xml can't be written: parcels.py is not a folder\n"
    assert "it is gone" in done.stdout
    assert not form or json.loads(done.stdout)["clean"] is False


@requirement("HISTORY-GATE")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="nothing is full here")
@pytest.mark.parametrize(
    "command",
    [(*CHECK, "-v"), at_night((*CHECK, "--json")), at_night(("coverage",)), ("coverage", "--json")],
    ids=" ".join,
)
def test_a_failed_print_is_not_reported_as_a_broken_recording(project: Path, command: tuple[str, ...]) -> None:
    command_line = shlex.join([*COMMAND, *command, *PARCELS])
    full = subprocess.run(
        ["/bin/sh", "-c", f"{command_line} > /dev/full"], cwd=project, capture_output=True, text=True, check=False
    )
    assert (full.returncode, full.stderr) == (2, "Error: The output can't be written: No space left on device\n")
    closed = subprocess.run(
        ["/bin/sh", "-c", f"{{ {command_line}; echo $? >&2; }} | true"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert closed.stderr == "0\n"


@requirement("HISTORY-GATE")
def test_a_missing_recording_is_reported_from_within_a_folder_of_the_corpus(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_to_paths(project / "histories", "from_1", {"waiting": "waits", "lost": "gets lost"})
    (project / "histories" / "from_1" / "lost.json").unlink()
    monkeypatch.setenv("PYTHONPATH", str(project))
    done = histories(*CHECK, *PARCELS, ".", cwd=project / "histories" / "from_1")
    assert (done.returncode, done.stderr) == (1, "")
    assert "from_1/lost.json" in done.stdout


@requirement("HISTORY-GATE")
def test_recordings_without_matching_workflows_fail(project: Path) -> None:
    done = histories(*CHECK, cwd=project)
    assert done.returncode == 1
    assert "no workflow handles type Parcel" in done.stdout


@requirement("HISTORY-GATE")
def test_an_empty_folder_fails(project: Path) -> None:
    (project / "empty").mkdir()
    done = histories(*CHECK, *PARCELS, "empty", cwd=project)
    assert (done.returncode, done.stderr) == (1, "")
    assert "No recordings found" in done.stdout


@pytest.mark.usefixtures("_sigint_handled")
def test_ctrl_c_ends_the_command_and_its_processes(project: Path) -> None:
    change(
        project, "        workflow.upsert_search_attributes([CITY", "        while True:\n            pass\n        ("
    )
    change(project, '        (.value_set(parcel["to"])])\n', "        ()\n")
    command = [*COMMAND, "check", *PARCELS, "--time-limit", "60s"]
    with running_process(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 60
        while not children_of(process.pid):
            assert time.monotonic() < until
            time.sleep(0.05)
        children = children_of(process.pid)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


@pytest.fixture
def _sigint_handled() -> Iterator[None]:
    """Restore the SIGINT handler: tests run in the background ignore Ctrl-C, and child processes would inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def children_of(pid: int) -> list[int]:
    pgrep = shutil.which("pgrep")
    assert pgrep
    found = subprocess.run([pgrep, "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]
