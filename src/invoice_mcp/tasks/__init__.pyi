# What invoice_mcp.tasks has, for type checkers and for lazy_loader, which loads it when it is used.

from ._binding import TaskBinding, run_started, started, tool_result
from ._client import TasksClient, cancel, get, update
from ._ids import Run, input_key, run_of, task_id_of
from ._retention import Retention
from ._server import TasksExtension
from ._wire import (
    EXTENSION_ID,
    CancelTask,
    CreateTaskResult,
    DetailedTask,
    GetTask,
    Task,
    TaskParams,
    TaskStatus,
    UpdateTask,
    UpdateTaskParams,
)

__all__ = [
    "EXTENSION_ID",
    "CancelTask",
    "CreateTaskResult",
    "DetailedTask",
    "GetTask",
    "Retention",
    "Run",
    "Task",
    "TaskBinding",
    "TaskParams",
    "TaskStatus",
    "TasksClient",
    "TasksExtension",
    "UpdateTask",
    "UpdateTaskParams",
    "cancel",
    "get",
    "input_key",
    "run_of",
    "run_started",
    "started",
    "task_id_of",
    "tool_result",
    "update",
]
