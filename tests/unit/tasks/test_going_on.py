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

from invoice_mcp.tasks import Retention, Run, TaskBinding, TasksExtension, cancel, get, task_id_of, update
from tests.requirements import requirement
from tests.tasks_client import begin, tasks_client
from tests.unit.tasks import deployments
from tests.unit.tasks.goes_on import GivesUp, GoesOn, Restless
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


@requirement("TASK-CANCEL")
async def test_a_cancellation_reaches_a_workflow_that_is_just_going_on_as_another_run(
    real_client: TemporalClient,
) -> None:
    tasks = TasksExtension(
        real_client, [TaskBinding(tool="none", workflow="Restless")], retention=Retention(real_client)
    )
    async with (
        Worker(real_client, task_queue="restless", workflows=[Restless]),
        tasks_client(MCPServer[Any]("restless", extensions=[tasks])) as client,
    ):
        for number in range(10):
            handle = await real_client.start_workflow(
                Restless.run, 0.001 * number, id=f"restless-{uuid4()}", task_queue="restless"
            )
            task_id = task_id_of(Run(handle.id, str(handle.first_execution_run_id)))
            await cancel(client.session, task_id)
            assert (await until(client, task_id, lambda task: task.is_terminal)).status == "cancelled"


@requirement("TASK-WIRE")
async def test_a_question_that_is_withdrawn_is_a_change(real_client: TemporalClient) -> None:
    tasks = TasksExtension(
        real_client, [TaskBinding(tool="none", workflow="GivesUp")], retention=Retention(real_client)
    )
    async with (
        Worker(real_client, task_queue="gives-up", workflows=[GivesUp]),
        tasks_client(MCPServer[Any]("gives-up", extensions=[tasks])) as client,
    ):
        handle = await real_client.start_workflow(GivesUp.run, 0.5, id=f"gives-up-{uuid4()}", task_queue="gives-up")
        task_id = task_id_of(Run(handle.id, str(handle.first_execution_run_id)))
        first = await until(client, task_id, lambda task: "input-1" in (task.input_requests or {}))
        second = await until(client, task_id, lambda task: not task.input_requests)
        assert second.status == "working"
        assert second.last_updated_at > first.last_updated_at
        # An answer to what is not asked any more changes nothing.
        await update(client.session, task_id, {"input-1": {"action": "accept"}})
        assert (await get(client.session, task_id)).last_updated_at == second.last_updated_at
        await cancel(client.session, task_id)
        assert (await until(client, task_id, lambda task: task.is_terminal)).status == "cancelled"


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
