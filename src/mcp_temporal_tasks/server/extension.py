"""The extension for `MCPServer(extensions=[...])`: tool calls become tasks that clients read, answer and cancel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import anyio
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import require_client_extension
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types import HEADER_MISMATCH, CallToolRequestParams, CallToolResult, TextContent
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from temporalio.client import Client

from mcp_temporal_tasks.binding import TaskBinding
from mcp_temporal_tasks.ids import WorkflowRun, task_id_of
from mcp_temporal_tasks.models import EXTENSION_ID, Acknowledgement, DetailedTask, TaskParams, UpdateTaskParams
from mcp_temporal_tasks.server.subscriptions import TaskSubscriptions
from mcp_temporal_tasks.server.tasks import TaskService

# Hosts give up on tool calls after about a minute.
WAIT_TIMEOUT = timedelta(seconds=50)
_MODERN = frozenset(MODERN_PROTOCOL_VERSIONS)


class TasksExtension(Extension):
    """`io.modelcontextprotocol/tasks` over Temporal workflows, without state of its own.

    Args:
        client: Client of the Temporal that runs the workflows.
        bindings: The tools whose calls become tasks.
        retention: Returns how long Temporal keeps closed workflows; see `Retention`.
        wait_timeout: How long a call by a client without tasks waits for the workflow's outcome.

    Attributes:
        subscriptions: For `MCPServer(middleware=[...])`: serves `notifications/tasks` over
            `subscriptions/listen`, which an extension can't serve. Without it, clients poll.

    Example:
        tasks = TasksExtension(client, [TaskBinding(tool="deploy", workflow="Deploy")], retention=Retention(client))
        server = MCPServer("deployments", extensions=[tasks], middleware=[tasks.subscriptions])
    """

    identifier = EXTENSION_ID

    def __init__(
        self,
        client: Client,
        bindings: Sequence[TaskBinding],
        *,
        retention: Callable[[], Awaitable[timedelta]],
        wait_timeout: timedelta = WAIT_TIMEOUT,
    ) -> None:
        self._tasks = TaskService(client, bindings, retention)
        self._wait_timeout = wait_timeout
        self.subscriptions = TaskSubscriptions(self._tasks)

    def methods(self) -> Sequence[MethodBinding]:
        """`tasks/get`, `tasks/update` and `tasks/cancel`; only in protocol versions that have tasks."""
        return (
            MethodBinding("tasks/get", TaskParams, self._get, _MODERN),
            MethodBinding("tasks/update", UpdateTaskParams, self._update, _MODERN),
            MethodBinding("tasks/cancel", TaskParams, self._cancel, _MODERN),
        )

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Call the tool. If its result names a started workflow, return the task instead."""
        binding = self._tasks.by_tool.get(params.name)
        if binding is None:
            return await call_next(ctx)
        supports_tasks = _client_supports_tasks(ctx)
        if binding.without_tasks == "refuse" and not supports_tasks:
            require_client_extension(ctx, EXTENSION_ID)
        result = await call_next(ctx)
        # An error, a question before the task, or an immediate outcome.
        if not isinstance(result, CallToolResult) or result.is_error:
            return result
        run = binding.started(result)
        if run is None:
            return result
        if supports_tasks:
            return await self._tasks.create_result(run)
        return result if binding.without_tasks == "answer" else await self._wait(run, ctx)

    async def _wait(self, run: WorkflowRun, ctx: ServerRequestContext[Any, Any]) -> HandlerResult:
        """Wait for the outcome, for a client without tasks."""
        task_id = task_id_of(run)
        pause = 0.05
        with anyio.move_on_after(self._wait_timeout.total_seconds()):
            while True:
                task = await self._tasks.read(task_id)
                if task.is_terminal:
                    return _outcome(task)
                if task.status == "input_required":
                    await self._tasks.cancel(task_id)
                    require_client_extension(ctx, EXTENSION_ID)
                await anyio.sleep(pause)
                pause = min(pause * 1.5, 1.0)
        text = f"Workflow {run.workflow_id} is still running, and takes longer than a call may. Check it later"
        return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)

    async def _get(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        _require_task_request(ctx, params)
        return await self._tasks.read(params.task_id)

    async def _update(self, ctx: ServerRequestContext[Any, Any], params: UpdateTaskParams) -> HandlerResult:
        _require_task_request(ctx, params)
        await self._tasks.answer(params.task_id, params.input_responses, ctx)
        return Acknowledgement()

    async def _cancel(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        _require_task_request(ctx, params)
        await self._tasks.cancel(params.task_id)
        return Acknowledgement()


def _client_supports_tasks(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether this request declares the extension, in a protocol version that has tasks."""
    capabilities = ctx.session.client_capabilities
    declared = capabilities.extensions if capabilities else None
    return ctx.protocol_version in _MODERN and EXTENSION_ID in (declared or {})


def _require_task_request(ctx: ServerRequestContext[Any, Any], params: TaskParams) -> None:
    require_client_extension(ctx, EXTENSION_ID)
    headers = getattr(ctx.request, "headers", None)
    if headers is not None and decode_header_value(headers.get(MCP_NAME_HEADER)) != params.task_id:
        raise MCPError(HEADER_MISMATCH, f"{MCP_NAME_HEADER} header does not match the request body's taskId")


def _outcome(task: DetailedTask) -> HandlerResult:
    if task.status == "completed":
        return task.result
    if task.status == "failed":
        error = task.error or {}
        raise MCPError(error["code"], error["message"], error.get("data"))
    text = task.status_message or "The task was cancelled"
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)
