"""Lower bounds: the cost of the workflow code alone, with recorded activations, and of MCP calls alone."""

from __future__ import annotations

from typing import Any

from mcp import Client
from mcp.server import MCPServer
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowInstance, WorkflowInstanceDetails

from temporal_simulator.worker.activation import activate


class ActivationRecorder(UnsandboxedWorkflowRunner):
    """A workflow runner that records every activation."""

    def __init__(self) -> None:
        self.recorded: list[tuple[WorkflowInstanceDetails, list[WorkflowActivation]]] = []

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """An instance whose activations are recorded."""
        instance: Any = super().create_instance(det)
        activations: list[WorkflowActivation] = []
        self.recorded.append((det, activations))
        original = instance.activate

        def record(act: WorkflowActivation) -> WorkflowActivationCompletion:
            activations.append(act)
            answer: WorkflowActivationCompletion = original(act)
            return answer

        instance.activate = record
        return instance  # type: ignore[no-any-return]

    def replay(self) -> None:
        """Repeat all activations on new instances: no server, no clock, no activities."""
        runner = UnsandboxedWorkflowRunner()
        for details, activations in self.recorded:
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
