"""What the judges said, as a table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.mutants.equivalent import EQUIVALENT
from tests.mutants.generator import Mutant
from tests.mutants.judge import PLAIN, SERVER, SIMULATED, STRICT

COLUMNS = (PLAIN, STRICT, SIMULATED, SERVER)


@dataclass(frozen=True)
class Judged:
    """A mutant and what each judge said of it.

    Attributes:
        said: By judge; "" where it noticed nothing. A judge that was not asked is not in it.
    """

    mutant: Mutant
    said: Mapping[str, str]

    @property
    def noticed(self) -> dict[str, str]:
        """By whom, and how."""
        return {judge: text for judge, text in self.said.items() if text}

    @property
    def why_equivalent(self) -> str:
        """Why this edit changes nothing that anybody could see; "" if it does, or nobody has said so."""
        return EQUIVALENT.get(self.mutant.name, "")


def breaking_of(judged: Sequence[Judged]) -> list[Judged]:
    """Those that break something: what an equivalent edit is taken for is not counted, noticed or not."""
    return [each for each in judged if not each.mutant.is_safe and not each.why_equivalent]


def flaws(judged: Sequence[Judged]) -> list[Judged]:
    """Breaking edits that nobody notices, edits that change nothing and are flagged."""
    missed = [each for each in breaking_of(judged) if not each.noticed]
    return missed + [each for each in judged if (each.mutant.is_safe or each.why_equivalent) and each.noticed]


def summary(judged: Sequence[Judged]) -> str:
    """The figures, in a few lines."""
    breaking = breaking_of(judged)
    safe = [each for each in judged if each.mutant.is_safe]
    equivalent = [each for each in judged if each.why_equivalent]
    together = sum(map(_is_noticed, breaking))
    flagged = sum(map(_is_noticed, safe))
    lines = [
        f"{len(breaking)} edits that break the workflows: {_share(together, len(breaking))} noticed by somebody",
        *(
            f"  {judge}: {_share(sum(judge in each.noticed for each in breaking), len(breaking))}"
            for judge in COLUMNS[:3]
        ),
        f"  gate (strict replay): {_only(breaking, STRICT, PLAIN)} that plain replay misses",
        f"  scenarios: {_only(breaking, SIMULATED, STRICT)} that the gate misses",
        f"{len(safe)} edits that must not matter: {flagged} flagged",
        f"{len(equivalent)} edits that turned out to change nothing: {sum(map(_is_noticed, equivalent))} flagged",
    ]
    return "\n".join(lines)


def _is_noticed(judged: Judged) -> bool:
    return bool(judged.noticed)


def _only(judged: Sequence[Judged], by: str, not_by: str) -> int:
    return sum(by in each.noticed and not_by not in each.noticed for each in judged)


def _share(some: int, every: int) -> str:
    return f"{some} of {every} ({some / every:.0%})" if every else "0 of 0"


_HEAD = """\
# What notices a broken workflow

Written by `nox -s mutants`; not by hand. Each row is one edit of the workflow code, made in its syntax tree by an
operator that was applied at every place it fits (insertions: at the beginning of some functions; replacements: to some
expressions), and then judged, in a process of its own:

- **plain replay**: Temporal's `Replayer`, one recording in `histories/` after another until one does not pass. That is
  what each process of `invoice-mcp histories check --no-strict` runs. What fails is replayed once more, to be told what
  the code does instead; and a workflow type that no code answers to is told without asking the `Replayer`;
- **strict replay**: the same with the values of every command compared: what each process of `invoice-mcp histories
  check` runs;
- **scenarios, simulated**: the scenarios that every control is played, on the in-process simulator; then stories of
  doors and answers that neither model nor checker looks at, which CI plays on the workflows as they are;
- **scenarios, on servers**: the same on Temporal's time-skipping server, and one life on the real server with a worker
  that forgets every workflow after each task; asked where nobody else notices anything.

"""


_BLIND = """Plain replay sees which commands come in which order; not what is in them, not what no recording passes
through, and not what is decided outside of commands (validators, queries). Of these edits, by kind:"""


def as_markdown(judged: Sequence[Judged]) -> str:
    """The whole report."""
    breaking = breaking_of(judged)
    missed = [each for each in breaking if PLAIN not in each.noticed]
    parts = [
        _HEAD,
        f"```text\n{summary(judged)}\n```\n",
        "## What plain replay alone misses\n",
        f"{len(missed)} of {len(breaking)} edits that break the workflows replay without a complaint. {_BLIND}\n",
        _by_operator(missed, breaking),
        "\n## Edits that break the workflows\n",
        _table(breaking, COLUMNS),
        "\n## Edits that must not matter\n",
        _table([each for each in judged if each.mutant.is_safe], COLUMNS),
        "\n## Edits that turned out to change nothing\n",
        "Made by the same operators, and not counted above.\n",
        _equivalents([each for each in judged if each.why_equivalent]),
    ]
    return "\n".join(parts)


def _by_operator(missed: Sequence[Judged], breaking: Sequence[Judged]) -> str:
    rows = [
        "| edit | missed by plain replay | noticed by strict replay | noticed by scenarios |",
        "| --- | --- | --- | --- |",
    ]
    for operator in sorted({each.mutant.operator for each in breaking}):
        same = [each for each in missed if each.mutant.operator == operator]
        every = sum(each.mutant.operator == operator for each in breaking)
        by = [sum(judge in each.noticed for each in same) for judge in (STRICT, SIMULATED)]
        rows.append(f"| {operator} | {len(same)} of {every} | {by[0]} | {by[1]} |")
    return "\n".join(rows)


def _table(judged: Sequence[Judged], columns: Sequence[str]) -> str:
    rows = [f"| kind | edit | {' | '.join(columns)} |", f"| --- | --- |{' --- |' * len(columns)}"]
    for each in judged:
        cells = [_cell(each.said.get(column)) for column in columns]
        rows.append(f"| {each.mutant.operator} | {escaped(each.mutant.name)} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _cell(said: str | None) -> str:
    if said is None:
        return ""
    return f"**caught** {escaped(_shortened(said))}" if said else "-"


def _shortened(text: str, longest: int = 110) -> str:
    text = re.sub(r"^from_[0-9.]+/", "", text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;").replace("*", "\\*")


def _equivalents(judged: Sequence[Judged]) -> str:
    rows = ["| kind | edit | why nobody can notice |", "| --- | --- | --- |"]
    rows += [f"| {each.mutant.operator} | {escaped(each.mutant.name)} | {each.why_equivalent} |" for each in judged]
    return "\n".join(rows)
