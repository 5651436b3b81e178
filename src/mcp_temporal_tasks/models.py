"""The extension's wire models, for server and client."""

from __future__ import annotations

from typing import Any, Literal

from mcp_types import Notification, Request, RequestParams, Result
from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

EXTENSION_ID = "io.modelcontextprotocol/tasks"

TaskStatus = Literal["working", "input_required", "completed", "failed", "cancelled"]
TERMINAL: frozenset[TaskStatus] = frozenset({"completed", "failed", "cancelled"})


class Task(Result):
    """The common fields of a task. Times are ISO 8601, durations are milliseconds.

    Attributes:
        ttl_ms: Minimum time that the task is kept, from `created_at`. It grows while the task is open.
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
    """The result of a tool call that became a task."""

    result_type: Literal["task"] = "task"


class DetailedTask(Task):
    """The result of `tasks/get`, and the body of `notifications/tasks`.

    Attributes:
        input_requests: If `input_required`: the open requests, by key.
        result: If `completed`: the result of the tool call.
        error: If `failed`: the JSON-RPC error of the tool call.
    """

    result_type: Literal["complete"] = "complete"
    input_requests: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL


class Acknowledgement(Result):
    """The empty result of `tasks/update` and `tasks/cancel`."""

    result_type: Literal["complete"] = "complete"


class TaskParams(RequestParams):
    """Parameters of `tasks/get` and `tasks/cancel`."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    task_id: str


class UpdateTaskParams(TaskParams):
    """Parameters of `tasks/update`: responses by the keys of their input requests."""

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
    """A complete DetailedTask, sent when it changed."""

    method: Literal["notifications/tasks"] = "notifications/tasks"
    params: dict[str, Any]
