"""What the command line's `simulate` runs, and tells: lives by chance, every order of things, or one life again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from invoice_mcp.output import print_output
from invoice_mcp.testing.simulate.explore.replay import ScheduleId, UnknownScheduleError, replay_path, suppress_logging
from invoice_mcp.testing.simulate.fuzz.campaign import Plan, simulate
from invoice_mcp.testing.simulate.process.interrupt import StopFlag
from invoice_mcp.testing.simulate.process.loading import WorkflowNotFoundError, load_workflows
from invoice_mcp.testing.simulate.process.pool import ProcessDiedError
from invoice_mcp.testing.simulate.report.console import Reporter, render
from invoice_mcp.testing.simulate.report.exploration import Exploration, told
from temporal_simulator import NotSimulated

_KEPT, _BROKEN, _INTERRUPTED = 0, 1, 130


class Unable(click.ClickException):
    """It can't be run."""

    exit_code = 2


def by_chance(plan: Plan, jobs: int, stop: StopFlag, *, as_json: bool, html: Path | None) -> int:
    """Live what was drawn, and tell it; what is returned is the exit status."""
    _require_workflows(plan.workflows)
    if html is not None:
        _require_writable(html)
    jobs = min(jobs, plan.runs)
    teller = Reporter(plan, jobs)
    try:
        with suppress_logging(), _told_if_unable(), teller.progress():
            simulate(plan, jobs, teller.tell, stop)
        teller.is_interrupted = stop.is_set
    except KeyboardInterrupt:
        teller.is_interrupted = True
    print_output(teller.as_json if as_json else teller.as_text)
    if html is not None:
        _write(html, teller.as_html())
    return _INTERRUPTED if teller.is_interrupted else _BROKEN if teller.totals.failures else _KEPT


def in_every_order(
    events: int, lines: int, jobs: int, workflows: tuple[str, ...], stop: StopFlag, *, keep_going: bool, as_json: bool
) -> int:
    """Explore, and tell it; what is returned is the exit status."""
    _require_workflows(workflows)
    exhausting = Exploration(events, lines, jobs, workflows, keep_going)
    with _told_if_unable():
        exhausting.run(stop)
    print_output(exhausting.as_json if as_json else exhausting.as_text)
    return _INTERRUPTED if exhausting.is_interrupted else _BROKEN if exhausting.failures else _KEPT


def along(name: str, workflows: tuple[str, ...], *, as_json: bool) -> int:
    """Live one life of an exploration again, and tell it; what is returned is the exit status."""
    _require_workflows(workflows)
    try:
        with _told_if_unable():
            lived = replay_path(ScheduleId.named(name), workflows)
    except UnknownScheduleError as missing:
        raise click.BadParameter(str(missing), param_hint="--path") from None
    print_output(lambda: json.dumps(lived.as_data(), indent=2) if as_json else render(told(lived)))
    return _BROKEN if lived.broken else _KEPT


def _require_workflows(names: tuple[str, ...]) -> None:
    try:
        load_workflows(names)
    except WorkflowNotFoundError as missing:
        raise click.BadParameter(str(missing), param_hint="--workflow") from None


@contextmanager
def _told_if_unable() -> Iterator[None]:
    try:
        yield
    except (NotSimulated, ProcessDiedError) as unable:
        raise Unable(str(unable)) from None


def _require_writable(page: Path) -> None:
    """See, before anything is lived, whether the page can be written; what is there stays as it is."""
    if not page.parent.is_dir():
        raise click.BadParameter(f"there is no directory {page.parent}", param_hint="--html")
    try:
        was_there = page.exists()
        if was_there and not page.is_file() and not page.is_dir():
            # A pipe, say: opening it might wait for a reader.
            return
        page.open("ab").close()
        if not was_there:
            page.unlink()
    except OSError as error:
        raise click.BadParameter(f"{page} can't be written: {error.strerror}", param_hint="--html") from None


def _write(page: Path, text: str) -> None:
    try:
        page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Unable(f"{page} can't be written: {error.strerror}") from None
    click.echo(f"Written: {page}", err=True)
