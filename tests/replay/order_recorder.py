"""Records orders of `versioning/`, started by each version of the code and waiting for payment."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from temporalio import activity
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from temporal_replay import Recording


@activity.defn
async def reserve(what: str) -> None: ...


@activity.defn
async def tell_customer(what: str) -> None: ...


async def record(client: Client, workflow: type) -> Recording:
    """Record an order that waits for payment."""
    name = f"orders-{os.getpid()}-{workflow.__name__}"
    async with Worker(client, task_queue=name, workflows=[workflow], activities=[reserve, tell_customer]):
        handle = await client.start_workflow("Order", "a lamp", id=name, task_queue=name)
        async with asyncio.timeout(20):
            while sum(e.HasField("workflow_task_completed_event_attributes") for e in await events(handle)) < 2:
                await asyncio.sleep(0.01)
        recording = Recording.of(await handle.fetch_history())
        await handle.terminate()
    return recording


async def events(handle: WorkflowHandle[Any, Any]) -> Sequence[HistoryEvent]:
    return (await handle.fetch_history()).events
