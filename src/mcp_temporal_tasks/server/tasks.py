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
from mcp_temporal_tasks.errors import answering
from mcp_temporal_tasks.ids import Run, input_key, task_id_of
from mcp_temporal_tasks.models import CreateTaskResult, DetailedTask, TaskStatus
from mcp_temporal_tasks.server.lookup import Found, find
from mcp_temporal_tasks.server.outcome import ending_of
from mcp_temporal_tasks.server.responses import require_takeable
from mcp_temporal_tasks.workflow import TaskState

logger = logging.getLogger(__name__)

_ANSWER_WITHIN = 8.0
_LOOK_AGAIN_AFTER = 3.0
_LOOK_AGAIN_SOON = 0.05
_TOLD_WITHIN = 1.5


class Tasks:
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

    async def created(self, run: Run) -> CreateTaskResult:
        """The task of a run that was started: once Temporal has it, and not before.

        Raises:
            MCPError: Temporal does not have it, or can't be asked.
        """
        async with answering(_ANSWER_WITHIN):
            found = await find(self._client, self._by_workflow, task_id_of(run))
            if not found.is_open:
                ending = await ending_of(found.handle, found.binding)
                return CreateTaskResult(**await self._common(found, ending.status, None))
            # One that was there already may ask by now; one that has only just begun is not waited for.
            state = await _told(found) if found.has_begun else None
            return CreateTaskResult(**await self._common(found, _status(state), state))

    async def require(self, task_id: str) -> None:
        """Return if there is such a task. Needs no worker.

        Raises:
            MCPError: -32602 for an id that is no task's; -32603 while Temporal is away.
        """
        async with answering(_ANSWER_WITHIN):
            await find(self._client, self._by_workflow, task_id)

    async def read(self, task_id: str) -> DetailedTask:
        """The whole task.

        Raises:
            MCPError: -32602 for an id that is no task's; -32603 while Temporal, or a worker that is needed, is away.
        """
        async with answering(_ANSWER_WITHIN):
            while (found := await find(self._client, self._by_workflow, task_id)).is_open:
                # A question that the workflow's end has overtaken may never be answered.
                with anyio.move_on_after(_LOOK_AGAIN_AFTER):
                    return await self._ongoing(found)
            return await self._ended(found)

    async def answer(self, task_id: str, responses: Mapping[str, Any], ctx: ServerRequestContext[Any, Any]) -> None:
        """Give a task the client's responses. Those to what is not asked, or is answered already, are ignored.

        Raises:
            MCPError: As `read`; also -32602 for responses that can't be taken, and then none is.
        """
        async with answering(_ANSWER_WITHIN):
            found = await find(self._client, self._by_workflow, task_id)
            if not found.is_open or not responses:
                return
            state = await found.binding.state(found.handle)
            keys = {input_key(key, found.execution.run_id): key for key in state.input_requests}
            given = {told: response for told, response in responses.items() if told in keys}
            if not given:
                return
            require_takeable({told: state.input_requests[key] for told, key in keys.items()}, given)
            asked = {keys[told]: response for told, response in given.items()}
            try:
                await found.binding.answer(found.handle, asked, ctx)
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
                now = await find(self._client, self._by_workflow, task_id)
                if now.is_open and now.execution.run_id == found.execution.run_id:
                    raise

    async def cancel(self, task_id: str) -> None:
        """Ask the workflow to stop. Whether and when it does is its own affair; one that has ended stays as it is, and
        one that its binding does not let be cancelled.

        Raises:
            MCPError: -32602 for an id that is no task's; -32603 while Temporal is away, or a worker that is needed to
                tell whether it may be cancelled.
        """
        async with answering(_ANSWER_WITHIN):
            while (found := await find(self._client, self._by_workflow, task_id)).is_open:
                is_cancellable = await _is_cancellable(found)
                if is_cancellable is None:
                    continue
                if not is_cancellable:
                    return
                try:
                    # Not the run that was found: where it went on as another since, that succeeds and does nothing.
                    await found.chain.cancel(reason="The client of the task cancelled it")
                except RPCError as error:
                    # It has ended in the meantime, and somebody has used the workflow id again: look again.
                    if error.status is not RPCStatusCode.NOT_FOUND:
                        raise
                else:
                    return
                await anyio.sleep(_LOOK_AGAIN_SOON)

    async def _ongoing(self, found: Found) -> DetailedTask:
        if not found.has_begun:
            # Nobody can tell yet, and nothing can have been asked: a task is there even before any worker is.
            return DetailedTask(**await self._common(found, "working", None))
        state = await found.binding.state(found.handle)
        common = await self._common(found, _status(state), state)
        run_id = found.execution.run_id
        asked = {input_key(key, run_id): request for key, request in state.input_requests.items()}
        return DetailedTask(**common, input_requests=asked or None)

    async def _ended(self, found: Found) -> DetailedTask:
        ending = await ending_of(found.handle, found.binding)
        message = ending.message
        if ending.status == "cancelled":
            # What was done until then only the workflow can tell; if nobody can ask it, the task is cancelled anyway.
            state = await _told(found)
            message = (state.message if state is not None else None) or message
        common = await self._common(found, ending.status, TaskState(message=message))
        return DetailedTask(**common, result=ending.result, error=ending.error)

    async def _common(self, found: Found, status: TaskStatus, state: TaskState | None) -> dict[str, Any]:
        state = state or TaskState()
        # A task that goes on is kept for as long as it does, and then for the retention: from now on at the least.
        until = found.execution.close_time or datetime.now(UTC)
        kept = max(until - found.created, timedelta()) + await self._retention()
        updated = found.execution.close_time or state.updated_at or found.created
        own = timedelta(milliseconds=state.poll_interval_ms or 0)
        return {
            "task_id": found.task_id,
            "status": status,
            "status_message": state.message,
            "created_at": _iso(found.created),
            "last_updated_at": _iso(updated),
            "ttl_ms": _milliseconds(kept),
            "poll_interval_ms": _milliseconds(own or found.binding.poll_interval),
        }


async def _is_cancellable(found: Found) -> bool | None:
    """What the binding says; None: it says nothing in time, as a question that the workflow's end has overtaken."""
    if not found.has_begun:
        return True
    with anyio.move_on_after(_LOOK_AGAIN_AFTER):
        return await found.binding.cancellable(found.handle)
    return None


async def _told(found: Found) -> TaskState | None:
    """What the workflow says of itself; None where it can't, or takes too long."""
    with anyio.move_on_after(_TOLD_WITHIN):
        try:
            return await found.binding.state(found.handle)
        except Exception as error:  # noqa: BLE001 (whatever it is, there is an answer without it)
            logger.debug("Task %s can't tell its state: %s", found.task_id, error)
    return None


def _status(state: TaskState | None) -> TaskStatus:
    """Of a workflow that goes on."""
    return "input_required" if state is not None and state.input_requests else "working"


def _milliseconds(span: timedelta) -> int:
    return max(1, span // timedelta(milliseconds=1))


def _iso(moment: datetime) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
