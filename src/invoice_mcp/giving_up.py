"""Gives up what a workflow has begun and does not wait for any more. Deterministic."""

from __future__ import annotations

import asyncio
from typing import Any

from temporalio import workflow


def give_up(activity: workflow.ActivityHandle[Any]) -> None:
    """Ask that an activity stops. How it ends is looked at, as else asyncio logs an error that nobody has."""
    activity.add_done_callback(_look_at)
    activity.cancel()


def _look_at(ended: asyncio.Task[Any]) -> None:
    if not ended.cancelled():
        ended.exception()
