"""`python -m tests.mutants`: who notices which edit of the workflow code, as a table; writes docs/mutants.md."""

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

from tests.mutants.generator import Mutant, breaking
from tests.mutants.judge import PLAIN, SERVER, SIMULATED, STRICT
from tests.mutants.report import Judged, as_markdown, flaws, summary
from tests.mutants.safe import safe

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "docs" / "mutants.md"
CORPUS = ROOT / "histories"
# For one judge. Code that waits for ever is noticed by that.
_GIVES_UP_AFTER = 90.0


async def judge(mutant: Mutant | None, judges: Sequence[str]) -> Mapping[str, str]:
    """What each judge says of a mutant, or of the code as it is; "" where one notices nothing."""
    with tempfile.TemporaryDirectory() as made:
        if mutant is not None:
            mutant.install(Path(made))
        said: dict[str, str] = {}
        while left := [name for name in judges if name not in said]:
            said |= await _ask(left, Path(made))
        return said


async def _ask(judges: Sequence[str], package: Path) -> dict[str, str]:
    """What these judges say, in one process; of one that does not end, or ends the process, that."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), str(ROOT)]), "PYTHONHASHSEED": "1"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.mutants.judge", *judges, str(CORPUS)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
        cwd=ROOT,
        start_new_session=True,
    )
    assert process.stdout is not None
    said: dict[str, str] = {}
    try:
        while len(said) < len(judges):
            line = await asyncio.wait_for(process.stdout.readline(), _GIVES_UP_AFTER)
            if not line:
                said[judges[len(said)]] = "the process ended"
                break
            answer = json.loads(line)
            said[answer["judge"]] = answer["said"]
    except TimeoutError:
        said[judges[len(said)]] = f"did not end within {_GIVES_UP_AFTER:g} s"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and the server it may have started
        await process.wait()
    return said


class Verdicts:
    """What was said of mutants before, in a file: a run that was interrupted can go on."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path and path.exists() else []
        self._said: dict[str, dict[str, str]] = dict(json.loads(line) for line in lines)

    def of(self, mutant: Mutant) -> dict[str, str] | None:
        """What was said of it; None if nobody was asked."""
        return self._said.get(self._key(mutant))

    def add(self, mutant: Mutant, said: Mapping[str, str]) -> None:
        """Remember it."""
        if self._path:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([self._key(mutant), said]) + "\n")

    def _key(self, mutant: Mutant) -> str:
        return hashlib.sha256(f"{mutant.file}\n{mutant.text}".encode()).hexdigest()


async def judge_all(mutants: Sequence[Mutant], jobs: int, console: Console, before: Verdicts) -> list[Judged]:
    """What every judge says of every mutant. The server is asked where nobody else notices anything."""
    turns = asyncio.Semaphore(jobs)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("Mutants", total=len(mutants))

        async def one(mutant: Mutant) -> Judged:
            if (known := before.of(mutant)) is not None:
                progress.advance(task)
                return Judged(mutant, known)
            async with turns:
                said = dict(await judge(mutant, (PLAIN, STRICT, SIMULATED)))
                if not any(said.values()):
                    said |= await judge(mutant, (SERVER,))
                before.add(mutant, said)
                progress.advance(task)
                if not console.is_terminal:
                    print(mutant.name, {name: text[:60] for name, text in said.items()}, flush=True)  # noqa: T201
                return Judged(mutant, said)

        return await asyncio.gather(*(one(mutant) for mutant in mutants))


def chosen(sample: int | None, only: str) -> list[Mutant]:
    """All mutants, or so many of each operator, evenly over the file; of those whose name contains a text."""
    every = [mutant for mutant in (*breaking(), *safe()) if only in mutant.name]
    if sample is None:
        return every
    kinds: dict[str, list[Mutant]] = {}
    for mutant in every:
        kinds.setdefault(mutant.operator, []).append(mutant)
    return [mutant for same in kinds.values() for mutant in same[:: max(1, -(-len(same) // sample))]]


@click.command()
@click.option("--sample", type=click.IntRange(min=1), help="At most so many of each kind, instead of all.")
@click.option("--only", default="", metavar="TEXT", help="Those whose name contains this text.")
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="So many at the same time.")
@click.option(
    "--resume", type=click.Path(dir_okay=False, path_type=Path), help="Keep verdicts there, and go on with them."
)
@click.option("--write/--no-write", default=None, help="Write docs/mutants.md.  [default: if all are judged]")
def main(sample: int | None, only: str, jobs: int, resume: Path | None, write: bool | None) -> None:
    """Edit the workflow code in every way there is, and show who notices.

    Exit status: 0 if every edit that breaks it is noticed, and none that does not; 1 if not; 2 if the code as it is
    does not pass.
    """
    console = Console(width=None if sys.stdout.isatty() else 200)
    untouched = asyncio.run(judge(None, (PLAIN, STRICT, SIMULATED, SERVER)))
    if any(untouched.values()):
        console.print(f"The code as it is does not pass: {untouched}")
        sys.exit(2)
    mutants = chosen(sample, only)
    judged = asyncio.run(judge_all(mutants, jobs, console, Verdicts(resume)))
    console.print(summary(judged), highlight=False, markup=False)
    if write or (write is None and sample is None and not only):
        REPORT.parent.mkdir(exist_ok=True)
        REPORT.write_text(as_markdown(judged), encoding="utf-8")
        console.print(f"Written to {REPORT.relative_to(ROOT)}.")
    wrong = flaws(judged)
    for each in wrong:
        console.print(f"{'FLAGGED' if each.mutant.is_safe else 'NOT NOTICED'}: {each.mutant.name} {each.noticed}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
