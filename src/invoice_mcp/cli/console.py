"""Rich consoles for the commands."""

# rich is imported where it is used, so that --help needs none of it.

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def disable_wrapping(console: Console) -> Console:
    """Keep lines whole where the output is no terminal: a file or a pipe has no width."""
    if not console.is_terminal:
        console.soft_wrap = True
    return console


def render(print_on: Callable[[Console], None]) -> str:
    """Return what `print_on` prints, in the encoding and with the styles of stdout."""
    from rich.console import Console

    console = disable_wrapping(Console(highlight=False))
    with console.capture() as captured:
        print_on(console)
    return captured.get()


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Callable[[], None]]:
    """Show a progress bar on stderr if that is a terminal; yield the function that advances it by one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from invoice_mcp.output import pipe_tolerant

    console = Console(file=pipe_tolerant(sys.stderr))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=total)
        yield lambda: bar.advance(task)
