"""A world for any workflow that speaks as the seed does: its signals, its queries, its activities on plain dicts.

The checker knows nothing of how a workflow works, so it can judge others than the product's: an older version, a fork,
a rewrite. Such a workflow takes the invoice as JSON and returns its status as text; nobody tells a report, and what
its activities are given names neither the invoice nor a key for the payment. What is missing is found out here.
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
from invoice_mcp.testing.baseline.activities import BaselineActivities, BaselineNames, accepted
from invoice_mcp.testing.baseline.quiescence import held_up, run_to_quiescence
from invoice_mcp.testing.checker.checker import check
from invoice_mcp.testing.checker.observations import Observations, observe, read_trace
from invoice_mcp.testing.checker.violations import Violations
from invoice_mcp.testing.engines.base import GIVES_UP_AFTER, Engine, EngineStuck
from invoice_mcp.testing.world.base import BaseWorld
from invoice_mcp.testing.world.environment import EnvironmentPool
from invoice_mcp.testing.world.lifespan import TaskOwnedContext
from invoice_mcp.testing.world.waiting import wait_until

# Real time between two looks at what holds up the clock; and for how long tasks must fail to count as failing for ever.
_LOOKS_EVERY = 0.1
_FAILS_FOR = 0.7
_ASKED_WITHIN = timedelta(seconds=10)


class BaselineWorld(BaseWorld):
    """What a scenario can do with such a workflow, and see of it. Made by `open_baseline_world`.

    Attributes:
        ports: The workflow's activities, and how they know whose payment it is.
        erp: The ERP's faults, and what it was asked.
        payments: The gateway's faults, and what it was asked.
    """

    _PREFIX = "SEED"
    _AMOUNT = 100

    def __init__(self, engine: Engine, names: BaselineNames, approval_timeout: timedelta) -> None:
        self._invoices: dict[str, dict[str, Any]] = {}
        self.ports = BaselineActivities(engine, names, self._invoices, self._saw)
        super().__init__(engine, self.ports.erp, self.ports.payments)
        self._names = names
        self.approval_timeout = approval_timeout

    # -- the verbs -----------------------------------------------------------------------------------------

    async def start(self, invoice: dict[str, Any] | None = None, *, workflow_id: str = "") -> str:
        """Start the workflow for an invoice, by default a new one, under an id that is random as the seed's are.

        Raises:
            temporalio.exceptions.WorkflowAlreadyStartedError: A workflow of that id runs.
        """
        invoice = invoice if invoice is not None else self.invoice()
        workflow_id = workflow_id or f"invoice-{uuid4()}"
        before = self._invoices.get(workflow_id, invoice)
        # Known before it runs: its activities ask for it.
        self.watch(workflow_id, invoice)
        try:
            handle = await self.engine.client.start_workflow(
                self._names.workflow, invoice, id=workflow_id, task_queue=self.task_queue
            )
        except WorkflowAlreadyStartedError:
            self._invoices[workflow_id] = before
            raise
        self._saw(workflow_id, handle.result_run_id or "")
        return workflow_id

    def watch(self, workflow_id: str, invoice: dict[str, Any]) -> None:
        """Count a workflow that somebody else starts, for this invoice, to those of this world."""
        self._invoices[workflow_id] = invoice
        self._watch(workflow_id)

    async def signal(self, name: str, workflow_id: str = "") -> bool:
        """Send a signal, such as ApproveInvoice, to an invoice (by default the last one); False if it has ended."""
        try:
            await self.handle(workflow_id).signal(name)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return False
        return True

    async def status(self, workflow_id: str = "") -> str:
        """What GetInvoiceStatus answers; "" where it can't."""
        try:
            answer = await self.handle(workflow_id).query("GetInvoiceStatus", rpc_timeout=_ASKED_WITHIN)
        except WorkflowQueryFailedError:
            return ""
        except RPCError as error:
            # As for a workflow that fails its tasks.
            if error.status not in {RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED}:
                raise
            return ""
        return str(answer)

    async def until(self, *statuses: str, workflow_id: str = "", within: float = GIVES_UP_AFTER) -> str:
        """Wait until an invoice has one of these statuses, without moving the clock, and return it."""
        which, status = workflow_id or self.workflow_id, ""

        async def is_there() -> bool:
            nonlocal status
            status = await self.status(which)
            return status in statuses

        await wait_until(is_there, f"{which} to become {' or '.join(statuses)}", lambda: status, within=within)
        return status

    async def advance(self, span: timedelta) -> None:
        """Let time pass. A slow port answers before.

        Raises:
            EngineStuck: It does not pass, as something fails its tasks for ever.
        """
        await self.ports_answer()
        passing = asyncio.ensure_future(self.engine.advance(span, self.workflow_ids))
        failing_since: float | None = None
        try:
            while not passing.done():
                await asyncio.wait([passing], timeout=_LOOKS_EVERY)
                now = asyncio.get_running_loop().time()
                failing = {} if passing.done() else await self.failing()
                failing_since = (failing_since or now) if failing else None
                if failing_since is not None and now - failing_since >= _FAILS_FOR:
                    raise EngineStuck(f"{', '.join(failing.values())} fails its tasks again and again")
            await passing
        finally:
            passing.cancel()

    # -- what there is to see ------------------------------------------------------------------------------

    @property
    def task_queue(self) -> str:
        """Where the worker polls."""
        return self._names.task_queue or self.name

    async def failing(self) -> dict[str, str]:
        """The invoices of which something fails its tasks now, and what: their own workflow, or a child."""
        found, client = {}, self.engine.client
        for invoice in self._runs:
            unread = [(invoice, "")]
            while unread:
                workflow_id, run_id = unread.pop()
                handle = client.get_workflow_handle(workflow_id, run_id=run_id or None)
                trace = await read_trace(client, handle, self._read)
                unread += [(child, run) for run, child in trace.children.items()]
                if trace.is_failing:
                    found[invoice] = workflow_id
        return found

    async def observe(self) -> Observations:
        """Everything there is to see of every invoice, for `check`."""
        return await observe(
            self.engine.client,
            self._runs,
            ledger=self.ledger,
            read_request=self._read,
            validation=self._names.validate,
        )

    @property
    def invoices(self) -> tuple[AcceptedInvoice, ...]:
        """Every invoice of this world that is complete."""
        return tuple(filter(None, map(accepted, self._invoices.values())))

    def _read(self, request: dict[str, Any]) -> tuple[AcceptedInvoice, timedelta] | None:
        invoice = accepted(request)
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
    """A world for one scenario of workflows that speak as the seed's do.

    When its block has ended well, the ports heal, time passes until nothing is left to wait for, and all is checked.
    A workflow that fails its tasks holds up the clock of the time-skipping server for good: give a keeper, which has
    another engine for the next world then, or an engine that is not used any more.

    Args:
        where: A keeper, or an engine on which nothing else takes place.
        workflows: The workflow and those it starts.
        names: How they are called, if not as the seed's are.
        approval_timeout: How long it promises to wait for a decision.
        activities: Others than the two, if it needs them.
        sandboxed: Run workflows in the SDK's sandbox.

    Raises:
        Violations: The scenario broke a promise (S1 to S9, L1).
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
        except EngineStuck as stuck:
            # The workflow's doing, as a rule: what has come of the scenario so far is judged.
            found = await held_up(world, stuck)
        else:
            found = await run_to_quiescence(world)
        found += check(await world.observe())
    finally:
        world.heal()
        await worker.close()
    if found:
        raise Violations(found)
