"""Output that goes on though nobody reads it: a log is no reason to stop working, nor a report to fail."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, cast

import click


class OutputError(click.ClickException):
    """What came of a command can't be written."""

    exit_code = 2


def print_output(form: Callable[[], str]) -> None:
    """Print on stdout. Whoever has stopped reading is not bothered, and the exit status still tells how it went.

    Raises:
        Unwritten: It can't be written, for another reason than that.
    """
    with _require_writable(sys.stdout):
        # Making it already touches stdout, to see what it can show.
        text = form()
        click.echo(text, nl=not text.endswith("\n"), color=True)


def pipe_tolerant(stream: IO[str] | None) -> IO[str]:
    """The stream, for a console: what can't be written any more is dropped, and the program goes on.

    A console by itself ends the program when nobody reads it.
    """
    return cast("IO[str]", _PipeTolerant(stream))


def flush_output(stream: IO[str] | None) -> None:
    """See that all went out which was written to a lasting stream, but for what nobody reads.

    Raises:
        Unwritten: It did not.
    """
    if stream is not None:
        with _require_writable(stream):
            stream.flush()


@contextmanager
def _require_writable(stream: IO[str]) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        _discard_output(stream)
    except OSError as error:
        _discard_output(stream)
        raise OutputError(f"What came of it can't be written: {error.strerror}") from None


class _PipeTolerant:
    """None: there is no stream, as in a process that was started without one."""

    def __init__(self, stream: IO[str] | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        def write(stream: IO[str]) -> None:
            try:
                stream.write(text)
            except UnicodeEncodeError as error:
                stream.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))

        self._try(write)
        return len(text)

    def flush(self) -> None:
        self._try(lambda stream: stream.flush())

    def _try(self, do: Callable[[IO[str]], None]) -> None:
        if self._stream is None:
            return
        # What fails for another reason than that nobody reads may go well the next time.
        with suppress(OSError):
            try:
                do(self._stream)
            except BrokenPipeError:
                _discard_output(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _discard_output(stream: IO[str]) -> None:
    """Else what is left in the buffer would be tried again when Python ends, with a traceback."""
    with suppress(OSError, ValueError):
        descriptor = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
