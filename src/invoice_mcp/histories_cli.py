"""The command line's `histories`: record, pull, check, coverage."""

# As in cli.py: each command imports what it needs.
# ruff: noqa: PLC0415

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from invoice_mcp import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from invoice_mcp.testing.histories import Pool, Target

T = TypeVar("T")

_OURS = "invoice_mcp.worker:REPLAY"
_CORPUS = Path("histories")


def _code_options(command: Any) -> Any:
    for option in (
        click.option(
            "--data-converter", metavar="MODULE:NAME", help="The data converter of your client, if not Temporal's own."
        ),
        click.option(
            "--workflows",
            metavar="MODULE:NAME",
            help="Your workflow classes, as your worker takes them, or a mapping of all that "
            "temporalio.worker.Replayer takes.  [default: invoice-mcp's own]",
        ),
    ):
        command = option(command)
    return command


def _replay_options(command: Any) -> Any:
    for option in (
        click.option("--jobs", type=click.IntRange(min=1), help="Processes that replay.  [default: one a core]"),
        click.option(
            "--time-limit",
            callback=_seconds,
            default="30s",
            show_default=True,
            metavar="DURATION",
            help="For the replay of one recording.",
        ),
        click.option(
            "--strict/--no-strict", default=True, help="Compare the values of commands too.  [default: strict]"
        ),
    ):
        command = option(command)
    return _code_options(command)


def _seconds(context: click.Context, param: click.Parameter, value: str) -> float:
    from invoice_mcp.cli import duration

    span = duration(context, param, value)
    assert isinstance(span, timedelta)  # noqa: S101 (it has a default)
    return span.total_seconds()


_corpus_argument = click.argument("path", type=click.Path(path_type=Path), default=_CORPUS)


@click.group(
    epilog="""\b
In CI, of any project with Temporal workflows in Python:
    invoice-mcp histories check --workflows my_package.worker:WORKFLOWS histories"""
)
def histories() -> None:
    """Recorded histories: no release breaks, or silently changes, a workflow that is already waiting.

    A history is what a workflow did, event by event. Replayed with changed code it shows whether that code can take
    over workflows that the old code began. Record them once a release, or pull them from where it runs; keep them in
    version control, in histories/; check them in CI.
    """


@histories.command()
@_corpus_argument
@_replay_options
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="Write the report as JUnit XML too.")
@click.option("-v", "--verbose", is_flag=True, help="List every recording.")
def check(
    *,
    path: Path,
    workflows: str | None,
    data_converter: str | None,
    strict: bool,
    time_limit: float,
    jobs: int | None,
    as_json: bool,
    junit: Path | None,
    verbose: bool,
) -> None:
    """Replay every recording below PATH (a folder, or one file; by default histories/) with the code as it is.

    Each under its own workflow id, in the sandbox, on all cores. What fails: another command than was recorded;
    strictly also another value in one (a time-out, an input, an answer, a result), unless accepted-drift.toml in PATH
    lists it with a reason; a recording that can't be read, that paths.toml in PATH demands and is not there, that no
    code answers to, or that takes too long; nothing to replay.

    \b
    Exit status: 0 clean, 1 broken, 2 could not run.
    """
    from invoice_mcp.testing.histories import as_json as json_of
    from invoice_mcp.testing.histories import as_junit, check_corpus, print_report, read_corpus

    with _told_without_traceback():
        corpus = read_corpus(path)
        pool = _pool(workflows, data_converter, strict=strict, time_limit=time_limit, jobs=jobs)
        with _progress("Replaying", len(corpus.files)) as advance:
            report = _run(check_corpus(corpus, pool, lambda _: advance()))
        if junit:
            _write(junit, as_junit(report))
    if as_json:
        click.echo(json_of(report))
    else:
        print_report(report, _console(), all_of_them=verbose)
    sys.exit(0 if report.is_clean else 1)


@histories.command()
@_corpus_argument
@click.option(
    "--release", default=__version__, show_default=True, help="What is recorded, as the folder's name: from_..."
)
def record(path: Path, release: str) -> None:
    """Play every path of invoice-mcp's own workflows on a real Temporal server, and record it in PATH.

    Once a release that changes commands; takes about a minute. Names are made up; each recording is proved to replay.
    Never writes over a release: what it started may still be running.

    \b
    Exit status: 0 recorded, 2 could not run.
    """
    with _told_without_traceback(), _quiet_children():
        try:
            from invoice_mcp.testing.invoice_paths import PATHS, record_release
        except ModuleNotFoundError as missing:
            raise click.UsageError(f"{missing}: install it with pip install 'invoice-mcp[testing]'.") from None
        with _progress("Playing", len(PATHS)) as advance:
            names = _run(record_release(path, release, told=lambda _: advance()))
    click.echo(f"{len(names)} recordings in {path}/from_{release}. Commit them; they are never recorded again.")


def _pool(
    workflows: str | None, data_converter: str | None, *, strict: bool = True, time_limit: float, jobs: int | None
) -> Pool:
    from invoice_mcp.testing.histories import Pool

    return Pool(_target(workflows, data_converter), strict=strict, time_limit=time_limit, processes=jobs or 0)


def _target(workflows: str | None, data_converter: str | None) -> Target:
    from invoice_mcp.testing.histories import Target

    # As `python -m` does: what lies here can be imported.
    sys.path.insert(0, str(Path.cwd()))
    return Target(workflows or _OURS, data_converter or "")


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _CannotWrite(f"{path} can't be written: {error.strerror or error}") from None


class _CannotWrite(Exception):  # noqa: N818
    pass


@contextmanager
def _told_without_traceback() -> Iterator[None]:
    """What keeps a command from running is told in a line, and it exits with 2."""
    from invoice_mcp.embedded import EmbeddedUnavailable
    from invoice_mcp.errors import ConfigurationError
    from invoice_mcp.testing import EngineStuck
    from invoice_mcp.testing.histories import CannotRun

    try:
        yield
    except (CannotRun, ConfigurationError, EmbeddedUnavailable, EngineStuck, _CannotWrite) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)


def _run(main: Coroutine[Any, Any, T]) -> T:
    import asyncio
    import logging

    logging.disable(logging.WARNING)
    try:
        return asyncio.run(main)
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        sys.exit(130)


@contextmanager
def _quiet_children() -> Iterator[None]:
    """What servers that we start say to our stdout is not for it."""
    import os

    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _console() -> Console:
    from rich.console import Console

    from invoice_mcp.cli import told_on

    return told_on(Console(highlight=False))


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)
