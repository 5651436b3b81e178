"""A task is the whole chain of runs of its workflow, and nothing that comes after."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import anyio
from temporalio.client import (
    CancelWorkflowInput,
    Interceptor,
    OutboundInterceptor,
    StartWorkflowUpdateInput,
    WorkflowUpdateHandle,
)
from temporalio.client import Client as TemporalClient
from temporalio.common import RetryPolicy
from temporalio.worker import Worker

from mcp_temporal_tasks import (
    DetailedTask,
    TasksClient,
    WorkflowRun,
    cancel_task,
    get_task,
    task_id_of,
    update_task,
)
from tests.requirements import requirement
from tests.tasks_client import ScriptedUser, reset, start_task, tasks_client
from tests.unit.tasks import deployments
from tests.unit.tasks.continued_workflows import (
    AsksInEachRun,
    ContinuesAsNew,
    ContinuesForever,
    GivesUp,
    SucceedsAtLast,
)
from tests.unit.tasks.servers import tasks_of
from tests.unit.tasks.test_generic import HARNESS_TIMEOUT, text_of, until


async def start(client: TemporalClient, run: Callable[..., Awaitable[Any]], *given: Any, queue: str) -> tuple[str, str]:
    """Start a workflow, and return its id and its task id."""
    handle = await client.start_workflow(run, args=given, id=f"{queue}-{uuid4()}", task_queue=queue)
    return handle.id, task_id_of(WorkflowRun(handle.id, str(handle.first_execution_run_id)))


@requirement("TASK-STORE", "TASK-WIRE")
async def test_a_task_spans_continue_as_new(real_client: TemporalClient) -> None:
    queue = "goes-on"
    async with (
        Worker(real_client, task_queue=queue, workflows=[ContinuesAsNew]),
        tasks_client(tasks_of(real_client, ContinuesAsNew)) as client,
    ):
        workflow_id, task_id = await start(real_client, ContinuesAsNew.run, 2, queue=queue)
        began = (await get_task(client.session, task_id)).created_at
        task = await until(client, task_id, lambda task: task.input_requests)
        assert task.task_id == task_id
        assert task.created_at == began
        [key] = task.input_requests or {}
        await update_task(client.session, task_id, {key: {"action": "decline"}})
        ended = await until(client, task_id, lambda task: task.is_terminal)
        assert text_of(ended.result) == "decline"
        # A later workflow with the same id is another task; this task is unchanged.
        await real_client.start_workflow(
            ContinuesAsNew.run, 0, id=workflow_id, task_queue=queue, execution_timeout=timedelta(minutes=1)
        )
        assert await get_task(client.session, task_id) == ended
        await real_client.get_workflow_handle(workflow_id).terminate()


@requirement("TASK-STORE", "TASK-ENDINGS")
async def test_a_task_spans_resets(real_client: TemporalClient) -> None:
    async with (
        Worker(real_client, task_queue="deploy", workflows=[deployments.Deploy]),
        tasks_client(deployments.deployments(real_client)) as client,
    ):
        task_id = (await start_task(client, "deploy", service="web")).task_id
        asked = ended = await until(client, task_id, lambda task: task.input_requests)
        workflow_id, _, run_id = task_id.partition(":")
        seen: set[str] = set(asked.input_requests or {})
        for _ in range(2):
            # First while the workflow is open, then after it has closed.
            run_id = await reset(real_client, workflow_id, run_id)
            again = await until(client, task_id, lambda task: task.input_requests)
            assert (again.task_id, again.created_at) == (task_id, asked.created_at)
            answer = {"action": "accept", "content": {"when": "tonight"}}
            # Requests from before the reset are no longer open.
            await update_task(client.session, task_id, dict.fromkeys(seen, answer))
            assert (await get_task(client.session, task_id)).input_requests == again.input_requests
            assert not seen & (again.input_requests or {}).keys()
            seen |= (again.input_requests or {}).keys()
            await update_task(client.session, task_id, dict.fromkeys(again.input_requests or {}, answer))
            ended = await until(client, task_id, lambda task: task.is_terminal)
            assert text_of(ended.result) == "web: tonight"
        # A later workflow with the same id is another task.
        another = await real_client.start_workflow(
            deployments.Deploy.run, "db", id=workflow_id, task_queue="deploy", execution_timeout=timedelta(minutes=1)
        )
        assert await get_task(client.session, task_id) == ended
        await another.terminate()


@requirement("TASK-CANCEL")
async def test_a_cancellation_reaches_a_workflow_that_is_continuing_as_new(
    real_client: TemporalClient,
) -> None:
    async with (
        Worker(real_client, task_queue="restless", workflows=[ContinuesForever]),
        tasks_client(tasks_of(real_client, ContinuesForever)) as client,
    ):
        for number in range(10):
            _, task_id = await start(real_client, ContinuesForever.run, 0.001 * number, queue="restless")
            await cancel_task(client.session, task_id)
            assert (await until(client, task_id, lambda task: task.is_terminal)).status == "cancelled"


class BeforeRequest(Interceptor):
    """Runs a hook once, before the first cancellation or update reaches the server."""

    def __init__(self, hook: Callable[[str], Awaitable[None]]) -> None:
        self.hook: Callable[[str], Awaitable[None]] | None = hook

    async def run_hook(self, workflow_id: str) -> None:
        hook, self.hook = self.hook, None
        if hook is not None:
            await hook(workflow_id)

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        run_hook = self.run_hook

        class Late(OutboundInterceptor):
            async def cancel_workflow(self, input: CancelWorkflowInput) -> None:
                await run_hook(input.id)
                await super().cancel_workflow(input)

            async def start_workflow_update(self, input: StartWorkflowUpdateInput) -> WorkflowUpdateHandle[Any]:
                await run_hook(input.id)
                return await super().start_workflow_update(input)

        return Late(next)


def before_request(client: TemporalClient, hook: Callable[[str], Awaitable[None]]) -> TemporalClient:
    return TemporalClient(**(client.config() | {"interceptors": [BeforeRequest(hook)]}))


@requirement("TASK-CANCEL")
async def test_a_cancellation_reaches_a_workflow_that_continued_after_it_was_resolved(
    real_client: TemporalClient,
) -> None:
    async def goes_on(workflow_id: str) -> None:
        newest = real_client.get_workflow_handle(workflow_id)
        began = (await newest.describe()).run_id
        with anyio.fail_after(HARNESS_TIMEOUT):
            while (await newest.describe()).run_id == began:
                await anyio.sleep(0.02)

    async with (
        Worker(real_client, task_queue="restless", workflows=[ContinuesForever]),
        tasks_client(tasks_of(before_request(real_client, goes_on), ContinuesForever)) as client,
    ):
        _, task_id = await start(real_client, ContinuesForever.run, 0, queue="restless")
        await cancel_task(client.session, task_id)
        assert (await until(client, task_id, lambda task: task.is_terminal)).status == "cancelled"


@requirement("TASK-CANCEL")
async def test_a_cancellation_does_not_reach_a_workflow_that_reuses_the_id(real_client: TemporalClient) -> None:
    async def is_used_again(workflow_id: str) -> None:
        await real_client.get_workflow_handle(workflow_id).terminate()
        await real_client.start_workflow(AsksInEachRun.run, args=[0, []], id=workflow_id, task_queue="spared")

    async with (
        Worker(real_client, task_queue="spared", workflows=[AsksInEachRun]),
        tasks_client(tasks_of(before_request(real_client, is_used_again), AsksInEachRun)) as client,
    ):
        workflow_id, task_id = await start(real_client, AsksInEachRun.run, 0, [], queue="spared")
        await cancel_task(client.session, task_id)
        assert (await get_task(client.session, task_id)).status == "failed"
        other = real_client.get_workflow_handle(workflow_id)
        events = [event async for event in other.fetch_history_events()]
        assert not any(event.HasField("workflow_execution_cancel_requested_event_attributes") for event in events)
        await other.terminate()


@requirement("TASK-CANCEL")
async def test_a_reset_workflow_is_cancelled(real_client: TemporalClient) -> None:
    async with (
        Worker(real_client, task_queue="deploy", workflows=[deployments.Deploy]),
        tasks_client(deployments.deployments(real_client)) as client,
    ):
        task_id = (await start_task(client, "deploy", service="web")).task_id
        await until(client, task_id, lambda task: task.input_requests)
        workflow_id, _, run_id = task_id.partition(":")
        await reset(real_client, workflow_id, run_id)
        await cancel_task(client.session, task_id)
        assert (await until(client, task_id, lambda task: task.is_terminal)).status == "cancelled"


@requirement("TASK-WIRE")
async def test_a_withdrawn_question_changes_the_task(real_client: TemporalClient) -> None:
    async with (
        Worker(real_client, task_queue="gives-up", workflows=[GivesUp]),
        tasks_client(tasks_of(real_client, GivesUp)) as client,
    ):
        _, task_id = await start(real_client, GivesUp.run, 0.5, queue="gives-up")
        first = await until(client, task_id, lambda task: task.input_requests)
        second = await until(client, task_id, lambda task: not task.input_requests)
        assert second.status == "working"
        assert second.last_updated_at > first.last_updated_at
        # An answer to a withdrawn request changes nothing.
        await update_task(client.session, task_id, {key: {"action": "accept"} for key in first.input_requests or {}})
        assert (await get_task(client.session, task_id)).last_updated_at == second.last_updated_at
        await cancel_task(client.session, task_id)
        assert (await until(client, task_id, lambda task: task.is_terminal)).status == "cancelled"


def worded(task: DetailedTask, word: str) -> dict[str, Any]:
    [key] = task.input_requests or {}
    return {key: {"action": "accept", "content": {"word": word}}}


@requirement("TASK-UPDATE")
async def test_an_answer_for_the_run_before_is_ignored(real_client: TemporalClient) -> None:
    queue = "asks-in-each-run"
    async with (
        Worker(real_client, task_queue=queue, workflows=[AsksInEachRun]),
        tasks_client(tasks_of(real_client, AsksInEachRun)) as other,
    ):
        _, task_id = await start(real_client, AsksInEachRun.run, 1, [], queue=queue)
        first = await until(other, task_id, lambda task: task.input_requests)

        async def record_answer(_: str) -> None:
            await update_task(other.session, task_id, worded(first, "yes"))
            await until(other, task_id, lambda task: (task.input_requests or asked) != asked)

        asked = first.input_requests
        async with tasks_client(tasks_of(before_request(real_client, record_answer), AsksInEachRun)) as client:
            await update_task(client.session, task_id, worded(first, "no"))
            await update_task(client.session, task_id, worded(await get_task(client.session, task_id), "maybe"))
            ended = await until(client, task_id, lambda task: task.is_terminal)
        assert text_of(ended.result).split('"')[1::2] == ["yes", "maybe"]


@requirement("TASK-UPDATE")
async def test_an_answer_for_one_run_does_not_answer_the_next(real_client: TemporalClient) -> None:
    queue = "asks-in-each-run"
    async with (
        Worker(real_client, task_queue=queue, workflows=[AsksInEachRun]),
        tasks_client(tasks_of(real_client, AsksInEachRun)) as client,
    ):
        _, task_id = await start(real_client, AsksInEachRun.run, 1, [], queue=queue)
        first = await until(client, task_id, lambda task: task.input_requests)
        await update_task(client.session, task_id, worded(first, "yes"))
        second = await until(
            client, task_id, lambda task: (task.input_requests or first.input_requests) != first.input_requests
        )
        assert not (first.input_requests or {}).keys() & (second.input_requests or {}).keys()
        # Sent again, as by a client that missed the acknowledgement.
        await update_task(client.session, task_id, worded(first, "yes"))
        assert (await get_task(client.session, task_id)).input_requests == second.input_requests
        await update_task(client.session, task_id, worded(second, "no"))
        ended = await until(client, task_id, lambda task: task.is_terminal)
        assert text_of(ended.result).split('"')[1::2] == ["yes", "no"]


@requirement("TASK-CLIENT")
async def test_a_client_prompts_for_each_run(real_client: TemporalClient) -> None:
    queue, person = "asks-in-each-run", ScriptedUser(word="yes")
    async with (
        Worker(real_client, task_queue=queue, workflows=[AsksInEachRun]),
        tasks_client(tasks_of(real_client, AsksInEachRun), person) as client,
    ):
        _, task_id = await start(real_client, AsksInEachRun.run, 2, [], queue=queue)
        with anyio.fail_after(HARNESS_TIMEOUT):
            await TasksClient().follow(client.session, task_id)
    assert len(person.questions) == 3


@requirement("TASK-ENDINGS")
async def test_a_task_spans_workflow_retries(real_client: TemporalClient) -> None:
    queue, workflow_id = "succeeds-at-last", f"succeeds-at-last-{uuid4()}"
    async with (
        Worker(real_client, task_queue=queue, workflows=[SucceedsAtLast]),
        tasks_client(tasks_of(real_client, SucceedsAtLast)) as client,
    ):
        policy = RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_attempts=3)
        handle = await real_client.start_workflow(
            SucceedsAtLast.run, 3, id=workflow_id, task_queue=queue, retry_policy=policy
        )
        task_id = task_id_of(WorkflowRun(workflow_id, str(handle.first_execution_run_id)))
        ended = await until(client, task_id, lambda task: task.is_terminal)
        assert text_of(ended.result) == "done at attempt 3"
        # A later workflow with the same id is another task.
        await real_client.execute_workflow(SucceedsAtLast.run, 1, id=workflow_id, task_queue=queue)
        assert await get_task(client.session, task_id) == ended


@requirement("TASK-STORE")
async def test_a_task_exists_before_a_worker_does(real_client: TemporalClient) -> None:
    async with tasks_client(deployments.deployments(real_client)) as client:
        created = await start_task(client, "deploy", service="web")
        task = await get_task(client.session, created.task_id)
        assert (task.status, task.last_updated_at) == ("working", created.created_at)
        await real_client.get_workflow_handle(created.task_id.partition(":")[0]).terminate()
