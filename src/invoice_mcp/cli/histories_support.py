"""What the command line's `histories` runs on: progress, errors in one line, exit statuses."""

# As in main.py: imported when it is needed.
# ruff: noqa: PLC0415

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from invoice_mcp.cli.main import disable_wrapping
from invoice_mcp.exit import exit_process

if TYPE_CHECKING:
    import asyncio

    from rich.console import Console

T = TypeVar("T")


def write_report(path: Path, text: str) -> None:
    """Write a file and its folder.

    Raises:
        CannotWrite: It can't be.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        is_no_folder = path.parent.exists() and not path.parent.is_dir()
        why = f"{path.parent} is no folder" if is_no_folder else error.strerror or error
        raise WriteError(f"{path} can't be written: {why}") from None


class WriteError(Exception):
    """A file can't be written. The message says why."""


@contextmanager
def errors_without_traceback() -> Iterator[None]:
    """Reports an expected error as one line and exits with status 2."""
    from invoice_mcp.domain.errors import ConfigurationError
    from invoice_mcp.output import OutputError
    from invoice_mcp.temporal.embedded import EmbeddedUnavailableError
    from invoice_mcp.testing import EngineStuckError
    from temporal_replay import CannotRunError

    try:
        yield
    except (
        CannotRunError,
        ConfigurationError,
        EmbeddedUnavailableError,
        EngineStuckError,
        WriteError,
        OutputError,
    ) as error:
        click.echo(f"Error: {error}", err=True)
        if _unclosed_runners:
            exit_process(2)
        sys.exit(2)


# Of what `run` was told may hang: not closed, and with threads of Temporal's SDK; so the command has to `exit_process`.
_unclosed_runners: list[asyncio.Runner] = []


def run(main: Coroutine[Any, Any, T], *, may_hang: bool = False) -> T:
    """Run it to its end, quietly; Ctrl-C ends it and the command.

    Args:
        may_hang: Whether a replay that it began may go on for ever: then the command has to `exit_process`.
    """
    import asyncio
    import logging

    before = logging.root.manager.disable
    # What recorded and replayed code logs is no news here, not even its errors: what came of it is told.
    logging.disable(logging.ERROR)
    runner = asyncio.Runner()
    try:
        return runner.run(main)
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        if may_hang:
            exit_process(130)
        sys.exit(130)
    finally:
        if may_hang:
            _unclosed_runners.append(runner)  # to close it is to wait for all that it began
        else:
            runner.close()
        logging.disable(before)


@contextmanager
def stdout_suppressed() -> Iterator[None]:
    """What servers that we start, or code that is replayed, say to our stdout is not for it."""
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


def render(print_on: Callable[[Console], None]) -> str:
    """What is printed, as stdout shows things."""
    from rich.console import Console

    console = disable_wrapping(Console(highlight=False))
    with console.capture() as captured:
        print_on(console)
    return captured.get()


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[], None]]:
    """A bar on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from invoice_mcp.output import pipe_tolerant

    where = Console(file=pipe_tolerant(sys.stderr))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=where, transient=True, disable=not where.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)
