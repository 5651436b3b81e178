"""`python -m tests.bench.replays`: how many recordings a second the gate replays, beside Temporal's bare Replayer.

Both over the same files, taking turns in one run, so that a noisy machine is noisy for both. Measured is from the first
outcome to the last: starting processes and importing the code is told apart.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from invoice_mcp.testing import run_and_leave
from invoice_mcp.testing.histories import Outcome, Pool, cores, read
from invoice_mcp.testing.invoice_paths import TARGET
from invoice_mcp.worker import REPLAY

CORPUS = Path(__file__).parents[2] / "histories"


async def bare(files: Mapping[str, Path]) -> tuple[float, float]:
    """Histories a second by Temporal's own Replayer in this process, and seconds until the first."""
    seen: list[float] = []
    began = time.perf_counter()

    async def histories() -> AsyncIterator[WorkflowHistory]:
        for path in files.values():
            yield read(path).history

    async with Replayer(**REPLAY).workflow_replay_iterator(histories()) as results:
        async for result in results:
            assert result.replay_failure is None
            seen.append(time.perf_counter())
    return (len(seen) - 1) / (seen[-1] - seen[0]), seen[0] - began


async def gate(files: Mapping[str, Path], *, strict: bool, processes: int) -> tuple[float, float]:
    """Recordings a second by the gate, and seconds until the first."""
    seen: list[float] = []
    began = time.perf_counter()

    def told(outcome: Outcome) -> None:
        assert outcome.problem is None
        assert outcome.drift == ()
        seen.append(time.perf_counter())

    await Pool(TARGET, strict=strict, processes=processes).replay(files, told)
    return (len(seen) - 1) / (seen[-1] - seen[0]), seen[0] - began


@click.command()
@click.option(
    "--times", type=click.IntRange(min=1), default=10, show_default=True, help="Each recording so many times."
)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Of which the medians count.")
def main(times: int, rounds: int) -> None:
    """Print how many recordings a second the gate replays, beside Temporal's bare Replayer."""
    run_and_leave(_compare(times, rounds))


async def _compare(times: int, rounds: int) -> None:
    logging.disable(logging.WARNING)
    every = sorted(CORPUS.rglob("*.json"))
    files = {f"{turn}/{path.name}": path for turn in range(times) for path in every}
    ways: dict[str, Callable[[], Awaitable[tuple[float, float]]]] = {
        "bare Replayer, 1 process": lambda: bare(files),
        "gate, not strict, 1 process": lambda: gate(files, strict=False, processes=1),
        "gate, strict, 1 process": lambda: gate(files, strict=True, processes=1),
        f"gate, not strict, {cores()} processes": lambda: gate(files, strict=False, processes=cores()),
        f"gate, strict, {cores()} processes": lambda: gate(files, strict=True, processes=cores()),
    }
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, replay in ways.items():
            found[way].append(await replay())
    table = Table(title=f"{len(files)} recordings, {rounds} rounds, medians")
    for column in ("way", "recordings/s", "of the bare Replayer", "seconds until the first"):
        table.add_column(column, justify="left" if column == "way" else "right")
    rates = {way: statistics.median(rate for rate, _ in seen) for way, seen in found.items()}
    base = next(iter(rates.values()))
    for way, rate in rates.items():
        first = statistics.median(seconds for _, seconds in found[way])
        table.add_row(way, f"{rate:.0f}", f"{rate / base:.2f}", f"{first:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
