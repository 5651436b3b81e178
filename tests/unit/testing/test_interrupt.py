"""Ctrl-C sets the stop flag, also where no exception can be raised, and in other processes."""

from __future__ import annotations

import signal
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest

from invoice_mcp.testing.simulate.process.interrupt import StopFlag, stop_on_ctrl_c
from invoice_mcp.testing.simulate.process.pool import run_in_processes
from tests.requirements import requirement


@pytest.fixture(autouse=True)
def default_sigint_handler() -> Iterator[None]:
    """A process that a shell starts in the background ignores SIGINT, and these tests may run there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


@requirement("SIMULATE-CLI")
def test_the_first_ctrl_c_sets_the_flag_and_the_second_interrupts() -> None:
    with stop_on_ctrl_c() as stop:
        before = stop.is_set
        press_ctrl_c()
        assert (before, stop.is_set) == (False, True)
        with pytest.raises(KeyboardInterrupt):
            press_ctrl_c()
        # Code that catches everything may catch the second one. The third one kills the process.
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Referent:
    pass


@requirement("SIMULATE-CLI")
def test_ctrl_c_is_not_lost_where_no_exception_can_be_raised() -> None:
    with stop_on_ctrl_c() as stop:
        referent = Referent()
        watched = weakref.ref(referent, lambda _: press_ctrl_c())
        del referent
        assert watched() is None
        assert stop.is_set


def test_another_sigint_handler_is_kept() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stop_on_ctrl_c() as stop:
        press_ctrl_c()
        assert not stop.is_set
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_outside_of_the_main_thread_the_handler_is_kept() -> None:
    found: list[object] = []

    def elsewhere() -> None:
        with stop_on_ctrl_c() as stop:
            found.append((stop.is_set, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(10)
    assert found == [(False, signal.default_int_handler)]


def wait_for_flag(report: Callable[[object], None], stop: StopFlag) -> None:
    report("begun")
    pause = threading.Event()
    while not stop.is_set:
        pause.wait(0.01)
    report("set")


def test_other_processes_see_the_flag() -> None:
    stop = StopFlag().share()
    reports = run_in_processes(wait_for_flag, [(stop,)])
    assert next(reports) == "begun"
    stop.set()
    assert list(reports) == ["set"]


def test_a_flag_that_was_set_before_it_is_shared_stays_set() -> None:
    stop = StopFlag()
    stop.set()
    assert stop.share().is_set
