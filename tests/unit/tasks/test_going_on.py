"""A task is the whole chain of runs of its workflow, and nothing that comes after."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

from mcp.server import MCPServer
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import ResetReapplyExcludeType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client as TemporalClient
from temporalio.worker import Worker

from invoice_mcp.tasks import Retention, Run, TaskBinding, TasksExtension, get, task_id_of, update
from tests.requirements import requirement
from tests.tasks_client import begin, tasks_client
from tests.unit.tasks import deployments
from tests.unit.tasks.goes_on import GoesOn
from tests.unit.tasks.test_generic import text_of, until


@requirement("TASK-STORE", "TASK-WIRE")
async def test_a_workflow_that_continues_as_new_stays_the_same_task(real_client: TemporalClient) -> None:
    queue, workflow_id = "goes-on", f"goes-on-{uuid4()}"
    tasks = TasksExtension(real_client, [TaskBinding(tool="none", workflow="GoesOn")], retention=Retention(real_client))
    async with (
        Worker(real_client, task_queue=queue, workflows=[GoesOn]),
        tasks_client(MCPServer[Any]("goes-on", extensions=[tasks])) as client,
    ):
        handle = await real_client.start_workflow(GoesOn.run, 2, id=workflow_id, task_queue=queue)
        task_id = task_id_of(Run(workflow_id, str(handle.first_execution_run_id)))
        began = (await get(client.session, task_id)).created_at
        task = await until(client, task_id, lambda task: task.input_requests)
        assert task.task_id == task_id
        assert task.created_at == began
        [key] = task.input_requests or {}
        await update(client.session, task_id, {key: {"action": "decline"}})
        ended = await until(client, task_id, lambda task: task.is_terminal)
        assert text_of(ended.result) == "decline"
        # What has the same workflow id afterwards is another task, and this one stays what it was.
        await real_client.start_workflow(
            GoesOn.run, 0, id=workflow_id, task_queue=queue, execution_timeout=timedelta(minutes=1)
        )
        assert await get(client.session, task_id) == ended
        await real_client.get_workflow_handle(workflow_id).terminate()


@requirement("TASK-STORE", "TASK-ENDINGS")
async def test_a_workflow_that_an_operator_resets_stays_the_same_task(real_client: TemporalClient) -> None:
    async with (
        Worker(real_client, task_queue="deploy", workflows=[deployments.Deploy]),
        tasks_client(deployments.deployments(real_client)) as client,
    ):
        task_id = (await begin(client, "deploy", service="web")).task_id
        asked = ended = await until(client, task_id, lambda task: task.input_requests)
        workflow_id, _, run_id = task_id.partition(":")
        for _ in range(2):
            # While it goes on, and once it has ended.
            run_id = await _reset(real_client, workflow_id, run_id)
            again = await until(client, task_id, lambda task: task.input_requests)
            assert (again.task_id, again.created_at) == (task_id, asked.created_at)
            answer = {"action": "accept", "content": {"when": "tonight"}}
            await update(client.session, task_id, dict.fromkeys(again.input_requests or {}, answer))
            ended = await until(client, task_id, lambda task: task.is_terminal)
            assert text_of(ended.result) == "web: tonight"
        # What has the same workflow id afterwards is another task.
        another = await real_client.start_workflow(
            deployments.Deploy.run, "db", id=workflow_id, task_queue="deploy", execution_timeout=timedelta(minutes=1)
        )
        assert await get(client.session, task_id) == ended
        await another.terminate()


async def _reset(client: TemporalClient, workflow_id: str, run_id: str) -> str:
    """Have it begin again, as `temporal workflow reset` does, and return the new run's id."""
    done = await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
            reason="an operator's hand",
            request_id=str(uuid4()),
            workflow_task_finish_event_id=3,
            reset_reapply_exclude_types=[ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE],
        )
    )
    return done.run_id
