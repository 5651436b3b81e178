"""The worked example of `versioning/`: which form of a change passes the gate, for which recordings."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from temporal_replay import Fault, Recording
from tests.replay.recorder import replay
from tests.replay.versioning.before import Before
from tests.replay.versioning.deprecated import Deprecated
from tests.replay.versioning.guarded import Guarded
from tests.replay.versioning.removed import Removed
from tests.replay.versioning.unguarded import Unguarded
from tests.requirements import requirement

# For each version of the code, the versions whose open orders it can continue.
PASSES: dict[type, set[str]] = {
    Before: {"Before"},
    Unguarded: {"Deprecated"},  # equivalent to Removed
    Guarded: {"Before", "Guarded", "Deprecated"},
    Deprecated: {"Guarded", "Deprecated"},
    Removed: {"Deprecated"},
}


@requirement("HISTORY-PATCH")
@pytest.mark.parametrize("workflow", PASSES, ids=lambda workflow: workflow.__name__)
async def test_a_change_passes_while_it_is_guarded_as_long_as_needed(
    workflow: type, orders: Mapping[str, Recording]
) -> None:
    outcomes = await replay(orders, [workflow])
    assert {name for name, outcome in outcomes.items() if not outcome.problem and not outcome.drift} == PASSES[workflow]


@requirement("HISTORY-PATCH")
async def test_an_unguarded_change_is_reported_with_the_patch_that_would_guard_it(
    orders: Mapping[str, Recording],
) -> None:
    problem = (await replay(orders, [Unguarded]))["Before"].problem
    assert problem is not None
    assert problem.fault is Fault.NONDETERMINISM
    assert problem.detail == (
        "recorded: event 5: ScheduleActivity reserve (1)\nnow:      ScheduleActivity tell_customer (1)"
    )
    assert "if workflow.patched(" in problem.advice


@requirement("HISTORY-PATCH")
async def test_a_patch_removed_too_early_is_reported_by_name(orders: Mapping[str, Recording]) -> None:
    problem = (await replay(orders, [Removed]))["Guarded"].problem
    assert problem is not None
    assert problem.fault is Fault.NONDETERMINISM
    assert 'workflow.deprecate_patch("tell-the-customer")' in problem.advice
