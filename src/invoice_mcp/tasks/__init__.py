"""MCP tasks (`io.modelcontextprotocol/tasks`) over Temporal: the task *is* the workflow. Knows nothing of invoices."""

from invoice_mcp.retention import Retention
from invoice_mcp.tasks._binding import TaskBinding, run_started, started, tool_result
from invoice_mcp.tasks._client import TasksClient, cancel, get, update
from invoice_mcp.tasks._ids import Run, run_of, task_id_of
from invoice_mcp.tasks._server import TasksExtension
from invoice_mcp.tasks._wire import (
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
    "run_of",
    "run_started",
    "started",
    "task_id_of",
    "tool_result",
    "update",
]
