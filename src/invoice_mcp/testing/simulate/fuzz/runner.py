"""Runs scenarios in an event loop of their own, for synchronous tests and for many scenarios."""

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
    """Plays scenarios one after another, each to its end, in the event loop that the engine needs.

    On the simulator the loop's time is virtual: a tool that polls for ten seconds takes no real time.

    Example::

        with ScenarioRunner(kinds()["simulated"]) as runner:
            runner.play(Scenario(actions=(Action(verb=Verb.APPROVE),)))

    Attributes:
        kind: The engine.
    """

    def __init__(self, kind: EngineKind, workflows: Sequence[type] = WORKFLOWS, *, sandboxed: bool = True) -> None:
        self.kind = kind
        self._runner = asyncio.Runner(loop_factory=kind.loop_factory)
        self._pool = EnvironmentPool(kind, workflows, sandboxed=sandboxed)

    def run(self, function: Callable[[EnvironmentPool], Awaitable[T]]) -> T:
        """Run a coroutine function that takes the pool of environments, and return its result."""

        async def main() -> T:
            return await function(self._pool)

        return self._runner.run(main())

    def play(self, scenario: Scenario) -> None:
        """See `invoice_mcp.testing.play`."""
        self.run(lambda pool: play(pool, scenario))

    def close(self) -> None:
        """Close the environments and the event loop."""
        try:
            self._runner.run(self._pool.close())
        finally:
            self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
