"""The extension's shapes on the wire, for both sides."""

from __future__ import annotations

from typing import Any, Literal

from mcp_types import Notification, Request, RequestParams, Result
from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

EXTENSION_ID = "io.modelcontextprotocol/tasks"

TaskStatus = Literal["working", "input_required", "completed", "failed", "cancelled"]
TERMINAL: frozenset[TaskStatus] = frozenset({"completed", "failed", "cancelled"})


class Task(Result):
    """What is told of every task. Times are ISO 8601, spans are milliseconds.

    Attributes:
        ttl_ms: From `created_at` on, how long the task is kept at least; it grows while the task goes on.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    task_id: str
    status: TaskStatus
    status_message: str | None = None
    created_at: str
    last_updated_at: str
    ttl_ms: int | None = None
    poll_interval_ms: int | None = None


class CreateTaskResult(Task):
    """Answer to a tool call that became a task."""

    result_type: Literal["task"] = "task"


class DetailedTask(Task):
    """Answer to `tasks/get`, and body of `notifications/tasks`.

    Attributes:
        input_requests: With `input_required`: what is asked and not answered yet, by key.
        result: With `completed`: what the tool call would have answered.
        error: With `failed`: the JSON-RPC error that the tool call would have ended with.
    """

    result_type: Literal["complete"] = "complete"
    input_requests: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL


class Acknowledgement(Result):
    """Empty answer to `tasks/update` and `tasks/cancel`."""

    result_type: Literal["complete"] = "complete"


class TaskParams(RequestParams):
    """Parameters of `tasks/get` and `tasks/cancel`."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    task_id: str


class UpdateTaskParams(TaskParams):
    """Parameters of `tasks/update`: answers by the keys of the input requests."""

    input_responses: dict[str, Any]


class GetTask(Request[TaskParams, Literal["tasks/get"]]):
    method: Literal["tasks/get"] = "tasks/get"
    params: TaskParams
    name_param = "taskId"


class UpdateTask(Request[UpdateTaskParams, Literal["tasks/update"]]):
    method: Literal["tasks/update"] = "tasks/update"
    params: UpdateTaskParams
    name_param = "taskId"


class CancelTask(Request[TaskParams, Literal["tasks/cancel"]]):
    method: Literal["tasks/cancel"] = "tasks/cancel"
    params: TaskParams
    name_param = "taskId"


class TaskNotification(Notification[dict[str, Any], Literal["notifications/tasks"]]):
    """A whole DetailedTask, sent when it has changed."""

    method: Literal["notifications/tasks"] = "notifications/tasks"
    params: dict[str, Any]
