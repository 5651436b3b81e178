"""Work that several processes share, and what they tell meanwhile."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

SPAWN = multiprocessing.get_context("spawn")
"""Whose processes begin with nothing of this one. What they share is made by it, too."""

_ENDS_WITHIN = 5.0


class ProcessDiedError(Exception):
    """A process ended before its share of the lives was lived."""


def run_in_processes(work: Callable[..., None], shares: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """Have each share worked on in a process of its own, and pass on everything that these tell, until all are done.

    Whoever stops listening ends them. They never see Ctrl-C, which a terminal sends to all: it is for this one.

    Args:
        work: Is called there with a function that tells something, and what is in the share.

    Raises:
        ProcessDiedError: As its name says.
        Exception: What one of them raised.
    """
    ears, processes = [], []
    try:
        for share in shares:
            ear, mouth = SPAWN.Pipe(duplex=False)
            process = SPAWN.Process(target=_life, args=(work, share, mouth), daemon=True)
            with _deaf_to_ctrl_c():
                process.start()
            # Else nobody would notice that the process has ended.
            mouth.close()
            ears.append(ear)
            processes.append(process)
        yield from _listen(ears)
        for process in processes:
            process.join(_ENDS_WITHIN)
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
                process.join(_ENDS_WITHIN)


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """A process that begins in here is deaf to Ctrl-C from its birth; what comes meanwhile, this one hears afterwards.

    If it only ignored it in its own code, it would be interrupted in the imports before that.
    """
    if sys.platform == "win32":
        yield
        return
    # It begins with the first process, and would make this one hear again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _listen(ears: list[Connection]) -> Iterator[Any]:
    while ears:
        for ear in wait(ears):
            assert isinstance(ear, Connection)  # noqa: S101 (nothing else is waited for)
            try:
                heard = ear.recv()
            except EOFError:
                raise ProcessDiedError(
                    "One of the processes died before its share was lived; is there enough memory?"
                ) from None
            if heard is None:
                ears.remove(ear)
            elif isinstance(heard, Exception):
                raise heard
            else:
                yield heard


def _life(work: Callable[..., None], share: tuple[Any, ...], mouth: Connection) -> None:
    """Of a process, the whole of it. Ctrl-C is its parent's to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What scenarios do on purpose is no news, and what breaks is told at the end.
    logging.disable(logging.ERROR)
    with suppress(BrokenPipeError):
        try:
            work(mouth.send, *share)
            mouth.send(None)
        except BrokenPipeError:
            raise
        except Exception as error:  # noqa: BLE001 (whatever it is, it is the parent's to tell)
            mouth.send(error)
