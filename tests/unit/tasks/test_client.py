"""The client extension when something goes wrong."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import anyio
import pytest
from mcp import Client
from mcp.client.session import ClientRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, ElicitRequestFormParams, ElicitRequestURLParams, ElicitResult
from temporalio.client import Client as TemporalClient
from temporalio.worker import Worker

from mcp_temporal_tasks import DetailedTask, TasksClient, WorkflowRun, get_task, task_id_of, update_task
from mcp_temporal_tasks.client import client as client_module
from mcp_temporal_tasks.server.tasks import TaskService
from tests.requirements import requirement
from tests.tasks_client import ScriptedUser, expect_error, start_task, tasks_client
from tests.unit.tasks.continued_workflows import Persists
from tests.unit.tasks.servers import jobs, tasks_of
from tests.unit.tasks.test_generic import text_of, until

HARNESS_TIMEOUT = 20


@requirement("TASK-CLIENT")
async def test_a_prompt_is_cancelled_when_its_request_is_answered_elsewhere(
    real_client: TemporalClient,
) -> None:
    thinking, dismissed = anyio.Event(), anyio.Event()

    async def thinks(
        context: ClientRequestContext,
        params: ElicitRequestFormParams | ElicitRequestURLParams,
    ) -> ElicitResult:
        thinking.set()
        try:
            await anyio.sleep(2 * HARNESS_TIMEOUT)
        finally:
            dismissed.set()
        return ElicitResult(action="cancel")

    async with jobs(real_client) as server, tasks_client(server) as other:
        created = await start_task(other, "confirm_delete", filename="x")
        async with Client(server, extensions=[TasksClient()], elicitation_callback=thinks) as client:

            async def settle_elsewhere() -> None:
                await thinking.wait()
                [key] = (await get_task(other.session, created.task_id)).input_requests or {}
                answer = {"action": "accept", "content": {"confirm": True}}
                await update_task(other.session, created.task_id, {key: answer})

            with anyio.fail_after(HARNESS_TIMEOUT):
                async with anyio.create_task_group() as group:
                    group.start_soon(settle_elsewhere)
                    answer = await TasksClient().follow(client.session, created.task_id)
    assert text_of(answer) == "x was deleted"
    assert dismissed.is_set()


@requirement("TASK-CLIENT")
async def test_a_question_is_asked_once_however_often_it_is_polled(real_client: TemporalClient) -> None:
    person = ScriptedUser("cancel")
    async with jobs(real_client) as server, tasks_client(server, person) as client:
        answer = await client.call_tool("confirm_delete", {"filename": "x"})
    assert text_of(answer) == "x was kept"
    assert len(person.questions) == 1


@requirement("TASK-CLIENT")
async def test_a_client_without_callbacks_leaves_requests_to_other_clients(real_client: TemporalClient) -> None:
    async with jobs(real_client) as server, tasks_client(server) as mute, tasks_client(server) as other:
        created = await start_task(mute, "confirm_delete", filename="x")
        async with anyio.create_task_group() as group:

            async def answer_it() -> None:
                task = await until(other, created.task_id, lambda task: task.input_requests)
                [key] = task.input_requests or {}
                await update_task(
                    other.session, created.task_id, {key: {"action": "accept", "content": {"confirm": True}}}
                )

            group.start_soon(answer_it)
            with anyio.fail_after(HARNESS_TIMEOUT):
                assert text_of(await TasksClient().follow(mute.session, created.task_id)) == "x was deleted"


@requirement("TASK-CLIENT")
async def test_an_unknown_task_is_an_error_at_once(real_client: TemporalClient) -> None:
    async with jobs(real_client) as server, tasks_client(server) as client:
        assert (await expect_error(TasksClient().follow(client.session, "nobody:0-0"))).code == -32602


@requirement("TASK-CLIENT")
async def test_an_unavailable_server_is_retried_until_the_timeout(
    real_client: TemporalClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with jobs(real_client) as server, tasks_client(server) as client:
        created = await start_task(client, "slow_compute", seconds=0)

        async def gone(*_args: Any, **_options: Any) -> None:
            raise RuntimeError("Failed client connect: gone")

        monkeypatch.setattr("temporalio.client.WorkflowHandle.describe", gone)
        patient = TasksClient(retry_timeout=timedelta(milliseconds=500))
        error = await expect_error(patient.follow(client.session, created.task_id))
        assert error.code == -32603
        assert "can't be reached" in error.message


@requirement("TASK-CLIENT")
async def test_a_cancelled_call_leaves_the_task_open(real_client: TemporalClient) -> None:
    seen: list[str] = []

    async def on_task(task: Any) -> None:
        seen.append(task.task_id)

    async with jobs(real_client) as server, tasks_client(server, tasks=TasksClient(on_task=on_task)) as client:
        with anyio.move_on_after(1):
            await client.call_tool("confirm_delete", {"filename": "x"})
        task: DetailedTask = await get_task(client.session, seen[0])
        assert task.status == "input_required"


@requirement("TASK-CLIENT")
async def test_a_failing_callback_leaves_the_request_to_other_clients(real_client: TemporalClient) -> None:
    failed = anyio.Event()

    async def fails(
        context: ClientRequestContext,
        params: ElicitRequestFormParams | ElicitRequestURLParams,
    ) -> ElicitResult:
        failed.set()
        raise LookupError("no window to show it in")

    async with jobs(real_client) as server, tasks_client(server) as other:
        created = await start_task(other, "confirm_delete", filename="x")
        async with Client(server, extensions=[TasksClient()], elicitation_callback=fails) as client:

            async def settle_elsewhere() -> None:
                await failed.wait()
                [key] = (await get_task(other.session, created.task_id)).input_requests or {}
                await update_task(
                    other.session, created.task_id, {key: {"action": "accept", "content": {"confirm": True}}}
                )

            with anyio.fail_after(HARNESS_TIMEOUT):
                async with anyio.create_task_group() as group:
                    group.start_soon(settle_elsewhere)
                    answer = await TasksClient().follow(client.session, created.task_id)
    assert text_of(answer) == "x was deleted"


@requirement("TASK-CLIENT")
async def test_a_dismissed_request_is_not_repeated_before_a_late_acknowledgement(
    real_client: TemporalClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledge = anyio.Event()
    honest = TaskService.answer

    async def late(tasks: TaskService, *arguments: Any) -> None:
        await honest(tasks, *arguments)
        await acknowledge.wait()

    monkeypatch.setattr(TaskService, "answer", late)
    person, polls = ScriptedUser("cancel"), 0

    async def on_task(task: Any) -> None:
        nonlocal polls
        # The client has polled the repeated request, more than once.
        polls += bool(person.questions) and task.status == "input_required"

    async with (
        Worker(real_client, task_queue="persists", workflows=[Persists]),
        tasks_client(tasks_of(real_client, Persists), person) as client,
    ):
        handle = await real_client.start_workflow(
            Persists.run, id=f"persists-{uuid4()}", task_queue="persists", execution_timeout=timedelta(minutes=1)
        )
        task_id = task_id_of(WorkflowRun(handle.id, str(handle.first_execution_run_id)))
        with anyio.move_on_after(2.5):
            await TasksClient(on_task=on_task).follow(client.session, task_id)
        acknowledge.set()
        await handle.terminate()
    assert polls > 0
    assert len(person.questions) == 1


@requirement("TASK-CLIENT")
async def test_an_error_of_on_task_is_raised_unchanged(real_client: TemporalClient) -> None:
    async def fails(task: Any) -> None:
        raise LookupError(task.task_id)

    async with jobs(real_client) as server, tasks_client(server) as client:
        created = await start_task(client, "confirm_delete", filename="x")
        with pytest.raises(LookupError, match=created.task_id):
            await TasksClient(on_task=fails).follow(client.session, created.task_id)


@requirement("TASK-CLIENT")
async def test_a_rejected_answer_is_asked_for_again_a_few_times(
    real_client: TemporalClient,
) -> None:
    person = ScriptedUser("accept", something="else")
    async with jobs(real_client) as server, tasks_client(server, person) as client:
        created = await start_task(client, "confirm_delete", filename="x")
        with anyio.fail_after(HARNESS_TIMEOUT):
            error = await expect_error(TasksClient().follow(client.session, created.task_id))
        assert error.code == -32602
        assert "confirm is required" in error.message
        assert len(person.questions) == 3
        assert (await get_task(client.session, created.task_id)).status == "input_required"


@requirement("TASK-CLIENT")
def test_a_failed_task_without_an_error_raises_a_default_error() -> None:
    task = DetailedTask(task_id="t", status="failed", created_at="", last_updated_at="")
    with pytest.raises(MCPError, match="The task failed") as raised:
        client_module._tool_result(task)
    assert raised.value.error.code == INTERNAL_ERROR
