# What mcp_temporal_tasks has, for type checkers and for lazy_loader, which loads it when it is used.

from .binding import TaskBinding, run_started, started, tool_result
from .client.client import TasksClient, cancel, get, update
from .ids import Run, input_key, run_of, task_id_of
from .models import (
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
from .retention import Retention
from .server.extension import TasksExtension

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
