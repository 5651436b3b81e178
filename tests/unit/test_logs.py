"""Log records are bounded, single lines, and written by another thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import pytest

from invoice_mcp.cli.logs import MAX_MESSAGE, MAX_TRACEBACK, BackgroundHandler, bounded, log_to_stderr
from tests.requirements import requirement


class Written(logging.Handler):
    """A handler that blocks until `may_write` is set and keeps the texts."""

    def __init__(self) -> None:
        super().__init__()
        self.may_write = threading.Event()
        self.texts: list[str] = []
        self.threads: set[int] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.may_write.wait(10)
        self.threads.add(threading.get_ident())
        self.texts.append(logging.Formatter().format(record))


@pytest.fixture
def written() -> Iterator[Written]:
    target = Written()
    yield target
    target.may_write.set()


def record(message: str, *arguments: object, exc_info: object = None) -> logging.LogRecord:
    given: dict[str, object] = {"msg": message, "args": arguments, "exc_info": exc_info}
    return logging.makeLogRecord(given)


@requirement("LOG-BOUNDED")
def test_a_long_message_is_truncated_with_its_length() -> None:
    assert bounded(record("%s", "x" * MAX_MESSAGE)).getMessage() == "x" * MAX_MESSAGE
    cut = bounded(record("Invalid Host header: %s", "x" * 60_000)).getMessage()
    assert cut.startswith("Invalid Host header: xxx")
    assert cut.endswith(f"… ({60_000 + len('Invalid Host header: ')} characters in all)")
    assert len(cut) < MAX_MESSAGE + 50
    # Escapes are longer than the characters.
    assert len(bounded(record("\U000e0001" * 60_000)).getMessage()) < MAX_MESSAGE + 50


@requirement("LOG-BOUNDED")
@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("a\nERROR forged", r"a\nERROR forged"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\u202egnp", r"\u202egnp"),
        ("a\u200bb\u2028c", r"a\u200bb\u2028c"),
        ("\ud800", r"\ud800"),
        ("50 % of Müller & 漢字", "50 % of Müller & 漢字"),
    ],
)
def test_invisible_characters_are_escaped(hostile: str, shown: str) -> None:
    assert bounded(record("%s", hostile)).getMessage() == shown
    # A message without arguments is not a format string.
    assert bounded(record(hostile)).getMessage() == shown


@requirement("LOG-BOUNDED")
def test_a_traceback_keeps_its_first_and_last_lines() -> None:
    def deep(depth: int) -> None:
        if depth:
            deep(depth - 1)
        raise ValueError("the cause\x1b[2J" + "x" * 60_000)

    with pytest.raises(ValueError, match="the cause") as caught:
        deep(400)
    copied = bounded(record("It failed", exc_info=(caught.type, caught.value, caught.tb)))
    assert copied.exc_text is not None
    assert copied.exc_info is None
    assert copied.exc_text.startswith("Traceback (most recent call last):\n")
    assert len(copied.exc_text) < MAX_TRACEBACK + 200
    assert "characters left out" in copied.exc_text
    short = bounded(record("It failed", exc_info=(KeyError, KeyError("lost\x1b"), None))).exc_text
    assert short == r"KeyError: 'lost\x1b'"


@requirement("LOG-THREAD")
def test_logging_does_not_wait_for_the_writer(written: Written) -> None:
    handler = BackgroundHandler(written, max_queued=3)
    began = time.monotonic()
    for number in range(100):
        handler.handle(record("message %d", number))
    assert time.monotonic() - began < 1
    written.may_write.set()
    handler.flush()
    assert written.threads.isdisjoint({threading.get_ident()})
    kept = [text for text in written.texts if text.startswith("message")]
    # Three in the queue, and perhaps one in the writer.
    assert kept[:3] == ["message 0", "message 1", "message 2"]
    assert len(kept) in {3, 4}
    [missing] = [text for text in written.texts if "missing" in text]
    assert missing.startswith(f"{100 - len(kept)} messages are missing here")


@requirement("LOG-THREAD")
def test_flush_waits_for_queued_records_up_to_a_timeout(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("invoice_mcp.cli.logs._FLUSH_TIMEOUT", 0.05)
    handler = BackgroundHandler(written)
    handler.handle(record("the last word"))
    handler.flush()
    assert written.texts == []
    written.may_write.set()
    monkeypatch.setattr("invoice_mcp.cli.logs._FLUSH_TIMEOUT", 10)
    handler.flush()
    assert written.texts == ["the last word"]


@requirement("LOG-THREAD")
def test_an_error_in_one_record_does_not_stop_logging(capsys: pytest.CaptureFixture[str]) -> None:
    texts: list[str] = []

    class FailingHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == "bad":
                raise RuntimeError
            texts.append(record.getMessage())

    handler = BackgroundHandler(FailingHandler())
    for each in (record("bad"), record("%d", "no number"), record("good")):
        handler.handle(each)
    handler.flush()
    assert texts == ["good"]
    assert "--- Logging error ---" in capsys.readouterr().err


@requirement("CLI-LOG-LEVEL")
@pytest.mark.parametrize(("verbose", "level"), [(False, logging.INFO), (True, logging.DEBUG)])
def test_the_log_level_is_info_or_debug_with_verbose(*, verbose: bool, level: int) -> None:
    ours, root = logging.getLogger("invoice_mcp"), logging.getLogger()
    before, level_before, handlers = ours.level, root.level, list(root.handlers)
    try:
        log_to_stderr(verbose=verbose)
        assert ours.level == level
        assert root.level == level_before
    finally:
        ours.setLevel(before)
        root.handlers[:] = handlers
