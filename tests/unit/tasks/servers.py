"""Servers under test: the conformance suite's tools on a real Temporal, in this process; and any server over HTTP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from mcp.server import MCPServer
from temporalio.client import Client
from temporalio.worker import Worker

from mcp_temporal_tasks import Retention, TaskBinding, TasksExtension
from tests.conformance.jobs import JOBS
from tests.conformance.server import TASK_QUEUE, build


@asynccontextmanager
async def jobs(client: Client) -> AsyncIterator[MCPServer[Any]]:
    """A server with a worker."""
    async with Worker(client, task_queue=TASK_QUEUE, workflows=JOBS):
        yield build(client)


def tasks_of(client: Client, workflow: type, **options: Any) -> MCPServer[Any]:
    """A server for tasks of a workflow that is started elsewhere; `options` are those of its binding."""
    binding = TaskBinding(tool="none", workflow=workflow.__name__, **options)
    return MCPServer[Any]("tasks", extensions=[TasksExtension(client, [binding], retention=Retention(client))])


@asynccontextmanager
async def over_http(server: MCPServer[Any]) -> AsyncIterator[str]:
    """Serve over HTTP, stateless, and yield the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        app = server.streamable_http_app(stateless_http=True)
        running = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        serving = asyncio.create_task(running.serve(sockets=[listening]))
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        finally:
            running.should_exit = True
            await serving
