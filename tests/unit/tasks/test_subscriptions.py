"""`notifications/tasks`: subscribers are notified, by any server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import anyio
import pytest
from mcp import Client
from mcp.client.extension import ClientExtension, NotificationBinding
from mcp.server.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp_types import (
    EmptyResult,
    SubscriptionFilter,
    SubscriptionsAcknowledgedNotification,
    SubscriptionsListenRequest,
    SubscriptionsListenRequestParams,
)
from pydantic import BaseModel, ConfigDict
from temporalio.client import Client as TemporalClient

from mcp_temporal_tasks import (
    EXTENSION_ID,
    DetailedTask,
    TasksClient,
    WorkflowRun,
    cancel_task,
    task_id_of,
    update_task,
)
from mcp_temporal_tasks.server.tasks import TaskService
from tests.requirements import requirement
from tests.tasks_client import expect_error, start_task
from tests.unit.tasks.servers import jobs, over_http

HARNESS_TIMEOUT = 20


class Notification(BaseModel):
    model_config = ConfigDict(extra="allow")
    taskId: str  # noqa: N815
    status: str


class NotificationListener(ClientExtension):
    """Receives task notifications."""

    identifier = "com.example/ears"

    def __init__(self) -> None:
        self.received: asyncio.Queue[Notification] = asyncio.Queue()

    def notifications(self) -> Sequence[NotificationBinding[Any]]:
        async def receive(notification: Notification) -> None:
            await self.received.put(notification)

        return [NotificationBinding(method="notifications/tasks", params_type=Notification, handler=receive)]


@asynccontextmanager
async def listening(
    server: Any, *task_ids: str, **also: Any
) -> AsyncIterator[tuple[asyncio.Queue[Notification], SubscriptionFilter]]:
    """A separate client that subscribes; yields its notifications and the acknowledged filter."""
    ears = NotificationListener()
    acknowledged: list[SubscriptionFilter] = []
    got_it = anyio.Event()

    async def on_message(message: Any) -> None:
        if isinstance(message, SubscriptionsAcknowledgedNotification):
            acknowledged.append(message.params.notifications)
            got_it.set()

    async with (
        Client(server, extensions=[TasksClient(), ears], message_handler=on_message) as client,
        anyio.create_task_group() as group,
    ):
        group.start_soon(_listen, client, list(task_ids), also)
        with anyio.fail_after(HARNESS_TIMEOUT):
            await got_it.wait()
        yield ears.received, acknowledged[0]
        group.cancel_scope.cancel()


async def _listen(client: Client, task_ids: Any, also: dict[str, Any]) -> None:
    wanted = SubscriptionFilter.model_validate({"taskIds": task_ids, **also})
    request = SubscriptionsListenRequest(params=SubscriptionsListenRequestParams(notifications=wanted))
    await client.session.send_request(request, EmptyResult)


async def next_of(received: asyncio.Queue[Notification], status: str) -> Notification:
    with anyio.fail_after(HARNESS_TIMEOUT):
        while (notification := await received.get()).status != status:
            pass
    return notification


@requirement("TASK-LISTEN")
@pytest.mark.parametrize("wire", ["in process", "http"])
async def test_a_subscriber_is_notified_of_every_change(
    real_client: TemporalClient, wire: Literal["in process", "http"]
) -> None:
    async with jobs(real_client) as server, over_http(server) as url:
        where: Any = url if wire == "http" else server
        async with Client(server, extensions=[TasksClient()]) as client:
            created = await start_task(client, "confirm_delete", filename="x")
            unknown = task_id_of(WorkflowRun("nobody", "0-0"))
            async with listening(where, created.task_id, unknown, created.task_id) as (received, acknowledged):
                # Only existing tasks, each once.
                assert (acknowledged.model_extra or {})["taskIds"] == [created.task_id]
                notification = await next_of(received, "input_required")
                [key] = (notification.model_extra or {})["inputRequests"]
                await update_task(client.session, created.task_id, {key: {"action": "decline"}})
                notification = await next_of(received, "completed")
                assert notification.taskId == created.task_id
                # A client with several subscriptions tells them apart by this.
                assert (notification.model_extra or {})["_meta"][SUBSCRIPTION_ID_META_KEY] is not None
                assert (notification.model_extra or {})["result"]["content"][0]["text"] == "x was kept"


@requirement("TASK-LISTEN")
async def test_notifications_continue_after_a_binding_failed(
    real_client: TemporalClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, calls = TaskService.read, 0

    async def fails_at_first(tasks: TaskService, task_id: str) -> DetailedTask:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise LookupError("the binding's own fault")
        return await honest(tasks, task_id)

    monkeypatch.setattr(TaskService, "read", fails_at_first)
    async with jobs(real_client) as server, Client(server, extensions=[TasksClient()]) as client:
        created = await start_task(client, "confirm_delete", filename="x")
        async with listening(server, created.task_id) as (received, _):
            assert (await next_of(received, "input_required")).taskId == created.task_id
    assert calls > 1


@requirement("TASK-LISTEN")
async def test_tasks_and_other_notifications_share_one_stream(real_client: TemporalClient) -> None:
    async with jobs(real_client) as server, Client(server, extensions=[TasksClient()]) as client:
        created = await start_task(client, "confirm_delete", filename="x")
        async with listening(server, created.task_id, toolsListChanged=True) as (received, acknowledged):
            assert acknowledged.tools_list_changed is True
            await next_of(received, "input_required")
            await cancel_task(client.session, created.task_id)
            await next_of(received, "cancelled")
        async with listening(server, toolsListChanged=True) as (_, acknowledged):
            assert acknowledged.tools_list_changed is True
            assert "taskIds" not in (acknowledged.model_extra or {})


@requirement("TASK-LISTEN", "TASK-CAPABILITY")
async def test_subscribing_to_tasks_requires_the_capability(real_client: TemporalClient) -> None:
    async with jobs(real_client) as server, Client(server) as client:
        error = await expect_error(_listen(client, ["x"], {}))
        assert error.code == -32021
        assert error.data["requiredCapabilities"]["extensions"] == {EXTENSION_ID: {}}


@requirement("TASK-LISTEN")
@pytest.mark.parametrize("task_ids", ["x", [1], {"x": 1}, [["x"]]])
async def test_malformed_task_ids_are_an_invalid_parameter(real_client: TemporalClient, task_ids: Any) -> None:
    async with jobs(real_client) as server, Client(server, extensions=[TasksClient()]) as client:
        assert (await expect_error(_listen(client, task_ids, {}))).code == -32602
