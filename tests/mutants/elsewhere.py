"""`python -m tests.mutants.elsewhere`: who notices edits beside the workflows: of product and harness.

As `python -m tests.mutants` does for the workflows. There are too many to judge all each time: of each file a sample is
judged, the same one each time, but for the named edits, of which all are. Writes docs/mutants-elsewhere.md.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import click
from rich.console import Console

from tests.mutants.__main__ import ROOT, Verdicts
from tests.mutants.equivalent import EQUIVALENT_ELSEWHERE
from tests.mutants.generator import SOURCES, Mutant
from tests.mutants.judge_pool import DRAWN, HARNESS_TIMEOUT, UNIT
from tests.mutants.modules import HARNESS, PRODUCT, sample, tests_of
from tests.mutants.named import named
from tests.mutants.report import escaped

REPORT = ROOT / "docs" / "mutants-elsewhere.md"
TABLES = ("named", "product", "harness")
_SAMPLE = 3
# Seconds for all unit tests that judge anything: those of one file take a small part of that.
_UNTOUCHED_WITHIN = 1800
_FILES = {"product": PRODUCT, "harness": HARNESS}

Judged = tuple[Mutant, Mapping[str, str]]
"""A mutant, and what each judge said that was asked; "" where it noticed nothing."""


class Judges:
    """The judges, in processes that are forked from one."""

    async def __aenter__(self) -> Self:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "1"}
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.mutants.judge_pool"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
            cwd=ROOT,
            start_new_session=True,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    async def judge(self, mutant: Mutant) -> dict[str, str]:
        """What they say of a mutant, the cheapest first, until one notices it."""
        # The harness's own judges are no judges of themselves: what is broken in them, only their tests see.
        return await self.ask_about(mutant, (UNIT,) if mutant.file in HARNESS else (UNIT, DRAWN))

    async def ask_about(self, mutant: Mutant, judges: Sequence[str]) -> dict[str, str]:
        """What these judges say of it."""
        with tempfile.TemporaryDirectory() as made:
            mutant.install(Path(made))
            return await self.ask(Path(made), tests_of(mutant.file), judges)

    async def ask(
        self, package: Path, tests: Sequence[str], judges: Sequence[str], within: int = HARNESS_TIMEOUT
    ) -> dict[str, str]:
        """What they say of the package in this folder."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"package": str(package), "tests": list(tests), "judges": list(judges), "within": within}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        said: dict[str, str] = {}
        while True:
            answer = json.loads(await self._process.stdout.readline())
            if answer["judge"]:
                said[answer["judge"]] = answer["said"]
                continue
            if answer["said"]:
                said[next((name for name in judges if name not in said), judges[-1])] = answer["said"]
            return said


async def judge_all(mutants: Sequence[Mutant], jobs: int, console: Console, before: Verdicts) -> list[Judged]:
    """What is said of each."""
    left, found = list(mutants), dict[str, Mapping[str, str]]()

    async def some() -> None:
        async with Judges() as judges:
            while left:
                mutant = left.pop(0)
                said = before.of(mutant)
                if said is None:
                    said = await judges.judge(mutant)
                    before.add(mutant, said)
                found[mutant.name] = said
                console.print(f"{mutant.name}: {_seen(said) or 'NOT NOTICED'}", highlight=False, markup=False)

    await asyncio.gather(*(some() for _ in range(jobs)))
    return [(mutant, found[mutant.name]) for mutant in mutants]


async def untouched(tables: Sequence[str]) -> dict[str, str]:
    """What is said of the package as it is."""
    files = {test for table in tables for file in _FILES.get(table, ()) for test in tests_of(file)}
    async with Judges() as judges:
        said = await judges.ask(SOURCES, sorted(files), (UNIT, DRAWN), _UNTOUCHED_WITHIN)
        return {name: text for name, text in said.items() if text}


def chosen(table: str, most: int | None) -> list[Mutant]:
    """The mutants of a table."""
    return list(named()) if table == "named" else list(sample(_FILES[table], most))


def missed(judged: Sequence[Judged]) -> list[Mutant]:
    """Those that nobody notices, and that are not known to change nothing."""
    return [mutant for mutant, said in judged if not _seen(said) and mutant.name not in EQUIVALENT_ELSEWHERE]


def _seen(said: Mapping[str, str]) -> str:
    return next((f"{judge}: {' '.join(text.split())}" for judge, text in said.items() if text), "")


_HEAD = """\
# What notices edits beside the workflows

Written by `nox -s mutants`; not by hand. [mutants.md](mutants.md) is about the workflows. Here are edits of the other
code, each judged in a process of its own by the unit tests that speak of the file, and where these notice nothing by
scenarios on the simulator: those that every control is played, those of `tests/mutants/stories.py`, and the first
hundred that `invoice-mcp simulate` draws. The harness's own judges, checker, model and strict replay, are judged by
their unit tests alone.

"""
_PATH = re.compile(r"(?<=['\"( ])/[\w.-]+/[\w./-]+")
_ABOUT = {
    "named": ("Named edits", "Each has once passed every check, or is akin to one that has. All are judged."),
    "product": ("The product", "{most} edits of each file, by operators that take turns, at places chosen by chance."),
    "harness": ("The judges themselves", "{most} edits of each file, as above."),
}


def as_markdown(tables: Mapping[str, Sequence[Judged]], most: int | None) -> str:
    """The report."""
    parts = [_HEAD]
    for table, judged in tables.items():
        title, about = _ABOUT[table]
        same = sum(mutant.name in EQUIVALENT_ELSEWHERE for mutant, _ in judged)
        noticed = sum(bool(_seen(said)) for _, said in judged)
        parts.append(f"## {title}\n\n{about.format(most='All' if most is None else f'At most {most}')}\n")
        parts.append(f"{noticed} of {len(judged) - same} noticed; {same} more change nothing that is promised.\n")
        parts.append("| kind | edit | noticed by |\n| --- | --- | --- |")
        for mutant, said in judged:
            why = EQUIVALENT_ELSEWHERE.get(mutant.name)
            seen = f"changes nothing: {why}" if why else _seen(said) or "NOT NOTICED"
            # Where a program lies is of this machine.
            seen = _PATH.sub("…", seen)
            seen = seen if len(seen) <= 170 else f"{seen[:169]}…"
            parts.append(f"| {mutant.operator} | {escaped(mutant.name)} | {escaped(seen)} |")
        parts.append("")
    return "\n".join(parts)


@click.command()
@click.option("--table", "tables", type=click.Choice(TABLES), multiple=True, default=TABLES, help="Only this one.")
@click.option("--sample", "most", type=click.IntRange(min=1), default=_SAMPLE, show_default=True, help="Of each file.")
@click.option("--all", "every", is_flag=True, help="All edits instead: hours.")
@click.option("--only", default="", metavar="TEXT", help="Those whose name contains this text.")
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="So many at the same time.")
@click.option(
    "--resume", type=click.Path(dir_okay=False, path_type=Path), help="Keep verdicts there, and go on with them."
)
@click.option("--write/--no-write", default=None, help="Write the report.  [default: if nothing is left out]")
def main(
    *, tables: tuple[str, ...], most: int, every: bool, only: str, jobs: int, resume: Path | None, write: bool | None
) -> None:
    """Edit the code beside the workflows, and show who notices.

    Exit status: 0 if every edit is noticed, or known to change nothing; 1 if not; 2 if the code as it is does not pass.
    """
    console = Console(width=None if sys.stdout.isatty() else 240)
    if wrong := asyncio.run(untouched(tables)):
        console.print(f"The code as it is does not pass: {wrong}")
        sys.exit(2)
    limit = None if every else most
    mutants = {table: [each for each in chosen(table, limit) if only in each.name] for table in tables}
    flat = [each for some in mutants.values() for each in some]
    found = {mutant.name: said for mutant, said in asyncio.run(judge_all(flat, jobs, console, Verdicts(resume)))}
    judged = {table: [(each, found[each.name]) for each in some] for table, some in mutants.items()}
    if write or (write is None and tables == TABLES and not only):
        REPORT.write_text(as_markdown(judged, limit), encoding="utf-8")
        console.print(f"Written to {REPORT.relative_to(ROOT)}.")
    wrong_ones = [mutant for some in judged.values() for mutant in missed(some)]
    for mutant in wrong_ones:
        console.print(f"NOT NOTICED: {mutant.name}", highlight=False, markup=False)
    console.print(f"{len(flat) - len(wrong_ones)} of {len(flat)} edits are noticed, or change nothing.")
    sys.exit(1 if wrong_ones else 0)


if __name__ == "__main__":
    main()
