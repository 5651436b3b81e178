"""The clock of the event queue."""

from __future__ import annotations

import itertools

import pytest

from temporal_simulator import Simulation
from temporal_simulator.event_queue import Event, EventQueue
from tests.requirements import requirement

MICROSECOND = 1000


def make_event() -> Event:
    return Event("something", "run", lambda: None)


@requirement("ENGINES-AGREE")
@pytest.mark.parametrize("time", [1, 999, 1000, 1001, 2500])
def test_times_are_rounded_up_to_whole_microseconds(time: int) -> None:
    """Programs disagree about finer times, because some round and others truncate."""
    event_queue = EventQueue(0)
    event_queue.schedule(time, make_event())
    due = event_queue.next_time()
    assert due is not None
    assert time <= due < time + MICROSECOND
    assert due % MICROSECOND == 0
    event_queue.advance_to(time)
    assert event_queue.now == due
    assert event_queue.next_time() is None


@requirement("ENGINES-AGREE")
def test_times_stay_whole_microseconds_with_a_floating_point_clock() -> None:
    simulation = Simulation()
    began = simulation.event_queue.now
    for number in itertools.chain(range(1, 50), (0.1, 1 / 3, 1e-7)):
        simulation.pass_time(0.003 * 1.5**number)
        assert simulation.event_queue.now % MICROSECOND == 0
    assert simulation.event_queue.now > began
