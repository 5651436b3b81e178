from typing import Any
from uuid import uuid4

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from mcp.server import MCPServer
    from mcp_types import CallToolResult
    from temporalio.client import Client

    from mcp_temporal_tasks import Retention, TaskBinding, TasksExtension, started
    from mcp_temporal_tasks.workflow import TaskWorkflow

WHEN = {"type": "object", "properties": {"when": {"type": "string"}}, "required": ["when"]}


@workflow.defn
class Deploy(TaskWorkflow):
    @workflow.run
    async def run(self, service: str) -> str:
        answer = await self.inbox.elicit(f"When may {service} be deployed?", WHEN)
        when = (answer.get("content") or {}).get("when") if answer.get("action") == "accept" else None
        return f"{service}: {when or 'never'}"


def deployments(client: Client) -> MCPServer[Any]:
    tasks = TasksExtension(client, [TaskBinding(tool="deploy", workflow="Deploy")], retention=Retention(client))
    server = MCPServer[Any]("deployments", extensions=[tasks], middleware=[tasks.subscriptions])

    @server.tool(description="Deploy a service when a person says so")
    async def deploy(service: str) -> CallToolResult:
        deploying = await client.start_workflow(Deploy.run, service, id=f"deploy-{uuid4()}", task_queue="deploy")
        return started(deploying)

    return server
