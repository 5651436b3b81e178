"""Output that goes on though nobody reads it: a log is no reason to stop working, nor a report to fail."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any, cast

import click


class Unwritten(click.ClickException):
    """What came of a command can't be written."""

    exit_code = 2


def tell(form: Callable[[], str]) -> None:
    """Print on stdout. Whoever has stopped reading is not bothered, and the exit status still tells how it went.

    Raises:
        Unwritten: It can't be written, for another reason than that.
    """
    try:
        # Making it already touches stdout, to see what it can show.
        text = form()
        click.echo(text, nl=not text.endswith("\n"), color=True)
    except BrokenPipeError:
        _write_no_more(sys.stdout)
    except OSError as error:
        _write_no_more(sys.stdout)
        raise Unwritten(f"What came of it can't be written: {error.strerror}") from None


def lasting(stream: IO[str] | None) -> IO[str]:
    """The stream, for a console: what can't be written any more is dropped, and the program goes on.

    A console by itself ends the program when nobody reads it.
    """
    return cast("IO[str]", _Lasting(stream))


class _Lasting:
    """None: there is no stream, as in a process that was started without one."""

    def __init__(self, stream: IO[str] | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if self._stream is not None:
            try:
                self._stream.write(text)
            except (OSError, ValueError):
                _write_no_more(self._stream)
        return len(text)

    def flush(self) -> None:
        if self._stream is not None:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                _write_no_more(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _write_no_more(stream: IO[str]) -> None:
    """Else what is left in the buffer would be tried again when Python ends, with a traceback."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
