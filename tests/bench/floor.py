"""Floors: what the code of the workflows costs by itself, told what a life tells it, and what MCP's calls cost."""

from __future__ import annotations

from typing import Any

from mcp import Client
from mcp.server import MCPServer
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowInstance, WorkflowInstanceDetails

from temporal_simulator.worker.activation import activate


class Listening(UnsandboxedWorkflowRunner):
    """Notes all that the code of a life is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[WorkflowInstanceDetails, list[WorkflowActivation]]] = []

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """One that is listened to."""
        instance: Any = super().create_instance(det)
        activations: list[WorkflowActivation] = []
        self.heard.append((det, activations))
        passed_on = instance.activate

        def listen(act: WorkflowActivation) -> WorkflowActivationCompletion:
            activations.append(act)
            answer: WorkflowActivationCompletion = passed_on(act)
            return answer

        instance.activate = listen
        return instance  # type: ignore[no-any-return]

    def tell_again(self) -> None:
        """All of it, to new instances, by nobody: no server, no clock, no activities."""
        runner = UnsandboxedWorkflowRunner()
        for details, activations in self.heard:
            instance = runner.create_instance(details)
            for act in activations:
                activate(instance, act)


def idle_client() -> Client:
    """An MCP client in memory, to a server whose one tool, `nothing`, does nothing."""
    server: MCPServer[Any] = MCPServer("idle")

    @server.tool()
    async def nothing() -> str:
        """Do nothing."""
        return ""

    return Client(server)
