"""MCP tasks (`io.modelcontextprotocol/tasks`) over Temporal: the task *is* the workflow. Knows nothing of invoices.

A tool starts a workflow; for a client that knows tasks its call is a task then, with an id made of workflow id and run
id. Nothing else is kept anywhere: any server process answers for any task, for as long as Temporal has the workflow.
This makes a workflow of your own one, with a question to the person on its way:

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

A workflow that fails is a tool error, unless it raises `protocol_error`; one that is cancelled is a cancelled task. How
a client without tasks is served, what a workflow tells of itself, how it takes answers and how its outcome becomes the
tool's result can be said otherwise: see `TaskBinding`. `TasksClient` is the client's side.

Each part is loaded when it is first used: a server can answer its first messages before it has loaded Temporal's
client. The .pyi says what there is.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
