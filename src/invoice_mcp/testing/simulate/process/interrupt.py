"""Ctrl-C as a request: what takes long is asked to stop where that is safe, and then tells how far it got."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.sharedctypes import RawValue
from types import FrameType
from typing import Any, Self


class _Flag:
    value = 0


class StopFlag:
    """Whether somebody has asked for an end."""

    def __init__(self) -> None:
        self._flag: Any = _Flag()

    @property
    def is_set(self) -> bool:
        """As its name says."""
        return bool(self._flag.value)

    def ask(self) -> None:
        """Ask for an end."""
        self._flag.value = 1

    def shared(self) -> Self:
        """The same; processes that are given it see it too from now on."""
        # Without a lock: whoever is ended while he holds one would keep it for ever.
        before, self._flag = self._flag, RawValue("b", 0)
        if before.value:
            self.ask()
        return self


@contextmanager
def stop_on_ctrl_c() -> Iterator[StopFlag]:
    """Let the first Ctrl-C ask for an end; the second one is a KeyboardInterrupt, as usual, and the third one kills.

    Python raises that wherever it is, also where nothing can be raised, as in the callback of a weak reference: there
    it is told and lost; and code that catches everything catches it. A request can't be lost. Whoever ignores Ctrl-C,
    or takes it otherwise, goes on doing so.
    """
    stop, usual = StopFlag(), signal.default_int_handler

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            usual(number, frame)
        stop.ask()

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not usual:
        yield stop
        return
    signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, usual)
