"""The depth-first search executes every path, branches once per state, and runs each execution to its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from temporal_simulator import ChoiceSequence, ExplorationStats, explore, replay_path


def permutations_of(
    alphabet: str, results: list[str], state: Callable[[str], object] = lambda order: "".join(sorted(order))
) -> Callable[[ChoiceSequence], Awaitable[None]]:
    """Executions that choose letters in any order. By default the state is the set of letters, without their order."""

    async def execute(choices: ChoiceSequence) -> None:
        order = ""
        while left := [letter for letter in alphabet if letter not in order]:
            order += choices.choose(left, partial(state, order))
        results.append(order)
        assert not order.startswith("cba"), order

    return execute


async def test_every_order_is_executed_if_the_order_matters() -> None:
    results: list[str] = []
    stats = await explore(permutations_of("abd", results, state=lambda order: order))
    assert sorted(results) == ["abd", "adb", "bad", "bda", "dab", "dba"]
    # The last letter is no choice, but a state.
    assert stats == ExplorationStats(states=1 + 3 + 6, executions=6)


async def test_from_a_visited_state_only_one_branch_is_executed() -> None:
    results: list[str] = []
    stats = await explore(permutations_of("abde", results))
    assert stats.states == 2**4 - 1
    # One for each edge of the hypercube that is not the first into its state.
    assert stats.executions == len(results) == 1 + 4 * 8 - (2**4 - 1)
    assert all(len(order) == 4 for order in results)


async def test_an_error_on_the_path_to_a_visited_state_is_found() -> None:
    """The error depends on the order of the first three letters, of which another order was visited before."""
    results: list[str] = []
    with pytest.raises(AssertionError, match="cba") as wrong:
        await explore(permutations_of("abcd", results))
    assert any(sorted(order[:3]) == ["a", "b", "c"] for order in results[:-1])
    [note] = wrong.value.__notes__
    path = tuple(int(branch) for branch in note.removeprefix("Its path: ").split())
    with pytest.raises(AssertionError, match=results[-1]):
        await replay_path(permutations_of("abcd", results), path)


async def test_progress_is_reported_after_each_execution() -> None:
    reports: list[tuple[int, int]] = []
    await explore(
        permutations_of("ab", []), on_execution=lambda stats: reports.append((stats.executions, stats.states))
    )
    assert reports == [(1, 2), (2, 3)]
