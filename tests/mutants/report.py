"""The report on the mutants of the workflows: docs/mutants.md."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.mutants.equivalent import EQUIVALENT_MUTANTS
from tests.mutants.generator import Mutant
from tests.mutants.oracle import PLAIN, SERVER, SIMULATED, STRICT

COLUMNS = (PLAIN, STRICT, SIMULATED, SERVER)


@dataclass(frozen=True)
class MutantResult:
    """A mutant and the verdicts on it.

    Attributes:
        verdicts: By oracle; "" if it passed. An oracle that was not run is missing.
    """

    mutant: Mutant
    verdicts: Mapping[str, str]

    @property
    def killed_by(self) -> dict[str, str]:
        """The verdicts of the oracles that kill the mutant."""
        return {oracle: text for oracle, text in self.verdicts.items() if text}

    @property
    def why_equivalent(self) -> str:
        """Why the mutant of an operator is equivalent; "" if it is not known to be."""
        return EQUIVALENT_MUTANTS.get(self.mutant.name, "")


def breaking_of(results: Sequence[MutantResult]) -> list[MutantResult]:
    """Return the mutants that break the workflows: neither refactorings nor equivalent."""
    return [each for each in results if not each.mutant.preserves_behaviour and not each.why_equivalent]


def unexpected_results(results: Sequence[MutantResult]) -> list[MutantResult]:
    """Return the breaking mutants that survive, and the others that are killed."""
    survivors = [each for each in breaking_of(results) if not each.killed_by]
    harmless = [each for each in results if each.mutant.preserves_behaviour or each.why_equivalent]
    return survivors + [each for each in harmless if each.killed_by]


def summary(results: Sequence[MutantResult]) -> str:
    """Return the totals, in a few lines."""
    breaking = breaking_of(results)
    refactorings = [each for each in results if each.mutant.preserves_behaviour]
    equivalent = [each for each in results if each.why_equivalent]
    lines = [
        f"{len(breaking)} mutants that break the workflows: {_share(_count_killed(breaking), len(breaking))} killed",
        *(
            f"  {oracle}: {_share(sum(oracle in each.killed_by for each in breaking), len(breaking))}"
            for oracle in COLUMNS[:3]
        ),
        f"  gate (strict replay): {_count_only(breaking, STRICT, PLAIN)} that plain replay misses",
        f"  scenarios: {_count_only(breaking, SIMULATED, STRICT)} that the gate misses",
        f"{len(refactorings)} refactorings: {_count_killed(refactorings)} killed",
        f"{len(equivalent)} equivalent mutants: {_count_killed(equivalent)} killed",
    ]
    return "\n".join(lines)


def _count_killed(results: Sequence[MutantResult]) -> int:
    return sum(bool(each.killed_by) for each in results)


def _count_only(results: Sequence[MutantResult], by: str, not_by: str) -> int:
    return sum(by in each.killed_by and not_by not in each.killed_by for each in results)


def _share(some: int, every: int) -> str:
    return f"{some} of {every} ({some / every:.0%})" if every else "0 of 0"


_HEAD = """\
# Mutants of the workflows

Written by `nox -s mutants`; do not edit. Each row is one mutant of the workflow code. An operator makes it in the
syntax tree, at every place where it applies (insertions: at the beginning of some functions; replacements: of some
expressions). Each mutant is tested in its own process by these oracles:

- **plain replay**: Temporal's `Replayer`, on the recordings in `histories/` until one fails, as in the processes of
  `invoice-mcp histories check --no-strict`. A failing recording is replayed once more for the error message, and a
  recording whose workflow type is unknown fails without the `Replayer`;
- **strict replay**: the same with the values of every command compared, as in the processes of `invoice-mcp histories
  check`;
- **scenarios, simulated**: the scenarios of the controls on the in-process simulator, then stories about clients and
  answers that neither model nor checker looks at, which CI runs on the unmutated workflows;
- **scenarios, on servers**: the same on Temporal's time-skipping server, and one episode on the real server with a
  worker that evicts each workflow after every task; run only if all others pass.

"""


_PLAIN_REPLAY = """Plain replay compares which commands come in which order; not their values, not code that no
recording reaches, and not what is decided outside of commands (validators, queries). Of these mutants, by operator:"""


def as_markdown(results: Sequence[MutantResult]) -> str:
    """Return the whole report."""
    breaking = breaking_of(results)
    missed = [each for each in breaking if PLAIN not in each.killed_by]
    parts = [
        _HEAD,
        f"```text\n{summary(results)}\n```\n",
        "## What plain replay alone misses\n",
        f"{len(missed)} of {len(breaking)} mutants that break the workflows survive plain replay. {_PLAIN_REPLAY}\n",
        _by_operator(missed, breaking),
        "\n## Mutants that break the workflows\n",
        _table(breaking, COLUMNS),
        "\n## Refactorings\n",
        "These preserve the behaviour, so no oracle may kill them.\n",
        _table([each for each in results if each.mutant.preserves_behaviour], COLUMNS),
        "\n## Equivalent mutants\n",
        "Made by the same operators, and not counted above.\n",
        _equivalents([each for each in results if each.why_equivalent]),
    ]
    return "\n".join(parts)


def _by_operator(missed: Sequence[MutantResult], breaking: Sequence[MutantResult]) -> str:
    rows = [
        "| operator | survive plain replay | killed by strict replay | killed by scenarios |",
        "| --- | --- | --- | --- |",
    ]
    for operator in sorted({each.mutant.operator for each in breaking}):
        same = [each for each in missed if each.mutant.operator == operator]
        every = sum(each.mutant.operator == operator for each in breaking)
        by = [sum(oracle in each.killed_by for each in same) for oracle in (STRICT, SIMULATED)]
        rows.append(f"| {operator} | {len(same)} of {every} | {by[0]} | {by[1]} |")
    return "\n".join(rows)


def _table(results: Sequence[MutantResult], columns: Sequence[str]) -> str:
    rows = [f"| operator | mutant | {' | '.join(columns)} |", f"| --- | --- |{' --- |' * len(columns)}"]
    for each in results:
        cells = [_cell(each.verdicts.get(column)) for column in columns]
        rows.append(f"| {each.mutant.operator} | {escaped(each.mutant.name)} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _cell(verdict: str | None) -> str:
    if verdict is None:
        return ""
    return f"**killed** {escaped(_shortened(verdict))}" if verdict else "-"


def _shortened(text: str, longest: int = 110) -> str:
    text = re.sub(r"^from_[0-9.]+/", "", text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def escaped(text: str) -> str:
    """Return a text as it stands in a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;").replace("*", "\\*")


def _equivalents(results: Sequence[MutantResult]) -> str:
    rows = ["| operator | mutant | why it is equivalent |", "| --- | --- | --- |"]
    rows += [f"| {each.mutant.operator} | {escaped(each.mutant.name)} | {each.why_equivalent} |" for each in results]
    return "\n".join(rows)
