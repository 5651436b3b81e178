"""The World: the verbs a scenario speaks, whatever the engine; at its end it is settled and checked."""

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
    """What a scenario can do and see. Made by `open_world`.

    The tools go through a real MCP session to the production server; `trigger` remembers the invoice, and the other
    tools speak of the last one, unless told another `workflow_id`. A tool that refuses raises `ToolRefused`.

    Attributes:
        erp: The ERP's faults, and what it was asked.
        payments: The gateway's faults, and what it was asked.
        approval_timeout: How long invoices that are triggered here wait for a decision.
        workflow_ids: Of every invoice triggered here, and every one added by `track`.
        resets: The workflow id of each invoice that was reset here, once for each time.
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
        """Call any tool with any arguments; the answer is its structured content."""
        answer = await self._tools.call(tool, arguments)
        if tool == "trigger":
            self.track(answer["workflow_id"], answer["run_id"])
        return answer

    async def trigger(self, invoice: dict[str, Any] | None = None) -> Submission:
        """Submit an invoice; by default a new one of one line over 100, due in the past."""
        return Submission.model_validate(await self.call("trigger", invoice=invoice or self.invoice()))

    async def status(self, workflow_id: str = "", **arguments: Any) -> InvoiceReport:
        """The report, by the tool `status`."""
        return await self._report("status", workflow_id, **arguments)

    async def approve(self, workflow_id: str = "", *, by: str = "Ann", **arguments: Any) -> InvoiceReport:
        """Approve."""
        return await self._report("approve", workflow_id, approver=by, **arguments)

    async def reject(self, workflow_id: str = "", *, by: str = "Bob", **arguments: Any) -> InvoiceReport:
        """Reject."""
        return await self._report("reject", workflow_id, approver=by, **arguments)

    async def cancel(self, workflow_id: str = "", **arguments: Any) -> InvoiceReport:
        """Cancel."""
        return await self._report("cancel", workflow_id, **arguments)

    async def list(self, **arguments: Any) -> list[dict[str, Any]]:
        """The entries of the tool `list`."""
        found: list[dict[str, Any]] = (await self.call("list", **arguments))["invoices"]
        return found

    async def refusal(self, call: Awaitable[object]) -> ToolRefused:
        """How a call is refused that must be: `await world.refusal(world.approve())`."""
        return await self._tools.refusal(call)

    async def _report(self, tool: str, workflow_id: str, **arguments: Any) -> InvoiceReport:
        which = workflow_id or self.workflow_id
        return InvoiceReport.model_validate(await self.call(tool, workflow_id=which, **arguments))

    # -- beside the tools ----------------------------------------------------------------------------------

    async def submit(self, *lines: tuple[str, str], until: str = Status.PENDING_APPROVAL, **fields: Any) -> str:
        """Trigger a new invoice of these lines, wait until it has that status, and return its workflow id."""
        workflow_id = (await self.trigger(self.invoice(*lines, **fields))).workflow_id
        await self.until(until)
        return workflow_id

    async def signal(self, name: str, workflow_id: str = "") -> None:
        """Send one of the seed's signals, ApproveInvoice or RejectInvoice, past the MCP server.

        Raises:
            temporalio.service.RPCError: NOT_FOUND, for an invoice that has ended.
        """
        await self.handle(workflow_id).signal(name)

    async def raw_update(self, name: str, workflow_id: str = "", *, by: str = "Mallory") -> None:
        """Send one of the workflow's updates, approve or reject, past the MCP server.

        Raises:
            temporalio.client.WorkflowUpdateFailedError: The workflow refuses it; its cause's type is the code.
            temporalio.service.RPCError: NOT_FOUND, for an invoice that has ended.
        """
        await self.handle(workflow_id).execute_update(name, DecisionRequest(by=by))

    async def reset(self, workflow_id: str = "", *, reapplies: bool = False) -> str:
        """Reset the newest run to its beginning, past the MCP server; the id of the run that goes on instead.

        Args:
            reapplies: The signals and updates that it had taken come again: what Temporal does by default.

        Raises:
            temporalio.service.RPCError: NOT_FOUND, where there is no such invoice; UNIMPLEMENTED on the test server.
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
        """Let time pass for every invoice of this world. A slow port answers before.

        Without a worker only until the next thing is due: time does not skip over work that waits.
        """
        await self.ports_answer()
        await self.engine.advance(span, self.workflow_ids)

    async def crash_worker(self) -> None:
        """End the worker: every workflow is out of memory, and must come back by replay.

        On the time-skipping server, which can't do without, another worker is there at once.
        """
        await self._environment.crash_worker()

    async def restart_worker(self) -> None:
        """Start it again, if it does not run."""
        await self._environment.start_worker()

    async def until(self, *statuses: str, workflow_id: str = "", within: float = HARNESS_TIMEOUT) -> InvoiceReport:
        """Wait until the invoice has one of these statuses, without moving the clock, and return its report."""
        which = workflow_id or self.workflow_id
        seen: list[InvoiceReport] = []

        async def is_there() -> bool:
            seen.append(await self.read_report(which))
            return seen[-1].status in statuses

        what = f"{which} to become {' or '.join(statuses)}"
        await wait_until(is_there, what, self._describe_state, within=within, pause=0.004)
        return seen[-1]

    async def read_report(self, workflow_id: str = "") -> InvoiceReport:
        """The report; of an invoice that has not ended by the query, which costs less than a tool call."""
        handle = self.handle(workflow_id)
        if (await handle.describe()).status is WorkflowExecutionStatus.RUNNING:
            try:
                self._last_report = await handle.query(
                    "GetInvoiceReport", result_type=InvoiceReport, rpc_timeout=timedelta(seconds=HARNESS_TIMEOUT)
                )
            except WorkflowQueryFailedError as error:
                # It goes otherwise when it is replayed.
                seen = f"can't be asked any more: {error}"
                raise Violations([Violation("S9", handle.id, seen)]) from None
        else:
            self._last_report = await self.status(handle.id)
        return self._last_report

    _last_report: InvoiceReport | None = None

    def _describe_state(self) -> str:
        return self._last_report.summary if self._last_report else "it could not be asked"

    # -- what there is to see ------------------------------------------------------------------------------

    def track(self, workflow_id: str, run_id: str = "") -> None:
        """Count a workflow as an invoice of this world: the tools speak of it, and it is checked at the end."""
        self._track(workflow_id, run_id)

    @property
    def tools(self) -> Tools:
        """The journal of every tool call, and its progress notifications."""
        return self._tools

    @property
    def task_queue(self) -> str:
        """Where the worker polls."""
        return self._environment.task_queue

    async def observe(self) -> Observations:
        """Everything there is to see of every invoice, for `check`."""
        observed = await observe(
            self.client, self._runs, report=self.status, ledger=self.ledger, attempts=tuple(self.payments.answered)
        )
        # Asking the tools is part of it: what they answer now counts too.
        return replace(
            observed,
            answers=tuple(self._tools.answers),
            asked=tuple(self.erp.asked),
            approval_timeout=self.approval_timeout,
            forms=tuple(self._tools.forms),
            lists_all=self.engine.can_list and not self.engine.reaction_time,
        )


async def _remaining_violations(world: World) -> list[Violation]:
    """What else is wrong in a world with invoices that do not end; that may be hard to see."""
    try:
        await cancel_open(world)
        observed = await world.observe()
    except (EngineStuckError, RPCError):
        # Then at least what the tools answered.
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
    """A world for one scenario. When its block has ended well, every invoice is led to its end, and all is checked.

    Args:
        protocol_mode: Which MCP protocol the client speaks: "auto" (the current one) or "legacy".
        client_interface: Whether the client submits, decides and cancels by the plain tools, or by tasks.
        signals_approve: Whether the signal ApproveInvoice approves: see `Policy`.
        run_to_end: False: open invoices are cancelled at the end rather than waited for.
        seed: See `Engine.shuffle`.

    Raises:
        Violations: The scenario broke a promise (S1 to S10, L1).
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
            # Whatever it was: nothing of this world may hold up the clock of the next one.
            with suppress(Exception):
                await cancel_open(world)
            environment.is_broken = True
            raise
        if found:
            environment.is_broken = True
            raise Violations(found)
