"""What the gate found, for people and for machines: a table, JSON, JUnit XML."""

from __future__ import annotations

import json
from collections import Counter
from xml.etree import ElementTree

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from temporal_replay.corpus import ACCEPTED_FILE, PATHS_FILE, acceptance_entry
from temporal_replay.gate import GateReport
from temporal_replay.outcome import Outcome

_INDENT = "    "
_ON_DRIFT = (
    "Temporal replays this, but workflows that are open would go on otherwise than they began.\n"
    "Guard it with workflow.patched; or, if it is right so, accept it with the reason, in "
    f"{ACCEPTED_FILE}\n(recording may be a pattern such as from_0.1.0/*; old and new may be left out):"
)


def verdict(report: GateReport) -> str:
    """One line on all of it."""
    count = len(report.outcomes)
    if not count and not report.missing:
        return "There is no recording here. Nothing was checked, so nothing passes"
    parts = [f"{count} recording{'s' * (count != 1)} replayed in {report.seconds:.1f} s"]
    faults = Counter(outcome.problem.fault for outcome in report.outcomes if outcome.problem)
    parts += [f"{number} {fault}" for fault, number in sorted(faults.items())]
    drifting = sum(bool(outcome.drift) for outcome in report.outcomes)
    parts += [f"{drifting} with drift"] if drifting else []
    parts += [f"{len(report.missing)} missing"] if report.missing else []
    parts += [f"{len(report.stale)} stale entries of {ACCEPTED_FILE}"] if report.stale else []
    parts += [f"{len(report.accepted)} accepted"] if report.accepted else []
    parts += ["all clean" if report.strict else "all clean (not strict)"] if report.is_clean else []
    return ", ".join(parts)


def print_report(report: GateReport, console: Console, *, verbose: bool = False) -> None:
    """Print what is wrong, each with what to do, then the verdict.

    Args:
        all_of_them: A table of every recording too.
    """
    if verbose:
        console.print(_table(report))
    advised: set[str] = set()
    for outcome in report.broken:
        _cross(console, outcome.recording, _headline(outcome))
        # One change breaks many recordings: what to do is said once.
        advice = render_advice(outcome)
        for text in (*findings(outcome), "" if advice in advised else advice):
            for line in text.splitlines():
                console.print(f"{_INDENT}{line}" if line else "", markup=False, highlight=False)
        console.print()
        advised.add(advice)
    for name in report.missing:
        _cross(console, name, f"is missing: {PATHS_FILE} says it must exist")
    for entry in report.stale:
        stale = f"{entry.recording}, {entry.command}, {entry.field}: there is no such drift any more. Remove the entry"
        _cross(console, ACCEPTED_FILE, stale)
    for note in report.notes:
        console.print(f"[yellow]Note:[/] {escape(note)}.", highlight=False)
    style = "green" if report.is_clean else "bold red"
    console.print(f"[{style}]{escape(verdict(report))}.[/]", highlight=False)


def _cross(console: Console, name: str, what: str) -> None:
    console.print(f"[bold red]✗[/] [bold]{escape(name)}[/] {escape(what)}", highlight=False)


def explain(outcome: Outcome) -> str:
    """What is wrong with a recording, and what to do, in lines."""
    return "\n".join([*findings(outcome), render_advice(outcome)]).strip()


def findings(outcome: Outcome) -> list[str]:
    """What is wrong with a recording."""
    problem = [outcome.problem.message, outcome.problem.detail] if outcome.problem else []
    return [part for part in problem if part] + [
        f"event {drift.event_id}, {drift.command}: {drift.field}\n  was {drift.old}\n  now {drift.new}"
        for drift in outcome.drift
    ]


def render_advice(outcome: Outcome) -> str:
    """What to do about it."""
    if outcome.problem:
        return outcome.problem.advice
    if not outcome.drift:
        return ""
    entries = dict.fromkeys(acceptance_entry(outcome.recording, drift) for drift in outcome.drift)
    return f"{_ON_DRIFT}\n\n" + "\n\n".join(entries)


def _headline(outcome: Outcome) -> str:
    what = f"({outcome.workflow_type}) " if outcome.workflow_type else ""
    return what + (str(outcome.problem.fault) if outcome.problem else "drift")


def _table(report: GateReport) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("recording", "workflow type"):
        table.add_column(column)
    for column in ("events", "ms"):
        table.add_column(column, justify="right")
    table.add_column("")
    for outcome in report.outcomes:
        how = "[red]" + _headline(outcome).rpartition(") ")[2] + "[/]" if outcome in report.broken else "[green]ok[/]"
        row = (escape(outcome.recording), outcome.workflow_type, str(outcome.events), f"{outcome.seconds * 1000:.0f}")
        table.add_row(*row, how)
    return table


def render_json(report: GateReport) -> str:
    """Everything, with `clean` and `verdict` first."""
    content = {"clean": report.is_clean, "verdict": verdict(report), **report.model_dump(mode="json")}
    return json.dumps(content, indent=2, ensure_ascii=False)


def render_junit(report: GateReport) -> str:
    """As CI systems read it: a test case a recording, one for each missing recording and stale entry; and the notes."""
    suite = ElementTree.Element("testsuite", name="histories", time=f"{report.seconds:.3f}")
    for outcome in report.outcomes:
        wrong = (_headline(outcome), explain(outcome)) if outcome in report.broken else None
        _add_case(suite, outcome.workflow_type or "unreadable", outcome.recording, outcome.seconds, wrong)
    for name in report.missing:
        _add_case(suite, PATHS_FILE, name, 0, ("missing", f"{PATHS_FILE} says it must exist"))
    for entry in report.stale:
        name = f"{entry.recording} {entry.command} {entry.field}"
        _add_case(suite, ACCEPTED_FILE, name, 0, ("stale", "there is no such drift: remove the entry"))
    if not len(suite):
        _add_case(suite, "histories", "corpus", 0, ("empty", verdict(report)))
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(sum(case.find("failure") is not None for case in suite)))
    if report.notes:
        ElementTree.SubElement(suite, "system-out").text = _printable("\n".join(report.notes))
    ElementTree.indent(suite)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(suite, encoding="unicode")}\n'


def _add_case(suite: ElementTree.Element, group: str, name: str, seconds: float, wrong: tuple[str, str] | None) -> None:
    named = {"classname": _printable(group), "name": _printable(name), "time": f"{seconds:.3f}"}
    case = ElementTree.SubElement(suite, "testcase", named)
    if wrong:
        ElementTree.SubElement(case, "failure", message=_printable(wrong[0])).text = _printable(wrong[1])


def _printable(text: str) -> str:
    """XML knows no other control characters than these, not even escaped."""
    return "".join(char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text)
