"""The command `simulate`: fuzzing and exhaustive exploration of the workflows, with reports of failures."""

# As in main.py: modules that take long to import are imported where they are needed, so that --help answers at once.

from __future__ import annotations

import json
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from invoice_mcp.cli.options import reject_options
from invoice_mcp.output import print_output

if TYPE_CHECKING:
    from invoice_mcp.testing.simulate.fuzz.campaign import Campaign
    from invoice_mcp.testing.simulate.fuzz.generator import GeneratorOptions
    from invoice_mcp.testing.simulate.process.interrupt import StopFlag

# The values of `Verb`; tests/unit/testing/test_campaign.py compares.
FAULTS = (
    "erp-down",
    "erp-refuses",
    "payment-down",
    "payment-refused",
    "answer-lost",
    "refused-again",
    "stale-answer",
    "crash",
)
_ALL, _NONE, _FAULT_RATE = "all", "none", 0.25
_DECIMAL = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+")
# The most lines with --exhaustive.
_MOST_EXPLORED_LINES = 2
# Ids of invoices are made from seeds and run numbers, and their length is limited.
_LARGEST = 10**15
# Options for fuzzing only.
_FUZZING_OPTIONS = ("runs", "seed", "first", "faults", "html")
_PASSED, _FAILED, _INTERRUPTED = 0, 1, 130


class CannotSimulateError(click.ClickException):
    """The simulation can't run, or its report can't be written."""

    exit_code = 2


def _parse_faults(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[tuple[str, ...], float]:
    """Kinds of faults and their rate, from a comma-separated list of kinds and at most one number."""
    kinds: list[str] = []
    rate = None
    parts = [each.strip() for each in value.split(",")]
    if parts == [_NONE]:
        return (), 0.0
    if _NONE in parts:
        raise click.BadParameter(f"{_NONE!r} can't be combined with anything else.")
    for part in parts:
        if part in FAULTS:
            kinds.append(part)
        elif part != _ALL:
            rate = _parse_rate(part, rate)
    return tuple(dict.fromkeys(kinds)) or FAULTS, _FAULT_RATE if rate is None else rate


def _parse_rate(text: str, before: float | None) -> float:
    if not _DECIMAL.fullmatch(text):
        words = ", ".join(FAULTS)
        raise click.BadParameter(f"{text!r} is none of {words}, all, none, nor a number from 0 to 1.")
    rate = float(text)
    if before is not None or rate > 1:
        raise click.BadParameter("give one number from 0 to 1: the share of the actions that are faults.")
    return rate


@click.command(
    short_help="Fuzz the workflows in a simulator.",
    epilog="""\b
Examples:
  invoice-mcp simulate --runs 10000 --jobs 2
  invoice-mcp simulate --seed 7 --lines 5 --faults answer-lost,crash,0.5
  invoice-mcp simulate --seed 7 --first 4711 --runs 1 --html episode.html
  invoice-mcp simulate --exhaustive 1 --lines 1
  invoice-mcp simulate --path 1/signal-approve/0.0.1
  invoice-mcp simulate --workflow my_fork.workflows:InvoiceWorkflow --json

Exit status: 0 no failure, 1 a failure, 2 it can't run or write its report, 130 interrupted.
""",
)
@click.option("--runs", type=click.IntRange(1), default=1000, show_default=True, help="Number of episodes.")
@click.option(
    "--seed",
    type=click.IntRange(0, _LARGEST),
    help="The same seed gives the same episodes.  [default: random, shown in the report]",
)
@click.option(
    "--first", type=click.IntRange(0, _LARGEST), default=0, show_default=True, help="Run number of the first episode."
)
@click.option("--lines", type=click.IntRange(1, 50), default=3, show_default=True, help="Most lines of an invoice.")
@click.option(
    "--faults",
    metavar="KIND,...,RATE",
    default=f"{_ALL},{_FAULT_RATE}",
    show_default=True,
    callback=_parse_faults,
    help=f"Kinds of faults ({', '.join(FAULTS)}; all, none), and the share of the actions that are faults.",
)
@click.option(
    "--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes that share the work."
)
@click.option(
    "--exhaustive",
    metavar="K",
    type=click.IntRange(0, 3),
    help="Explore every schedule instead: up to K events from outside on invoices of up to --lines (at most 2) lines, "
    "with at most one worker crash, one payment fault and one query before a workflow task, at any point. 1 takes a "
    "minute, each more over ten times as long; with one line, 1 takes ten seconds. Two --jobs take a good half of "
    "that. Not with --runs, --seed, --first, --faults and --html.",
)
@click.option(
    "--path",
    metavar="LINES/EVENTS/BRANCHES",
    help="Replay one execution of an exploration, as the report of its failure says, and show its timeline.",
)
@click.option("--keep-going", is_flag=True, help="Continue after a failure, and report all failures.")
@click.option(
    "--workflow",
    "workflows",
    metavar="MODULE:CLASS",
    multiple=True,
    help="A workflow that replaces the product's workflow of the same type. May be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else, on stdout.")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a page with totals, charts, and the timelines of failures, or of one episode of each outcome.",
)
@click.pass_context
def simulate(  # noqa: PLR0917 (click passes them by name)
    ctx: click.Context,
    runs: int,
    seed: int | None,
    first: int,
    lines: int,
    faults: tuple[tuple[str, ...], float],
    jobs: int,
    exhaustive: int | None,
    path: str | None,
    keep_going: bool,
    workflows: tuple[str, ...],
    as_json: bool,
    html: Path | None,
) -> None:
    """Fuzz the workflows in a simulator, or explore every schedule of small invoices, and report failures.

    An episode is one run of a random scenario: an invoice, what people do to it, faults and crashes, and the order of
    simultaneous events. It runs the production workflows behind the production MCP server, on virtual time: a month
    takes a few milliseconds. Every answer is compared with a reference model, and eleven rules are checked at the end.

    A failing scenario is shrunk and reported, with the command that reproduces it and the timeline of its events.
    Ctrl-C ends the run after the episode under way and prints the totals so far; pressed again, it ends at once.
    """
    from invoice_mcp.testing.simulate.process.interrupt import stop_on_ctrl_c

    if path is not None:
        reject_options(
            ctx, "--path replays one execution", "exhaustive", "jobs", "keep_going", "lines", *_FUZZING_OPTIONS
        )
    elif exhaustive is not None:
        reject_options(ctx, "--exhaustive is not random and writes no page", *_FUZZING_OPTIONS)
        lines = _explored_lines(ctx, lines)
    # The imports below take about a second, in which Ctrl-C may be pressed already.
    with stop_on_ctrl_c() as stop:
        _require_workflows(workflows)
        if path is not None:
            status = _replay(path, workflows, as_json=as_json)
        elif exhaustive is not None:
            status = _explore(exhaustive, lines, jobs, workflows, stop, keep_going=keep_going, as_json=as_json)
        else:
            from invoice_mcp.testing.simulate.fuzz.campaign import Campaign

            chosen = secrets.randbelow(2**31) if seed is None else seed
            options = _generator_options(lines, faults)
            campaign = Campaign(runs, chosen, first, options, workflows, html is not None, keep_going)
            status = _fuzz(campaign, jobs, stop, as_json=as_json, html=html)
    sys.exit(status)


def _explored_lines(ctx: click.Context, lines: int) -> int:
    """The most lines of an explored invoice."""
    if ctx.get_parameter_source("lines") is ParameterSource.DEFAULT:
        return _MOST_EXPLORED_LINES
    if lines > _MOST_EXPLORED_LINES:
        raise click.BadParameter(f"with --exhaustive at most {_MOST_EXPLORED_LINES} lines", param_hint="--lines")
    return lines


def _generator_options(lines: int, faults: tuple[tuple[str, ...], float]) -> GeneratorOptions:
    from invoice_mcp.testing import Verb
    from invoice_mcp.testing.simulate.fuzz.generator import GeneratorOptions

    kinds, rate = faults
    return GeneratorOptions(lines=lines, faults=tuple(Verb(kind) for kind in kinds), fault_rate=rate)


# -- what is run, and the exit status --------------------------------------------------------------------------


def _fuzz(campaign: Campaign, jobs: int, stop: StopFlag, *, as_json: bool, html: Path | None) -> int:
    from invoice_mcp.testing.simulate.fuzz.campaign import run_campaign
    from invoice_mcp.testing.simulate.process.quiet import suppress_logging
    from invoice_mcp.testing.simulate.report.console import Reporter

    if html is not None:
        _require_writable(html)
    jobs = min(jobs, campaign.runs)
    reporter = Reporter(campaign, jobs)
    try:
        with suppress_logging(), _errors_in_one_line(), reporter.progress():
            run_campaign(campaign, jobs, reporter.add, stop)
        reporter.is_interrupted = stop.is_set
    except KeyboardInterrupt:
        reporter.is_interrupted = True
    print_output(reporter.as_json if as_json else reporter.as_text)
    if html is not None:
        _write(html, reporter.as_html())
    return _INTERRUPTED if reporter.is_interrupted else _FAILED if reporter.totals.failures else _PASSED


def _explore(
    events: int, lines: int, jobs: int, workflows: tuple[str, ...], stop: StopFlag, *, keep_going: bool, as_json: bool
) -> int:
    from invoice_mcp.testing.simulate.report.exploration import Exploration

    exploration = Exploration(events, lines, jobs, workflows, keep_going)
    with _errors_in_one_line():
        exploration.run(stop)
    print_output(exploration.as_json if as_json else exploration.as_text)
    return _INTERRUPTED if exploration.is_interrupted else _FAILED if exploration.failures else _PASSED


def _replay(path: str, workflows: tuple[str, ...], *, as_json: bool) -> int:
    from invoice_mcp.testing.simulate.explore.replay import ScheduleId, UnknownScheduleError, replay_schedule
    from invoice_mcp.testing.simulate.report.console import render
    from invoice_mcp.testing.simulate.report.exploration import execution_text

    try:
        with _errors_in_one_line():
            execution = replay_schedule(ScheduleId.parse(path), workflows)
    except UnknownScheduleError as unknown:
        raise click.BadParameter(str(unknown), param_hint="--path") from None
    print_output(lambda: json.dumps(execution.as_data(), indent=2) if as_json else render(execution_text(execution)))
    return _FAILED if execution.failure else _PASSED


def _require_workflows(names: tuple[str, ...]) -> None:
    from invoice_mcp.testing.simulate.process.loading import WorkflowNotFoundError, load_workflows

    try:
        load_workflows(names)
    except WorkflowNotFoundError as missing:
        raise click.BadParameter(str(missing), param_hint="--workflow") from None


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Report what keeps a simulation from running without a traceback."""
    from invoice_mcp.testing.simulate.process.pool import ProcessDiedError
    from temporal_simulator import NotSimulated

    try:
        yield
    except (NotSimulated, ProcessDiedError) as error:
        raise CannotSimulateError(str(error)) from None


def _require_writable(page: Path) -> None:
    """Check, before the campaign starts, that the page can be written; an existing file is left as it is."""
    if not page.parent.is_dir():
        raise click.BadParameter(f"there is no directory {page.parent}", param_hint="--html")
    try:
        existed = page.exists()
        if existed and not page.is_file() and not page.is_dir():
            # Opening a named pipe would wait for a reader.
            return
        page.open("ab").close()
        if not existed:
            page.unlink()
    except OSError as error:
        raise click.BadParameter(f"{page} can't be written: {error.strerror}", param_hint="--html") from None


def _write(page: Path, text: str) -> None:
    try:
        page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CannotSimulateError(f"{page} can't be written: {error.strerror}") from None
    click.echo(f"Written: {page}", err=True)
