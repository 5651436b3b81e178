"""The exact text of the gate's report and of coverage, and their formats for machines."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Literal
from xml.etree import ElementTree

import pytest
from rich.console import Console

from temporal_replay import (
    AcceptanceRule,
    CommandPath,
    Coverage,
    Drift,
    Fault,
    GateReport,
    Outcome,
    Patch,
    Problem,
    explain,
    print_coverage,
    print_report,
    render_json,
    render_junit,
    verdict,
)
from temporal_replay.gate import AcceptedDrift
from tests.requirements import requirement

LONGER = Drift(command="StartTimer", field="start_to_fire_timeout", old="3d", new="4d", event_id=17)
CLEAN = Outcome(recording="a/label.json", workflow_type="Label", events=9, seconds=0.0123)
DRIFTING = Outcome(recording="a/waiting.json", workflow_type="Parcel", events=30, seconds=0.5, drift=(LONGER,))
SAME_DRIFT = DRIFTING.model_copy(update={"recording": "b/waiting.json"})
NONDETERMINISTIC = Outcome(
    recording="a/[lost].json",
    workflow_type="Parcel",
    events=20,
    seconds=1.5,
    problem=Problem(
        fault=Fault.NONDETERMINISM,
        message="it differs",
        detail="recorded: [red]\nnow:      blue",
        advice="Guard it:\n\n    if",
    ),
)
UNREADABLE = Outcome(recording="x.json", problem=Problem(fault=Fault.UNREADABLE, message="it is no JSON"))
STALE = AcceptanceRule(recording="a/*", command="StartTimer", field="start_to_fire_timeout", reason="longer")
ACCEPTED = AcceptedDrift(recording="a/waiting.json", drift=LONGER, reason="longer")


def printed(report: GateReport, *, verbose: bool = False, on_a_terminal: bool = False) -> str:
    out = io.StringIO()
    colours: Literal["standard"] | None = "standard" if on_a_terminal else None
    console = Console(file=out, width=200, force_terminal=on_a_terminal, color_system=colours, legacy_windows=False)
    print_report(report, console, verbose=verbose)
    return out.getvalue()


def shown(coverage: Coverage, *, width: int = 120) -> list[str]:
    out = io.StringIO()
    print_coverage(coverage, Console(file=out, width=width, force_terminal=False))
    return [line.rstrip() for line in out.getvalue().splitlines()]


@requirement("HISTORY-STRICT")
def test_drift_is_printed_with_the_entry_that_accepts_it() -> None:
    assert printed(GateReport(outcomes=(DRIFTING,), seconds=0.5)) == (
        "✗ a/waiting.json (Parcel) drift\n"
        "    event 17, StartTimer: start_to_fire_timeout\n"
        "      was 3d\n"
        "      now 4d\n"
        "    Temporal's Replayer accepts this, but open workflows would continue with different values.\n"
        "    Guard the change with workflow.patched. If it is intended, accept it with a reason in "
        "accepted-drift.toml\n"
        "    (recording may be a pattern such as from_0.1.0/*; old and new may be omitted):\n"
        "\n"
        "    [[drift]]\n"
        '    recording = "a/waiting.json"\n'
        '    command = "StartTimer"\n'
        '    field = "start_to_fire_timeout"\n'
        '    old = "3d"\n'
        '    new = "4d"\n'
        '    reason = ""\n'
        "\n"
        "1 recording replayed in 0.5 s, 1 with drift.\n"
    )


def test_every_fault_is_printed_once_and_unescaped() -> None:
    twin = NONDETERMINISTIC.model_copy(update={"recording": "b/lost.json"})
    report = GateReport(
        outcomes=(CLEAN, NONDETERMINISTIC, UNREADABLE, twin),
        missing=("a/gone.json",),
        stale=(STALE,),
        notes=("no list",),
        seconds=2,
    )
    assert printed(report) == (
        "✗ a/[lost].json (Parcel) nondeterminism\n"
        "    it differs\n"
        "    recorded: [red]\n"
        "    now:      blue\n"
        "    Guard it:\n"
        "\n"
        "        if\n"
        "\n"
        "✗ x.json unreadable\n"
        "    it is no JSON\n"
        "\n"
        "✗ b/lost.json (Parcel) nondeterminism\n"
        "    it differs\n"
        "    recorded: [red]\n"
        "    now:      blue\n"
        "\n"
        "✗ a/gone.json is missing: paths.toml requires it\n"
        "✗ accepted-drift.toml a/*, StartTimer, start_to_fire_timeout: no recording has this drift any more. "
        "Remove the entry\n"
        "Note: no list.\n"
        "4 recordings replayed in 2.0 s, 2 nondeterminism, 1 unreadable, 1 missing, "
        "1 stale entries of accepted-drift.toml.\n"
    )


def test_verbose_output_lists_every_recording() -> None:
    text = printed(GateReport(outcomes=(CLEAN, NONDETERMINISTIC, DRIFTING), seconds=0.5), verbose=True)
    assert [line.split() for line in text.splitlines()[:4]] == [
        ["recording", "workflow", "type", "events", "ms"],
        ["a/label.json", "Label", "9", "12", "ok"],
        ["a/[lost].json", "Parcel", "20", "1500", "nondeterminism"],
        ["a/waiting.json", "Parcel", "30", "500", "drift"],
    ]
    assert "label.json" not in printed(GateReport(outcomes=(CLEAN,)))


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (GateReport(outcomes=(CLEAN,), seconds=0.04), "1 recording replayed in 0.0 s, all clean"),
        (GateReport(outcomes=(CLEAN, CLEAN), strict=False), "2 recordings replayed in 0.0 s, all clean (not strict)"),
        (GateReport(outcomes=(CLEAN,), accepted=(ACCEPTED,)), "1 recording replayed in 0.0 s, 1 accepted, all clean"),
        (GateReport(outcomes=(DRIFTING, SAME_DRIFT)), "2 recordings replayed in 0.0 s, 2 with drift"),
        (GateReport(outcomes=()), "No recordings found: nothing was checked, so the gate fails"),
        (GateReport(outcomes=(), missing=("a",)), "0 recordings replayed in 0.0 s, 1 missing"),
    ],
)
def test_the_verdict_is_one_line(report: GateReport, expected: str) -> None:
    assert verdict(report) == expected
    assert printed(report).splitlines()[-1] == f"{expected}."
    assert json.loads(render_json(report))["verdict"] == expected
    assert json.loads(render_json(report))["clean"] is report.is_clean


def test_on_a_terminal_the_verdict_is_green_or_red() -> None:
    green, red = "\x1b[32m", "\x1b[1;31m"
    assert printed(GateReport(outcomes=(CLEAN,)), on_a_terminal=True).startswith(green)
    broken = printed(GateReport(outcomes=(CLEAN, UNREADABLE)), on_a_terminal=True)
    assert broken.splitlines()[0].startswith(f"{red}✗")
    assert broken.splitlines()[-1].startswith(f"{red}2 recordings")
    table = printed(GateReport(outcomes=(CLEAN, UNREADABLE)), verbose=True, on_a_terminal=True).splitlines()
    assert "\x1b[32mok" in table[1]
    assert "\x1b[31munreadable" in table[2]


def test_a_clean_outcome_has_no_explanation() -> None:
    assert explain(CLEAN) == ""
    assert explain(UNREADABLE) == "it is no JSON"


def cases(report: GateReport) -> Mapping[str, tuple[str | None, str | None]]:
    """Name of each test case in the JUnit XML, with its failure's message and first line."""
    suite = ElementTree.fromstring(render_junit(report))
    found: dict[str, tuple[str | None, str | None]] = {}
    for case in suite.iter("testcase"):
        failure = case.find("failure")
        name = f"{case.get('classname')} {case.get('name')}"
        text = (failure.text or "").splitlines() if failure is not None else []
        found[name] = (failure.get("message"), text[0] if text else "") if failure is not None else (None, None)
    assert suite.get("tests") == str(len(found))
    assert suite.get("failures") == str(sum(message is not None for message, _ in found.values()))
    return found


def test_junit_has_a_case_for_everything_checked() -> None:
    report = GateReport(
        outcomes=(CLEAN, DRIFTING, UNREADABLE), missing=("a/gone.json",), stale=(STALE,), notes=("no list",)
    )
    assert cases(report) == {
        "Label a/label.json": (None, None),
        "Parcel a/waiting.json": ("(Parcel) drift", "event 17, StartTimer: start_to_fire_timeout"),
        "unreadable x.json": ("unreadable", "it is no JSON"),
        "paths.toml a/gone.json": ("missing", "paths.toml requires it"),
        "accepted-drift.toml a/* StartTimer start_to_fire_timeout": (
            "stale",
            "no recording has this drift any more: remove the entry",
        ),
    }
    assert ElementTree.fromstring(render_junit(report)).findtext("system-out") == "no list"


def test_junit_of_an_empty_corpus_fails() -> None:
    empty = GateReport(outcomes=())
    assert cases(empty) == {"histories corpus": ("empty", verdict(empty))}


PATHS = (
    CommandPath(workflow_type="Label", commands=("StartTimer", "CompleteWorkflow"), recordings=("a/label.json",)),
    CommandPath(
        workflow_type="Parcel",
        commands=("ScheduleActivity weigh", "ScheduleActivity weigh", "StartTimer"),
        recordings=("a/[1].json", "a/waiting.json"),
    ),
)


@requirement("HISTORY-COVERAGE")
def test_coverage_is_printed_path_by_path() -> None:
    assert shown(Coverage(paths=PATHS, patches=())) == [
        "Label: StartTimer > CompleteWorkflow",
        "    a/label.json",
        "Parcel: ScheduleActivity weigh x2 > StartTimer",
        "    a/[1].json",
        "    a/waiting.json",
        "",
        "3 recordings follow 2 paths.",
        "",
        "No patch in the code or in a recording.",
    ]


@requirement("HISTORY-COVERAGE")
def test_patches_are_printed_with_their_verdicts() -> None:
    patches = (
        Patch(name="a-[new]-way", in_code="patched", old=("a/label.json",), markers=()),
        Patch(name="quite-old", in_code="", old=(), markers=("a/waiting.json",), open_old=0, open_markers=2),
    )
    coverage = Coverage(
        paths=PATHS, patches=patches, unknown=("a/[1].json",), open_workflows=7, open_workflows_skipped=3
    )
    lines = shown(coverage, width=80)
    assert lines[lines.index("a-[new]-way: keep both branches") :] == [
        "a-[new]-way: keep both branches",
        "    in the code: patched",
        "    recordings: 1 take the old branch, 0 have the marker",
        "quite-old: restore deprecate_patch: a history has its marker",
        "    in the code: no",
        "    recordings: 0 take the old branch, 1 have the marker",
        "    open workflows: 0 take the old branch, 2 have the marker",
        "7 open workflows were examined; 3 more exceed the limit and were not.",
        "a/[1].json does not replay: which patches it needs is unknown.",
    ]
    assert "7 open workflows were examined." in shown(coverage.model_copy(update={"open_workflows_skipped": 0}))
    asked_nobody = coverage.model_copy(update={"open_workflows": None, "patches": patches[:1]})
    assert not [line for line in shown(asked_nobody) if "open workflows" in line]


@requirement("HISTORY-COVERAGE")
def test_a_verdict_is_printed_in_full_on_a_narrow_terminal() -> None:
    patch = Patch(name="tell", in_code="patched", old=(), markers=(), open_old=None)
    text = "".join("".join(shown(Coverage(paths=(), patches=(patch,)), width=70)).split())
    assert "".join(patch.verdict.split()) in text
