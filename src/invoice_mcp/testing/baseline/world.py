"""A world for workflows with the original sample's interface: its signals, queries, and activities on plain dicts.

The checker does not depend on the workflow's implementation: it can check an older version, a fork or a rewrite. Such a
workflow takes the invoice as JSON and returns its status as text. It has no report, and its activities get neither the
invoice nor an idempotency key; this package supplies what the checker needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

from temporalio.client import WorkflowQueryFailedError
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from invoice_mcp.domain.report import DEFAULT_APPROVAL_TIMEOUT, AcceptedInvoice
from invoice_mcp.testing.baseline.activities import BaselineActivities, BaselineNames, accepted_invoice
from invoice_mcp.testing.baseline.quiescence import run_to_quiescence, stuck_clock_violations
from invoice_mcp.testing.checker.checker import check
from invoice_mcp.testing.checker.observations import Observations, fetch_trace, observe
from invoice_mcp.testing.checker.violations import Violations
from invoice_mcp.testing.engines.base import HARNESS_TIMEOUT, Engine, EngineStuckError
from invoice_mcp.testing.world.base import BaseWorld
from invoice_mcp.testing.world.environment import EnvironmentPool
from invoice_mcp.testing.world.lifespan import TaskOwnedContext
from invoice_mcp.testing.world.waiting import wait_until

# Seconds of real time between two checks for failing tasks, and for which tasks must fail to count as failing for ever.
_CHECK_INTERVAL = 0.1
_FAILING_TIMEOUT = 0.7
_QUERY_TIMEOUT = timedelta(seconds=10)


class BaselineWorld(BaseWorld):
    """What a scenario can do with such a workflow, and observe of it. Made by `open_baseline_world`.

    Attributes:
        ports: The workflow's activities.
        erp: The fake ERP: its faults, and its requests.
        payments: The fake gateway: its faults, and its requests.
    """

    _PREFIX = "BASELINE"
    _AMOUNT = 100

    def __init__(self, engine: Engine, names: BaselineNames, approval_timeout: timedelta) -> None:
        self._invoices: dict[str, dict[str, Any]] = {}
        self.ports = BaselineActivities(engine, names, self._invoices, self._add_run)
        super().__init__(engine, self.ports.erp, self.ports.payments)
        self._names = names
        self.approval_timeout = approval_timeout

    # -- the verbs -----------------------------------------------------------------------------------------

    async def start(self, invoice: dict[str, Any] | None = None, *, workflow_id: str = "") -> str:
        """Start the workflow for an invoice, by default a new one, under a random id as the original sample does.

        Raises:
            temporalio.exceptions.WorkflowAlreadyStartedError: A workflow with that id is running.
        """
        invoice = invoice if invoice is not None else self.invoice()
        workflow_id = workflow_id or f"invoice-{uuid4()}"
        before = self._invoices.get(workflow_id, invoice)
        # Before it starts, as its activities look the invoice up.
        self.track(workflow_id, invoice)
        try:
            handle = await self.engine.client.start_workflow(
                self._names.workflow, invoice, id=workflow_id, task_queue=self.task_queue
            )
        except WorkflowAlreadyStartedError:
            self._invoices[workflow_id] = before
            raise
        self._add_run(workflow_id, handle.result_run_id or "")
        return workflow_id

    def track(self, workflow_id: str, invoice: dict[str, Any]) -> None:
        """Add a workflow that the scenario starts by other means, for this invoice."""
        self._invoices[workflow_id] = invoice
        self._track(workflow_id)

    async def signal(self, name: str, workflow_id: str = "") -> bool:
        """Send a signal, such as ApproveInvoice, to an invoice (by default the last one). False if it has ended."""
        try:
            await self.handle(workflow_id).signal(name)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return False
        return True

    async def status(self, workflow_id: str = "") -> str:
        """The answer of the query GetInvoiceStatus; "" if it fails."""
        try:
            answer = await self.handle(workflow_id).query("GetInvoiceStatus", rpc_timeout=_QUERY_TIMEOUT)
        except WorkflowQueryFailedError:
            return ""
        except RPCError as error:
            # A workflow that fails its tasks answers no query.
            if error.status not in {RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED}:
                raise
            return ""
        return str(answer)

    async def until(self, *statuses: str, workflow_id: str = "", within: float = HARNESS_TIMEOUT) -> str:
        """Wait until an invoice has one of these statuses, without moving the clock, and return it."""
        which, status = workflow_id or self.workflow_id, ""

        async def has_status() -> bool:
            nonlocal status
            status = await self.status(which)
            return status in statuses

        await wait_until(has_status, f"{which} to become {' or '.join(statuses)}", lambda: status, within=within)
        return status

    async def advance(self, span: timedelta) -> None:
        """Let time pass. Slow fakes answer before.

        Raises:
            EngineStuck: The clock does not advance, as a workflow fails its tasks for ever.
        """
        await self.ports_answer()
        advancing = asyncio.ensure_future(self.engine.advance(span, self.workflow_ids))
        failing_since: float | None = None
        try:
            while not advancing.done():
                await asyncio.wait([advancing], timeout=_CHECK_INTERVAL)
                now = asyncio.get_running_loop().time()
                failing = {} if advancing.done() else await self.failing()
                failing_since = (failing_since or now) if failing else None
                if failing_since is not None and now - failing_since >= _FAILING_TIMEOUT:
                    raise EngineStuckError(f"{', '.join(failing.values())} fails its tasks for ever")
            await advancing
        finally:
            advancing.cancel()

    # -- observations ------------------------------------------------------------------------------

    @property
    def task_queue(self) -> str:
        """The worker's task queue."""
        return self._names.task_queue or self.name

    async def failing(self) -> dict[str, str]:
        """Invoices with a workflow that fails its tasks now: the id of that workflow, their own or a child's."""
        found, client = {}, self.engine.client
        for invoice in self._runs:
            unread = [(invoice, "")]
            while unread:
                workflow_id, run_id = unread.pop()
                handle = client.get_workflow_handle(workflow_id, run_id=run_id or None)
                trace = await fetch_trace(client, handle, self._read)
                unread += [(child, run) for run, child in trace.children.items()]
                if trace.is_failing:
                    found[invoice] = workflow_id
        return found

    async def observe(self) -> Observations:
        """Observations of every invoice, for `check`."""
        return await observe(
            self.engine.client,
            self._runs,
            ledger=self.ledger,
            read_request=self._read,
            validation=self._names.validate,
        )

    @property
    def invoices(self) -> tuple[AcceptedInvoice, ...]:
        """The complete invoices of this world."""
        return tuple(filter(None, map(accepted_invoice, self._invoices.values())))

    def _read(self, request: dict[str, Any]) -> tuple[AcceptedInvoice, timedelta] | None:
        invoice = accepted_invoice(request)
        return (invoice, self.approval_timeout) if invoice is not None else None


@asynccontextmanager
async def open_baseline_world(
    where: EnvironmentPool | Engine,
    workflows: Sequence[type],
    *,
    names: BaselineNames | None = None,
    approval_timeout: timedelta = DEFAULT_APPROVAL_TIMEOUT,
    activities: Sequence[Callable[..., Any]] = (),
    sandboxed: bool = True,
) -> AsyncIterator[BaselineWorld]:
    """A world for one scenario of workflows with the original sample's interface.

    At the end of the block all faults are removed, time passes until every workflow has ended, and everything is
    checked. A workflow that fails its tasks stops the clock of the time-skipping server for good: pass a pool, which
    then has a new engine for the next world, or an engine that is not used again.

    Args:
        where: A pool of environments, or an engine that runs nothing else.
        workflows: The workflow and its children.
        names: Their names, if they differ from the original sample's.
        approval_timeout: How long the workflow must wait for a decision.
        activities: Further activities that the workflows need.
        sandboxed: Run workflows in the SDK's sandbox.

    Raises:
        Violations: A rule is violated (S1 to S9, L1).
    """
    if isinstance(where, EnvironmentPool):
        async with where.take() as environment:
            try:
                async with open_baseline_world(
                    environment.engine,
                    workflows,
                    names=names,
                    approval_timeout=approval_timeout,
                    activities=activities,
                    sandboxed=sandboxed,
                ) as world:
                    yield world
            except BaseException:
                environment.is_broken = True
                raise
        return
    world = BaselineWorld(where, names or BaselineNames(), approval_timeout)
    options: dict[str, Any] = {} if sandboxed else {"workflow_runner": UnsandboxedWorkflowRunner()}
    worker = await TaskOwnedContext.open(
        Worker(
            where.client,
            task_queue=world.task_queue,
            workflows=workflows,
            activities=[*world.ports.activities(), *activities],
            graceful_shutdown_timeout=timedelta(0),
            **options,
        )
    )
    try:
        try:
            yield world
        except EngineStuckError as stuck:
            # As a rule because of the workflow, so what happened so far is checked.
            found = await stuck_clock_violations(world, stuck)
        else:
            found = await run_to_quiescence(world)
        found += check(await world.observe())
    finally:
        world.heal()
        await worker.close()
    if found:
        raise Violations(found)
