"""What is told goes on though nobody reads it, or nothing more can be written."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pytest
from rich.console import Console

from invoice_mcp.output import OutputError, flush_output, pipe_tolerant, print_output


@contextmanager
def nobody_reads() -> Iterator[IO[str]]:
    ear, mouth = os.pipe()
    os.close(ear)
    with os.fdopen(mouth, "w", buffering=1) as stream:
        yield stream


@contextmanager
def a_full_disk() -> Iterator[IO[str]]:
    if not Path("/dev/full").exists():
        pytest.skip("nothing is full here")
    with suppress(OSError), Path("/dev/full").open("w", buffering=1, encoding="utf-8") as stream:
        yield stream


@pytest.mark.parametrize("unwritable", [nobody_reads, a_full_disk])
def test_a_console_outlasts_whoever_reads_it(unwritable: object) -> None:
    assert callable(unwritable)
    with unwritable() as stream:
        console = Console(file=pipe_tolerant(stream))
        console.print("one")
        # To end the program here, as a console does by itself, would be to stop working.
        console.print("two")


class Hiccups(io.StringIO):
    """Takes nothing once."""

    has_failed = False

    def write(self, text: str) -> int:
        if not self.has_failed:
            self.has_failed = True
            raise BlockingIOError
        return super().write(text)


def test_what_can_not_be_written_now_may_be_later() -> None:
    stream = Hiccups()
    console = Console(file=pipe_tolerant(stream))
    console.print("one")
    console.print("two")
    assert stream.getvalue() == "two\n"


def test_what_an_encoding_does_not_have_is_written_as_it_can_be() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    Console(file=pipe_tolerant(stream)).print("EUR → €")
    stream.seek(0)
    assert stream.read() == "EUR \\u2192 \\u20ac\n"


def test_whether_all_was_written_is_seen_at_the_end() -> None:
    flush_output(None)
    with nobody_reads() as stream:
        pipe_tolerant(stream).write("told")
        flush_output(stream)
    with a_full_disk() as stream:
        pipe_tolerant(stream).write("told")
        with pytest.raises(OutputError, match="No space left on device"):
            flush_output(stream)


def test_where_there_is_no_stream_nothing_is_told() -> None:
    Console(file=pipe_tolerant(None)).print("one")


def test_whoever_stops_reading_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with nobody_reads() as stream:
        monkeypatch.setattr("sys.stdout", stream)
        print_output(lambda: "told")


def test_what_can_not_be_written_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_full_disk() as stream:
        monkeypatch.setattr("sys.stdout", stream)
        with pytest.raises(OutputError, match="No space left on device") as told:
            print_output(lambda: "told")
    assert told.value.exit_code == 2


def test_what_is_told_ends_its_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    print_output(lambda: "one")
    print_output(lambda: "two\n")
    assert capsys.readouterr().out == "one\ntwo\n"
