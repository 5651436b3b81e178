"""Tasks of other workflows than invoices: every outcome, questions before and during a task, clients without tasks."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import httpx2
import pytest
from mcp import Client
from mcp_types import CallToolResult, TextContent
from temporalio.client import Client as TemporalClient
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

import mcp_temporal_tasks as tasks
from mcp_temporal_tasks import (
    DetailedTask,
    Retention,
    TasksClient,
    WorkflowRun,
    cancel_task,
    get_task,
    task_id_of,
    update_task,
)
from mcp_temporal_tasks.server import tasks as task_service
from tests.conformance.jobs import JOBS, ConfirmDelete
from tests.conformance.server import TASK_QUEUE, build
from tests.requirements import requirement
from tests.tasks_client import ScriptedUser, expect_error, start_task, tasks_client
from tests.unit.tasks import deployments
from tests.unit.tasks.servers import jobs, over_http, tasks_of

HARNESS_TIMEOUT = 20


def text_of(result: CallToolResult | dict[str, Any] | None) -> str:
    answer = result if isinstance(result, CallToolResult) else CallToolResult.model_validate(result, by_name=False)
    return "".join(block.text for block in answer.content if isinstance(block, TextContent))


async def until(client: Client, task_id: str, reached: Callable[[DetailedTask], object]) -> DetailedTask:
    with anyio.fail_after(HARNESS_TIMEOUT):
        while not reached(task := await get_task(client.session, task_id)):
            await anyio.sleep(0.02)
    return task


@requirement("TASK-GENERIC", "TASK-CLIENT")
async def test_the_documented_example_works(real_client: TemporalClient) -> None:
    person = ScriptedUser(when="tonight")
    async with (
        Worker(real_client, task_queue="deploy", workflows=[deployments.Deploy]),
        tasks_client(deployments.deployments(real_client), person) as client,
    ):
        answer = await client.call_tool("deploy", {"service": "web"})
    assert text_of(answer) == "web: tonight"
    assert person.questions == ["When may web be deployed?"]


@requirement("TASK-GENERIC")
def test_the_example_is_documented_word_for_word() -> None:
    example = Path(inspect.getfile(deployments)).read_text(encoding="utf-8")
    assert textwrap.indent(example, "    ") in str(tasks.__doc__)


@requirement("TASK-GENERIC")
def test_the_package_imports_no_invoice_module() -> None:
    program = (
        "import sys; from mcp_temporal_tasks import *; print(*(name for name in sys.modules if 'invoice' in name))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    others = {name for name in loaded.split() if not name.startswith("mcp_temporal_tasks")}
    assert others == set()


@requirement("TASK-ENDINGS")
async def test_a_tool_error_is_completed_with_is_error(real_client: TemporalClient) -> None:
    async with jobs(real_client) as server, tasks_client(server) as client:
        created = await start_task(client, "failing_job")
        task = await until(client, created.task_id, lambda task: task.is_terminal)
        assert task.status == "completed"
        assert task.result
        assert task.result["isError"] is True
        assert text_of(task.result) == "this job always fails"
        assert (await TasksClient().follow(client.session, created.task_id)).is_error


@requirement("TASK-ENDINGS", "TASK-CLIENT")
async def test_a_protocol_error_is_failed_and_an_error_of_the_call(real_client: TemporalClient) -> None:
    async with jobs(real_client) as server, tasks_client(server) as client:
        error = await expect_error(client.call_tool("protocol_error_job", {}))
        assert (error.code, error.message) == (-32603, "this job always ends with a protocol error")
        created = await start_task(client, "protocol_error_job")
        task = await until(client, created.task_id, lambda task: task.is_terminal)
        assert (task.status, task.result) == ("failed", None)
        assert task.error == {"code": -32603, "message": "this job always ends with a protocol error"}


@requirement("TASK-ENDINGS")
async def test_a_workflow_that_an_operator_terminates_is_failed(real_client: TemporalClient) -> None:
    async with jobs(real_client) as server, tasks_client(server) as client:
        created = await start_task(client, "confirm_delete", filename="x")
        await real_client.get_workflow_handle(created.task_id.partition(":")[0]).terminate("enough")
        task = await get_task(client.session, created.task_id)
        assert task.status == "failed"
        assert task.error
        assert "terminated" in task.error["message"]


@requirement("TASK-UPDATE")
async def test_questions_are_answered_one_by_one_and_each_once(real_client: TemporalClient) -> None:
    async with jobs(real_client) as server, tasks_client(server) as client:
        created = await start_task(client, "multi_input")
        task = await until(client, created.task_id, lambda task: len(task.input_requests or {}) == 2)
        first, second = task.input_requests or {}

        def named(name: str) -> dict[str, Any]:
            return {"action": "accept", "content": {"name": name}}

        await update_task(client.session, created.task_id, {first: named("Ann"), "never-asked": named("X")})
        task = await get_task(client.session, created.task_id)
        assert (task.status, list(task.input_requests or {})) == ("input_required", [second])
        # Answered before: ignored, though another request is open.
        await update_task(client.session, created.task_id, {first: named("Eve")})
        await update_task(client.session, created.task_id, {first: named("Eve"), second: named("Bob")})
        task = await until(client, created.task_id, lambda task: task.is_terminal)
        assert text_of(task.result) == "Ann and Bob"


@requirement("TASK-UPDATE")
async def test_a_key_is_never_reused(real_client: TemporalClient) -> None:
    async with jobs(real_client) as server, tasks_client(server) as client:
        created = await start_task(client, "ask_twice")
        task = await until(client, created.task_id, lambda task: task.input_requests)
        [first] = task.input_requests or {}
        answer = {"action": "accept", "content": {"name": "Ann"}}
        await update_task(client.session, created.task_id, {first: answer})
        task = await until(client, created.task_id, lambda task: first not in (task.input_requests or {first: 1}))
        [second] = task.input_requests or {}
        # The same words, but another request: the first answer does not count for it.
        await update_task(client.session, created.task_id, {first: answer})
        assert list((await get_task(client.session, created.task_id)).input_requests or {}) == [second]
        await update_task(client.session, created.task_id, {second: {"action": "accept", "content": {"name": "Bob"}}})
        task = await until(client, created.task_id, lambda task: task.is_terminal)
        assert text_of(task.result) == "Ann and Bob"


@requirement("TASK-MRTR", "TASK-CLIENT")
async def test_questions_before_the_task_are_answered_first(real_client: TemporalClient) -> None:
    person = ScriptedUser(name="Alice")
    async with jobs(real_client) as server, tasks_client(server, person) as client:
        assert text_of(await client.call_tool("test_tool_with_task", {})) == "Hello, Alice!"
    assert person.questions == ["Who is to be greeted?"]


@requirement("TASK-CAPABILITY")
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_without_tasks_waits_or_is_refused_as_the_binding_says(
    real_client: TemporalClient, mode: Any
) -> None:
    async with jobs(real_client) as server, Client(server, mode=mode) as client:
        assert text_of(await client.call_tool("slow_compute", {"seconds": 0.2, "label": "It"})) == "It took 0.2 s"
        error = await expect_error(client.call_tool("failing_job", {}))
        assert error.code == -32021
        assert error.data == {"requiredCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}}}
        assert (await expect_error(client.call_tool("protocol_error_job", {}))).code == -32603
        # It asks a question that this client can't answer, and is cancelled.
        assert (await expect_error(client.call_tool("confirm_delete", {"filename": "x"}))).code == -32021


@requirement("TASK-CAPABILITY")
async def test_a_client_without_tasks_waits_no_longer_than_the_timeout(real_client: TemporalClient) -> None:
    async with (
        Worker(real_client, task_queue=TASK_QUEUE, workflows=JOBS),
        Client(build(real_client, wait_timeout=timedelta(milliseconds=300))) as client,
    ):
        answer = await client.call_tool("slow_compute", {"seconds": 30})
        assert answer.is_error
        assert "takes longer" in text_of(answer)


@requirement("TASK-WIRE")
async def test_times_come_from_the_history_in_whole_milliseconds(real_client: TemporalClient) -> None:
    async with jobs(real_client) as server, tasks_client(server) as client:
        created = await start_task(client, "confirm_delete", filename="x")
        task = await until(client, created.task_id, lambda task: task.input_requests)
        handle = real_client.get_workflow_handle(created.task_id.partition(":")[0])
        events = (await handle.fetch_history()).events
        assert datetime.fromisoformat(task.created_at) == _milliseconds(events[0].event_time.ToDatetime())
        asked = datetime.fromisoformat(task.last_updated_at)
        assert any(_milliseconds(event.event_time.ToDatetime()) == asked for event in events)
        assert isinstance(task.ttl_ms, int)
        assert task.ttl_ms >= (await Retention(real_client)()) // timedelta(milliseconds=1) >= 24 * 3600 * 1000
        assert task.poll_interval_ms == 1000
        [key] = task.input_requests or {}
        await update_task(client.session, created.task_id, {key: {"action": "decline"}})
        ended = await until(client, created.task_id, lambda task: task.is_terminal)
        closed = (await handle.describe()).close_time
        assert closed
        assert datetime.fromisoformat(ended.last_updated_at) == _milliseconds(closed)
        assert text_of(ended.result) == "x was kept"


def _milliseconds(time: datetime) -> datetime:
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return aware.replace(microsecond=aware.microsecond // 1000 * 1000)


@requirement("TASK-HEADERS", "TASK-CAPABILITY")
async def test_a_header_that_differs_from_the_body_is_refused(real_client: TemporalClient) -> None:
    async with jobs(real_client) as server, over_http(server) as url, tasks_client(url) as client:
        created = await start_task(client, "confirm_delete", filename="x")
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            for name in ("wrong", None):
                status, error = await _post(url, method, created.task_id, name)
                assert (status, error["code"]) == (400, -32020)
            assert (await _post(url, method, created.task_id, created.task_id, declares=False))[1]["code"] == -32021
        # None of these had an effect; with the correct header the request is served.
        assert (await until(client, created.task_id, lambda task: task.input_requests)).status == "input_required"
        await cancel_task(client.session, created.task_id)
        assert (await until(client, created.task_id, lambda task: task.is_terminal)).status == "cancelled"


async def _post(
    url: str, method: str, task_id: Any, name: str | None, *, declares: bool = True
) -> tuple[int, dict[str, Any]]:
    capabilities: dict[str, Any] = {"extensions": {"io.modelcontextprotocol/tasks": {}}} if declares else {}
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    }
    headers = {
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": method,
        "Accept": "application/json, text/event-stream",
    } | ({"Mcp-Name": name} if name is not None else {})
    params = {"taskId": task_id, "_meta": meta} | ({"inputResponses": {}} if method == "tasks/update" else {})
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    async with httpx2.AsyncClient() as http:
        answer = await http.post(url, json=body, headers=headers)
    error: dict[str, Any] = answer.json()["error"]
    return answer.status_code, error


@requirement("TASK-CANCEL", "TASK-GENERIC")
async def test_a_workflow_that_is_not_cancellable_continues(
    real_client: TemporalClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def cancellable(handle: Any) -> bool:
        asked.append(handle.id)
        if len(asked) == 1:
            # Like a query that is never answered because the workflow closes.
            await anyio.sleep_forever()
        return len(asked) > 2

    monkeypatch.setattr(task_service, "_REFRESH_AFTER", 0.05)
    server = tasks_of(real_client, ConfirmDelete, cancellable=cancellable)
    async with jobs(real_client), tasks_client(server) as client:
        run = await real_client.start_workflow(ConfirmDelete.run, "a file", id=f"kept-{uuid4()}", task_queue=TASK_QUEUE)
        task_id = task_id_of(WorkflowRun(run.id, str(run.first_execution_run_id)))
        await until(client, task_id, lambda task: task.status == "input_required")
        await cancel_task(client.session, task_id)
        assert asked == [run.id] * 2
        history = await run.fetch_history()
        assert not any(each.HasField("workflow_execution_cancel_requested_event_attributes") for each in history.events)
        await cancel_task(client.session, task_id)
        assert (await until(client, task_id, lambda task: task.is_terminal)).status == "cancelled"


@requirement("TASK-ID")
@pytest.mark.parametrize("task_id", [1, None, ["x"], {"x": 1}, True])
async def test_an_id_of_the_wrong_type_is_an_invalid_parameter(real_client: TemporalClient, task_id: Any) -> None:
    async with jobs(real_client) as server, over_http(server) as url:
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            assert (await _post(url, method, task_id, "x"))[1]["code"] == -32602


@requirement("TASK-WIRE")
async def test_an_unknown_retention_counts_as_one_day(monkeypatch: pytest.MonkeyPatch) -> None:
    client = await TemporalClient.connect("127.0.0.1:1", lazy=True)

    async def refuses(*_args: Any, **_options: Any) -> None:
        raise RPCError("no", RPCStatusCode.PERMISSION_DENIED, b"")

    monkeypatch.setattr(client.workflow_service, "describe_namespace", refuses)
    assert await Retention(client)() == timedelta(days=1)


@requirement("TASK-CLIENT")
async def test_a_client_retries_until_a_worker_is_back(real_client: TemporalClient) -> None:
    answers: list[str] = []

    async def on_task(task: Any) -> None:
        answers.append(task.status)

    async with jobs(real_client) as server, tasks_client(server) as client:
        created = await start_task(client, "confirm_delete", filename="x")
        await until(client, created.task_id, lambda task: task.input_requests)
    async with tasks_client(build(real_client), ScriptedUser(confirm=True)) as client:
        error = await expect_error(get_task(client.session, created.task_id))
        assert error.code == -32603
        assert "not lost" in error.message
        async with anyio.create_task_group() as group:

            async def work() -> None:
                await anyio.sleep(1)
                async with jobs(real_client):
                    await anyio.sleep_forever()

            group.start_soon(work)
            answer = await TasksClient(on_task=on_task).follow(client.session, created.task_id)
            group.cancel_scope.cancel()
    assert text_of(answer) == "x was deleted"
    assert answers[0] == "input_required"
