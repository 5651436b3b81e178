"""An answer that was acknowledged counts, and what can not be one is refused: whatever the workers remember."""

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
from mcp_temporal_tasks.workflow import TASK_INPUT
from tests.requirements import requirement
from tests.tasks_client import expect_error, start_task, tasks_client
from tests.unit.tasks import deployments
from tests.unit.tasks.test_generic import text_of, until

HOW_MANY = 4


def worker_of(client: TemporalClient, remembers: int = 1000) -> Worker:
    return Worker(client, task_queue="deploy", workflows=[deployments.Deploy], max_cached_workflows=remembers)


def key_of(task_id: str) -> str:
    """Under which key the task's first run asks its first question."""
    run = parse_task_id(task_id)
    assert run is not None
    return input_key("input-1", run.run_id)


async def asking(client: Client) -> str:
    """The id of a deployment's task that asks when."""
    task_id = (await start_task(client, "deploy", service="web")).task_id
    await until(client, task_id, lambda task: task.input_requests)
    return task_id


async def answered_all(client: Client, task_ids: list[str]) -> None:
    """Answer each, at the same time; each answer that is acknowledged counts."""
    async with anyio.create_task_group() as group:
        for task_id in task_ids:
            answers: Any = {key_of(task_id): {"action": "accept", "content": {"when": "tonight"}}}
            group.start_soon(update_task, client.session, task_id, answers)
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
async def test_what_is_no_answer_is_refused_and_the_question_stays(
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
async def test_an_answer_that_was_not_taken_is_not_acknowledged(
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
async def test_the_example_withstands_an_answer_that_nobody_has_checked(
    real_client: TemporalClient, response: dict[str, Any]
) -> None:
    async with worker_of(real_client), tasks_client(deployments.deployments(real_client)) as client:
        task_id = await asking(client)
        handle = real_client.get_workflow_handle(task_id.partition(":")[0])
        await handle.execute_update(TASK_INPUT, {"input-1": response})
        ended = await until(client, task_id, lambda task: task.is_terminal)
        assert text_of(ended.result) == "web: never"
