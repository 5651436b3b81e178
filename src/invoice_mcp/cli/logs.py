"""Logging to stderr: each record bounded, on one line without control characters, and written by a separate thread."""

from __future__ import annotations

import copy
import logging
import queue
import sys
import threading
from contextlib import suppress

from rich.console import Console
from rich.logging import RichHandler

from invoice_mcp.output import pipe_tolerant

# Rich needs quadratic time to wrap one long word: 8 ms for this length, 13 s for 30,000 characters.
MAX_MESSAGE = 1_000
# Characters of a traceback. Its words are short, which Rich wraps in linear time; its first and last lines are kept.
MAX_TRACEBACK = 8_000
# Some seconds of writing. Records that come faster than they are written are dropped and counted.
MAX_QUEUED = 500
# Seconds. A stderr that nobody reads must not prevent the process from ending.
_FLUSH_TIMEOUT = 2.0


def log_to_stderr(*, verbose: bool) -> None:
    """Log to stderr; stdout is for the protocol only. A stderr whose reader has closed it is ignored."""
    handler = RichHandler(console=Console(file=pipe_tolerant(sys.stderr)), show_path=False)
    handler.setFormatter(logging.Formatter("%(message)s", datefmt="%X"))
    logging.basicConfig(level=logging.WARNING, handlers=[BackgroundHandler(handler)])
    logging.getLogger("invoice_mcp").setLevel(logging.DEBUG if verbose else logging.INFO)


class BackgroundHandler(logging.Handler):
    """Bounds each record and passes it to another handler in a separate thread, so that logging never blocks.

    The event loop that logs also runs the worker and handles the signals.
    """

    def __init__(self, target: logging.Handler, *, max_queued: int = MAX_QUEUED) -> None:
        super().__init__()
        self._target = target
        self._queue: queue.Queue[logging.LogRecord] = queue.Queue(max_queued)
        self._dropped = 0
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record; if the queue is full, count it as dropped."""
        try:
            self._queue.put_nowait(bounded(record))
        except queue.Full:
            self._dropped += 1
        except Exception:  # noqa: BLE001 (as in every logging handler)
            self.handleError(record)
        if self._thread is None:
            # A daemon thread, because its stream may block for ever.
            self._thread = threading.Thread(target=self._write, name="log", daemon=True)
            self._thread.start()

    def flush(self) -> None:
        """Wait until all queued records are written, at most for `_FLUSH_TIMEOUT`."""
        done = self._queue.all_tasks_done
        with done:
            done.wait_for(lambda: not self._queue.unfinished_tasks, _FLUSH_TIMEOUT)

    def _write(self) -> None:
        while True:
            record = self._queue.get()
            # Records are dropped only while the queue is full, so a later record always reports them.
            if dropped := self._dropped:
                self._dropped -= dropped
                self._forward(_dropped_record(dropped))
            self._forward(record)
            self._queue.task_done()

    def _forward(self, record: logging.LogRecord) -> None:
        # An error in one record must not stop the thread.
        with suppress(Exception):
            self._target.handle(record)


def bounded(record: logging.LogRecord) -> logging.LogRecord:
    """Return a copy whose message is one line of at most MAX_MESSAGE characters, with a bounded traceback."""
    copied = copy.copy(record)
    copied.msg, copied.args = _to_line(record.getMessage()), None
    trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else record.exc_text
    copied.exc_info, copied.exc_text = None, _truncate_middle(trace) if trace else None
    copied.stack_info = _truncate_middle(record.stack_info) if record.stack_info else None
    return copied


def _to_line(text: str) -> str:
    shown = _escape(text[:MAX_MESSAGE])[:MAX_MESSAGE]
    return shown if len(text) <= MAX_MESSAGE else f"{shown}… ({len(text)} characters in all)"


def _truncate_middle(trace: str) -> str:
    half = MAX_TRACEBACK // 2
    if len(trace) > MAX_TRACEBACK:
        trace = f"{trace[:half]}\n… ({len(trace) - 2 * half} characters left out)\n{trace[-half:]}"
    # The lines are cut too: an exception's message may be one long word.
    return "\n".join(_to_line(line) for line in trace.split("\n"))


def _escape(text: str) -> str:
    # Not `display_text.printable`, which also removes line breaks and repeated spaces: a log shows the exact text.
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def _dropped_record(count: int) -> logging.LogRecord:
    text = f"{count} messages are missing here: they came faster than they could be written"
    return logging.makeLogRecord({"msg": text, "levelno": logging.WARNING, "levelname": "WARNING", "name": __name__})
