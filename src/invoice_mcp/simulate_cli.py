"""The command line's `simulate`: thousands of lives of invoices, their promises checked, the failures told."""

# As in cli.py: what takes a second to import is imported when it is needed, so that --help answers at once.
# ruff: noqa: PLC0415

from __future__ import annotations

import json
import logging
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from invoice_mcp.testing._drawing import Odds
    from invoice_mcp.testing._simulating import Plan
    from invoice_mcp.testing._telling import Teller

# As `Verb` calls them; tests/unit/testing/test_simulating.py compares.
FAULTS = ("erp-down", "erp-refuses", "payment-down", "payment-refused", "answer-lost", "crash")
_ALL, _NONE, _RATE = "all", "none", 0.25
_UNABLE, _INTERRUPTED = 2, 130


def _faults(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[tuple[str, ...], float]:
    """Kinds of faults and how often they come: a comma-separated list of kinds and at most one number."""
    kinds: list[str] = []
    rate = None
    for part in (each.strip() for each in value.split(",")):
        if part in FAULTS:
            kinds.append(part)
        elif part == _NONE and value.strip() == _NONE:
            return (), 0.0
        elif part != _ALL:
            rate = _number(part, rate)
    return tuple(dict.fromkeys(kinds)) or FAULTS, _RATE if rate is None else rate


def _number(text: str, before: float | None) -> float:
    try:
        rate = float(text)
    except ValueError:
        words = ", ".join(FAULTS)
        raise click.BadParameter(f"{text!r} is none of {words}, all, none, nor a number from 0 to 1.") from None
    if before is not None or not 0 <= rate <= 1:
        raise click.BadParameter("give one number from 0 to 1: what part of the actions are faults.")
    return rate


@click.command(
    epilog="""\b
Examples:
  invoice-mcp simulate --runs 10000 --jobs 2
  invoice-mcp simulate --seed 7 --lines 5 --faults answer-lost,crash,0.5
  invoice-mcp simulate --seed 7 --first 4711 --runs 1 --html life.html
  invoice-mcp simulate --exhaustive 1 --lines 1
  invoice-mcp simulate --workflow my_fork.workflows:InvoiceWorkflow --json

Exit status: 0 all promises kept, 1 a failure found, 2 it can't run, 130 interrupted.
"""
)
@click.option("--runs", type=click.IntRange(1), default=1000, show_default=True, help="How many lives.")
@click.option(
    "--seed", type=click.IntRange(0), help="The same seed gives the same lives.  [default: another each time, told]"
)
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="Number of the first run.")
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
    "(at most 2) lines, and perhaps one worker crash and one payment fault, anywhere. 1 takes half a minute, 2 "
    "half an hour, 3 many hours; of one line 3 takes a quarter of an hour.",
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
def simulate(  # noqa: PLR0917 (click passes them by name)
    runs: int,
    seed: int | None,
    first: int,
    lines: int,
    faults: tuple[tuple[str, ...], float],
    jobs: int,
    exhaustive: int | None,
    keep_going: bool,
    workflows: tuple[str, ...],
    as_json: bool,
    html: Path | None,
) -> None:
    """Let thousands of invoices live and die in a simulator, and check that every promise is kept.

    Each life is drawn by chance: an invoice, what people do to it, what fails meanwhile, and in which order what comes
    at once comes. It is lived by the production workflows behind the production MCP server, on virtual time: a month
    takes a millisecond. Every answer is held against a model, and ten promises are checked at the end.

    What fails is made as small as it can be, and told: the scenario, the command that plays it again, and all that
    happened. Needs the extra `testing`: pip install 'invoice-mcp[testing]'
    """
    if html is not None and not html.parent.is_dir():
        raise click.BadParameter(f"there is no directory {html.parent}", param_hint="--html")
    if html is not None and exhaustive is not None:
        raise click.UsageError("--exhaustive has no page: leave out --html")
    _require_testing()
    from invoice_mcp.testing._naming import NotFound
    from invoice_mcp.testing._simulating import Plan
    from invoice_mcp.testing._telling import Teller

    chosen = secrets.randbelow(2**31) if seed is None else seed
    if exhaustive is not None:
        sys.exit(_exhaust(exhaustive, min(lines, 2), jobs, workflows, keep_going=keep_going, as_json=as_json))
    plan = Plan(runs, chosen, first, _odds(lines, faults), workflows, samples=html is not None, keeps_going=keep_going)
    try:
        plan.check()
    except NotFound as missing:
        raise click.BadParameter(str(missing), param_hint="--workflow") from None
    teller = Teller(plan, jobs)
    status = _run(plan, jobs, teller)
    if status == _UNABLE:
        sys.exit(status)
    if as_json:
        click.echo(teller.as_json())
    else:
        teller.print()
    if html is not None:
        html.write_text(teller.as_html(), encoding="utf-8")
        click.echo(f"Written: {html}", err=True)
    sys.exit(status)


def _exhaust(events: int, lines: int, jobs: int, workflows: tuple[str, ...], *, keep_going: bool, as_json: bool) -> int:
    from invoice_mcp.testing._exhausting import Exhausting
    from invoice_mcp.testing._naming import NotFound, workflows_named
    from invoice_mcp.testing._processes import ProcessDied
    from invoice_mcp.testing.simulator import NotSimulated

    try:
        workflows_named(workflows)
    except NotFound as missing:
        raise click.BadParameter(str(missing), param_hint="--workflow") from None
    exhausting = Exhausting(events, lines, jobs, workflows, keep_going)
    try:
        exhausting.run()
    except (NotSimulated, ProcessDied) as unable:
        click.echo(f"Error: {unable}", err=True)
        return _UNABLE
    if as_json:
        click.echo(json.dumps(exhausting.as_json(), indent=2))
    else:
        exhausting.print()
    return _INTERRUPTED if exhausting.is_interrupted else 1 if exhausting.failures else 0


def _run(plan: Plan, jobs: int, teller: Teller) -> int:
    from invoice_mcp.testing._processes import ProcessDied
    from invoice_mcp.testing._simulating import simulate
    from invoice_mcp.testing.simulator import NotSimulated

    before = logging.root.manager.disable
    # What scenarios do on purpose is no news, and what breaks is told at the end.
    logging.disable(logging.ERROR)
    try:
        with teller.progress():
            simulate(plan, jobs, teller.tell)
    except KeyboardInterrupt:
        teller.is_interrupted = True
        return _INTERRUPTED
    except (NotSimulated, ProcessDied) as unable:
        click.echo(f"Error: {unable}", err=True)
        return _UNABLE
    finally:
        logging.disable(before)
    return 1 if teller.totals.failures else 0


def _odds(lines: int, faults: tuple[tuple[str, ...], float]) -> Odds:
    from invoice_mcp.testing import Verb
    from invoice_mcp.testing._drawing import Odds

    kinds, rate = faults
    return Odds(lines=lines, faults=tuple(Verb(kind) for kind in kinds), rate=rate)


def _require_testing() -> None:
    try:
        import invoice_mcp.testing  # noqa: F401
    except ModuleNotFoundError as missing:
        raise click.UsageError(
            f"{missing.name} is not installed, which this command needs: pip install 'invoice-mcp[testing]'"
        ) from None
