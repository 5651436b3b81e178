"""Runs shares of a computation in processes that report while they work.

`temporal_replay.replay.pool` can't serve here, nor this one there. That one runs code under test of any project: each
process is a fresh interpreter with its own hash seed, speaks JSON over pipes, and is killed and replaced when one
recording takes too long. This one runs a function of this package, whose processes share counters and a flag.
"""

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
"""Starts each process as a new interpreter. Values that the processes share must be made by this context, too."""

# Seconds for a process to end by itself.
_EXIT_TIMEOUT = 5.0


class ProcessDiedError(Exception):
    """A process ended before it finished its share."""


def run_in_processes(work: Callable[..., None], shares: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """Run each share in a process of its own, and yield everything that the processes report, until all have finished.

    Closing the iterator terminates the processes. They ignore Ctrl-C, which a terminal sends to the whole group: the
    caller handles it.

    Args:
        work: Called in a process with a function that reports an object, and with the elements of the share.

    Raises:
        ProcessDiedError: A process ended before it finished its share.
        Exception: Whatever `work` raised.
    """
    receivers, processes = [], []
    try:
        for share in shares:
            receiver, sender = SPAWN.Pipe(duplex=False)
            process = SPAWN.Process(target=_process_main, args=(work, share, sender), daemon=True)
            with _sigint_blocked():
                process.start()
            # With this end open, the receiver would not see the end of file when the process dies.
            sender.close()
            receivers.append(receiver)
            processes.append(process)
        yield from _receive(receivers)
        for process in processes:
            process.join(_EXIT_TIMEOUT)
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
                process.join(_EXIT_TIMEOUT)


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Block SIGINT, so that a process started here inherits the mask. This process gets a pending SIGINT afterwards.

    Ignoring SIGINT in the process's own code is too late: it would be interrupted in the imports before that.
    """
    if sys.platform == "win32":
        yield
        return
    # Else the first process would start it, which unblocks SIGINT in this process.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _receive(receivers: list[Connection]) -> Iterator[Any]:
    while receivers:
        for receiver in wait(receivers):
            assert isinstance(receiver, Connection)
            try:
                received = receiver.recv()
            except EOFError:
                raise ProcessDiedError(
                    "A process died before it finished its share. Is there enough memory? Try fewer --jobs"
                ) from None
            if received is None:
                receivers.remove(receiver)
            elif isinstance(received, Exception):
                raise received
            else:
                yield received


def _process_main(work: Callable[..., None], share: tuple[Any, ...], sender: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # As `suppress_logging`, for the whole process.
    logging.disable(logging.ERROR)
    with suppress(BrokenPipeError):
        try:
            work(sender.send, *share)
            sender.send(None)
        except BrokenPipeError:
            raise
        except Exception as error:  # noqa: BLE001 (the parent raises it)
            sender.send(error)
