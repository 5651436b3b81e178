"""Cancellations that the SDK's core resolves by itself, before it reports the workflow task to the server.

That is the cancellation of an operation opened in the same task, so that neither command is sent, and a cancellation
for which workflow code does not wait.
"""

from __future__ import annotations

from collections.abc import Iterator

from temporalio.bridge.proto.activity_result import ActivityResolution
from temporalio.bridge.proto.activity_result import Cancellation as ActivityCancellation
from temporalio.bridge.proto.child_workflow import Cancellation as ChildCancellation
from temporalio.bridge.proto.child_workflow import ChildWorkflowResult
from temporalio.bridge.proto.workflow_activation import (
    ResolveActivity,
    ResolveChildWorkflowExecution,
    ResolveChildWorkflowExecutionStart,
    ResolveChildWorkflowExecutionStartCancelled,
    ResolveSignalExternalWorkflow,
    WorkflowActivationJob,
)
from temporalio.bridge.proto.workflow_commands import ActivityCancellationType, WorkflowCommand

from temporal_simulator.protocol.command_kinds import (
    CANCELLING_COMMANDS,
    UNAWAITED_CANCELLATIONS,
    cancelled_unsent,
    command_key,
)
from temporal_simulator.protocol.events import CANCEL_REQUESTED, activity_failure, canceled_failure, child_failure
from temporal_simulator.protocol.interfaces import RunView


def resolve_local_cancellations(
    run: RunView, commands: list[WorkflowCommand], latest: list[WorkflowCommand]
) -> list[WorkflowActivationJob]:
    """The jobs that resolve cancellations within the same task.

    Args:
        commands: All commands of this task so far.
        latest: Those of the last activation.
    """
    if not any(command.WhichOneof("variant") in CANCELLING_COMMANDS for command in latest):
        return []
    unsent = cancelled_unsent(commands)
    before = commands[: len(commands) - len(latest)]
    resolved = {command_key(command) for command in before if command.WhichOneof("variant") in CANCELLING_COMMANDS}
    jobs: list[WorkflowActivationJob] = []
    for command in latest:
        # A repeated cancellation resolves nothing.
        if command.WhichOneof("variant") in CANCELLING_COMMANDS and (key := command_key(command)) not in resolved:
            resolved.add(key)
            jobs += _resolved(run, commands, command, is_sent=key not in unsent)
    return jobs


def _resolved(
    run: RunView, commands: list[WorkflowCommand], command: WorkflowCommand, *, is_sent: bool
) -> Iterator[WorkflowActivationJob]:
    match command.WhichOneof("variant"):
        case "request_cancel_activity":
            seq = command.request_cancel_activity.seq
            if not is_sent:
                opened = next(each.schedule_activity for each in commands if command_key(each) == ("activity", seq))
                failure = activity_failure(
                    canceled_failure(),
                    activity_id=opened.activity_id,
                    activity_type=opened.activity_type,
                    scheduled=0,
                    started=0,
                    state=CANCEL_REQUESTED,
                )
            elif (activity := run.activities.get(seq)) is None or activity.command.cancellation_type == _AWAITED:
                return
            else:
                failure = activity.cancelled_failure()
            result = ActivityResolution(cancelled=ActivityCancellation(failure=failure))
            yield WorkflowActivationJob(resolve_activity=ResolveActivity(seq=seq, result=result))
        case "cancel_signal_workflow" if not is_sent:
            failure = canceled_failure()
            failure.message = "Signal was cancelled before being sent"
            resolved = ResolveSignalExternalWorkflow(seq=command.cancel_signal_workflow.seq, failure=failure)
            yield WorkflowActivationJob(resolve_signal_external_workflow=resolved)
        case "cancel_child_workflow_execution":
            yield from _resolved_child(
                run, commands, command.cancel_child_workflow_execution.child_workflow_seq, is_sent
            )


_AWAITED = ActivityCancellationType.WAIT_CANCELLATION_COMPLETED


def _resolved_child(
    run: RunView, commands: list[WorkflowCommand], seq: int, is_sent: bool
) -> Iterator[WorkflowActivationJob]:
    if not is_sent:
        opened = next(each.start_child_workflow_execution for each in commands if command_key(each) == ("child", seq))
        failure = child_failure(
            canceled_failure(),
            workflow_id=opened.workflow_id,
            run_id="",
            workflow_type=opened.workflow_type,
            initiated=0,
            started=0,
            message="Child Workflow Execution cancelled before scheduled",
        )
        cancelled = ResolveChildWorkflowExecutionStartCancelled(failure=failure)
        yield WorkflowActivationJob(
            resolve_child_workflow_execution_start=ResolveChildWorkflowExecutionStart(seq=seq, cancelled=cancelled)
        )
    elif (child := run.children.get(seq)) is not None and child.command.cancellation_type in UNAWAITED_CANCELLATIONS:
        result = ChildWorkflowResult(
            cancelled=ChildCancellation(failure=child.failure(canceled_failure(), "cancelled"))
        )
        yield WorkflowActivationJob(
            resolve_child_workflow_execution=ResolveChildWorkflowExecution(seq=seq, result=result)
        )
