"""`python -m tests.mutants`: mutation testing of the workflow code; writes docs/mutants.md."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.mutants.generator import Mutant, breaking_mutants
from tests.mutants.oracle import PLAIN, SERVER, SIMULATED, STRICT
from tests.mutants.refactorings import refactorings
from tests.mutants.report import MutantResult, as_markdown, summary, unexpected_results

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "docs" / "mutants.md"
CORPUS = ROOT / "histories"
# Seconds for one oracle. A timeout kills the mutant.
_TIMEOUT = 90.0


async def run_oracles(mutant: Mutant | None, oracles: Sequence[str]) -> Mapping[str, str]:
    """Run the oracles on a mutant, or on the unmutated code. Return each verdict; "" if the oracle passes."""
    with tempfile.TemporaryDirectory() as made:
        if mutant is not None:
            mutant.install(Path(made))
        verdicts: dict[str, str] = {}
        while left := [name for name in oracles if name not in verdicts]:
            verdicts |= await _ask(left, Path(made))
        return verdicts


async def _ask(oracles: Sequence[str], package: Path) -> dict[str, str]:
    """Run oracles in one process. One that does not end, or that ends the process, has that as its verdict."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), str(ROOT)]), "PYTHONHASHSEED": "1"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.mutants.oracle", *oracles, str(CORPUS)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
        cwd=ROOT,
        start_new_session=True,
    )
    assert process.stdout is not None
    verdicts: dict[str, str] = {}
    try:
        while len(verdicts) < len(oracles):
            line = await asyncio.wait_for(process.stdout.readline(), _TIMEOUT)
            if not line:
                verdicts[oracles[len(verdicts)]] = "the process ended"
                break
            answer = json.loads(line)
            verdicts[answer["oracle"]] = answer["verdict"]
    except TimeoutError:
        verdicts[oracles[len(verdicts)]] = f"did not end within {_TIMEOUT:g} s"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # also a server that it may have started
        await process.wait()
    return verdicts


class VerdictCache:
    """Verdicts kept in a file, so that an interrupted run can be resumed."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path and path.exists() else []
        self._verdicts: dict[str, dict[str, str]] = dict(json.loads(line) for line in lines)

    def of(self, mutant: Mutant) -> dict[str, str] | None:
        """Return the verdicts on the mutant; None if there are none yet."""
        return self._verdicts.get(self._key(mutant))

    def add(self, mutant: Mutant, verdicts: Mapping[str, str]) -> None:
        """Append the verdicts to the file."""
        if self._path:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([self._key(mutant), verdicts]) + "\n")

    def _key(self, mutant: Mutant) -> str:
        return hashlib.sha256(f"{mutant.file}\n{mutant.text}".encode()).hexdigest()


async def run_all(mutants: Sequence[Mutant], jobs: int, console: Console, cache: VerdictCache) -> list[MutantResult]:
    """Run the oracles on every mutant; that on servers only if all others pass."""
    turns = asyncio.Semaphore(jobs)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("Mutants", total=len(mutants))

        async def run_one(mutant: Mutant) -> MutantResult:
            if (known := cache.of(mutant)) is not None:
                progress.advance(task)
                return MutantResult(mutant, known)
            async with turns:
                verdicts = dict(await run_oracles(mutant, (PLAIN, STRICT, SIMULATED)))
                if not any(verdicts.values()):
                    verdicts |= await run_oracles(mutant, (SERVER,))
                cache.add(mutant, verdicts)
                progress.advance(task)
                if not console.is_terminal:
                    print(mutant.name, {name: text[:60] for name, text in verdicts.items()}, flush=True)  # noqa: T201
                return MutantResult(mutant, verdicts)

        return await asyncio.gather(*(run_one(mutant) for mutant in mutants))


def select_mutants(sample: int | None, only: str) -> list[Mutant]:
    """Return the mutants whose name contains a text: all, or `sample` per operator, evenly over the file."""
    every = [mutant for mutant in (*breaking_mutants(), *refactorings()) if only in mutant.name]
    if sample is None:
        return every
    kinds: dict[str, list[Mutant]] = {}
    for mutant in every:
        kinds.setdefault(mutant.operator, []).append(mutant)
    return [mutant for same in kinds.values() for mutant in same[:: max(1, -(-len(same) // sample))]]


@click.command()
@click.option("--sample", type=click.IntRange(min=1), help="At most this many per operator, instead of all.")
@click.option("--only", default="", metavar="TEXT", help="Only mutants whose name contains this text.")
@click.option(
    "--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="Number of mutants tested in parallel."
)
@click.option(
    "--resume", type=click.Path(dir_okay=False, path_type=Path), help="Keep verdicts in this file, and reuse them."
)
@click.option("--write/--no-write", default=None, help="Write docs/mutants.md.  [default: if all are tested]")
def main(sample: int | None, only: str, jobs: int, resume: Path | None, write: bool | None) -> None:
    """Test every mutant of the workflow code and show which oracle kills it.

    Exit status: 0 if every mutant that breaks the code is killed and no other one is, 1 if not, 2 if the unmutated code
    does not pass.
    """
    console = Console(width=None if sys.stdout.isatty() else 200)
    unmutated = asyncio.run(run_oracles(None, (PLAIN, STRICT, SIMULATED, SERVER)))
    if any(unmutated.values()):
        console.print(f"The unmutated code does not pass: {unmutated}")
        sys.exit(2)
    mutants = select_mutants(sample, only)
    results = asyncio.run(run_all(mutants, jobs, console, VerdictCache(resume)))
    console.print(summary(results), highlight=False, markup=False)
    if write or (write is None and sample is None and not only):
        REPORT.parent.mkdir(exist_ok=True)
        REPORT.write_text(as_markdown(results), encoding="utf-8")
        console.print(f"Written to {REPORT.relative_to(ROOT)}.")
    wrong = unexpected_results(results)
    for each in wrong:
        console.print(
            f"{'KILLED' if each.mutant.preserves_behaviour else 'SURVIVED'}: {each.mutant.name} {each.killed_by}"
        )
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
