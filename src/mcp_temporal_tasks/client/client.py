"""The client's side, for `Client(extensions=[...])`: a tool call that became a task ends with the task's result."""

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
    """Makes `Client.call_tool` wait for the end of a task, however long it takes, and return what it ends with.

    Polls as often as the server says, and answers what is asked meanwhile through the client's own callbacks. Each
    question is asked once; again, a few times, where the server can't take the answer; and where one was dismissed and
    the task asks the same anew, after a while. A callback that raises leaves its question to others.

    A task that fails raises its `MCPError`; one that was cancelled is a result with `is_error`. A connection that is
    lost ends the call, as it ends every call of its client; the task goes on, and `follow` by another client with it.

    Args:
        on_task: Async; told of each task as it begins, and when it has changed. Keep its `task_id`: `follow` goes on
            with it after a crash or a lost connection, from another process too.
        patience: For how long a server that can't answer just now is asked again before its error is raised.
        peace: How long a question that was dismissed or declined is not asked again; twice as long after each time.
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
        """Of a tool call, the result that is a task."""
        return [ResultClaim(result_type="task", model=CreateTaskResult, resolve=self._resolve)]

    async def _resolve(self, created: CreateTaskResult, ctx: ClaimContext) -> CallToolResult:
        await self._on_task(created)
        return await self.follow(ctx.session, created.task_id)

    async def follow(self, session: ClientSession, task_id: str) -> CallToolResult:
        """Lead a task to its end, from its id alone.

        Raises:
            MCPError: The task failed, is unknown, could not be asked for longer than the patience, or takes no answer
                that the client's callbacks give.
        """
        return await _TaskFollower(session, task_id, self._on_task, self._retry_timeout, self._dismissal_backoff).run()


class _TaskFollower:
    """One task on its way: it is polled while its questions, if any, are with the person."""

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
            except Exception as error:  # noqa: BLE001 (raised below: not within a group of one)
                self._failure = error
            group.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure
        if task is None:  # only when somebody cancelled us
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
        """Ask what is new; of what is settled in the meantime, through another door, nobody need think any more."""
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
        # Before it is sent: the task may ask anew before the acknowledgement is there.
        self._prompts.record_answer(request, response, anyio.current_time())
        try:
            await self._retry(lambda: update_task(self._session, self._task_id, {key: response}))
        except MCPError as error:
            if error.code != INVALID_PARAMS or not self._prompts.allow_retry(key):
                self._failure = error
                group.cancel_scope.cancel()
            logger.warning("The answer to %s of task %s can't be taken: %s", key, self._task_id, error)
        self._answered.set()

    async def _retry(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call again while the server can't answer."""
        pause, deadline = 0.2, anyio.current_time() + self._retry_timeout
        while True:
            try:
                return await call()
            except MCPError as error:
                if error.code not in _TRANSIENT or anyio.current_time() + pause > deadline:
                    raise
                logger.debug("The server can't tell of task %s just now: %s", self._task_id, error)
            await anyio.sleep(pause)
            pause = min(2 * pause, 5.0)


async def get_task(session: ClientSession, task_id: str) -> DetailedTask:
    """`tasks/get`: the task as it is now."""
    return await session.send_request(GetTask(params=TaskParams(task_id=task_id)), DetailedTask)


async def update_task(session: ClientSession, task_id: str, responses: dict[str, Any]) -> None:
    """`tasks/update`: answer what a task asks, by the keys of its input requests."""
    params = UpdateTaskParams(task_id=task_id, input_responses=responses)
    await session.send_request(UpdateTask(params=params), Acknowledgement)


async def cancel_task(session: ClientSession, task_id: str) -> None:
    """`tasks/cancel`: ask that a task ends. It may end otherwise all the same, or later."""
    await session.send_request(CancelTask(params=TaskParams(task_id=task_id)), Acknowledgement)


async def _response(session: ClientSession, key: str, raw: Any) -> dict[str, Any] | None:
    """What the client's callbacks say to a request; None where they refuse to say anything, or are not needed."""
    try:
        request = _REQUESTS.validate_python(raw, by_name=False)
    except ValidationError:
        logger.warning("A task asks what this client does not understand: %s", key)
        return None
    context = ClientRequestContext(session=session, request_id=key)
    try:
        response = await session.dispatch_input_request(context, request)
    except Exception:
        logger.exception("The client's callback failed at %s of a task", key)
        return None
    if isinstance(response, ErrorData):
        logger.warning("The client does not answer %s of a task: %s", key, response.message)
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
