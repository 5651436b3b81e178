"""Commands by their kind: which end a workflow, and which begin or cancel the same thing."""

from __future__ import annotations

from collections.abc import Sequence

from temporalio.bridge.proto.child_workflow import ChildWorkflowCancellationType
from temporalio.bridge.proto.workflow_commands import WorkflowCommand

AT_ONCE = frozenset({ChildWorkflowCancellationType.ABANDON, ChildWorkflowCancellationType.TRY_CANCEL})
"""In these ways a child is cancelled without waiting for what comes of it."""

ENDS = frozenset({"complete_workflow_execution", "fail_workflow_execution", "cancel_workflow_execution"})
"""The commands that end a workflow."""


def is_last(command: WorkflowCommand) -> bool:
    """Whether it ends the workflow."""
    return command.WhichOneof("variant") in ENDS


Key = tuple[str, int]
"""Of a timer, an activity, a child or a signal: which of these, and its sequence number."""


def key_of(command: WorkflowCommand) -> Key | None:
    """What a command begins or ends."""
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


_BEGIN = frozenset(
    {"start_timer", "schedule_activity", "start_child_workflow_execution", "signal_external_workflow_execution"}
)
CANCELS = frozenset(
    {"cancel_timer", "request_cancel_activity", "cancel_child_workflow_execution", "cancel_signal_workflow"}
)
"""The commands that cancel what another one began."""


def never_sent(commands: Sequence[WorkflowCommand]) -> set[Key | None]:
    """What is begun and cancelled in the same task."""
    ended = {key_of(command) for command in commands if command.WhichOneof("variant") in CANCELS}
    return ended and ended & {key_of(command) for command in commands if command.WhichOneof("variant") in _BEGIN}
