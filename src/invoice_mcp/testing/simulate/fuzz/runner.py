"""A stage in an event loop of its own: for tests that are no coroutines, and for scenarios by the thousand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Self, TypeVar

from invoice_mcp.testing.engines.registry import EngineKind
from invoice_mcp.testing.model.scenario import Scenario
from invoice_mcp.testing.simulate.fuzz.conformance import play
from invoice_mcp.testing.world.environment import EnvironmentPool
from invoice_mcp.workflow.worker import WORKFLOWS

T = TypeVar("T")


class ScenarioRunner:
    """Plays scenarios one after another, each to its end, in the event loop that suits the engine.

    On the simulator that loop's time is virtual too: a tool that waits a second for something costs nothing.

    Attributes:
        kind: The engine.
    """

    def __init__(self, kind: EngineKind, workflows: Sequence[type] = WORKFLOWS, *, sandboxed: bool = True) -> None:
        self.kind = kind
        self._runner = asyncio.Runner(loop_factory=kind.loop_factory)
        self._keeper = EnvironmentPool(kind, workflows, sandboxed=sandboxed)

    def run(self, scene: Callable[[EnvironmentPool], Awaitable[T]]) -> T:
        """Run a coroutine function that is given the stage."""

        async def main() -> T:
            return await scene(self._keeper)

        return self._runner.run(main())

    def play(self, scenario: Scenario) -> None:
        """As `invoice_mcp.testing.play`."""
        self.run(lambda pool: play(pool, scenario))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        try:
            self._runner.run(self._keeper.close())
        finally:
            self._runner.close()
