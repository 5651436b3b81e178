"""Activates instances of workflows on the thread of an event loop that goes on afterwards."""

from __future__ import annotations

import asyncio

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import WorkflowInstance


def activate(instance: WorkflowInstance, told: WorkflowActivation) -> WorkflowActivationCompletion:
    """Tell it something. An instance is an event loop of its own, and leaves none running behind it."""
    loop = asyncio.get_running_loop()
    try:
        return instance.activate(told)
    finally:
        asyncio._set_running_loop(loop)
