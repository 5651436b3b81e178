"""When the gate counts as too slow compared with Temporal's Replayer. `nox -s bench` does the measuring."""

from __future__ import annotations

import pytest

from tests.bench import replays
from tests.bench.replays import ALL_PLAIN, BARE, PLAIN, ratio, shortfalls


def rounds(*seen: tuple[float, float, float]) -> list[dict[str, float]]:
    return [dict(zip((BARE, PLAIN, ALL_PLAIN), rates, strict=True)) for rates in seen]


def test_one_slow_round_does_not_change_the_median() -> None:
    busy_at_times = rounds((100, 95, 180), (100, 20, 180), (30, 29, 60))
    assert ratio(busy_at_times, PLAIN, BARE) == 0.95
    assert shortfalls(busy_at_times) == []


def test_less_than_nine_tenths_of_the_bare_replayer_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "cores", lambda: 2)
    assert shortfalls(rounds((100, 90, 180))) == []
    assert shortfalls(rounds((100, 89, 180))) == [f"{PLAIN}: 0.89 of the bare Replayer, must be at least 0.9"]


def test_processes_without_a_speedup_are_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "cores", lambda: 2)
    assert shortfalls(rounds((100, 100, 150))) == []
    assert shortfalls(rounds((100, 100, 149))) == [f"{ALL_PLAIN}: 1.49 of one process, must be at least 1.5"]
    monkeypatch.setattr(replays, "cores", lambda: 1)
    assert shortfalls(rounds((100, 95, 95))) == []
