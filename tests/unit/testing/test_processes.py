"""Work shared between processes: what they tell is heard, and whoever stops listening ends them."""

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


def counts(tell: Callable[[object], None], first: int, last: int) -> None:
    for number in range(first, last):
        tell(number)


def never_ends(tell: Callable[[object], None]) -> None:
    tell("begun")
    threading.Event().wait()


def fails(tell: Callable[[object], None]) -> None:
    tell("begun")
    raise KeyError("lost")


def dies(tell: Callable[[object], None]) -> None:
    tell("begun")
    os._exit(3)


def test_everything_that_they_tell_is_heard() -> None:
    assert sorted(run_in_processes(counts, [(0, 3), (3, 5)])) == [0, 1, 2, 3, 4]


def test_whoever_stops_listening_ends_them() -> None:
    heard = run_in_processes(never_ends, [(), ()])
    assert next(heard) == "begun"
    heard.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []


def test_what_one_of_them_raises_is_raised_and_ends_the_others() -> None:
    with pytest.raises(KeyError, match="lost"):
        list(run_in_processes(fails, [()]))
    assert multiprocessing.active_children() == []


def test_that_one_of_them_died_is_told() -> None:
    with pytest.raises(ProcessDiedError, match="died before its share was lived"):
        list(run_in_processes(dies, [()]))


@requirement("SIMULATE-CLI")
@pytest.mark.skipif(sys.platform == "win32", reason="there Ctrl-C comes to processes otherwise")
def test_they_never_see_ctrl_c_not_even_while_they_begin() -> None:
    # Not above: the children of the other tests would import it too.
    from tests.unit.testing.born_interrupted import lives  # noqa: PLC0415

    # What a shell runs in the background ignores it from its birth, and this test may be run there.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        assert list(run_in_processes(lives, [(), ()])) == ["alive", "alive"]
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    finally:
        signal.signal(signal.SIGINT, handler)
