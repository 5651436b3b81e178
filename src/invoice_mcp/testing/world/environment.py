"""The test environment of worlds: an engine, a worker with fake ports, the MCP server and its clients."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any, Self

from mcp import Client

from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.report import PaymentOrder, PaymentReceipt
from invoice_mcp.server.tools import build_server
from invoice_mcp.service.invoice_service import InvoiceService
from invoice_mcp.temporal.probe import Probe
from invoice_mcp.testing.engines.base import Engine, EngineStuckError, EngineWorker
from invoice_mcp.testing.engines.registry import EngineKind
from invoice_mcp.testing.model.actions import ClientInterface
from invoice_mcp.testing.world.fakes import RecordingPayments, ScriptedErp
from invoice_mcp.testing.world.lifespan import TaskOwnedContext
from invoice_mcp.testing.world.schema_cache import cache_output_validation
from invoice_mcp.testing.world.task_client import extensions
from invoice_mcp.workflow.worker import WORKFLOWS

_numbers = itertools.count(1)


class _Ports:
    """The ports of the shared worker. They delegate to the fakes of the current world."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.renew()

    def renew(self) -> None:
        self.erp, self.payments = ScriptedErp(), RecordingPayments(self._engine.call_context)

    async def validate(self, invoice: Invoice) -> None:
        await self.erp.validate(invoice)

    async def pay(self, order: PaymentOrder) -> PaymentReceipt:
        return await self.payments.pay(order)


class TestEnvironment:
    """An engine, a worker, the MCP server and its clients, which consecutive worlds share.

    Attributes:
        task_queue: The task queue, unique among environments.
        is_broken: Whether an earlier world left something behind that can't be ended.
    """

    __test__ = False
    """No test class: pytest collects classes with this prefix."""

    def __init__(self, engine: Engine, workflows: Sequence[type] = WORKFLOWS, *, sandboxed: bool = True) -> None:
        self.engine = engine
        self.task_queue = f"world-{next(_numbers)}"
        self.ports = _Ports(engine)
        self.is_broken = False
        self._workflows = workflows
        self._sandboxed = sandboxed
        self._worker: TaskOwnedContext[EngineWorker] | None = None
        self._clients: dict[tuple[str, timedelta, ClientInterface, bool], TaskOwnedContext[Client]] = {}
        self._shapes: set[tuple[str, Any]] = set()

    async def client(
        self,
        protocol_mode: str,
        approval_timeout: timedelta,
        client_interface: ClientInterface = "tools",
        *,
        signals_approve: bool = False,
    ) -> Client:
        """An MCP client of the production server. Clients are cached, as hosts keep their sessions."""
        key = (protocol_mode, approval_timeout, client_interface, signals_approve)
        if key not in self._clients:
            service = InvoiceService(
                self.engine.client,
                approval_timeout=approval_timeout,
                signals_approve=signals_approve,
                task_queue=self.task_queue,
                probe=Probe(self.engine.client, task_queue=self.task_queue),
            )
            client = Client(build_server(service), mode=protocol_mode, extensions=extensions(client_interface))
            self._clients[key] = await TaskOwnedContext.open(client)
            if not self._sandboxed:
                # Without the sandbox, speed matters more.
                cache_output_validation(client, self._shapes)
        return self._clients[key].value

    @property
    def has_worker(self) -> bool:
        """Whether the worker is running."""
        return self._worker is not None

    async def start_worker(self) -> None:
        """Start the worker unless it is running."""
        if self._worker is None:
            self._worker = await TaskOwnedContext.open(
                self.engine.worker(self.ports, self.ports, self._workflows, self.task_queue, sandboxed=self._sandboxed)
            )

    async def crash_worker(self) -> None:
        """Stop the worker if the engine can run without one; otherwise evict every workflow from its cache."""
        if self.engine.can_run_without_worker:
            await self.end_worker()
        elif self._worker is not None:
            await self._worker.value.evict_all()

    async def end_worker(self) -> None:
        """Stop the worker if it is running. Its cache is lost."""
        if self._worker is not None:
            worker, self._worker = self._worker, None
            await worker.close()

    async def close(self) -> None:
        """Stop the worker and close the clients. The engine belongs to the caller."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.end_worker)
            for context in self._clients.values():
                stack.push_async_callback(context.close)


@asynccontextmanager
async def _open_environment(
    kind: EngineKind, workflows: Sequence[type], *, sandboxed: bool
) -> AsyncIterator[TestEnvironment]:
    async with kind.start() as engine:
        environment = TestEnvironment(engine, workflows, sandboxed=sandboxed)
        try:
            yield environment
        finally:
            await environment.close()


class EnvironmentPool:
    """Provides a test environment for one world at a time, and replaces it when it is broken or needs replacement.

    Args:
        kind: The kind of engine.
        workflows: The workflows that the worker runs.
        sandboxed: Run workflows in the SDK's sandbox, as in production. They run several times as fast without it.

    Example:
        async with EnvironmentPool(kinds()["simulated"], sandboxed=False) as pool:
            async with open_world(pool) as world:
                await world.submit()
    """

    def __init__(self, kind: EngineKind, workflows: Sequence[type] = WORKFLOWS, *, sandboxed: bool = True) -> None:
        self.kind = kind
        self.workflows = tuple(workflows)
        self.sandboxed = sandboxed
        self._context: TaskOwnedContext[TestEnvironment] | None = None
        self._is_taken = False

    @asynccontextmanager
    async def take(self) -> AsyncIterator[TestEnvironment]:
        """The environment for one world, with a running worker and new fakes.

        Raises:
            RuntimeError: Another world uses the environment.
        """
        if self._is_taken:
            raise RuntimeError("Another world uses this environment: leave that one before you enter the next.")
        self._is_taken = True
        try:
            environment = await self._usable_environment()
            environment.ports.renew()
            await environment.start_worker()
            yield environment
        except EngineStuckError:
            if self._context is not None:
                self._context.value.is_broken = True
            raise
        finally:
            self._is_taken = False

    async def _usable_environment(self) -> TestEnvironment:
        if self._context is not None and (
            self._context.value.is_broken or self._context.value.engine.needs_replacement()
        ):
            await self.close()
        if self._context is None:
            self._context = await TaskOwnedContext.open(
                _open_environment(self.kind, self.workflows, sandboxed=self.sandboxed)
            )
        return self._context.value

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the environment and its engine. Leaving the pool as a context manager does the same."""
        if self._context is not None:
            context, self._context = self._context, None
            await context.close()
