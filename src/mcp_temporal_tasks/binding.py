"""The binding: how a tool and a workflow become a task."""

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
    """What a tool returns that has started a workflow; `more` is told to clients without tasks as well."""
    run_id = handle.first_execution_run_id or handle.result_run_id or handle.run_id
    return tool_result({"workflow_id": handle.id, "run_id": run_id, **more})


def run_from_result(result: CallToolResult) -> WorkflowRun | None:
    """The run that a tool's structured content names as `workflow_id` and `run_id`, if it does."""
    content = result.structured_content
    if not isinstance(content, Mapping):
        return None
    workflow_id, run_id = content.get("workflow_id"), content.get("run_id")
    if not isinstance(workflow_id, str) or not isinstance(run_id, str) or not workflow_id or not run_id:
        return None
    return WorkflowRun(workflow_id, run_id)


async def state_by_query(handle: Handle) -> TaskState:
    """What the workflow answers the query TASK_STATE with."""
    return _STATES.validate_python(await handle.query(TASK_STATE))


async def answer_by_update(handle: Handle, responses: Mapping[str, Any], _ctx: ServerRequestContext[Any, Any]) -> None:
    """Give the workflow the responses by its update TASK_INPUT."""
    await handle.execute_update(TASK_INPUT, dict(responses))


async def always_cancellable(_handle: Handle) -> bool:
    """Any workflow that goes on may be cancelled."""
    return True


def tool_result(outcome: Any) -> CallToolResult:
    """A workflow's outcome as a tool would have returned it: a text as it is, an object as structured content too."""
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
    """Says that calls of a tool become tasks, and how its workflow is one.

    The tool is an ordinary one: it checks its arguments, may ask the client before, starts the workflow and returns
    `started(handle)`. Whatever else it returns is the answer, and no task.

    Attributes:
        tool: The tool's name.
        workflow: The workflow's type, by name. A task id of any other workflow is unknown.
        without_tasks: What a client gets that does not speak of tasks. `wait`: the workflow's outcome, if it comes
            within the server's patience; one that asks something meanwhile, which nobody can answer, is
            cancelled, so each call should start a workflow of its own. `answer`: what the tool returned. `refuse`: the
            error -32021, before the tool is called.
        started: Which run the tool's answer speaks of; None: it is no task.
        state: What the workflow tells of itself while it goes on.
        answer: How it is given the client's responses, of which only those to open input requests are left. Raise
            ValueError for what can't be taken; ignore what comes too late.
        cancellable: Whether `tasks/cancel` cancels the workflow, as it stands. Where not, it is acknowledged and has no
            effect, as the extension allows; say so in the state's message.
        result: The tool result for the workflow's outcome, which is what Temporal's JSON says; may be a coroutine
            function.
        poll_interval: How often a client should ask.
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
