"""`python -m tests.bench.replays`: recordings per second of the replay gate, beside Temporal's bare Replayer.

Both replay the same files and alternate in one run, so that load on the machine affects both. The time is measured from
the first outcome to the last; starting processes and importing the code is reported separately.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from invoice_mcp.testing import run_and_exit
from invoice_mcp.testing.recordings import TARGET
from invoice_mcp.workflow.worker import REPLAY
from temporal_replay import Outcome, ReplayPool, cores, read_recording

CORPUS = Path(__file__).parents[2] / "histories"


async def bare(files: Mapping[str, Path]) -> tuple[float, float]:
    """Histories per second of Temporal's own Replayer in this process, and seconds until the first."""
    times: list[float] = []
    began = time.perf_counter()

    async def histories() -> AsyncIterator[WorkflowHistory]:
        for path in files.values():
            yield read_recording(path).history

    async with Replayer(**REPLAY).workflow_replay_iterator(histories()) as results:
        async for result in results:
            assert result.replay_failure is None
            times.append(time.perf_counter())
    return (len(times) - 1) / (times[-1] - times[0]), times[0] - began


async def gate(files: Mapping[str, Path], *, strict: bool, processes: int) -> tuple[float, float]:
    """Recordings per second of the gate, and seconds until the first."""
    times: list[float] = []
    began = time.perf_counter()

    def on_outcome(outcome: Outcome) -> None:
        assert outcome.problem is None
        assert outcome.drift == ()
        times.append(time.perf_counter())

    await ReplayPool(TARGET, strict=strict, processes=processes).replay(files, on_outcome)
    return (len(times) - 1) / (times[-1] - times[0]), times[0] - began


BARE, PLAIN, STRICT = "bare Replayer, 1 process", "gate, not strict, 1 process", "gate, strict, 1 process"
ALL_PLAIN, ALL_STRICT = f"gate, not strict, {cores()} processes", f"gate, strict, {cores()} processes"
AT_LEAST = 0.9  # of the bare Replayer's rate, for the gate that is not strict in one process
OF_EACH_CORE = 0.75  # of one process' rate, for all processes; they start and end at different times

Rounds = Sequence[Mapping[str, float]]
"""For each round: recordings per second by variant."""


def ratio(rounds: Rounds, variant: str, to: str) -> float:
    """The median over the rounds of the ratio of two variants' rates in the same round."""
    return statistics.median(each[variant] / each[to] for each in rounds)


def shortfalls(rounds: Rounds) -> list[str]:
    """The variants that are too slow, and by how much."""
    found = []
    if (plain := ratio(rounds, PLAIN, BARE)) < AT_LEAST:
        found.append(f"{PLAIN}: {plain:.2f} of the bare Replayer, must be at least {AT_LEAST}")
    if cores() > 1 and (gain := ratio(rounds, ALL_PLAIN, PLAIN)) < OF_EACH_CORE * cores():
        found.append(f"{ALL_PLAIN}: {gain:.2f} of one process, must be at least {OF_EACH_CORE * cores()}")
    return found


@click.command()
@click.option("--times", type=click.IntRange(min=1), default=2, show_default=True, help="Replays of each recording.")
@click.option("--rounds", type=click.IntRange(min=1), default=9, show_default=True, help="Rounds; their medians count.")
def main(times: int, rounds: int) -> None:
    """Print the recordings per second of the gate, beside Temporal's bare Replayer.

    Exit status: 0 if it is fast enough, 1 if not: not strict, in one process, at least 0.9 of the bare Replayer; and
    in all processes together, three quarters of one process' rate for each core.
    """
    run_and_exit(_compare(times, rounds))


async def _compare(times: int, rounds: int) -> int:
    logging.disable(logging.WARNING)
    every = sorted(CORPUS.rglob("*.json"))
    files = {f"{turn}/{path.name}": path for turn in range(times) for path in every}
    variants: dict[str, Callable[[], Awaitable[tuple[float, float]]]] = {
        BARE: lambda: bare(files),
        PLAIN: lambda: gate(files, strict=False, processes=1),
        STRICT: lambda: gate(files, strict=True, processes=1),
        ALL_PLAIN: lambda: gate(files, strict=False, processes=cores()),
        ALL_STRICT: lambda: gate(files, strict=True, processes=cores()),
    }
    rates: list[dict[str, float]] = []
    firsts: list[dict[str, float]] = []
    for turn in range(rounds):
        # In alternating order, so that load on the machine affects neighbours alike.
        order = list(variants)[:: -1 if turn % 2 else 1]
        measured = {variant: await variants[variant]() for variant in order}
        rates.append({variant: rate for variant, (rate, _) in measured.items()})
        firsts.append({variant: first for variant, (_, first) in measured.items()})
    Console().print(_table(rates, firsts, f"{len(files)} recordings, {rounds} rounds, medians"))
    slow = shortfalls(rates)
    for each in slow:
        print(f"TOO SLOW: {each}")  # noqa: T201
    return 1 if slow else 0


def _table(rates: Rounds, firsts: Rounds, title: str) -> Table:
    table = Table(title=title)
    for column in ("variant", "recordings/s", "of the bare Replayer, in the same round", "seconds until the first"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    for variant in (BARE, PLAIN, STRICT, ALL_PLAIN, ALL_STRICT):
        rate, first = (statistics.median(each[variant] for each in found) for found in (rates, firsts))
        table.add_row(variant, f"{rate:.0f}", f"{ratio(rates, variant, BARE):.2f}", f"{first:.2f}")
    return table


if __name__ == "__main__":
    main()
