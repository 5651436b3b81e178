"""Gives up what a workflow has begun and does not wait for any more. Deterministic."""

from __future__ import annotations

import asyncio
from typing import Any

from temporalio import workflow


def may_be_given_up(activity: workflow.ActivityHandle[Any]) -> None:
    """However it ends is looked at from now on, also if nobody waits any more: else asyncio logs an error then.

    That may be the workflow's own end too: a cancellation that comes together with the activity's failure.
    """
    activity.add_done_callback(_look_at)


def give_up(activity: workflow.ActivityHandle[Any]) -> None:
    """Ask that an activity stops; it is one that may be given up."""
    activity.cancel()


def _look_at(ended: asyncio.Task[Any]) -> None:
    if not ended.cancelled():
        ended.exception()
