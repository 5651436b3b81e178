"""Translates the outcome of a workflow to the outcome of its task."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

from mcp_types import INTERNAL_ERROR, CallToolResult, TextContent
from temporalio import exceptions
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError, CancelledError, FailureError, TerminatedError

from mcp_temporal_tasks.binding import Handle, TaskBinding
from mcp_temporal_tasks.models import TaskStatus
from mcp_temporal_tasks.workflow import PROTOCOL_ERROR


@dataclass(frozen=True)
class TaskOutcome:
    """Terminal status of a task, with message, and result or error."""

    status: TaskStatus
    message: str | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


async def read_outcome(handle: Handle, binding: TaskBinding) -> TaskOutcome:
    """Read the outcome of a closed workflow. Needs no worker.

    Raises:
        RPCError, RuntimeError: Temporal can't be reached.
    """
    try:
        outcome = await handle.result(follow_runs=False)
    except WorkflowFailureError as failure:
        return _failed(failure.cause)
    result = binding.result(outcome)
    return TaskOutcome("completed", result=_to_wire(await result if isinstance(result, Awaitable) else result))


def _failed(cause: BaseException | None) -> TaskOutcome:
    if isinstance(cause, CancelledError):
        return TaskOutcome("cancelled", "The task was cancelled")
    if isinstance(cause, TerminatedError):
        return _protocol_error(INTERNAL_ERROR, "The workflow was terminated by an operator")
    if isinstance(cause, exceptions.TimeoutError):
        return _protocol_error(INTERNAL_ERROR, "The workflow ran out of time")
    root_cause = _innermost(cause)
    if isinstance(root_cause, ApplicationError) and root_cause.type == PROTOCOL_ERROR:
        details = root_cause.details[0] if root_cause.details and isinstance(root_cause.details[0], dict) else {}
        code = details.get("code")
        return _protocol_error(
            code if isinstance(code, int) else INTERNAL_ERROR, root_cause.message, details.get("data")
        )
    # The workflow itself failed: an error of the tool, not of the protocol.
    text = root_cause.message if isinstance(root_cause, FailureError) else "the workflow failed"
    result = CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)
    return TaskOutcome("completed", text, result=_to_wire(result))


def _innermost(error: BaseException | None) -> BaseException | None:
    """The failure of a workflow, activity or child workflow, without its wrappers."""
    while isinstance(error, FailureError) and not isinstance(error, ApplicationError) and error.cause is not None:
        error = error.cause
    return error


def _protocol_error(code: int, message: str, data: Any = None) -> TaskOutcome:
    error = {"code": code, "message": message} | ({"data": data} if data is not None else {})
    return TaskOutcome("failed", message, error=error)


def _to_wire(result: CallToolResult) -> dict[str, Any]:
    """The JSON of a tool result."""
    return result.model_dump(by_alias=True, mode="json", exclude_none=True)
