"""The command line's `chaos`: real processes, killed and stopped, behind a hostile gateway; then judged."""

# As in main.py: what takes a second to import is imported when it is needed, so that --help answers at once.

from __future__ import annotations

import asyncio
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from invoice_mcp.cli.options import duration

if TYPE_CHECKING:
    from invoice_mcp.testing.chaos.campaign import Plan
    from invoice_mcp.testing.chaos.schedule import Schedule
    from invoice_mcp.testing.simulate.process.interrupt import StopFlag

_KEPT, _BROKEN, _INTERRUPTED = 0, 1, 130
# Ids of invoices are made of it.
_LARGEST = 10**9


class Unable(click.ClickException):
    """It can't be run."""

    exit_code = 2


@click.command(
    epilog="""\b
Examples:
  invoice-mcp chaos --runs 10 --jobs 2
  invoice-mcp chaos --for 1h --keep-going --keep chaos-logs
  invoice-mcp chaos --seed 7
  invoice-mcp chaos --seed 7 --print > seven.txt
  invoice-mcp chaos --schedule seven.txt

The same seed gives the same schedule: which processes there are, what clients
do, what fails at which moment or event. Real processes may take another course
each time, so a failure may need some runs to come again.

Exit status: 0 all promises kept, 1 a failure found, 2 it can't run,
130 interrupted.
"""
)
@click.option(
    "--seed", type=click.IntRange(0, _LARGEST), help="Of the first episode.  [default: another each time, reported]"
)
@click.option(
    "--runs",
    type=click.IntRange(1),
    help="How many episodes, with one seed after the other.  [default: 1; with --for no limit]",
)
@click.option(
    "--for",
    "span",
    metavar="DURATION",
    callback=duration,
    help="Begin new episodes for so long: 2m, 1h. With --runs: until there were so many, if that comes first.",
)
@click.option(
    "--schedule",
    "file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="Run a schedule that --print or --keep wrote; - is stdin. Instead of --seed.",
)
@click.option("--print", "prints", is_flag=True, help="Print the schedule of the seed, and run nothing.")
@click.option(
    "--jobs", type=click.IntRange(1, 16), default=1, show_default=True, help="How many episodes run at the same time."
)
@click.option("--keep-going", is_flag=True, help="Go on after a failure, and report them all.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the logs, databases, schedule and journal of each episode in this folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else, on stdout.")
def chaos(
    *,
    seed: int | None,
    runs: int | None,
    span: timedelta | None,
    file: Path | None,
    prints: bool,
    jobs: int,
    keep_going: bool,
    keep: Path | None,
    as_json: bool,
) -> None:
    """Kill and stop real processes, and check the outcome.

    Each episode starts servers over stdio and HTTP, workers and a Temporal as real processes, with a home directory of
    their own below the temporary directory, and a hostile ERP and payment gateway. Clients of both protocols submit,
    decide, cancel and ask. Meanwhile processes are killed and stopped, at random and just between a payment and its
    record, and the gateway loses answers, delays, duplicates and lies. An episode takes half a minute.

    Then all is healed, and judged: every acknowledged invoice is there and ends, nothing is paid twice or without an
    approval, every report is true, every history replays to the letter, every answer came in time, and nothing is left
    behind. What is not so is reported, with the command that repeats it. Needs Linux.
    """
    from invoice_mcp.testing.simulate.process.interrupt import stop_on_ctrl_c

    if file is not None and seed is not None:
        raise click.UsageError("--schedule has its seed in it: leave out --seed")
    schedule = _schedule(file) if file is not None else None
    chosen = schedule.seed if schedule is not None else secrets.randbelow(10**6) if seed is None else seed
    if prints:
        from invoice_mcp.testing.chaos.generator import Options, generate_schedule

        click.echo(str(schedule or generate_schedule(chosen, Options.here())), nl=False)
        return
    # What is imported from here on takes a second, in which somebody may think better of it.
    with stop_on_ctrl_c() as stop:
        from invoice_mcp.testing.chaos.campaign import Plan
        from invoice_mcp.testing.chaos.generator import Options

        count = runs or (None if span else 1)
        seconds = span.total_seconds() if span else None
        plan = Plan(chosen, count, seconds, schedule, keep, keep_going, jobs, Options.here())
        status = _run(plan, stop, as_json=as_json)
    sys.exit(status)


def _schedule(file: Path) -> Schedule:
    from invoice_mcp.testing.chaos.schedule import Schedule, ScheduleError

    try:
        return Schedule.parse(sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8"))
    except (ScheduleError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{file} is no schedule: {error}", param_hint="--schedule") from None


def _run(plan: Plan, stop: StopFlag, *, as_json: bool) -> int:
    """Run a campaign, and report it; what is returned is the exit status."""
    from invoice_mcp.output import print_output
    from invoice_mcp.temporal.connection import log_through_python
    from invoice_mcp.testing.chaos import procfs
    from invoice_mcp.testing.chaos.campaign import run_campaign
    from invoice_mcp.testing.chaos.report import Reporter
    from invoice_mcp.testing.simulate.process.quiet import suppress_logging

    if not procfs.is_supported():
        raise Unable("It needs Linux: it finds the processes that it kills in /proc.")
    # By itself the SDK writes to stdout what it does not replay.
    log_through_python()
    reporter = Reporter(plan)
    try:
        with suppress_logging(), reporter.progress(), _ended_by_sigterm():
            asyncio.run(run_campaign(plan, reporter.add, lambda: stop.is_set))
        reporter.is_interrupted = stop.is_set
    except KeyboardInterrupt:
        reporter.is_interrupted = True
    except OSError as error:
        raise Unable(str(error)) from None
    print_output(reporter.as_json if as_json else reporter.as_text)
    return _INTERRUPTED if reporter.is_interrupted else _BROKEN if reporter.totals.failed else _KEPT


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends it as a second Ctrl-C does: at once, and no process is left behind."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
