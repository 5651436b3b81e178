"""What a World needs of the place where it happens: a Temporal, a clock that can be moved, a worker. The seam."""

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
"""Seconds of real time that anything of the harness may take before it counts as stuck."""


class EngineStuckError(Exception):
    """An engine call exceeded `HARNESS_TIMEOUT`. The next world gets a new engine."""


class EngineWorker(Protocol):
    """The worker of an engine, while it runs."""

    async def evict_all(self) -> None:
        """Put every workflow out of memory: it has to come back by replay, as after a crash."""
        ...


class Engine(Protocol):
    """A Temporal on which one scenario at a time takes place.

    Attributes:
        client: For the MCP server and for what scenarios do behind its back.
        can_list: Whether `list` works.
        can_be_without_worker: Whether work can wait for a worker. Where it can't, a crash is over at once.
        goes_on_within: Seconds of real time in which workflows go on by themselves, where no time need pass for that.
    """

    client: Client
    can_list: bool
    can_run_without_worker: bool
    reaction_time: float

    async def now(self, workflow_id: str | None = None) -> datetime:
        """The time, in UTC: of that workflow, where each has its own clock."""
        ...

    async def advance(self, span: timedelta, workflow_ids: Sequence[str]) -> None:
        """Let time pass, at least for these workflows and their children, and return when what it set off has begun.

        Raises:
            EngineStuckError: Time does not pass.
        """
        ...

    def call_context(self) -> CallContext:
        """When, and for which run, the activity that calls this is executed. Call it inside of an activity only."""
        ...

    def worker(
        self, erp: Erp, payments: Payments, workflows: Sequence[type], task_queue: str, *, sandboxed: bool
    ) -> AbstractAsyncContextManager[EngineWorker]:
        """A worker, polling while the context manager is open. Leaving it waits for nothing that is under way.

        Args:
            sandboxed: Run workflows in the SDK's sandbox, as in production; without, they run several times as fast.
        """
        ...

    def shuffle(self, seed: int | None) -> None:
        """From now on let what could happen in this or that order happen in one of chance, by this seed.

        Args:
            seed: None: in the usual order. An engine whose order is not its own ignores all this.
        """
        ...

    def needs_replacement(self) -> bool:
        """Whether the next world had better get a new one."""
        ...
