"""An MCP server with the fixture tools of the official conformance suite, on a real Temporal.

Run `python -m tests.conformance.server --port 8001`.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver.resolve import Elicit, Resolve
from mcp_types import CallToolResult
from pydantic import BaseModel
from temporalio.client import Client
from temporalio.worker import Worker

from invoice_mcp.temporal.embedded import EmbeddedTemporal
from mcp_temporal_tasks import Retention, TaskBinding, TasksExtension, started
from tests.conformance import jobs

TASK_QUEUE = "conformance"

BINDINGS = (
    TaskBinding(tool="slow_compute", workflow="SlowCompute"),
    TaskBinding(tool="failing_job", workflow="FailingJob", without_tasks="refuse"),
    TaskBinding(tool="protocol_error_job", workflow="ProtocolErrorJob"),
    TaskBinding(tool="confirm_delete", workflow="ConfirmDelete"),
    TaskBinding(tool="multi_input", workflow="MultiInput"),
    TaskBinding(tool="ask_twice", workflow="AskTwice"),
    TaskBinding(tool="test_tool_with_task", workflow="GreetLater", without_tasks="refuse"),
)


class UserName(BaseModel):
    name: str


def ask_name() -> Elicit[UserName]:
    """Ask before the task exists."""
    return Elicit("Who is to be greeted?", UserName)


def build(client: Client, **options: Any) -> MCPServer[Any]:
    """Build the server with the production extension and these options."""
    tasks = TasksExtension(client, BINDINGS, retention=Retention(client), **options)
    server = MCPServer[Any](
        "conformance", extensions=[tasks], middleware=[tasks.subscriptions], version="1", log_level="WARNING"
    )

    async def begin(job: Any, *arguments: Any) -> CallToolResult:
        workflow_id = f"{job.__qualname__}-{uuid4()}"
        return started(await client.start_workflow(job, args=arguments, id=workflow_id, task_queue=TASK_QUEUE))

    @server.tool()
    async def greet(name: str) -> str:
        return f"Hello, {name}!"

    @server.tool()
    async def slow_compute(seconds: float = 0, label: str = "") -> CallToolResult:
        return await begin(jobs.SlowCompute.run, seconds, label)

    @server.tool()
    async def failing_job() -> CallToolResult:
        return await begin(jobs.FailingJob.run)

    @server.tool()
    async def protocol_error_job() -> CallToolResult:
        return await begin(jobs.ProtocolErrorJob.run)

    @server.tool()
    async def confirm_delete(filename: str) -> CallToolResult:
        return await begin(jobs.ConfirmDelete.run, filename)

    @server.tool()
    async def multi_input() -> CallToolResult:
        return await begin(jobs.MultiInput.run)

    @server.tool()
    async def ask_twice() -> CallToolResult:
        return await begin(jobs.AskTwice.run)

    @server.tool()
    async def test_tool_with_task(asked: Annotated[UserName, Resolve(ask_name)]) -> CallToolResult:
        return await begin(jobs.GreetLater.run, asked.name)

    return server


async def main(port: int) -> None:
    """Serve until the process is stopped."""
    with tempfile.TemporaryDirectory() as home:
        async with EmbeddedTemporal(Path(home)) as embedded:
            client = await Client.connect(embedded.endpoint.address)
            async with Worker(client, task_queue=TASK_QUEUE, workflows=jobs.JOBS):
                app = build(client).streamable_http_app(stateless_http=True)
                await uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning")).serve()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(main(parser.parse_args().port))
