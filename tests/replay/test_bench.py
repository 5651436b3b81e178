"""What of the gate is too slow beside Temporal's own Replayer, by medians. Measured is by `nox -s bench`."""

from __future__ import annotations

import pytest

from tests.bench import replays
from tests.bench.replays import ALL_PLAIN, BARE, PLAIN, ratio, shortfalls


def rounds(*seen: tuple[float, float, float]) -> list[dict[str, float]]:
    return [dict(zip((BARE, PLAIN, ALL_PLAIN), rates, strict=True)) for rates in seen]


def test_a_machine_that_is_busy_for_a_round_decides_nothing() -> None:
    busy_at_times = rounds((100, 95, 180), (100, 20, 180), (30, 29, 60))
    assert ratio(busy_at_times, PLAIN, BARE) == 0.95
    assert shortfalls(busy_at_times) == []


def test_a_gate_that_is_slower_than_nine_tenths_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "cores", lambda: 2)
    assert shortfalls(rounds((100, 90, 180))) == []
    assert shortfalls(rounds((100, 89, 180))) == [f"{PLAIN}: 0.89 of the bare Replayer, must be at least 0.9"]


def test_processes_that_bring_nothing_are_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "cores", lambda: 2)
    assert shortfalls(rounds((100, 100, 150))) == []
    assert shortfalls(rounds((100, 100, 149))) == [f"{ALL_PLAIN}: 1.49 of one process, must be at least 1.5"]
    monkeypatch.setattr(replays, "cores", lambda: 1)
    assert shortfalls(rounds((100, 95, 95))) == []
