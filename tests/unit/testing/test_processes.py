"""`run_in_processes`: reports arrive, errors are raised, and closing the iterator ends the processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable

import pytest

from invoice_mcp.testing.simulate.process.pool import ProcessDiedError, run_in_processes
from tests.requirements import requirement


def count(report: Callable[[object], None], first: int, last: int) -> None:
    for number in range(first, last):
        report(number)


def run_for_ever(report: Callable[[object], None]) -> None:
    report("begun")
    threading.Event().wait()


def fail(report: Callable[[object], None]) -> None:
    report("begun")
    raise KeyError("lost")


def die(report: Callable[[object], None]) -> None:
    report("begun")
    os._exit(3)


def test_every_report_is_received() -> None:
    assert sorted(run_in_processes(count, [(0, 3), (3, 5)])) == [0, 1, 2, 3, 4]


def test_closing_the_iterator_ends_the_processes() -> None:
    reports = run_in_processes(run_for_ever, [(), ()])
    assert next(reports) == "begun"
    reports.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []


def test_an_exception_in_one_process_is_raised_and_ends_the_others() -> None:
    with pytest.raises(KeyError, match="lost"):
        list(run_in_processes(fail, [()]))
    assert multiprocessing.active_children() == []


def test_the_death_of_a_process_is_an_error() -> None:
    with pytest.raises(ProcessDiedError, match="died before it finished its share"):
        list(run_in_processes(die, [()]))


@requirement("SIMULATE-CLI")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal masks")
def test_processes_ignore_ctrl_c_even_while_they_start() -> None:
    # Not at the top: the children of the other tests would import it, too.
    from tests.unit.testing.interrupted_import import report_alive  # noqa: PLC0415

    # A process that a shell starts in the background ignores SIGINT, and this test may run there.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        assert list(run_in_processes(report_alive, [(), ()])) == ["alive", "alive"]
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    finally:
        signal.signal(signal.SIGINT, handler)
