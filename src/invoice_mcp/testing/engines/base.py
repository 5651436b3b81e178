"""The interface between a world and its engine: a Temporal client, a clock that can be advanced, a worker."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Protocol

from temporalio.client import Client

from invoice_mcp.adapters.erp import Erp
from invoice_mcp.adapters.payments import Payments
from invoice_mcp.testing.records import CallContext

HARNESS_TIMEOUT = 30.0
"""Timeout of every operation of the harness, in seconds of real time."""


class EngineStuckError(Exception):
    """An engine call exceeded `HARNESS_TIMEOUT`, though it takes milliseconds. The next world gets a new engine.

    An engine of your own raises it from `Engine.advance`: `raise EngineStuckError("the clock stands still")`.
    """


class EngineWorker(Protocol):
    """A running worker of an engine: the value of the context manager that `Engine.worker` returns.

    A minimal one, for an engine that can run without a worker:

        class MyWorker:
            async def evict_all(self) -> None: ...
    """

    async def evict_all(self) -> None:
        """Evict every workflow from the cache, so that each is replayed at its next task, as after a crash."""
        ...


class Engine(Protocol):
    """A Temporal server, real or simulated, that runs one scenario at a time.

    `invoice_mcp.testing.engines.simulated` is the shortest implementation. Offer yours with `register`.

    Attributes:
        client: A Temporal client, for the MCP server and for a scenario's direct access.
        can_list: Whether `list` works.
        can_run_without_worker: Whether tasks can wait for a worker. Otherwise a crash evicts the workflows instead.
        reaction_time: Seconds of real time that workflows need to progress when no time has to pass for it.
    """

    client: Client
    can_list: bool
    can_run_without_worker: bool
    reaction_time: float

    async def now(self, workflow_id: str | None = None) -> datetime:
        """The time in UTC, of that workflow if each has its own clock."""
        ...

    async def advance(self, span: timedelta, workflow_ids: Sequence[str]) -> None:
        """Let time pass, at least for these workflows and their children. Return when the timers due have fired.

        Raises:
            EngineStuckError: The clock does not advance.
        """
        ...

    def call_context(self) -> CallContext:
        """The time, run and attempt of the activity that calls this. For use in activities only."""
        ...

    def worker(
        self, erp: Erp, payments: Payments, workflows: Sequence[type], task_queue: str, *, sandboxed: bool
    ) -> AbstractAsyncContextManager[EngineWorker]:
        """A worker that polls while the context manager is open. Leaving it does not wait for running tasks.

        Args:
            sandboxed: Run workflows in the SDK's sandbox, as in production. They run several times as fast without it.
        """
        ...

    def shuffle(self, seed: int | None) -> None:
        """Process simultaneous events in a random order from now on.

        Args:
            seed: Seed of the order; None for the usual order. An engine that can't control the order ignores the call.
        """
        ...

    def needs_replacement(self) -> bool:
        """Whether the next world should get a new engine."""
        ...
