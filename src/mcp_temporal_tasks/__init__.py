"""MCP tasks (`io.modelcontextprotocol/tasks`) backed by Temporal: the state of a task *is* a workflow.

A tool starts a workflow. For a client that supports tasks, the call becomes a task, whose id is made of workflow id and
run id. No other state is stored: any server process can serve any task, as long as Temporal retains the workflow. This
is a complete server for one workflow, which asks the user a question:

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

A failed workflow is a tool error, unless it raises `protocol_error`; a cancelled workflow is a cancelled task.
`TaskBinding` configures the rest: clients without tasks, how a workflow reports its state and takes answers, and how
its outcome becomes the tool's result. `TasksClient` is the client side, `workflow.TaskWorkflow` the workflow side.

What it does not do: it runs no worker, starts no workflow by itself, and stores nothing, not even for a client that was
disconnected. A client asks with the task id.

The package is lazy: a module is loaded when one of its names is first used, so that a server can answer its first
messages before Temporal's client is loaded. The .pyi file lists the names.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
