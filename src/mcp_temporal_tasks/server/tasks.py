"""Resolves, reads, answers and cancels tasks through Temporal. Stores nothing."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS
from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from mcp_temporal_tasks.binding import TaskBinding
from mcp_temporal_tasks.errors import mcp_errors
from mcp_temporal_tasks.ids import WorkflowRun, input_key, task_id_of
from mcp_temporal_tasks.models import CreateTaskResult, DetailedTask, TaskStatus
from mcp_temporal_tasks.server.lookup import ResolvedTask, resolve_task
from mcp_temporal_tasks.server.outcome import read_outcome
from mcp_temporal_tasks.server.responses import validate_responses
from mcp_temporal_tasks.workflow import TaskState

logger = logging.getLogger(__name__)

_REQUEST_TIMEOUT = 8.0
_REFRESH_AFTER = 3.0
_RETRY_PAUSE = 0.05
_STATE_TIMEOUT = 1.5


class TaskService:
    """All tasks of some bindings.

    Args:
        retention: Returns how long Temporal keeps closed workflows.
    """

    def __init__(
        self, client: Client, bindings: Sequence[TaskBinding], retention: Callable[[], Awaitable[timedelta]]
    ) -> None:
        self._client = client
        self._retention = retention
        self.by_tool = {binding.tool: binding for binding in bindings}
        self._by_workflow = {binding.workflow: binding for binding in bindings}
        if len(self.by_tool) != len(bindings) or len(self._by_workflow) != len(bindings):
            raise ValueError("each tool and each workflow can be bound once")

    async def create_result(self, run: WorkflowRun) -> CreateTaskResult:
        """The task of a started run, once Temporal has it.

        Raises:
            MCPError: The run does not exist, or Temporal is unavailable.
        """
        async with mcp_errors(_REQUEST_TIMEOUT):
            task = await resolve_task(self._client, self._by_workflow, task_id_of(run))
            if not task.is_open:
                outcome = await read_outcome(task.handle, task.binding)
                return CreateTaskResult(**await self._common_fields(task, outcome.status, None))
            # A workflow that was running before may have open requests. A new one is not waited for.
            state = await _try_read_state(task) if task.has_started else None
            return CreateTaskResult(**await self._common_fields(task, _status(state), state))

    async def require_exists(self, task_id: str) -> None:
        """Return if the task exists. Needs no worker.

        Raises:
            MCPError: -32602 if it does not exist; -32603 if Temporal is unavailable.
        """
        async with mcp_errors(_REQUEST_TIMEOUT):
            await resolve_task(self._client, self._by_workflow, task_id)

    async def read(self, task_id: str) -> DetailedTask:
        """Read a task.

        Raises:
            MCPError: -32602 if it does not exist; -32603 if Temporal, or a worker that is needed, is unavailable.
        """
        async with mcp_errors(_REQUEST_TIMEOUT):
            while (task := await resolve_task(self._client, self._by_workflow, task_id)).is_open:
                # A query may never be answered if the workflow closes meanwhile. Resolve the task again.
                with anyio.move_on_after(_REFRESH_AFTER):
                    return await self._ongoing(task)
            return await self._ended(task)

    async def answer(self, task_id: str, responses: Mapping[str, Any], ctx: ServerRequestContext[Any, Any]) -> None:
        """Send a client's responses to the workflow. Responses to unknown or answered requests are ignored.

        Raises:
            MCPError: As for `read`; also -32602 if a response is invalid, in which case none is sent.
        """
        async with mcp_errors(_REQUEST_TIMEOUT):
            task = await resolve_task(self._client, self._by_workflow, task_id)
            if not task.is_open or not responses:
                return
            state = await task.binding.state(task.handle)
            # The workflow's own keys, by the keys that the client sees.
            keys = {input_key(own_key, task.execution.run_id): own_key for own_key in state.input_requests}
            given = {key: response for key, response in responses.items() if key in keys}
            if not given:
                return
            validate_responses({key: state.input_requests[own_key] for key, own_key in keys.items()}, given)
            asked = {keys[key]: response for key, response in given.items()}
            try:
                await task.binding.answer(task.handle, asked, ctx)
            except ValueError as error:
                raise MCPError(INVALID_PARAMS, f"The responses can't be taken: {error}") from None
            except WorkflowUpdateFailedError as error:
                cause = error.cause
                why = cause.message if isinstance(cause, ApplicationError) else "no reason given"
                raise MCPError(INVALID_PARAMS, f"The workflow refused the responses: {why}") from None
            except RPCError as error:
                # The run has closed or continued as new, so its requests are no longer open.
                if error.status not in {RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION}:
                    raise
                now = await resolve_task(self._client, self._by_workflow, task_id)
                if now.is_open and now.execution.run_id == task.execution.run_id:
                    raise

    async def cancel(self, task_id: str) -> None:
        """Request cancellation of the workflow, which may delay or refuse it.

        No effect on a closed workflow, or on one that its binding does not allow to be cancelled.

        Raises:
            MCPError: -32602 if the task does not exist; -32603 if Temporal is unavailable, or a worker that has to tell
                whether the workflow may be cancelled.
        """
        async with mcp_errors(_REQUEST_TIMEOUT):
            while (task := await resolve_task(self._client, self._by_workflow, task_id)).is_open:
                is_cancellable = await _is_cancellable(task)
                if is_cancellable is None:
                    continue
                if not is_cancellable:
                    return
                try:
                    # Not the resolved run: if it has continued as new, cancelling it succeeds without effect.
                    await task.chain.cancel(reason="The client of the task cancelled it")
                except RPCError as error:
                    # The workflow has closed, and its id was reused. Resolve the task again.
                    if error.status is not RPCStatusCode.NOT_FOUND:
                        raise
                else:
                    return
                await anyio.sleep(_RETRY_PAUSE)

    async def _ongoing(self, task: ResolvedTask) -> DetailedTask:
        if not task.has_started:
            # No worker has run the workflow, so it has no state and no requests. The task exists nevertheless.
            return DetailedTask(**await self._common_fields(task, "working", None))
        state = await task.binding.state(task.handle)
        common = await self._common_fields(task, _status(state), state)
        run_id = task.execution.run_id
        asked = {input_key(key, run_id): request for key, request in state.input_requests.items()}
        return DetailedTask(**common, input_requests=asked or None)

    async def _ended(self, task: ResolvedTask) -> DetailedTask:
        outcome = await read_outcome(task.handle, task.binding)
        message = outcome.message
        if outcome.status == "cancelled":
            # Only the workflow knows how far it got. Without a worker the generic message is used.
            state = await _try_read_state(task)
            message = (state.message if state is not None else None) or message
        common = await self._common_fields(task, outcome.status, TaskState(message=message))
        return DetailedTask(**common, result=outcome.result, error=outcome.error)

    async def _common_fields(self, task: ResolvedTask, status: TaskStatus, state: TaskState | None) -> dict[str, Any]:
        state = state or TaskState()
        # An open workflow is kept until it closes, and then for the retention: count from now on.
        until = task.execution.close_time or datetime.now(UTC)
        kept = max(until - task.created, timedelta()) + await self._retention()
        updated = task.execution.close_time or state.updated_at or task.created
        own = timedelta(milliseconds=state.poll_interval_ms or 0)
        return {
            "task_id": task.task_id,
            "status": status,
            "status_message": state.message,
            "created_at": _iso(task.created),
            "last_updated_at": _iso(updated),
            "ttl_ms": _milliseconds(kept),
            "poll_interval_ms": _milliseconds(own or task.binding.poll_interval),
        }


async def _is_cancellable(task: ResolvedTask) -> bool | None:
    """The binding's answer; None after a timeout, as for a query that the workflow's end has overtaken."""
    if not task.has_started:
        return True
    with anyio.move_on_after(_REFRESH_AFTER):
        return await task.binding.cancellable(task.handle)
    return None


async def _try_read_state(task: ResolvedTask) -> TaskState | None:
    """Read the state of a workflow; None if that fails or times out."""
    with anyio.move_on_after(_STATE_TIMEOUT):
        try:
            return await task.binding.state(task.handle)
        except Exception as error:  # noqa: BLE001 (the state is optional here)
            logger.debug("The state of task %s can't be read: %s", task.task_id, error)
    return None


def _status(state: TaskState | None) -> TaskStatus:
    """The status of an open workflow."""
    return "input_required" if state is not None and state.input_requests else "working"


def _milliseconds(span: timedelta) -> int:
    return max(1, span // timedelta(milliseconds=1))


def _iso(time: datetime) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
