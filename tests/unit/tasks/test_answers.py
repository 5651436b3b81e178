"""An answer that was acknowledged counts, and what can not be one is refused: whatever the workers remember."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import anyio
from mcp import Client
from temporalio.client import Client as TemporalClient
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

from invoice_mcp.tasks import get, update
from tests.requirements import requirement
from tests.tasks_client import begin, tasks_client
from tests.unit.tasks import deployments
from tests.unit.tasks.test_generic import text_of, until

HOW_MANY = 4


def worker_of(client: TemporalClient, remembers: int = 1000) -> Worker:
    return Worker(client, task_queue="deploy", workflows=[deployments.Deploy], max_cached_workflows=remembers)


async def asking(client: Client) -> str:
    """The id of a deployment's task that asks when."""
    task_id = (await begin(client, "deploy", service="web")).task_id
    await until(client, task_id, lambda task: task.input_requests)
    return task_id


async def answered_all(client: Client, task_ids: list[str]) -> None:
    """Answer each, at the same time; each answer that is acknowledged counts."""
    async with anyio.create_task_group() as group:
        for task_id in task_ids:
            answers: Any = {"input-1": {"action": "accept", "content": {"when": "tonight"}}}
            group.start_soon(update, client.session, task_id, answers)
    for task_id in task_ids:
        ended = await until(client, task_id, lambda task: task.is_terminal)
        assert text_of(ended.result) == "web: tonight"


@requirement("TASK-UPDATE")
async def test_an_answer_counts_for_a_worker_that_forgets(real_client: TemporalClient) -> None:
    async with (
        worker_of(real_client, remembers=0),
        tasks_client(deployments.deployments(real_client)) as client,
    ):
        await answered_all(client, [await asking(client) for _ in range(HOW_MANY)])


@requirement("TASK-UPDATE")
async def test_an_answer_counts_for_two_workers_that_began_after_the_question(real_client: TemporalClient) -> None:
    async with tasks_client(deployments.deployments(real_client)) as client, AsyncExitStack() as stack:
        async with worker_of(real_client):
            task_ids = [await asking(client) for _ in range(HOW_MANY)]
        for _ in range(2):
            address = real_client.service_client.config.target_host
            another = await TemporalClient.connect(address, data_converter=pydantic_data_converter)
            await stack.enter_async_context(worker_of(another))
        for task_id in task_ids:
            # A worker that is no more may be waited for until Temporal gives it up.
            await get(client.session, task_id)
        await answered_all(client, task_ids)
