"""Cancellation in workflow code: of the workflow itself, of its asyncio tasks and of its activities. Deterministic."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from temporalio import workflow


def reraise_unless_cancelled() -> None:
    """Re-raise the CancelledError being handled, unless the workflow itself was cancelled.

    Call it first in every `except asyncio.CancelledError`. The SDK also cancels a workflow's tasks when it evicts the
    workflow from its cache; code that continued after that would keep the evicted workflow in memory for ever.
    """
    if workflow.cancellation_reason() is None:
        raise  # noqa: PLE0704 (called inside the handler)


async def cancel_and_wait(task: asyncio.Task[Any]) -> None:
    """Cancel a task that waits for a timer, and wait until it has ended: the timer is cancelled before what follows."""
    task.cancel()
    await workflow.wait([task])


def retrieve_exception(activity: workflow.ActivityHandle[Any]) -> None:
    """Retrieve the activity's exception when it ends, so that asyncio never logs one that was not retrieved.

    The workflow may end before it awaits the activity: it may give the activity up, or be cancelled in the task in
    which the activity fails.
    """
    activity.add_done_callback(_retrieve_exception)


def _retrieve_exception(ended: asyncio.Task[Any]) -> None:
    with suppress(asyncio.CancelledError):
        ended.exception()
