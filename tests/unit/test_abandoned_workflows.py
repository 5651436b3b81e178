"""A worker that ends leaves its workflows in memory. The SDK evicts none of them; they are garbage then."""

from __future__ import annotations

from types import CoroutineType
from typing import Any

from invoice_mcp.domain.report import Status
from invoice_mcp.testing import EnvironmentPool, ScenarioRunner, kinds, open_world
from invoice_mcp.testing.engines.simulated import Simulated


def test_an_invoice_that_waits_for_its_decision_can_be_thrown_away() -> None:
    """Python closes its coroutines where they stand, in whatever thread and event loop that is: they may await nothing.

    Which of them it closes first differs; what is wrong is told where it is the one of the SDK around `run`.
    """

    async def waits_and_is_left(pool: EnvironmentPool) -> None:
        async with open_world(pool) as world:
            workflow_id = await world.submit()
            assert isinstance(world.engine, Simulated)
            run = world.engine.simulation.find(workflow_id)
            assert run is not None
            instance, run.tasks.replay._instance = run.tasks.replay._instance, None
            _awaited_by(instance, "InvoiceWorkflow.run").close()
            await world.reject()
            await world.until(Status.REJECTED)

    with ScenarioRunner(kinds()["simulated"], sandboxed=False) as runner:
        runner.run(waits_and_is_left)


def _awaited_by(instance: Any, name: str) -> CoroutineType[Any, Any, Any]:
    """The coroutine of this name that a workflow instance of the SDK waits for."""
    coroutine = instance._primary_task.get_coro()
    while coroutine.__qualname__ != name:
        coroutine = coroutine.cr_await
    assert isinstance(coroutine, CoroutineType)
    return coroutine
