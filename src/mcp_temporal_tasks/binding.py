"""The binding of a tool to a workflow: how the workflow acts as a task."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import pydantic_core
from mcp.server.context import ServerRequestContext
from mcp_types import CallToolResult, TextContent
from pydantic import TypeAdapter
from temporalio.client import WorkflowHandle

from mcp_temporal_tasks.ids import WorkflowRun
from mcp_temporal_tasks.workflow import TASK_INPUT, TASK_STATE, TaskState

Handle = WorkflowHandle[Any, Any]
_STATES = TypeAdapter(TaskState)


def started(handle: Handle, **more: Any) -> CallToolResult:
    """The result of a tool that has started a workflow.

    Args:
        more: Further structured content, for clients without tasks.

    Example:
        return started(await client.start_workflow(Deploy.run, service, id=f"deploy-{uuid4()}", task_queue="deploy"))
    """
    run_id = handle.first_execution_run_id or handle.result_run_id or handle.run_id
    return tool_result({"workflow_id": handle.id, "run_id": run_id, **more})


def run_from_result(result: CallToolResult) -> WorkflowRun | None:
    """The run that a tool result names as `workflow_id` and `run_id`; None if it names none."""
    content = result.structured_content
    if not isinstance(content, Mapping):
        return None
    workflow_id, run_id = content.get("workflow_id"), content.get("run_id")
    if not isinstance(workflow_id, str) or not isinstance(run_id, str) or not workflow_id or not run_id:
        return None
    return WorkflowRun(workflow_id, run_id)


async def state_by_query(handle: Handle) -> TaskState:
    """Query the workflow's TASK_STATE."""
    return _STATES.validate_python(await handle.query(TASK_STATE))


async def answer_by_update(handle: Handle, responses: Mapping[str, Any], _ctx: ServerRequestContext[Any, Any]) -> None:
    """Send responses to the workflow with its TASK_INPUT update."""
    await handle.execute_update(TASK_INPUT, dict(responses))


async def always_cancellable(_handle: Handle) -> bool:
    """Any open workflow may be cancelled."""
    return True


def tool_result(outcome: Any) -> CallToolResult:
    """A workflow's outcome as a tool result: text unchanged, the rest as JSON, objects also as structured content."""
    if isinstance(outcome, str):
        return CallToolResult(content=[TextContent(type="text", text=outcome)])
    text = pydantic_core.to_json(outcome, fallback=str, indent=2).decode()
    structured = pydantic_core.to_jsonable_python(outcome, fallback=str)
    is_object = isinstance(structured, dict)
    return CallToolResult(
        content=[TextContent(type="text", text=text)], structured_content=structured if is_object else None
    )


@dataclass(frozen=True, kw_only=True)
class TaskBinding:
    """Binds a tool to a workflow type: calls of the tool become tasks.

    The tool is an ordinary one. It checks its arguments, may question the client, starts the workflow and returns
    `started(handle)`. Any other result is returned to the client unchanged, and makes no task.

    Attributes:
        tool: Name of the tool.
        workflow: Name of the workflow type. Ids of tasks of other types are unknown.
        without_tasks: What a client without tasks receives. `wait`: the workflow's outcome, if it comes within the
            server's `wait_timeout`. A workflow that asks a question meanwhile is cancelled, as the client can't
            answer; so each call should start a workflow of its own. `answer`: the tool's result. `refuse`: error
            -32021, before the tool is called.
        started: Extracts the started run from a tool result; None means that the result is not a task.
        state: Reads the state of an open workflow.
        answer: Sends the client's responses to open input requests. Raises ValueError for a response that can't be
            accepted, and ignores one that is too late.
        cancellable: Whether `tasks/cancel` cancels the workflow in its current state. If not, the request is
            acknowledged without effect, as the extension allows; the state's message should say so.
        result: Makes the tool result of the workflow's outcome, which is plain JSON; may be a coroutine function.
        poll_interval: Recommended interval between polls.

    Example:
        TaskBinding(tool="deploy", workflow="Deploy", without_tasks="refuse", poll_interval=timedelta(seconds=5))
    """

    tool: str
    workflow: str
    without_tasks: Literal["wait", "answer", "refuse"] = "wait"
    started: Callable[[CallToolResult], WorkflowRun | None] = run_from_result
    state: Callable[[Handle], Awaitable[TaskState]] = state_by_query
    answer: Callable[[Handle, Mapping[str, Any], ServerRequestContext[Any, Any]], Awaitable[None]] = answer_by_update
    cancellable: Callable[[Handle], Awaitable[bool]] = always_cancellable
    result: Callable[[Any], CallToolResult | Awaitable[CallToolResult]] = tool_result
    poll_interval: timedelta = timedelta(seconds=1)
