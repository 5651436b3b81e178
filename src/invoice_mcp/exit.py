"""Ends a process at once, with its output flushed."""

from __future__ import annotations

import logging
import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn

# Seconds to flush logs, stdout and stderr.
_FLUSH_TIMEOUT = 2.0


def exit_process(status: int = 0) -> NoReturn:
    """Flush all output, then end the process by `os._exit`.

    A normal end is unreliable once Temporal's SDK has been used. A thread of the SDK that logs while Python shuts down
    aborts the process (temporalio/sdk-python#300), and the exit status is lost. A thread that is blocked in a read of
    stdin, or a replay that hangs, keeps the process alive.
    """
    # In a thread: flushing a pipe that nobody reads blocks for ever.
    flushing = threading.Thread(target=_flush, daemon=True)
    flushing.start()
    flushing.join(_FLUSH_TIMEOUT)
    os._exit(status)


def _flush() -> None:
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or None in a process without that stream
            stream.flush()
