"""The task client uses the task, and notices a task that contradicts the tools."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS

from invoice_mcp.domain.report import Status
from invoice_mcp.server import task as invoice_task
from invoice_mcp.server import tools as server
from invoice_mcp.server.approval_policy import ApprovalPolicy
from invoice_mcp.service.invoice_service import InvoiceService
from invoice_mcp.testing import World
from invoice_mcp.testing.plugin import NewWorld
from invoice_mcp.testing.world.task_client import TaskToolClient
from mcp_temporal_tasks import TaskBinding, TasksClient, tool_result
from mcp_temporal_tasks.server.tasks import TaskService
from mcp_temporal_tasks.workflow import TaskState
from tests.requirements import requirement


@asynccontextmanager
async def behind(world: World, monkeypatch: pytest.MonkeyPatch, **broken: Any) -> AsyncIterator[TaskToolClient]:
    """The task client of a server with a broken binding."""
    honest = invoice_task.invoice_binding

    def binding(service: InvoiceService, approval: ApprovalPolicy, **options: Any) -> TaskBinding:
        return replace(honest(service, approval, **options), **broken)

    monkeypatch.setattr(invoice_task, "invoice_binding", binding)
    built = server.build_server(InvoiceService(world.client, task_queue=world.task_queue))
    async with Client(built, extensions=[TasksClient()]) as client:
        yield TaskToolClient(client)


async def _waiting(world: World, tools: TaskToolClient) -> Mapping[str, str]:
    submitted = await tools.call("trigger", {"invoice": world.invoice()})
    world.track(submitted["workflow_id"], submitted["run_id"])
    await world.until(Status.PENDING_APPROVAL)
    return {"workflow_id": submitted["workflow_id"]}


@requirement("HARNESS-CLIENTS")
async def test_it_submits_decides_and_cancels_by_the_task(new_world: NewWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    async with new_world() as world, behind(world, monkeypatch) as tools:
        send = tools.client.session.send_request

        async def listens(request: Any, *arguments: Any, **options: Any) -> Any:
            called = f" {request.params.name}" if request.method == "tools/call" else ""
            asked.append(f"{request.method}{called}")
            return await send(request, *arguments, **options)

        monkeypatch.setattr(tools.client.session, "send_request", listens)
        far = await world.due_in(timedelta(days=30))
        for verb in ("approve", "reject", "cancel"):
            submitted = await tools.call("trigger", {"invoice": world.invoice(("1", far))})
            assert submitted["created"] is True
            world.track(submitted["workflow_id"], submitted["run_id"])
            await world.until(Status.PENDING_APPROVAL)
            await tools.call(verb, {"workflow_id": submitted["workflow_id"]})
    methods = set(asked)
    assert {"tools/call trigger", "tasks/get", "tasks/update", "tasks/cancel"} <= methods
    assert not {"tools/call approve", "tools/call reject", "tools/call cancel"} & methods


@requirement("HARNESS-CLIENTS")
async def test_a_task_that_does_not_ask_is_noticed(new_world: NewWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(_handle: Any) -> TaskState:
        return TaskState()

    async with new_world() as world, behind(world, monkeypatch, state=silent) as tools:
        which = await _waiting(world, tools)
        with pytest.raises(AssertionError, match="the task is working, but the invoice PENDING-APPROVAL"):
            await tools.call("status", which)


@requirement("HARNESS-CLIENTS")
async def test_a_task_that_loses_the_answer_is_noticed(new_world: NewWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    async def forgets(*_arguments: Any) -> None:
        pass

    async with new_world() as world, behind(world, monkeypatch, answer=forgets) as tools:
        which = await _waiting(world, tools)
        with pytest.raises(AssertionError, match="nothing was decided"):
            await tools.call("approve", which)


@requirement("HARNESS-CLIENTS")
@pytest.mark.parametrize("code", [INVALID_PARAMS, INTERNAL_ERROR])
async def test_a_task_that_can_not_be_read_is_noticed(
    new_world: NewWorld, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    async def fails(*_arguments: Any) -> None:
        raise MCPError(code, "no such thing")

    async with new_world() as world, behind(world, monkeypatch) as tools:
        which = await _waiting(world, tools)
        monkeypatch.setattr(TaskService, "read", fails)
        for tool in ("status", "approve"):
            with pytest.raises(AssertionError, match="no such thing"):
                await tools.call(tool, which)


@requirement("HARNESS-CLIENTS")
@pytest.mark.parametrize("code", [INVALID_PARAMS, INTERNAL_ERROR])
async def test_a_task_that_takes_no_answer_is_noticed(
    new_world: NewWorld, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    async def fails(*_arguments: Any) -> None:
        raise MCPError(code, "no such thing")

    async with new_world() as world, behind(world, monkeypatch, answer=fails) as tools:
        which = await _waiting(world, tools)
        with pytest.raises(AssertionError, match="no such thing"):
            await tools.call("reject", which)


@requirement("HARNESS-CLIENTS")
async def test_a_task_that_ends_with_another_report_is_noticed(
    new_world: NewWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(outcome: Any) -> Any:
        return tool_result({**outcome, "summary": "all is well"})

    async with new_world() as world, behind(world, monkeypatch, result=other) as tools:
        which = await _waiting(world, tools)
        await tools.call("reject", which)
        await world.until(Status.REJECTED)
        with pytest.raises(AssertionError, match="the task ended with"):
            await tools.call("status", which)
