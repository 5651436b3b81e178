"""A client with tasks and a scripted user."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any
from uuid import uuid4

from mcp import Client, MCPError
from mcp.client.session import ClientRequestContext
from mcp.server import MCPServer
from mcp_types import ElicitRequestFormParams, ElicitRequestURLParams, ElicitResult
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import ResetReapplyExcludeType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client as TemporalClient

from invoice_mcp.server.tools import build_server
from invoice_mcp.service.invoice_service import InvoiceService
from invoice_mcp.testing import World
from mcp_temporal_tasks import CreateTaskResult, TasksClient, get_task


class ScriptedUser:
    """Answers every form in the same way and keeps the questions."""

    def __init__(self, action: Any = "accept", **content: Any) -> None:
        self.questions: list[str] = []
        self._answer = ElicitResult(action=action, content=content or None)

    async def __call__(
        self,
        context: ClientRequestContext,
        params: ElicitRequestFormParams | ElicitRequestURLParams,
    ) -> ElicitResult:
        self.questions.append(params.message)
        return self._answer


def build_server_for(world: World, **options: Any) -> MCPServer[Any]:
    """Build another MCP server for the invoices of this world, as in another process."""
    return build_server(InvoiceService(world.client, task_queue=world.task_queue), **options)


def tasks_client(server: Any, person: ScriptedUser | None = None, tasks: TasksClient | None = None) -> Client:
    """Build a client with tasks, and with a user if given."""
    return Client(server, extensions=[tasks or TasksClient()], elicitation_callback=person)


async def open_form_key(client: Client, task_id: str) -> str:
    """Read the task and return the key of its open form."""
    [key] = (await get_task(client.session, task_id)).input_requests or {}
    return key


def form_response(key: str, **content: Any) -> dict[str, Any]:
    """Return the response to the form with this key."""
    return {key: {"action": "accept", "content": content}}


async def decision_response(client: Client, task_id: str, **content: Any) -> dict[str, Any]:
    """Return the response to the open form."""
    return form_response(await open_form_key(client, task_id), **content)


async def start_task(client: Client, tool: str, **arguments: Any) -> CreateTaskResult:
    """Call a tool and return its task, without following it."""
    created = await client.session.call_tool(tool, arguments, allow_claimed=True)
    assert isinstance(created, CreateTaskResult)
    return created


async def reset(client: TemporalClient, workflow_id: str, run_id: str, after: int = 3) -> str:
    """Reset a run to an event, without reapplying updates, as `temporal workflow reset`. Return the new run's id."""
    done = await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
            reason="reset by a test",
            request_id=str(uuid4()),
            workflow_task_finish_event_id=after,
            reset_reapply_exclude_types=[ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE],
        )
    )
    return done.run_id


async def expect_error(call: Awaitable[object]) -> MCPError:
    """Return the JSON-RPC error that a call has to end with."""
    try:
        answer = await call
    except MCPError as error:
        return error
    raise AssertionError(f"expected an error, got: {answer}")
