"""The log on stderr: bounded, on lines that nobody can forge, and written by a thread of its own."""

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

# Rich wraps a long word in time that grows with its square: 8 ms for this much, 13 seconds for 30,000 characters.
MAX_MESSAGE = 1_000
# Of ordinary words, which Rich wraps in linear time; the first and the last lines of a traceback tell most.
MAX_TRACEBACK = 8_000
# Some seconds of writing. Where messages come faster than they can be written, the rest is counted and dropped.
MAX_QUEUED = 500
# At the end. Who does not read stderr must not keep the program from ending.
_FLUSH_TIMEOUT = 2.0


def log_to_stderr(*, verbose: bool) -> None:
    """Log to stderr, always: stdout belongs to the protocol. Who reads it may go, and the work goes on."""
    handler = RichHandler(console=Console(file=pipe_tolerant(sys.stderr)), show_path=False)
    handler.setFormatter(logging.Formatter("%(message)s", datefmt="%X"))
    logging.basicConfig(level=logging.WARNING, handlers=[BackgroundHandler(handler)])
    logging.getLogger("invoice_mcp").setLevel(logging.DEBUG if verbose else logging.INFO)


class BackgroundHandler(logging.Handler):
    """Bounds each record and hands it to another handler in a thread of its own: whoever logs never waits for that.

    The event loop that logs also runs the worker and hears the signals.
    """

    def __init__(self, target: logging.Handler, *, max_queued: int = MAX_QUEUED) -> None:
        super().__init__()
        self._target = target
        self._queue: queue.Queue[logging.LogRecord] = queue.Queue(max_queued)
        self._dropped = 0
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record, or count it where too many wait."""
        try:
            self._queue.put_nowait(bounded(record))
        except queue.Full:
            self._dropped += 1
        except Exception:  # noqa: BLE001 (as every handler: a message that can't be formatted is told by logging)
            self.handleError(record)
        if self._thread is None:
            # A daemon: if its stream blocks for ever, it ends with the process.
            self._thread = threading.Thread(target=self._write, name="log", daemon=True)
            self._thread.start()

    def flush(self) -> None:
        """Wait until all is written that was logged, but not long."""
        done = self._queue.all_tasks_done
        with done:
            done.wait_for(lambda: not self._queue.unfinished_tasks, _FLUSH_TIMEOUT)

    def _write(self) -> None:
        while True:
            record = self._queue.get()
            # Records are dropped only while others wait: one more is to come that tells it.
            if dropped := self._dropped:
                self._dropped -= dropped
                self._forward(_dropped_record(dropped))
            self._forward(record)
            self._queue.task_done()

    def _forward(self, record: logging.LogRecord) -> None:
        # Whatever is wrong with one record, the next ones are written.
        with suppress(Exception):
            self._target.handle(record)


def bounded(record: logging.LogRecord) -> logging.LogRecord:
    """A copy with its message on one line of at most MAX_MESSAGE characters, and a bounded traceback."""
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
    # Its lines are cut too: the words of an exception may be one long one.
    return "\n".join(_to_line(line) for line in trace.split("\n"))


def _escape(text: str) -> str:
    """With escapes for line breaks, control characters, and whatever else can't be seen or turns the text around."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def _dropped_record(count: int) -> logging.LogRecord:
    text = f"{count} messages are missing here: they came faster than they could be written"
    return logging.makeLogRecord({"msg": text, "levelno": logging.WARNING, "levelname": "WARNING", "name": __name__})
