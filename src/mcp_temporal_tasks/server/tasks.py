"""Tasks as Temporal has them: found by id alone, read, answered, cancelled. Nothing is kept here."""

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
    """Every task of some bindings, on one Temporal.

    Args:
        retention: How long Temporal keeps a workflow that has ended.
    """

    def __init__(
        self, client: Client, bindings: Sequence[TaskBinding], retention: Callable[[], Awaitable[timedelta]]
    ) -> None:
        self._client = client
        self._retention = retention
        self.by_tool = {binding.tool: binding for binding in bindings}
        self._by_workflow = {binding.workflow: binding for binding in bindings}
        if len(self.by_tool) != len(bindings) or len(self._by_workflow) != len(bindings):
            raise ValueError("each tool and each workflow may be bound once")

    async def create_result(self, run: WorkflowRun) -> CreateTaskResult:
        """The task of a run that was started: once Temporal has it, and not before.

        Raises:
            MCPError: Temporal does not have it, or can't be asked.
        """
        async with mcp_errors(_REQUEST_TIMEOUT):
            task = await resolve_task(self._client, self._by_workflow, task_id_of(run))
            if not task.is_open:
                outcome = await read_outcome(task.handle, task.binding)
                return CreateTaskResult(**await self._common_fields(task, outcome.status, None))
            # One that was there already may ask by now; one that has only just begun is not waited for.
            state = await _try_read_state(task) if task.has_started else None
            return CreateTaskResult(**await self._common_fields(task, _status(state), state))

    async def require_exists(self, task_id: str) -> None:
        """Return if there is such a task. Needs no worker.

        Raises:
            MCPError: -32602 for an id that is no task's; -32603 while Temporal is away.
        """
        async with mcp_errors(_REQUEST_TIMEOUT):
            await resolve_task(self._client, self._by_workflow, task_id)

    async def read(self, task_id: str) -> DetailedTask:
        """The whole task.

        Raises:
            MCPError: -32602 for an id that is no task's; -32603 while Temporal, or a worker that is needed, is away.
        """
        async with mcp_errors(_REQUEST_TIMEOUT):
            while (task := await resolve_task(self._client, self._by_workflow, task_id)).is_open:
                # A question that the workflow's end has overtaken may never be answered.
                with anyio.move_on_after(_REFRESH_AFTER):
                    return await self._ongoing(task)
            return await self._ended(task)

    async def answer(self, task_id: str, responses: Mapping[str, Any], ctx: ServerRequestContext[Any, Any]) -> None:
        """Give a task the client's responses. Those to what is not asked, or is answered already, are ignored.

        Raises:
            MCPError: As `read`; also -32602 for responses that can't be taken, and then none is.
        """
        async with mcp_errors(_REQUEST_TIMEOUT):
            task = await resolve_task(self._client, self._by_workflow, task_id)
            if not task.is_open or not responses:
                return
            state = await task.binding.state(task.handle)
            keys = {input_key(key, task.execution.run_id): key for key in state.input_requests}
            given = {told: response for told, response in responses.items() if told in keys}
            if not given:
                return
            validate_responses({told: state.input_requests[key] for told, key in keys.items()}, given)
            asked = {keys[told]: response for told, response in given.items()}
            try:
                await task.binding.answer(task.handle, asked, ctx)
            except ValueError as error:
                raise MCPError(INVALID_PARAMS, f"The responses can't be taken: {error}") from None
            except WorkflowUpdateFailedError as error:
                cause = error.cause
                why = cause.message if isinstance(cause, ApplicationError) else "it says no more"
                raise MCPError(INVALID_PARAMS, f"The workflow refused the responses: {why}") from None
            except RPCError as error:
                # It ended in the meantime, or went on as another run: then nothing of what it asked is asked any more.
                if error.status not in {RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION}:
                    raise
                now = await resolve_task(self._client, self._by_workflow, task_id)
                if now.is_open and now.execution.run_id == task.execution.run_id:
                    raise

    async def cancel(self, task_id: str) -> None:
        """Ask the workflow to stop. Whether and when it does is its own affair; one that has ended stays as it is, and
        one that its binding does not let be cancelled.

        Raises:
            MCPError: -32602 for an id that is no task's; -32603 while Temporal is away, or a worker that is needed to
                tell whether it may be cancelled.
        """
        async with mcp_errors(_REQUEST_TIMEOUT):
            while (task := await resolve_task(self._client, self._by_workflow, task_id)).is_open:
                is_cancellable = await _is_cancellable(task)
                if is_cancellable is None:
                    continue
                if not is_cancellable:
                    return
                try:
                    # Not the run that was found: where it went on as another since, that succeeds and does nothing.
                    await task.chain.cancel(reason="The client of the task cancelled it")
                except RPCError as error:
                    # It has ended in the meantime, and somebody has used the workflow id again: look again.
                    if error.status is not RPCStatusCode.NOT_FOUND:
                        raise
                else:
                    return
                await anyio.sleep(_RETRY_PAUSE)

    async def _ongoing(self, task: ResolvedTask) -> DetailedTask:
        if not task.has_started:
            # Nobody can tell yet, and nothing can have been asked: a task is there even before any worker is.
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
            # What was done until then only the workflow can tell; if nobody can ask it, the task is cancelled anyway.
            state = await _try_read_state(task)
            message = (state.message if state is not None else None) or message
        common = await self._common_fields(task, outcome.status, TaskState(message=message))
        return DetailedTask(**common, result=outcome.result, error=outcome.error)

    async def _common_fields(self, task: ResolvedTask, status: TaskStatus, state: TaskState | None) -> dict[str, Any]:
        state = state or TaskState()
        # A task that goes on is kept for as long as it does, and then for the retention: from now on at the least.
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
    """What the binding says; None: it says nothing in time, as a question that the workflow's end has overtaken."""
    if not task.has_started:
        return True
    with anyio.move_on_after(_REFRESH_AFTER):
        return await task.binding.cancellable(task.handle)
    return None


async def _try_read_state(task: ResolvedTask) -> TaskState | None:
    """What the workflow says of itself; None where it can't, or takes too long."""
    with anyio.move_on_after(_STATE_TIMEOUT):
        try:
            return await task.binding.state(task.handle)
        except Exception as error:  # noqa: BLE001 (whatever it is, there is an answer without it)
            logger.debug("Task %s can't tell its state: %s", task.task_id, error)
    return None


def _status(state: TaskState | None) -> TaskStatus:
    """Of a workflow that goes on."""
    return "input_required" if state is not None and state.input_requests else "working"


def _milliseconds(span: timedelta) -> int:
    return max(1, span // timedelta(milliseconds=1))


def _iso(time: datetime) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
