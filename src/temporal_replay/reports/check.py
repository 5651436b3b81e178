"""What `histories check` prints or writes: console text, JSON, JUnit XML."""

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
    "Temporal's Replayer accepts this, but open workflows would continue with different values.\n"
    f"Guard the change with workflow.patched. If it is intended, accept it with a reason in {ACCEPTED_FILE}\n"
    "(recording may be a pattern such as from_0.1.0/*; old and new may be omitted):"
)


def verdict(report: GateReport) -> str:
    """Summarize a report in one line."""
    count = len(report.outcomes)
    if not count and not report.missing:
        return "No recordings found: nothing was checked, so the gate fails"
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
    """Print each fault with what to do next, then the verdict.

    Args:
        verbose: Print a table of all recordings first.
    """
    if verbose:
        console.print(_table(report))
    advised: set[str] = set()
    for outcome in report.broken:
        _print_fault(console, outcome.recording, _headline(outcome))
        # One change often breaks many recordings: print its advice once.
        advice = render_advice(outcome)
        for text in (*findings(outcome), "" if advice in advised else advice):
            for line in text.splitlines():
                console.print(f"{_INDENT}{line}" if line else "", markup=False, highlight=False)
        console.print()
        advised.add(advice)
    for name in report.missing:
        _print_fault(console, name, f"is missing: {PATHS_FILE} requires it")
    for entry in report.stale:
        stale = (
            f"{entry.recording}, {entry.command}, {entry.field}: no recording has this drift any more. Remove the entry"
        )
        _print_fault(console, ACCEPTED_FILE, stale)
    for note in report.notes:
        console.print(f"[yellow]Note:[/] {escape(note)}.", highlight=False)
    style = "green" if report.is_clean else "bold red"
    console.print(f"[{style}]{escape(verdict(report))}.[/]", highlight=False)


def _print_fault(console: Console, name: str, what: str) -> None:
    console.print(f"[bold red]✗[/] [bold]{escape(name)}[/] {escape(what)}", highlight=False)


def explain(outcome: Outcome) -> str:
    """Render the faults of a recording, and what to do next, as lines of text; "" if there are none."""
    return "\n".join([*findings(outcome), render_advice(outcome)]).strip()


def findings(outcome: Outcome) -> list[str]:
    """The faults of a recording, one text each."""
    problem = [outcome.problem.message, outcome.problem.detail] if outcome.problem else []
    return [part for part in problem if part] + [
        f"event {drift.event_id}, {drift.command}: {drift.field}\n  was {drift.old}\n  now {drift.new}"
        for drift in outcome.drift
    ]


def render_advice(outcome: Outcome) -> str:
    """Render what to do about the faults of a recording."""
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
        status = (
            "[red]" + _headline(outcome).rpartition(") ")[2] + "[/]" if outcome in report.broken else "[green]ok[/]"
        )
        row = (escape(outcome.recording), outcome.workflow_type, str(outcome.events), f"{outcome.seconds * 1000:.0f}")
        table.add_row(*row, status)
    return table


def render_json(report: GateReport) -> str:
    """Render all of a report as JSON, `clean` and `verdict` first."""
    content = {"clean": report.is_clean, "verdict": verdict(report), **report.model_dump(mode="json")}
    return json.dumps(content, indent=2, ensure_ascii=False)


def render_junit(report: GateReport) -> str:
    """Render a report as JUnit XML.

    Each recording, missing recording and stale rule is a test case; notes are in system-out.
    """
    suite = ElementTree.Element("testsuite", name="histories", time=f"{report.seconds:.3f}")
    for outcome in report.outcomes:
        failure = (_headline(outcome), explain(outcome)) if outcome in report.broken else None
        _add_case(suite, outcome.workflow_type or "unreadable", outcome.recording, outcome.seconds, failure)
    for name in report.missing:
        _add_case(suite, PATHS_FILE, name, 0, ("missing", f"{PATHS_FILE} requires it"))
    for entry in report.stale:
        name = f"{entry.recording} {entry.command} {entry.field}"
        _add_case(suite, ACCEPTED_FILE, name, 0, ("stale", "no recording has this drift any more: remove the entry"))
    if not len(suite):
        _add_case(suite, "histories", "corpus", 0, ("empty", verdict(report)))
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(sum(case.find("failure") is not None for case in suite)))
    if report.notes:
        ElementTree.SubElement(suite, "system-out").text = _printable("\n".join(report.notes))
    ElementTree.indent(suite)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(suite, encoding="unicode")}\n'


def _add_case(
    suite: ElementTree.Element, group: str, name: str, seconds: float, failure: tuple[str, str] | None
) -> None:
    named = {"classname": _printable(group), "name": _printable(name), "time": f"{seconds:.3f}"}
    case = ElementTree.SubElement(suite, "testcase", named)
    if failure:
        ElementTree.SubElement(case, "failure", message=_printable(failure[0])).text = _printable(failure[1])


def _printable(text: str) -> str:
    """Escape the control characters that XML can't represent, not even as character references."""
    return "".join(char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text)
