"""A client that knows tasks, and a person behind it: for tests of both."""

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
    """Answers every form in the same way, and remembers what was asked."""

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
    """Another MCP server for the invoices of this world, as another process would be."""
    return build_server(InvoiceService(world.client, task_queue=world.task_queue), **options)


def tasks_client(server: Any, person: ScriptedUser | None = None, tasks: TasksClient | None = None) -> Client:
    """A client with tasks, and with a person, if given."""
    return Client(server, extensions=[tasks or TasksClient()], elicitation_callback=person)


async def open_form_key(client: Client, task_id: str) -> str:
    """Under which key the task asks now; only who reads the task can know."""
    [key] = (await get_task(client.session, task_id)).input_requests or {}
    return key


def form_response(key: str, **content: Any) -> dict[str, Any]:
    """The form under this key, filled in."""
    return {key: {"action": "accept", "content": content}}


async def decision_response(client: Client, task_id: str, **content: Any) -> dict[str, Any]:
    """The form that is open now, filled in."""
    return form_response(await open_form_key(client, task_id), **content)


async def start_task(client: Client, tool: str, **arguments: Any) -> CreateTaskResult:
    """Call a tool, and leave its task alone."""
    created = await client.session.call_tool(tool, arguments, allow_claimed=True)
    assert isinstance(created, CreateTaskResult)
    return created


async def reset(client: TemporalClient, workflow_id: str, run_id: str, after: int = 3) -> str:
    """Have it begin again from an event, without its updates, as `temporal workflow reset` can; the new run's id."""
    done = await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
            reason="an operator's hand",
            request_id=str(uuid4()),
            workflow_task_finish_event_id=after,
            reset_reapply_exclude_types=[ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE],
        )
    )
    return done.run_id


async def expect_error(call: Awaitable[object]) -> MCPError:
    """The JSON-RPC error that a call must end with."""
    try:
        answer = await call
    except MCPError as error:
        return error
    raise AssertionError(f"it should have failed, but was answered: {answer}")
