"""Acknowledged answers count, and invalid ones are refused, whatever workers have in their caches."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import anyio
import pytest
from mcp import Client
from temporalio.client import Client as TemporalClient
from temporalio.client import WorkflowUpdateFailedError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from mcp_temporal_tasks import TaskBinding, get_task, input_key, parse_task_id, update_task
from mcp_temporal_tasks import workflow as workflow_module
from mcp_temporal_tasks.workflow import TASK_INPUT
from tests.requirements import requirement
from tests.tasks_client import expect_error, start_task, tasks_client
from tests.unit.tasks import deployments
from tests.unit.tasks.test_generic import text_of, until

HOW_MANY = 4


def worker_of(client: TemporalClient, remembers: int = 1000) -> Worker:
    return Worker(client, task_queue="deploy", workflows=[deployments.Deploy], max_cached_workflows=remembers)


def key_of(task_id: str) -> str:
    """The key of the first request of the task's first run."""
    run = parse_task_id(task_id)
    assert run is not None
    return input_key("input-1", run.run_id)


async def asking(client: Client) -> str:
    """Start a deployment that waits for an answer, and return its task id."""
    task_id = (await start_task(client, "deploy", service="web")).task_id
    await until(client, task_id, lambda task: task.input_requests)
    return task_id


async def answered_all(client: Client, task_ids: list[str]) -> None:
    """Answer all tasks concurrently. Each acknowledged answer must count."""
    async with anyio.create_task_group() as group:
        for task_id in task_ids:
            answers: Any = {key_of(task_id): {"action": "accept", "content": {"when": "tonight"}}}
            group.start_soon(update_task, client.session, task_id, answers)
    for task_id in task_ids:
        ended = await until(client, task_id, lambda task: task.is_terminal)
        assert text_of(ended.result) == "web: tonight"


@requirement("TASK-UPDATE")
async def test_an_acknowledged_answer_counts_for_a_worker_without_a_cache(real_client: TemporalClient) -> None:
    async with (
        worker_of(real_client, remembers=0),
        tasks_client(deployments.deployments(real_client)) as client,
    ):
        await answered_all(client, [await asking(client) for _ in range(HOW_MANY)])


@requirement("TASK-UPDATE")
async def test_an_acknowledged_answer_counts_for_workers_started_after_the_question(
    real_client: TemporalClient,
) -> None:
    async with tasks_client(deployments.deployments(real_client)) as client, AsyncExitStack() as stack:
        async with worker_of(real_client):
            task_ids = [await asking(client) for _ in range(HOW_MANY)]
        for _ in range(2):
            address = real_client.service_client.config.target_host
            another = await TemporalClient.connect(address, data_converter=pydantic_data_converter)
            await stack.enter_async_context(worker_of(another))
        for task_id in task_ids:
            # Temporal may wait for the stopped worker until its sticky timeout.
            await get_task(client.session, task_id)
        await answered_all(client, task_ids)


@requirement("TASK-UPDATE")
@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ({}, "elicitation"),
        ({"x": 1}, "elicitation"),
        ({"action": "perhaps"}, "elicitation"),
        ({"action": "accept", "content": "tonight"}, "elicitation"),
        ({"action": "accept", "content": {"when": {"hour": 8}}}, "elicitation"),
        ({"action": "accept"}, "when"),
        ({"action": "accept", "content": None}, "when"),
        ({"action": "accept", "content": {"where": "here"}}, "when"),
        ({"action": "accept", "content": {"when": 8}}, "when"),
        ({"action": "accept", "content": {"when": None}}, "when"),
    ],
)
async def test_an_invalid_answer_is_refused_and_the_question_stays_open(
    real_client: TemporalClient, response: Any, expected: str
) -> None:
    async with worker_of(real_client), tasks_client(deployments.deployments(real_client)) as client:
        task_id = await asking(client)
        error = await expect_error(update_task(client.session, task_id, {key_of(task_id): response}))
        assert error.code == -32602
        assert expected in error.message
        await answered_all(client, [task_id])


NOT_TAKEN: dict[str, tuple[Exception, int, str]] = {
    "it can't be read": (ValueError("no such hour"), -32602, "no such hour"),
    "the workflow refuses it": (WorkflowUpdateFailedError(ApplicationError("not tonight")), -32602, "not tonight"),
    "the workflow is not reached": (RPCError("no such workflow", RPCStatusCode.NOT_FOUND, b""), -32603, ""),
}


@requirement("TASK-UPDATE")
@pytest.mark.parametrize("why", NOT_TAKEN)
async def test_an_answer_that_failed_is_not_acknowledged(
    real_client: TemporalClient, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    error, code, expected = NOT_TAKEN[why]

    async def is_not_taken(*_: Any) -> None:
        raise error

    async with worker_of(real_client), tasks_client(deployments.deployments(real_client)) as client:
        task_id = await asking(client)
        form: Any = {key_of(task_id): {"action": "accept", "content": {"when": "tonight"}}}
        monkeypatch.setattr(deployments, "TaskBinding", partial(TaskBinding, answer=is_not_taken))
        async with tasks_client(deployments.deployments(real_client)) as another:
            refused = await expect_error(update_task(another.session, task_id, form))
        assert refused.code == code
        assert expected in refused.message
        await answered_all(client, [task_id])


@requirement("TASK-GENERIC")
@pytest.mark.parametrize("response", [{"action": "accept"}, {"action": "accept", "content": {}}, {"x": 1}])
async def test_the_example_tolerates_an_unchecked_answer(real_client: TemporalClient, response: dict[str, Any]) -> None:
    async with worker_of(real_client), tasks_client(deployments.deployments(real_client)) as client:
        task_id = await asking(client)
        handle = real_client.get_workflow_handle(task_id.partition(":")[0])
        await handle.execute_update(TASK_INPUT, {"input-1": response})
        ended = await until(client, task_id, lambda task: task.is_terminal)
        assert text_of(ended.result) == "web: never"


@requirement("TASK-UPDATE")
@pytest.mark.parametrize(
    ("key", "number"),
    [("input-1", 1), ("input-12", 12), ("input-0", 0), ("input-01", 0), ("other-1", 0), ("input-x", 0)],
)
def test_only_keys_that_the_inbox_makes_have_a_number(key: str, number: int) -> None:
    assert workflow_module._question_number(key) == number
