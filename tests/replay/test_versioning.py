"""The worked example of `versioning/`: which form of a change the gate lets pass, over which recordings."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import pytest_asyncio
from temporalio import activity
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from invoice_mcp.testing.histories import Fault, Recording
from tests.replay.playing import replay
from tests.replay.versioning.before import Before
from tests.replay.versioning.deprecated import Deprecated
from tests.replay.versioning.guarded import Guarded
from tests.replay.versioning.removed import Removed
from tests.replay.versioning.unguarded import Unguarded
from tests.requirements import requirement


@activity.defn
async def reserve(what: str) -> None: ...


@activity.defn
async def tell_customer(what: str) -> None: ...


async def record(client: Client, workflow: type) -> Recording:
    """An order that waits to be paid."""
    name = f"orders-{os.getpid()}-{workflow.__name__}"
    async with Worker(client, task_queue=name, workflows=[workflow], activities=[reserve, tell_customer]):
        handle = await client.start_workflow("Order", "a lamp", id=name, task_queue=name)
        async with asyncio.timeout(20):
            while sum(e.HasField("workflow_task_completed_event_attributes") for e in await events(handle)) < 2:
                await asyncio.sleep(0.01)
        recording = Recording.of(await handle.fetch_history())
        await handle.terminate()
    return recording


async def events(handle: WorkflowHandle[Any, Any]) -> Sequence[HistoryEvent]:
    return (await handle.fetch_history()).events


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def orders(real_client: Client) -> Mapping[str, Recording]:
    """Orders that wait to be paid, by the code that began them."""
    return {kind.__name__: await record(real_client, kind) for kind in (Before, Guarded, Deprecated)}


# Which code takes over orders that were begun by which.
PASSES: dict[type, set[str]] = {
    Before: {"Before"},
    Unguarded: {"Deprecated"},  # to which it is the same as Removed
    Guarded: {"Before", "Guarded", "Deprecated"},
    Deprecated: {"Guarded", "Deprecated"},
    Removed: {"Deprecated"},
}


@requirement("HISTORY-PATCH")
@pytest.mark.parametrize("workflow", PASSES, ids=lambda workflow: workflow.__name__)
async def test_a_change_passes_where_it_is_guarded_as_long_as_it_has_to_be(
    workflow: type, orders: Mapping[str, Recording]
) -> None:
    outcomes = await replay(orders, [workflow])
    assert {name for name, outcome in outcomes.items() if not outcome.problem and not outcome.drift} == PASSES[workflow]


@requirement("HISTORY-PATCH")
async def test_an_unguarded_change_is_told_with_the_patch_that_would_guard_it(orders: Mapping[str, Recording]) -> None:
    problem = (await replay(orders, [Unguarded]))["Before"].problem
    assert problem is not None
    assert problem.fault is Fault.NONDETERMINISM
    assert problem.detail == (
        "recorded: event 5: ScheduleActivity reserve (1)\nnow:      ScheduleActivity tell_customer (1)"
    )
    assert "if workflow.patched(" in problem.advice


@requirement("HISTORY-PATCH")
async def test_a_patch_removed_too_early_is_told_by_its_name(orders: Mapping[str, Recording]) -> None:
    problem = (await replay(orders, [Removed]))["Guarded"].problem
    assert problem is not None
    assert problem.fault is Fault.NONDETERMINISM
    assert 'workflow.deprecate_patch("tell-the-customer")' in problem.advice
