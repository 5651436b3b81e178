"""Exploring: every life there is, each state once, and everything that led to one is lived to an end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from temporal_simulator import ChoiceSequence, ExplorationStats, explore, replay_path


def shuffling(
    letters: str, ends: list[str], state: Callable[[str], object] = lambda word: "".join(sorted(word))
) -> Callable[[ChoiceSequence], Awaitable[None]]:
    """Lives in which letters come in any order. What has come counts, and not in which order."""

    async def live(branches: ChoiceSequence) -> None:
        word = ""
        while left := [letter for letter in letters if letter not in word]:
            word += branches.choose(left, lambda: state(word))  # noqa: B023 (asked at once)
        ends.append(word)
        assert not word.startswith("cba"), word

    return live


async def test_every_order_is_lived_where_order_counts() -> None:
    ends: list[str] = []
    found = await explore(shuffling("abd", ends, state=lambda word: word))
    assert sorted(ends) == ["abd", "adb", "bad", "bda", "dab", "dba"]
    # The last letter is no choice, but a state.
    assert found == ExplorationStats(states=1 + 3 + 6, executions=6)


async def test_a_state_that_was_seen_before_is_gone_on_from_in_one_way_only() -> None:
    ends: list[str] = []
    found = await explore(shuffling("abde", ends))
    assert found.states == 2**4 - 1
    # One for each edge of the cube that is no state's first.
    assert found.executions == len(ends) == 1 + 4 * 8 - (2**4 - 1)
    assert all(len(word) == 4 for word in ends)


async def test_what_is_wrong_with_the_way_to_a_known_state_is_seen() -> None:
    """Three letters that came in another order before are a known state; that these were wrong shows at the end."""
    ends: list[str] = []
    with pytest.raises(AssertionError, match="cba") as wrong:
        await explore(shuffling("abcd", ends))
    assert any(sorted(word[:3]) == ["a", "b", "c"] for word in ends[:-1])
    [note] = wrong.value.__notes__
    path = tuple(int(branch) for branch in note.removeprefix("Its path: ").split())
    with pytest.raises(AssertionError, match=ends[-1]):
        await replay_path(shuffling("abcd", ends), path)


async def test_whoever_wants_to_is_told_after_each_life() -> None:
    told: list[tuple[int, int]] = []
    await explore(shuffling("ab", []), on_execution=lambda stats: told.append((stats.executions, stats.states)))
    assert told == [(1, 2), (2, 3)]
