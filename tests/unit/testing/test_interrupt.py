"""Ctrl-C asks for an end, and is never lost: not where no exception can be raised, and not in another process."""

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
def ctrl_c_as_usual() -> Iterator[None]:
    """What a shell runs in the background ignores it from its birth, and these tests may be run there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


@requirement("SIMULATE-CLI")
def test_the_first_ctrl_c_asks_and_the_second_interrupts() -> None:
    with stop_on_ctrl_c() as stop:
        asked = [stop.is_set]
        press_ctrl_c()
        assert [*asked, stop.is_set] == [False, True]
        with pytest.raises(KeyboardInterrupt):
            press_ctrl_c()
        # Code that catches everything may have caught that: the third is for the operating system.
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Anything:
    pass


@requirement("SIMULATE-CLI")
def test_it_is_not_lost_where_nothing_can_be_raised() -> None:
    with stop_on_ctrl_c() as stop:
        anything = Anything()
        watched = weakref.ref(anything, lambda _: press_ctrl_c())
        del anything
        assert watched() is None
        assert stop.is_set


def test_whoever_takes_ctrl_c_otherwise_goes_on_doing_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stop_on_ctrl_c() as stop:
        press_ctrl_c()
        assert not stop.is_set
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_outside_of_the_main_thread_nothing_is_changed() -> None:
    found: list[object] = []

    def elsewhere() -> None:
        with stop_on_ctrl_c() as stop:
            found.append((stop.is_set, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(10)
    assert found == [(False, signal.default_int_handler)]


def waits_until_asked(tell: Callable[[object], None], stop: StopFlag) -> None:
    tell("begun")
    pause = threading.Event()
    while not stop.is_set:
        pause.wait(0.01)
    tell("asked")


def test_other_processes_see_it_too() -> None:
    stop = StopFlag().share()
    heard = run_in_processes(waits_until_asked, [(stop,)])
    assert next(heard) == "begun"
    stop.set()
    assert list(heard) == ["asked"]


def test_what_was_asked_before_it_is_shared_stays_asked() -> None:
    stop = StopFlag()
    stop.set()
    assert stop.share().is_set
