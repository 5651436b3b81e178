# The public names, for type checkers and for lazy_loader.

from .binding import TaskBinding, run_from_result, started, tool_result
from .client.client import TasksClient, cancel_task, get_task, update_task
from .ids import WorkflowRun, input_key, parse_task_id, task_id_of
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
    "Task",
    "TaskBinding",
    "TaskParams",
    "TaskStatus",
    "TasksClient",
    "TasksExtension",
    "UpdateTask",
    "UpdateTaskParams",
    "WorkflowRun",
    "cancel_task",
    "get_task",
    "input_key",
    "parse_task_id",
    "run_from_result",
    "started",
    "task_id_of",
    "tool_result",
    "update_task",
]
