"""The tools called through MCP tasks, with the same answers as the plain tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp import Client, MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, CallToolResult

from invoice_mcp.domain.report import InvoiceReport, Status, Verdict
from invoice_mcp.testing.engines.base import HARNESS_TIMEOUT
from invoice_mcp.testing.model.actions import ClientInterface
from invoice_mcp.testing.records import Answer, Form, ToolRefused
from invoice_mcp.testing.world.tools import Tools, text_of
from mcp_temporal_tasks import (
    CreateTaskResult,
    DetailedTask,
    TasksClient,
    WorkflowRun,
    cancel_task,
    get_task,
    parse_task_id,
    task_id_of,
    update_task,
)

_VERDICTS = {"approve": "APPROVED", "reject": "REJECTED"}
_STATUS_OF = {Status.CANCELLED: "cancelled"}


def extensions(client_interface: ClientInterface) -> list[TasksClient]:
    """The extensions that the client declares."""
    return [TasksClient()] if client_interface == "tasks" else []


def tool_client(client_interface: ClientInterface, client: Client) -> Tools:
    """The tools, called through this interface."""
    return TaskToolClient(client) if client_interface == "tasks" else Tools(client)


class TaskToolClient(Tools):
    """Calls tools through MCP tasks. If there is no task, or it has no open form, calls the plain tool.

    Compares every report of `status` with the task: the two must agree.
    """

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._newest_runs: dict[str, WorkflowRun] = {}
        self._task_runs: set[WorkflowRun] = set()
        self._reset_runs: set[WorkflowRun] = set()
        self._last_error: MCPError | None = None

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """See `Tools.call`."""
        self._last_error = None
        match tool:
            case "trigger":
                return await self._trigger(arguments)
            case "approve" | "reject":
                return await self._decide(tool, arguments) or await self._call_tool(tool, arguments)
            case "cancel":
                return await self._cancel(arguments) or await self._call_tool(tool, arguments)
            case "status":
                return await self._status(arguments)
            case _:
                return await super().call(tool, arguments)

    def follow_reset(self, workflow_id: str, base_run_id: str, run_id: str) -> None:
        """See `Tools.follow_reset`. The old run's task continues with the new run, and describes that one."""
        self._reset_runs.add(WorkflowRun(workflow_id, base_run_id))
        self._newest_runs[workflow_id] = WorkflowRun(workflow_id, run_id)

    async def _trigger(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        answer: Any = await self.client.session.call_tool(
            "trigger", dict(arguments), read_timeout_seconds=2 * HARNESS_TIMEOUT, allow_claimed=True
        )
        if not isinstance(answer, CreateTaskResult):
            return self._record("trigger", arguments, answer)
        run = parse_task_id(answer.task_id)
        if run is None:
            raise AssertionError(f"trigger answered with a task whose id is none: {answer.task_id}")
        is_new = self._newest_runs.get(run.workflow_id) != run
        self._newest_runs[run.workflow_id] = run
        self._task_runs.add(run)
        status = (await self._fetch_report(run)).status
        content = {"workflow_id": run.workflow_id, "run_id": run.run_id, "status": status, "created": is_new}
        self.answers.append(Answer("trigger", arguments, content, ""))
        return content

    async def _call_tool(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Call the plain tool. It must fail, too, if the task failed before."""
        content = await super().call(tool, arguments)
        _require(self._last_error is None, f"{tool} succeeded, but through the task it failed: {self._last_error}")
        return content

    async def _decide(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
        """Answer the task's form. Returns the report; None if there is no form, or the answer was not accepted."""
        run = self._run(arguments)
        task = await self._task(run)
        if run is None or task is None or task.status != "input_required":
            return None
        [key] = task.input_requests or {}
        comment = arguments.get("comment" if tool == "approve" else "reason", "")
        content = {"decision": tool, "comment": comment, "name": arguments.get("approver", "")}
        try:
            await update_task(self.client.session, task.task_id, {key: {"action": "accept", "content": content}})
        except MCPError as error:
            self._last_error = _expected(error)
            return None
        report = await self._fetch_report(run)
        is_lost = report.decision is None and report.status is Status.PENDING_APPROVAL
        _require(not is_lost, f"the task took the answer {tool!r}, and nothing was decided")
        # Otherwise another decision was faster, and only the plain tool can report that.
        is_ours = report.decision is not None and report.decision.verdict == _VERDICTS[tool]
        return self._answered(tool, arguments, report) if is_ours else None

    async def _cancel(self, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
        run = self._run(arguments)
        # tasks/cancel has no reason. With a reason, the tool is called.
        task = None if arguments.get("reason") else await self._task(run)
        # tasks/cancel does not cancel an approved invoice. The plain tool does.
        if run is None or task is None or task.is_terminal or await self._is_approved(run):
            return None
        await cancel_task(self.client.session, task.task_id)
        # The cancellation is acknowledged before it takes effect. The plain tool waits a little, too.
        report = await self._fetch_report(run, wait_seconds=2)
        # The task acknowledges a cancellation also if the invoice was closed or approved meanwhile. The plain tool then
        # reports that, or cancels.
        is_cancelled = report.cancelling or report.status is Status.CANCELLED
        return self._answered("cancel", arguments, report) if is_cancelled else None

    async def _is_approved(self, run: WorkflowRun) -> bool:
        try:
            decision = (await self._fetch_report(run)).decision
        except ToolRefused:
            # No report can be read, so no approval is known.
            return False
        return decision is not None and decision.verdict is Verdict.APPROVED

    async def _status(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        content = await super().call("status", arguments)
        report = InvoiceReport.model_validate(content)
        run = WorkflowRun(report.workflow_id, report.run_id)
        before = await self._task(run)
        report = await self._fetch_report(run)
        after = await self._task(run)
        _require(
            after is not None or self._last_error is None, f"`status` answers, but the task fails: {self._last_error}"
        )
        # Compare only if the task did not change meanwhile.
        if before is not None and after is not None and before.last_updated_at == after.last_updated_at:
            _require_agreement(after, report)
        return content

    def _run(self, arguments: Mapping[str, Any]) -> WorkflowRun | None:
        workflow_id, run_id = arguments.get("workflow_id"), arguments.get("run_id")
        if isinstance(workflow_id, str) and isinstance(run_id, str) and run_id:
            return WorkflowRun(workflow_id, run_id)
        return self._newest_runs.get(workflow_id) if isinstance(workflow_id, str) else None

    async def _task(self, run: WorkflowRun | None) -> DetailedTask | None:
        """The task; None if there is none, or it can't be read."""
        if run is None or run in self._reset_runs:
            return None
        try:
            task = await get_task(self.client.session, task_id_of(run))
        except MCPError as error:
            # A run that another client interface started need not have a task, for example with the older protocol.
            self._last_error = _expected(error) if run in self._task_runs else None
            return None
        for request in (task.input_requests or {}).values():
            self.forms[Form(run.workflow_id, run.run_id, str(request["params"]["message"]))] = None
        return task

    async def _fetch_report(self, run: WorkflowRun, **arguments: Any) -> InvoiceReport:
        """The report by the plain tool, without an entry in the journal."""
        answer = await self.client.call_tool("status", {**run._asdict(), **arguments})
        if answer.is_error:
            raise ToolRefused(text_of(answer))
        return InvoiceReport.model_validate(answer.structured_content)

    def _answered(self, tool: str, arguments: Mapping[str, Any], report: InvoiceReport) -> dict[str, Any]:
        content = report.model_dump(mode="json")
        self.answers.append(Answer(tool, arguments, content, ""))
        return content

    def _record(self, tool: str, arguments: Mapping[str, Any], answer: CallToolResult) -> dict[str, Any]:
        if answer.is_error:
            self.answers.append(Answer(tool, arguments, None, text_of(answer)))
            raise ToolRefused(text_of(answer))
        content = dict(answer.structured_content or {})
        self.answers.append(Answer(tool, arguments, content, ""))
        return content


def _require_agreement(task: DetailedTask, report: InvoiceReport) -> None:
    asks = report.status is Status.PENDING_APPROVAL and report.decision is None
    ongoing = "input_required" if asks else "working"
    # A terminated workflow keeps its last status.
    if report.workflow_status in {"RUNNING", "COMPLETED", "CANCELED"}:
        expected = _STATUS_OF.get(report.status, "completed") if report.status.is_terminal else ongoing
        _require(task.status == expected, f"the task is {task.status}, but the invoice {report.status}")
    if task.status == "completed" and task.result is not None:
        in_task = InvoiceReport.model_validate(task.result["structuredContent"])
        _require(in_task == report, f"the task ended with {in_task}, but `status` reports {report}")


def _expected(error: MCPError) -> MCPError:
    """The error if it is an expected one: invalid parameters, or no answer at the moment. Otherwise raises it."""
    if error.code not in {INVALID_PARAMS, INTERNAL_ERROR}:
        raise error
    return error


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)
