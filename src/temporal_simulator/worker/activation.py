"""Activates workflow instances on the thread of a running event loop."""

from __future__ import annotations

import asyncio

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import WorkflowInstance


def activate(instance: WorkflowInstance, activation: WorkflowActivation) -> WorkflowActivationCompletion:
    """Activate an instance. It is an event loop of its own and leaves none set, so the running loop is set again."""
    loop = asyncio.get_running_loop()
    try:
        return instance.activate(activation)
    finally:
        asyncio._set_running_loop(loop)
