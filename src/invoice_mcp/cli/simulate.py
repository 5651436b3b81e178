"""The command line's `simulate`: thousands of lives of invoices, their promises checked, the failures told."""

# As in main.py: what takes a second to import is imported when it is needed, so that --help answers at once.
# ruff: noqa: PLC0415

from __future__ import annotations

import re
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from invoice_mcp.cli.options import reject_options

if TYPE_CHECKING:
    from invoice_mcp.testing.simulate.fuzz.generator import GeneratorOptions

# As `Verb` calls them; tests/unit/testing/test_campaign.py compares.
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
_ALL, _NONE, _RATE = "all", "none", 0.25
_DECIMAL = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+")
# Of an invoice of which every order of things is lived.
_MOST_LINES = 2
# Ids of invoices are made of them, and have their limits.
_LARGEST = 10**15
# Options that only lives by chance have.
_OF_CHANCE = ("runs", "seed", "first", "faults", "html")


def _faults(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[tuple[str, ...], float]:
    """Kinds of faults and how often they come: a comma-separated list of kinds and at most one number."""
    kinds: list[str] = []
    rate = None
    parts = [each.strip() for each in value.split(",")]
    if parts == [_NONE]:
        return (), 0.0
    if _NONE in parts:
        raise click.BadParameter(f"{_NONE!r} leaves room for nothing else.")
    for part in parts:
        if part in FAULTS:
            kinds.append(part)
        elif part != _ALL:
            rate = _number(part, rate)
    return tuple(dict.fromkeys(kinds)) or FAULTS, _RATE if rate is None else rate


def _number(text: str, before: float | None) -> float:
    if not _DECIMAL.fullmatch(text):
        words = ", ".join(FAULTS)
        raise click.BadParameter(f"{text!r} is none of {words}, all, none, nor a number from 0 to 1.")
    rate = float(text)
    if before is not None or rate > 1:
        raise click.BadParameter("give one number from 0 to 1: what part of the actions are faults.")
    return rate


@click.command(
    epilog="""\b
Examples:
  invoice-mcp simulate --runs 10000 --jobs 2
  invoice-mcp simulate --seed 7 --lines 5 --faults answer-lost,crash,0.5
  invoice-mcp simulate --seed 7 --first 4711 --runs 1 --html life.html
  invoice-mcp simulate --exhaustive 1 --lines 1
  invoice-mcp simulate --path 1/signal-approve/0.0.1
  invoice-mcp simulate --workflow my_fork.workflows:InvoiceWorkflow --json

Exit status: 0 all promises kept, 1 a failure found, 2 it can't run or tell, 130 interrupted.
"""
)
@click.option("--runs", type=click.IntRange(1), default=1000, show_default=True, help="How many lives.")
@click.option(
    "--seed",
    type=click.IntRange(0, _LARGEST),
    help="The same seed gives the same lives.  [default: another each time, told]",
)
@click.option(
    "--first", type=click.IntRange(0, _LARGEST), default=0, show_default=True, help="Number of the first run."
)
@click.option("--lines", type=click.IntRange(1, 50), default=3, show_default=True, help="Most lines of an invoice.")
@click.option(
    "--faults",
    metavar="KIND,...,RATE",
    default=f"{_ALL},{_RATE}",
    show_default=True,
    callback=_faults,
    help=f"Which faults ({', '.join(FAULTS)}; all, none), and what part of the actions they are.",
)
@click.option(
    "--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes that share the lives."
)
@click.option(
    "--exhaustive",
    metavar="K",
    type=click.IntRange(0, 3),
    help="Not by chance: every order in which things can happen, with up to K things done to invoices of up to --lines "
    "(at most 2) lines, and perhaps one worker crash, one payment fault and one query that is answered before a "
    "workflow task, anywhere. 1 takes a minute, each more over ten times as long; of one line only, 1 takes ten "
    "seconds. Two --jobs take a good half of that. Not with --runs, --seed, --first, --faults and --html.",
)
@click.option(
    "--path",
    metavar="LINES/EVENTS/BRANCHES",
    help="Live one of those lives again, as the failure that was found in it says, and tell all that happens.",
)
@click.option("--keep-going", is_flag=True, help="Go on after a failure, and tell them all.")
@click.option(
    "--workflow",
    "workflows",
    metavar="MODULE:CLASS",
    multiple=True,
    help="A workflow that stands in for the product's of the same type. May be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else, on stdout.")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a page with totals, charts, and the stories of failures, or of one life of each outcome.",
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
    """Let thousands of invoices live and die in a simulator, and check that every promise is kept.

    Each life is drawn by chance: an invoice, what people do to it, what fails meanwhile, and in which order what comes
    at once comes. It is lived by the production workflows behind the production MCP server, on virtual time: a month
    takes a few milliseconds. Every answer is held against a model, and eleven promises are checked at the end.

    What fails is made as small as it can be, and told: the scenario, the command that plays it again, and all that
    happened. Ctrl-C ends it after the life under way, with the totals so far; pressed again, it ends at once.
    """
    from invoice_mcp.testing.simulate.process.interrupt import stop_on_ctrl_c

    if path is not None:
        reject_options(ctx, "--path lives one life again", "exhaustive", "jobs", "keep_going", "lines", *_OF_CHANCE)
    elif exhaustive is not None:
        reject_options(ctx, "--exhaustive leaves nothing to chance and has no page", *_OF_CHANCE)
        lines = _few(ctx, lines)
    # What is imported from here on takes a second, in which somebody may think better of it.
    with stop_on_ctrl_c() as stop:
        from invoice_mcp.cli import simulate_support as running

        if path is not None:
            status = running.along(path, workflows, as_json=as_json)
        elif exhaustive is not None:
            status = running.in_every_order(
                exhaustive, lines, jobs, workflows, stop, keep_going=keep_going, as_json=as_json
            )
        else:
            from invoice_mcp.testing.simulate.fuzz.campaign import Plan

            chosen = secrets.randbelow(2**31) if seed is None else seed
            plan = Plan(runs, chosen, first, _odds(lines, faults), workflows, html is not None, keep_going)
            status = running.by_chance(plan, jobs, stop, as_json=as_json, html=html)
    sys.exit(status)


def _few(ctx: click.Context, lines: int) -> int:
    """Lines of an invoice whose every life is lived."""
    if ctx.get_parameter_source("lines") is ParameterSource.DEFAULT:
        return _MOST_LINES
    if lines > _MOST_LINES:
        raise click.BadParameter(f"with --exhaustive at most {_MOST_LINES} lines", param_hint="--lines")
    return lines


def _odds(lines: int, faults: tuple[tuple[str, ...], float]) -> GeneratorOptions:
    from invoice_mcp.testing import Verb
    from invoice_mcp.testing.simulate.fuzz.generator import GeneratorOptions

    kinds, rate = faults
    return GeneratorOptions(lines=lines, faults=tuple(Verb(kind) for kind in kinds), rate=rate)
