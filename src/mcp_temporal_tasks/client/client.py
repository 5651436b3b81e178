"""The client extension, for `Client(extensions=[...])`: a tool call that became a task returns the task's result."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import anyio
from anyio.abc import TaskGroup
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.client.session import ClientRequestContext, ClientSession
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    REQUEST_TIMEOUT,
    CallToolResult,
    CreateMessageRequest,
    ElicitRequest,
    ErrorData,
    InputRequest,
    ListRootsRequest,
    TextContent,
)
from pydantic import TypeAdapter, ValidationError

from mcp_temporal_tasks.client.prompts import PromptTracker
from mcp_temporal_tasks.models import (
    EXTENSION_ID,
    Acknowledgement,
    CancelTask,
    CreateTaskResult,
    DetailedTask,
    GetTask,
    Task,
    TaskParams,
    UpdateTask,
    UpdateTaskParams,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")
OnTask = Callable[[Task], Awaitable[None]]

_REQUESTS: TypeAdapter[InputRequest] = TypeAdapter(CreateMessageRequest | ListRootsRequest | ElicitRequest)
_TRANSIENT = frozenset({INTERNAL_ERROR, REQUEST_TIMEOUT})
_MIN_POLL_INTERVAL = 0.02


async def _ignore(_task: Task) -> None:
    pass


class TasksClient(ClientExtension):
    """Makes `Client.call_tool` wait for the end of a task, without a time limit, and return its result.

    Polls at the server's interval, and answers input requests through the client's own callbacks. Each request is put
    to the user once, with two exceptions: a few more times if the server rejects the response, and after a pause if the
    user dismissed it and the task repeats it. A request whose callback raises is left to other clients.

    A failed task raises its `MCPError`; a cancelled one returns a result with `is_error`. A lost connection ends the
    call, as it ends every call of its client. The task continues, and another client can `follow` it.

    Args:
        on_task: Called with each new task and each change. Store its `task_id`: `follow` takes it after a crash or a
            lost connection, also in another process.
        retry_timeout: How long requests are repeated while the server is unavailable, before its error is raised.
        dismissal_backoff: How long a dismissed or declined request is not repeated; doubles each time.

    Example:
        async with Client(url, extensions=[TasksClient()], elicitation_callback=ask_user) as client:
            result = await client.call_tool("deploy", {"service": "web"})
    """

    identifier = EXTENSION_ID

    def __init__(
        self,
        *,
        on_task: OnTask = _ignore,
        retry_timeout: timedelta = timedelta(minutes=5),
        dismissal_backoff: timedelta = timedelta(minutes=1),
    ) -> None:
        self._on_task = on_task
        self._retry_timeout = retry_timeout.total_seconds()
        self._dismissal_backoff = dismissal_backoff.total_seconds()

    def claims(self) -> Sequence[ResultClaim[Any]]:
        """Claims tool results that are tasks."""
        return [ResultClaim(result_type="task", model=CreateTaskResult, resolve=self._resolve)]

    async def _resolve(self, created: CreateTaskResult, ctx: ClaimContext) -> CallToolResult:
        await self._on_task(created)
        return await self.follow(ctx.session, created.task_id)

    async def follow(self, session: ClientSession, task_id: str) -> CallToolResult:
        """Wait for the end of a task, given its id, and return its result.

        Raises:
            MCPError: The task failed or does not exist, the server was unavailable for longer than `retry_timeout`, or
                it rejected the responses of the client's callbacks.
        """
        return await _TaskFollower(session, task_id, self._on_task, self._retry_timeout, self._dismissal_backoff).run()


class _TaskFollower:
    """Follows one task: polls it while its input requests are with the user."""

    def __init__(
        self, session: ClientSession, task_id: str, on_task: OnTask, retry_timeout: float, dismissal_backoff: float
    ) -> None:
        self._session = session
        self._task_id = task_id
        self._on_task = on_task
        self._retry_timeout = retry_timeout
        self._prompts = PromptTracker(dismissal_backoff)
        self._open_prompts: dict[str, anyio.CancelScope] = {}
        self._last: dict[str, Any] = {}
        self._answered = anyio.Event()
        self._failure: Exception | None = None

    async def run(self) -> CallToolResult:
        task: DetailedTask | None = None
        async with anyio.create_task_group() as group:
            try:
                while not (task := await self._poll()).is_terminal:
                    self._ask(task.input_requests or {}, group)
                    with anyio.move_on_after(max((task.poll_interval_ms or 1000) / 1000, _MIN_POLL_INTERVAL)):
                        await self._answered.wait()
                    self._answered = anyio.Event()
            except Exception as error:  # noqa: BLE001 (raised below, outside of the task group)
                self._failure = error
            group.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure
        if task is None:  # only if this call was cancelled
            raise MCPError(INTERNAL_ERROR, "The task was not followed to its end")
        return _tool_result(task)

    async def _poll(self) -> DetailedTask:
        task = await self._retry(lambda: get_task(self._session, self._task_id))
        changes = task.model_dump(exclude={"ttl_ms"})
        if changes != self._last:
            await self._on_task(task)
            self._last = changes
        return task

    def _ask(self, requests: dict[str, Any], group: TaskGroup) -> None:
        """Put new requests to the user. Cancel prompts whose requests were answered elsewhere."""
        for key in self._open_prompts.keys() - requests.keys():
            self._open_prompts[key].cancel()
        for key in self._prompts.due_prompts(requests, anyio.current_time()):
            self._open_prompts[key] = anyio.CancelScope()
            group.start_soon(self._answer, key, requests[key], group)

    async def _answer(self, key: str, request: Any, group: TaskGroup) -> None:
        response: dict[str, Any] | None = None
        with self._open_prompts[key]:
            response = await _response(self._session, key, request)
        del self._open_prompts[key]
        if response is None:
            return
        # Recorded before it is sent: the task may repeat the request before the acknowledgement arrives.
        self._prompts.record_answer(request, response, anyio.current_time())
        try:
            await self._retry(lambda: update_task(self._session, self._task_id, {key: response}))
        except MCPError as error:
            if error.code != INVALID_PARAMS or not self._prompts.allow_retry(key):
                self._failure = error
                group.cancel_scope.cancel()
            logger.warning("The server rejected the response to %s of task %s: %s", key, self._task_id, error)
        self._answered.set()

    async def _retry(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a call while the server is unavailable."""
        pause, deadline = 0.2, anyio.current_time() + self._retry_timeout
        while True:
            try:
                return await call()
            except MCPError as error:
                if error.code not in _TRANSIENT or anyio.current_time() + pause > deadline:
                    raise
                logger.debug("The server is unavailable for task %s: %s", self._task_id, error)
            await anyio.sleep(pause)
            pause = min(2 * pause, 5.0)


async def get_task(session: ClientSession, task_id: str) -> DetailedTask:
    """`tasks/get`: the current state of a task.

    Example:
        task = await get_task(client.session, task_id)
    """
    return await session.send_request(GetTask(params=TaskParams(task_id=task_id)), DetailedTask)


async def update_task(session: ClientSession, task_id: str, responses: dict[str, Any]) -> None:
    """`tasks/update`: respond to input requests of a task, by their keys."""
    params = UpdateTaskParams(task_id=task_id, input_responses=responses)
    await session.send_request(UpdateTask(params=params), Acknowledgement)


async def cancel_task(session: ClientSession, task_id: str) -> None:
    """`tasks/cancel`: request cancellation. The task may end later, or with another status."""
    await session.send_request(CancelTask(params=TaskParams(task_id=task_id)), Acknowledgement)


async def _response(session: ClientSession, key: str, raw: Any) -> dict[str, Any] | None:
    """The response of the client's callbacks to a request; None if they give none, or the request is invalid."""
    try:
        request = _REQUESTS.validate_python(raw, by_name=False)
    except ValidationError:
        logger.warning("A task sent an invalid input request: %s", key)
        return None
    context = ClientRequestContext(session=session, request_id=key)
    try:
        response = await session.dispatch_input_request(context, request)
    except Exception:
        logger.exception("The client's callback failed for %s of a task", key)
        return None
    if isinstance(response, ErrorData):
        logger.warning("The client does not respond to %s of a task: %s", key, response.message)
        return None
    return response.model_dump(by_alias=True, mode="json", exclude_none=True)


def _tool_result(task: DetailedTask) -> CallToolResult:
    if task.status == "completed":
        return CallToolResult.model_validate(task.result or {}, by_name=False)
    if task.status == "failed":
        error = ErrorData.model_validate(task.error or {"code": INTERNAL_ERROR, "message": "The task failed"})
        raise MCPError.from_error_data(error)
    text = task.status_message or "The task was cancelled"
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)
