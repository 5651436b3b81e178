"""Workflow commands by kind: which close the workflow, and which open or cancel the same operation."""

from __future__ import annotations

from collections.abc import Sequence

from temporalio.bridge.proto.child_workflow import ChildWorkflowCancellationType
from temporalio.bridge.proto.workflow_commands import WorkflowCommand

UNAWAITED_CANCELLATIONS = frozenset({ChildWorkflowCancellationType.ABANDON, ChildWorkflowCancellationType.TRY_CANCEL})
"""Cancellation types of a child for which workflow code does not wait."""

CLOSING_COMMANDS = frozenset({"complete_workflow_execution", "fail_workflow_execution", "cancel_workflow_execution"})
"""The commands that close a workflow."""


def closes_workflow(command: WorkflowCommand) -> bool:
    """Whether a command closes the workflow."""
    return command.WhichOneof("variant") in CLOSING_COMMANDS


CommandKey = tuple[str, int]
"""The kind of an operation ("timer", "activity", "child" or "signal") and its sequence number."""


def command_key(command: WorkflowCommand) -> CommandKey | None:
    """The operation that a command opens or cancels; None for other commands."""
    match command.WhichOneof("variant"):
        case "start_timer":
            return "timer", command.start_timer.seq
        case "cancel_timer":
            return "timer", command.cancel_timer.seq
        case "schedule_activity":
            return "activity", command.schedule_activity.seq
        case "request_cancel_activity":
            return "activity", command.request_cancel_activity.seq
        case "start_child_workflow_execution":
            return "child", command.start_child_workflow_execution.seq
        case "cancel_child_workflow_execution":
            return "child", command.cancel_child_workflow_execution.child_workflow_seq
        case "signal_external_workflow_execution":
            return "signal", command.signal_external_workflow_execution.seq
        case "cancel_signal_workflow":
            return "signal", command.cancel_signal_workflow.seq
        case _:
            return None


_OPENING_COMMANDS = frozenset(
    {"start_timer", "schedule_activity", "start_child_workflow_execution", "signal_external_workflow_execution"}
)
CANCELLING_COMMANDS = frozenset(
    {"cancel_timer", "request_cancel_activity", "cancel_child_workflow_execution", "cancel_signal_workflow"}
)
"""The commands that cancel what another command opened."""


def cancelled_unsent(commands: Sequence[WorkflowCommand]) -> set[CommandKey | None]:
    """The operations that one task opens and cancels, so that neither command is sent."""
    cancelled = {command_key(command) for command in commands if command.WhichOneof("variant") in CANCELLING_COMMANDS}
    return cancelled and cancelled & {
        command_key(command) for command in commands if command.WhichOneof("variant") in _OPENING_COMMANDS
    }
