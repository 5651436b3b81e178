"""`notifications/tasks` over `subscriptions/listen`: notifies clients of changed tasks.

Temporal pushes no changes. Each task is polled at its poll interval, and sent when it differs from the last one sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import anyio
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import require_client_extension
from mcp.server.session import ServerSession
from mcp.server.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, RequestId, ServerNotification, SubscriptionsAcknowledgedNotification

from mcp_temporal_tasks.models import EXTENSION_ID, DetailedTask, TaskNotification
from mcp_temporal_tasks.server.tasks import TaskService

logger = logging.getLogger(__name__)

MAX_TASKS = 100
"""Maximum number of tasks per stream. Task ids beyond it are not acknowledged."""


class TaskSubscriptions:
    """Middleware around the server's own `subscriptions/listen`, which handles all other subscriptions."""

    def __init__(self, tasks: TaskService) -> None:
        self._tasks = tasks

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Follow the tasks that a stream subscribes to, until it ends."""
        task_ids = _task_ids(ctx)
        if not task_ids:
            return await call_next(ctx)
        require_client_extension(ctx, EXTENSION_ID)
        wanted = task_ids[:MAX_TASKS]
        exist = await asyncio.gather(*(self._exists(task_id) for task_id in wanted))
        followed = [task_id for task_id, exists in zip(wanted, exist, strict=True) if exists]
        session = _AcknowledgingSession(ctx.session, followed)
        following = asyncio.gather(*(self._follow(task_id, session, ctx.request_id) for task_id in followed))
        try:
            return await call_next(replace(ctx, session=cast(ServerSession, session)))
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following

    async def _exists(self, task_id: str) -> bool:
        try:
            await self._tasks.require_exists(task_id)
        except MCPError as error:
            # The task exists, but can't be read at the moment.
            return error.code != INVALID_PARAMS
        return True

    async def _follow(self, task_id: str, session: _AcknowledgingSession, subscription: RequestId | None) -> None:
        await session.acknowledged.wait()
        last: dict[str, Any] = {}
        pause = 1.0
        while True:
            task: DetailedTask | None = None
            try:
                task = await self._tasks.read(task_id)
            except MCPError as error:
                if error.code == INVALID_PARAMS:
                    return
                logger.debug("Task %s can't be read at the moment: %s", task_id, error)
            except Exception:
                # A binding raised this. The stream and its other tasks continue.
                logger.exception("Task %s can't be read at the moment", task_id)
            if task is not None:
                # The TTL grows with every poll; that is not a change.
                content = task.model_dump(by_alias=True, mode="json", exclude_none=True, exclude={"result_type"})
                changes = {key: value for key, value in content.items() if key != "ttlMs"}
                if changes != last:
                    await session.send_task(content, subscription)
                    last = changes
                if task.is_terminal:
                    return
                pause = (task.poll_interval_ms or 1000) / 1000
            await anyio.sleep(pause)


def _task_ids(ctx: ServerRequestContext[Any, Any]) -> list[str]:
    if ctx.method != "subscriptions/listen":
        return []
    wanted = (ctx.params or {}).get("notifications")
    task_ids = wanted.get("taskIds") if isinstance(wanted, Mapping) else None
    if task_ids is None:
        return []
    if not isinstance(task_ids, list) or not all(isinstance(task_id, str) for task_id in task_ids):
        raise MCPError(INVALID_PARAMS, "notifications.taskIds must be a list of task ids")
    return list(dict.fromkeys(task_ids))


class _AcknowledgingSession:
    """A stream's session that adds the followed task ids to the acknowledgement."""

    def __init__(self, session: ServerSession, task_ids: list[str]) -> None:
        self._session = session
        self._task_ids = task_ids
        self.acknowledged = anyio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    async def send_notification(
        self, notification: ServerNotification, related_request_id: RequestId | None = None
    ) -> None:
        """Forward a notification. Add the followed task ids if it is the acknowledgement."""
        if isinstance(notification, SubscriptionsAcknowledgedNotification):
            honored = notification.params.notifications.model_copy(update={"taskIds": self._task_ids})
            params = notification.params.model_copy(update={"notifications": honored})
            notification = notification.model_copy(update={"params": params})
        await self._session.send_notification(notification, related_request_id)
        if isinstance(notification, SubscriptionsAcknowledgedNotification):
            self.acknowledged.set()

    async def send_task(self, task: dict[str, Any], subscription: RequestId | None) -> None:
        """Send a `notifications/tasks`."""
        meta = {SUBSCRIPTION_ID_META_KEY: subscription}
        notification = TaskNotification(params={**task, "_meta": meta})
        await self._session.send_notification(cast(Any, notification), related_request_id=subscription)
