"""Ctrl-C as a request: a long computation ends where it is safe to end, and reports its totals so far."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.sharedctypes import RawValue
from types import FrameType
from typing import Any, Self


class _LocalValue:
    value = 0


class StopFlag:
    """A flag that asks for an early end; like `threading.Event`, but processes can share it."""

    def __init__(self) -> None:
        self._flag: Any = _LocalValue()

    @property
    def is_set(self) -> bool:
        """Whether an early end was asked for."""
        return bool(self._flag.value)

    def set(self) -> None:
        """Ask for an early end."""
        self._flag.value = 1

    def share(self) -> Self:
        """Make the flag visible in processes that it is passed to, and return it."""
        # Without a lock: a process that is killed while it holds one would keep it for ever.
        before, self._flag = self._flag, RawValue("b", 0)
        if before.value:
            self.set()
        return self


@contextmanager
def stop_on_ctrl_c() -> Iterator[StopFlag]:
    """Let the first Ctrl-C set a flag. The second one raises KeyboardInterrupt, the third one kills the process.

    Python raises KeyboardInterrupt at any point, also where an exception is only printed, as in a weak reference's
    callback, or is caught by code that catches everything. A flag can't be lost.

    Changes nothing outside of the main thread, or where SIGINT does not have Python's default handler.
    """
    flag, default = StopFlag(), signal.default_int_handler

    def on_sigint(number: int, frame: FrameType | None) -> None:
        if flag.is_set:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            default(number, frame)
        flag.set()

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not default:
        yield flag
        return
    signal.signal(signal.SIGINT, on_sigint)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, default)
