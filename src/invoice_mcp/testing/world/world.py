"""The world of one scenario: its actions and observations. At its end invoices run to completion and are checked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

from mcp import Client as McpClient
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, ResetReapplyType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import (
    WorkflowExecutionStatus,
    WorkflowQueryFailedError,
)
from temporalio.service import RPCError

from invoice_mcp.domain.report import DEFAULT_APPROVAL_TIMEOUT, DecisionRequest, InvoiceReport, Status, Submission
from invoice_mcp.testing.checker.checker import check
from invoice_mcp.testing.checker.observations import Observations, observe
from invoice_mcp.testing.checker.violations import Violation, Violations
from invoice_mcp.testing.engines.base import HARNESS_TIMEOUT, EngineStuckError
from invoice_mcp.testing.model.actions import ClientInterface
from invoice_mcp.testing.records import ToolRefused
from invoice_mcp.testing.world.base import BaseWorld
from invoice_mcp.testing.world.environment import EnvironmentPool, TestEnvironment
from invoice_mcp.testing.world.quiescence import cancel_open, run_to_quiescence
from invoice_mcp.testing.world.task_client import tool_client
from invoice_mcp.testing.world.tools import Tools
from invoice_mcp.testing.world.waiting import wait_until

_TASK_ENDS = frozenset(
    {
        EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
    }
)
_NO_REAPPLY = ResetReapplyType.RESET_REAPPLY_TYPE_NONE


class World(BaseWorld):
    """What a scenario can do and observe. Use `open_world` to make one.

    The tools are called through a real MCP session with the production server. Methods refer to the last invoice unless
    they get another `workflow_id`. A tool that answers with an error raises `ToolRefused`.

    Attributes:
        erp: The fake ERP, with its faults and its recorded requests.
        payments: The fake gateway, with its faults and its recorded requests.
        approval_timeout: How long invoices that are submitted here wait for a decision.
        workflow_ids: The workflow ids of all invoices that were submitted here or added by `track`.
        resets: The workflow id of each reset, in order.

    Example:
        world.payments.loses_the_answer(line=2)
        await world.submit(("100", PAST_DUE), ("250", await world.due_in(DAY)))
        await world.approve()
        await world.advance(2 * DAY)
        await world.until("PAID")
    """

    def __init__(
        self,
        environment: TestEnvironment,
        client: McpClient,
        *,
        approval_timeout: timedelta,
        client_interface: ClientInterface = "tools",
    ) -> None:
        super().__init__(environment.engine, environment.ports.erp, environment.ports.payments)
        self._environment = environment
        self._tools = tool_client(client_interface, client)
        self.approval_timeout = approval_timeout
        self.resets: list[str] = []

    # -- the tools, through MCP ----------------------------------------------------------------------------

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call any tool with any arguments. Returns the structured content."""
        answer = await self._tools.call(tool, arguments)
        if tool == "trigger":
            self.track(answer["workflow_id"], answer["run_id"])
        return answer

    async def trigger(self, invoice: dict[str, Any] | None = None) -> Submission:
        """Submit an invoice; by default a new one with one line over 100, past due."""
        return Submission.model_validate(await self.call("trigger", invoice=invoice or self.invoice()))

    async def status(self, workflow_id: str = "", **arguments: Any) -> InvoiceReport:
        """Call the tool `status`."""
        return await self._report("status", workflow_id, **arguments)

    async def approve(self, workflow_id: str = "", *, by: str = "Ann", **arguments: Any) -> InvoiceReport:
        """Call the tool `approve`."""
        return await self._report("approve", workflow_id, approver=by, **arguments)

    async def reject(self, workflow_id: str = "", *, by: str = "Bob", **arguments: Any) -> InvoiceReport:
        """Call the tool `reject`."""
        return await self._report("reject", workflow_id, approver=by, **arguments)

    async def cancel(self, workflow_id: str = "", **arguments: Any) -> InvoiceReport:
        """Call the tool `cancel`."""
        return await self._report("cancel", workflow_id, **arguments)

    async def list(self, **arguments: Any) -> list[dict[str, Any]]:
        """Call the tool `list`. Returns its entries."""
        found: list[dict[str, Any]] = (await self.call("list", **arguments))["invoices"]
        return found

    async def refusal(self, call: Awaitable[object]) -> ToolRefused:
        """The error of a call that must be refused: `await world.refusal(world.approve())`."""
        return await self._tools.refusal(call)

    async def _report(self, tool: str, workflow_id: str, **arguments: Any) -> InvoiceReport:
        which = workflow_id or self.workflow_id
        return InvoiceReport.model_validate(await self.call(tool, workflow_id=which, **arguments))

    # -- without the tools --------------------------------------------------------------------------------

    async def submit(self, *lines: tuple[str, str], until: str = Status.PENDING_APPROVAL, **fields: Any) -> str:
        """Submit a new invoice with these lines and wait until it has a status. Returns its workflow id."""
        workflow_id = (await self.trigger(self.invoice(*lines, **fields))).workflow_id
        await self.until(until)
        return workflow_id

    async def signal(self, name: str, workflow_id: str = "") -> None:
        """Send a signal of the original sample, ApproveInvoice or RejectInvoice, without the MCP server.

        Raises:
            temporalio.service.RPCError: NOT_FOUND, for a closed invoice.
        """
        await self.handle(workflow_id).signal(name)

    async def raw_update(self, name: str, workflow_id: str = "", *, by: str = "Mallory") -> None:
        """Send an update of the workflow, approve or reject, without the MCP server.

        Raises:
            temporalio.client.WorkflowUpdateFailedError: The workflow refuses it. Its cause's type is the error code.
            temporalio.service.RPCError: NOT_FOUND, for a closed invoice.
        """
        await self.handle(workflow_id).execute_update(name, DecisionRequest(by=by))

    async def reset(self, workflow_id: str = "", *, reapplies: bool = False) -> str:
        """Reset the newest run to its beginning, without the MCP server. Returns the id of the new run.

        Args:
            reapplies: Reapply the signals and updates of the old run, which is Temporal's default.

        Raises:
            temporalio.service.RPCError: NOT_FOUND, without such an invoice; UNIMPLEMENTED on the time-skipping server.
        """
        handle = self.handle(workflow_id)
        tasks = [event.event_id async for event in handle.fetch_history_events() if event.event_type in _TASK_ENDS]
        before = (await handle.describe()).run_id
        kind = ResetReapplyType.RESET_REAPPLY_TYPE_ALL_ELIGIBLE if reapplies else _NO_REAPPLY
        answer = await self.client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=self.client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=handle.id),
                reason="an attack",
                workflow_task_finish_event_id=tasks[0],
                request_id=str(uuid4()),
                reset_reapply_type=kind,
            )
        )
        self.resets.append(handle.id)
        self._add_run(handle.id, answer.run_id)
        self._tools.follow_reset(handle.id, before, answer.run_id)
        return answer.run_id

    async def advance(self, span: timedelta) -> None:
        """Let time pass for every invoice of this world. Slow ports answer first.

        Without a worker, time passes only until the next task: it does not skip over tasks that wait.
        """
        await self.ports_answer()
        await self.engine.advance(span, self.workflow_ids)

    async def crash_worker(self) -> None:
        """Stop the worker, so that every workflow must be replayed.

        The time-skipping server can't run without a worker. There, the workflows are evicted from the cache instead.
        """
        await self._environment.crash_worker()

    async def restart_worker(self) -> None:
        """Start the worker unless it is running."""
        await self._environment.start_worker()

    async def until(self, *statuses: str, workflow_id: str = "", within: float = HARNESS_TIMEOUT) -> InvoiceReport:
        """Wait until the invoice has one of these statuses, without advancing the clock. Returns its report."""
        which = workflow_id or self.workflow_id
        seen: list[InvoiceReport] = []

        async def is_there() -> bool:
            seen.append(await self.read_report(which))
            return seen[-1].status in statuses

        what = f"{which} to become {' or '.join(statuses)}"
        await wait_until(is_there, what, self._describe_state, within=within, pause=0.004)
        return seen[-1]

    async def read_report(self, workflow_id: str = "") -> InvoiceReport:
        """The report: by query for an open invoice, which is cheaper than a tool call; by `status` for a closed one."""
        handle = self.handle(workflow_id)
        if (await handle.describe()).status is WorkflowExecutionStatus.RUNNING:
            try:
                self._last_report = await handle.query(
                    "GetInvoiceReport", result_type=InvoiceReport, rpc_timeout=timedelta(seconds=HARNESS_TIMEOUT)
                )
            except WorkflowQueryFailedError as error:
                # Its replay is nondeterministic.
                detail = f"can't be queried any more: {error}"
                raise Violations([Violation("S9", handle.id, detail)]) from None
        else:
            self._last_report = await self.status(handle.id)
        return self._last_report

    _last_report: InvoiceReport | None = None

    def _describe_state(self) -> str:
        return self._last_report.summary if self._last_report else "its report could not be read"

    # -- observations -------------------------------------------------------------------------------------

    def track(self, workflow_id: str, run_id: str = "") -> None:
        """Add a workflow to the invoices of this world: methods refer to it, and it is checked at the end."""
        self._track(workflow_id, run_id)

    @property
    def tools(self) -> Tools:
        """The client of the tools, with the journal of all calls."""
        return self._tools

    @property
    def task_queue(self) -> str:
        """The task queue of the worker."""
        return self._environment.task_queue

    async def observe(self) -> Observations:
        """Collect the observations of all invoices, for `check`."""
        observed = await observe(
            self.client, self._runs, report=self.status, ledger=self.ledger, attempts=tuple(self.payments.answered)
        )
        # The calls of `status` above are observations, too, so take the answers last.
        return replace(
            observed,
            answers=tuple(self._tools.answers),
            asked=tuple(self.erp.asked),
            approval_timeout=self.approval_timeout,
            forms=tuple(self._tools.forms),
            lists_all=self.engine.can_list and not self.engine.reaction_time,
        )


async def _remaining_violations(world: World) -> list[Violation]:
    """Other violations in a world with invoices that do not end, as far as they can be observed."""
    try:
        await cancel_open(world)
        observed = await world.observe()
    except (EngineStuckError, RPCError):
        # At least the answers of the tools can be checked.
        observed = Observations((), (), tuple(world.tools.answers))
    return check(observed)


@asynccontextmanager
async def open_world(
    pool: EnvironmentPool,
    *,
    protocol_mode: str = "auto",
    client_interface: ClientInterface = "tools",
    approval_timeout: timedelta = DEFAULT_APPROVAL_TIMEOUT,
    signals_approve: bool = False,
    run_to_end: bool = True,
    seed: int | None = None,
) -> AsyncIterator[World]:
    """Open a world for one scenario. At the end of its block every invoice runs to its end, and the checker runs.

    Args:
        pool: Provides the test environment.
        protocol_mode: The MCP protocol of the client: "auto" (the current one) or "legacy".
        client_interface: Whether the client submits, decides and cancels with the plain tools or with MCP tasks.
        approval_timeout: How long invoices wait for a decision.
        signals_approve: Whether the signal ApproveInvoice approves; see `Policy`.
        run_to_end: Whether open invoices run to their end. Otherwise they are cancelled.
        seed: See `Engine.shuffle`.

    Raises:
        Violations: The scenario broke a rule (S1 to S10, L1).

    Example:
        async with EnvironmentPool(kinds()["simulated"]) as pool, open_world(pool) as world:
            await world.submit(("100", PAST_DUE))
            await world.reject()
    """
    async with pool.take() as environment:
        environment.engine.shuffle(seed)
        client = await environment.client(
            protocol_mode, approval_timeout, client_interface, signals_approve=signals_approve
        )
        world = World(environment, client, approval_timeout=approval_timeout, client_interface=client_interface)
        try:
            yield world
            found = await run_to_quiescence(world) if run_to_end else []
            if found:
                found += await _remaining_violations(world)
            else:
                await cancel_open(world)
                found = check(await world.observe())
        except BaseException:
            # Nothing of this world may block the clock of the next one.
            with suppress(Exception):
                await cancel_open(world)
            environment.is_broken = True
            raise
        if found:
            environment.is_broken = True
            raise Violations(found)
