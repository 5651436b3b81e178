"""`python -m tests.mutants.code_mutants`: mutation testing of product and harness; writes docs/mutants-code.md.

There are too many mutants to test all each time: of each file a fixed sample is tested, and of the named mutants all.
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

from tests.mutants.__main__ import ROOT, VerdictCache
from tests.mutants.equivalent import EQUIVALENT_CODE_MUTANTS
from tests.mutants.generator import SOURCES, Mutant
from tests.mutants.modules import HARNESS, PRODUCT, sample_mutants, tests_of
from tests.mutants.named import named_mutants
from tests.mutants.oracle_pool import HARNESS_TIMEOUT, RANDOM_SCENARIOS, UNIT_TESTS
from tests.mutants.report import escaped

REPORT = ROOT / "docs" / "mutants-code.md"
TABLES = ("named", "product", "harness")
_SAMPLE = 3
# Seconds for all unit tests of all files.
_UNMUTATED_TIMEOUT = 1800
_FILES = {"product": PRODUCT, "harness": HARNESS}

MutantResult = tuple[Mutant, Mapping[str, str]]
"""A mutant, and the verdict of each oracle that was run; "" if it passed."""


class OraclePool:
    """The oracles, run in processes that are forked from one."""

    async def __aenter__(self) -> Self:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "1"}
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.mutants.oracle_pool"),
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

    async def run_oracles(self, mutant: Mutant) -> dict[str, str]:
        """Run the oracles on a mutant, the fastest first, until one kills it."""
        # Checker, model and strict replay can't be oracles for their own mutants: only their unit tests are.
        return await self.ask_about(mutant, (UNIT_TESTS,) if mutant.file in HARNESS else (UNIT_TESTS, RANDOM_SCENARIOS))

    async def ask_about(self, mutant: Mutant, oracles: Sequence[str]) -> dict[str, str]:
        """Run these oracles on a mutant."""
        with tempfile.TemporaryDirectory() as made:
            mutant.install(Path(made))
            return await self.ask(Path(made), tests_of(mutant.file), oracles)

    async def ask(
        self, package: Path, tests: Sequence[str], oracles: Sequence[str], within: int = HARNESS_TIMEOUT
    ) -> dict[str, str]:
        """Run oracles on the package in this folder."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"package": str(package), "tests": list(tests), "oracles": list(oracles), "within": within}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        verdicts: dict[str, str] = {}
        while True:
            answer = json.loads(await self._process.stdout.readline())
            if answer["oracle"]:
                verdicts[answer["oracle"]] = answer["verdict"]
                continue
            if answer["verdict"]:
                verdicts[next((name for name in oracles if name not in verdicts), oracles[-1])] = answer["verdict"]
            return verdicts


async def run_all(mutants: Sequence[Mutant], jobs: int, console: Console, cache: VerdictCache) -> list[MutantResult]:
    """Run the oracles on each mutant."""
    left, found = list(mutants), dict[str, Mapping[str, str]]()

    async def work() -> None:
        async with OraclePool() as oracles:
            while left:
                mutant = left.pop(0)
                verdicts = cache.of(mutant)
                if verdicts is None:
                    verdicts = await oracles.run_oracles(mutant)
                    cache.add(mutant, verdicts)
                found[mutant.name] = verdicts
                console.print(f"{mutant.name}: {_first_kill(verdicts) or 'SURVIVED'}", highlight=False, markup=False)

    await asyncio.gather(*(work() for _ in range(jobs)))
    return [(mutant, found[mutant.name]) for mutant in mutants]


async def unmutated(tables: Sequence[str]) -> dict[str, str]:
    """Run the oracles on the unmutated package. Return the verdicts of those that fail."""
    files = {test for table in tables for file in _FILES.get(table, ()) for test in tests_of(file)}
    async with OraclePool() as oracles:
        verdicts = await oracles.ask(SOURCES, sorted(files), (UNIT_TESTS, RANDOM_SCENARIOS), _UNMUTATED_TIMEOUT)
        return {name: text for name, text in verdicts.items() if text}


def select_mutants(table: str, most: int | None) -> list[Mutant]:
    """Return the mutants of a table."""
    return list(named_mutants()) if table == "named" else list(sample_mutants(_FILES[table], most))


def survivors(results: Sequence[MutantResult]) -> list[Mutant]:
    """Return the mutants that no oracle kills, without the equivalent ones."""
    return [
        mutant
        for mutant, verdicts in results
        if not _first_kill(verdicts) and mutant.name not in EQUIVALENT_CODE_MUTANTS
    ]


def _first_kill(verdicts: Mapping[str, str]) -> str:
    return next((f"{oracle}: {' '.join(text.split())}" for oracle, text in verdicts.items() if text), "")


_HEAD = """\
# Mutants of product and harness

Written by `nox -s mutants`; do not edit. [mutants.md](mutants.md) is about the workflows. Here are mutants of the other
code. Each is tested in its own process by the unit tests of its file and, if these pass, by scenarios on the simulator:
those of the controls, those of `tests/mutants/extra_stories.py`, and the first hundred random ones of
`invoice-mcp simulate`. Mutants of checker, model and strict replay are tested by their unit tests only.

"""
_PATH = re.compile(r"(?<=['\"( ])/[\w.-]+/[\w./-]+")
_ABOUT = {
    "named": ("Named mutants", "Each has once survived every check, or is similar to one that has. All are tested."),
    "product": ("The product", "{most} mutants of each file, of alternating operators, at random places."),
    "harness": ("The harness", "{most} mutants of each file, chosen as above."),
}


def as_markdown(tables: Mapping[str, Sequence[MutantResult]], most: int | None) -> str:
    """The report."""
    parts = [_HEAD]
    for table, results in tables.items():
        title, about = _ABOUT[table]
        same = sum(mutant.name in EQUIVALENT_CODE_MUTANTS for mutant, _ in results)
        killed = sum(bool(_first_kill(verdicts)) for _, verdicts in results)
        parts.append(f"## {title}\n\n{about.format(most='All' if most is None else f'At most {most}')}\n")
        parts.append(f"{killed} of {len(results) - same} killed; {same} more are equivalent.\n")
        parts.append("| operator | mutant | killed by |\n| --- | --- | --- |")
        for mutant, verdicts in results:
            why = EQUIVALENT_CODE_MUTANTS.get(mutant.name)
            seen = f"equivalent: {why}" if why else _first_kill(verdicts) or "SURVIVED"
            # Paths depend on the machine.
            seen = _PATH.sub("…", seen)
            seen = seen if len(seen) <= 170 else f"{seen[:169]}…"
            parts.append(f"| {mutant.operator} | {escaped(mutant.name)} | {escaped(seen)} |")
        parts.append("")
    return "\n".join(parts)


@click.command()
@click.option(
    "--table",
    "tables",
    type=click.Choice(TABLES),
    multiple=True,
    default=TABLES,
    help="Only this table. May be repeated.",
)
@click.option(
    "--sample", "most", type=click.IntRange(min=1), default=_SAMPLE, show_default=True, help="Mutants per file."
)
@click.option("--all", "every", is_flag=True, help="All mutants, which takes hours.")
@click.option("--only", default="", metavar="TEXT", help="Only mutants whose name contains this text.")
@click.option(
    "--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="Number of mutants tested in parallel."
)
@click.option(
    "--resume", type=click.Path(dir_okay=False, path_type=Path), help="Keep verdicts in this file, and reuse them."
)
@click.option("--write/--no-write", default=None, help="Write the report.  [default: if nothing is left out]")
def main(
    *, tables: tuple[str, ...], most: int, every: bool, only: str, jobs: int, resume: Path | None, write: bool | None
) -> None:
    """Test mutants of product and harness and show which oracle kills them.

    Exit status: 0 if every mutant is killed or equivalent, 1 if not, 2 if the unmutated code does not pass.
    """
    console = Console(width=None if sys.stdout.isatty() else 240)
    if wrong := asyncio.run(unmutated(tables)):
        console.print(f"The unmutated code does not pass: {wrong}")
        sys.exit(2)
    limit = None if every else most
    mutants = {table: [each for each in select_mutants(table, limit) if only in each.name] for table in tables}
    flat = [each for some in mutants.values() for each in some]
    found = {
        mutant.name: verdicts for mutant, verdicts in asyncio.run(run_all(flat, jobs, console, VerdictCache(resume)))
    }
    results = {table: [(each, found[each.name]) for each in some] for table, some in mutants.items()}
    if write or (write is None and tables == TABLES and not only):
        REPORT.write_text(as_markdown(results, limit), encoding="utf-8")
        console.print(f"Written to {REPORT.relative_to(ROOT)}.")
    surviving = [mutant for some in results.values() for mutant in survivors(some)]
    for mutant in surviving:
        console.print(f"SURVIVED: {mutant.name}", highlight=False, markup=False)
    console.print(f"{len(flat) - len(surviving)} of {len(flat)} mutants are killed or equivalent.")
    sys.exit(1 if surviving else 0)


if __name__ == "__main__":
    main()
