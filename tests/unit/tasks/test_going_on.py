"""A task is the whole chain of runs of its workflow, and nothing that comes after."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

from mcp.server import MCPServer
from temporalio.client import Client as TemporalClient
from temporalio.worker import Worker

from invoice_mcp.tasks import Retention, Run, TaskBinding, TasksExtension, get, task_id_of, update
from tests.requirements import requirement
from tests.tasks_client import tasks_client
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
