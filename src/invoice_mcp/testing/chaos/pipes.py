"""Standard error for a server: a log, or a pipe that is full and that nobody reads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def stderr_of(log: Path, *, is_full: bool) -> Iterator[TextIO]:
    """What a process is given as its standard error. The pipe is kept open, unread, for the length of the block."""
    if not is_full:
        with log.open("a", encoding="utf-8") as file:
            yield file
        return
    reader, writer = os.pipe()
    try:
        _fill(writer)
        with os.fdopen(writer, "w", encoding="utf-8") as file:
            yield file
    finally:
        os.close(reader)


def _fill(writer: int) -> None:
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        pass
    # As a process expects its standard error.
    os.set_blocking(writer, True)
