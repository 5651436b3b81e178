"""Output streams that tolerate a closed pipe: neither a log nor a report fails because its reader has gone."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, cast

import click


class OutputError(click.ClickException):
    """The output of a command can't be written."""

    exit_code = 2


def print_output(render: Callable[[], str]) -> None:
    """Print on stdout. A closed pipe is ignored, and the exit status is the same.

    Raises:
        OutputError: The text can't be written for another reason.
    """
    with _require_writable(sys.stdout):
        # Rendering already accesses stdout, for its encoding and width.
        text = render()
        click.echo(text, nl=not text.endswith("\n"), color=True)


def pipe_tolerant(stream: IO[str] | None) -> IO[str]:
    """The stream, for a rich console: output that can't be written is dropped, and the program continues.

    Without this, a console exits the program when the pipe is closed.
    """
    return cast("IO[str]", _PipeTolerant(stream))


def flush_output(stream: IO[str] | None) -> None:
    """Flush a stream. A closed pipe is ignored.

    Raises:
        OutputError: Some output could not be written for another reason.
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
        raise OutputError(f"The output can't be written: {error.strerror}") from None


class _PipeTolerant:
    """Wraps a stream; None: there is none, as in a process that was started without one."""

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
        # After another error than a closed pipe, the next write may succeed.
        with suppress(OSError):
            try:
                do(self._stream)
            except BrokenPipeError:
                _discard_output(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _discard_output(stream: IO[str]) -> None:
    """Redirect the stream to /dev/null. Otherwise Python would flush its buffer at exit, and print a traceback."""
    with suppress(OSError, ValueError):
        descriptor = stream.fileno()
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, descriptor)
        os.close(devnull)
