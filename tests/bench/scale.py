"""Cost of many episodes: memory and time per episode, and the gain of a second process."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from invoice_mcp.testing.simulate.fuzz.campaign import Campaign, run_campaign, run_share
from invoice_mcp.testing.simulate.fuzz.statistics import Totals


class _NoLimit:
    value = 2**62


def resident() -> float:
    """Resident memory of this process in MB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def growth(most: int) -> Table:
    """Play so many episodes in this process, and report at every power of ten."""
    table = Table(title="Many episodes in one process")
    for column in ("episodes", "episodes/s since", "CPU ms an episode since", "memory MB"):
        table.add_column(column, justify="right")
    campaign, played, mark = Campaign(runs=most, seed=1), 0, 100
    wall, cpu, before = time.perf_counter(), time.process_time(), 0

    def report(latest: Totals) -> None:
        nonlocal played, mark, wall, cpu, before
        played += latest.runs
        if latest.failures:
            raise AssertionError(latest.failures[0].command)
        if played < min(mark, most) or played == before:
            return
        spent, used, some = time.perf_counter() - wall, time.process_time() - cpu, played - before
        table.add_row(f"{played:,}", f"{some / spent:.0f}", f"{1000 * used / some:.1f}", f"{resident():.0f}")
        wall, cpu, before = time.perf_counter(), time.process_time(), played
        mark *= 10

    run_share(campaign, campaign.share(0, 1), report, _NoLimit())
    return table


def sharing(runs: int) -> Table:
    """The same episodes in one process and in two, including the start of the processes."""
    table = Table(title=f"{runs:,} episodes, shared between processes")
    for column in ("processes", "seconds", "episodes/s"):
        table.add_column(column, justify="right")
    for jobs in (1, 2):
        totals, began = Totals(), time.perf_counter()
        run_campaign(Campaign(runs=runs, seed=1), jobs, totals.merge)
        spent = time.perf_counter() - began
        table.add_row(str(jobs), f"{spent:.1f}", f"{totals.runs / spent:.0f}")
    return table


@click.command()
@click.option("--most", type=click.IntRange(min=100), default=1000, show_default=True, help="Episodes in one process.")
@click.option(
    "--shared", type=click.IntRange(min=1), default=1000, show_default=True, help="Episodes with 1 and with 2 jobs."
)
def main(most: int, shared: int) -> None:
    """Print the cost of many episodes."""
    logging.disable(logging.WARNING)
    console = Console()
    load = os.getloadavg()
    console.print(f"load average {load[0]:.1f}, {load[1]:.1f}, {load[2]:.1f}")
    console.print(growth(most))
    console.print(sharing(shared))


if __name__ == "__main__":
    main()
