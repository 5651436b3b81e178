"""What the code of a workflow cancels: in the same task, so that it is never sent, or without waiting for it.

The SDK's core answers such cancellations itself, before a server hears of them; here this module does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

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

from temporal_simulator.protocol.command_kinds import AT_ONCE, CANCELS, key_of, never_sent
from temporal_simulator.protocol.events import CANCELLED, activity_failure, canceled, child_failure

if TYPE_CHECKING:
    from temporal_simulator.server.execution import Execution


def resolved_at_once(
    run: Execution, every: list[WorkflowCommand], latest: list[WorkflowCommand]
) -> list[WorkflowActivationJob]:
    """What the code learns of its cancellations within the same task.

    Args:
        every: All commands of this task so far.
        latest: Those that came last.
    """
    if not any(command.WhichOneof("variant") in CANCELS for command in latest):
        return []
    unsent = never_sent(every)
    before = every[: len(every) - len(latest)]
    resolved = {key_of(command) for command in before if command.WhichOneof("variant") in CANCELS}
    jobs: list[WorkflowActivationJob] = []
    for command in latest:
        # What is cancelled again is what it was.
        if command.WhichOneof("variant") in CANCELS and (key := key_of(command)) not in resolved:
            resolved.add(key)
            jobs += _resolved(run, every, command, is_sent=key not in unsent)
    return jobs


def _resolved(
    run: Execution, every: list[WorkflowCommand], command: WorkflowCommand, *, is_sent: bool
) -> Iterator[WorkflowActivationJob]:
    match command.WhichOneof("variant"):
        case "request_cancel_activity":
            seq = command.request_cancel_activity.seq
            if not is_sent:
                begun = next(each.schedule_activity for each in every if key_of(each) == ("activity", seq))
                failure = activity_failure(
                    canceled(),
                    activity_id=begun.activity_id,
                    activity_type=begun.activity_type,
                    scheduled=0,
                    started=0,
                    state=CANCELLED,
                )
            elif (activity := run.activities.get(seq)) is None or activity.order.cancellation_type == _AWAITED:
                return
            else:
                failure = activity.cancelled_failure()
            result = ActivityResolution(cancelled=ActivityCancellation(failure=failure))
            yield WorkflowActivationJob(resolve_activity=ResolveActivity(seq=seq, result=result))
        case "cancel_signal_workflow" if not is_sent:
            failure = canceled()
            failure.message = "Signal was cancelled before being sent"
            resolved = ResolveSignalExternalWorkflow(seq=command.cancel_signal_workflow.seq, failure=failure)
            yield WorkflowActivationJob(resolve_signal_external_workflow=resolved)
        case "cancel_child_workflow_execution":
            yield from _resolved_child(run, every, command.cancel_child_workflow_execution.child_workflow_seq, is_sent)


_AWAITED = ActivityCancellationType.WAIT_CANCELLATION_COMPLETED


def _resolved_child(
    run: Execution, every: list[WorkflowCommand], seq: int, is_sent: bool
) -> Iterator[WorkflowActivationJob]:
    if not is_sent:
        begun = next(each.start_child_workflow_execution for each in every if key_of(each) == ("child", seq))
        failure = child_failure(
            canceled(),
            workflow_id=begun.workflow_id,
            run_id="",
            workflow_type=begun.workflow_type,
            initiated=0,
            started=0,
            message="Child Workflow Execution cancelled before scheduled",
        )
        cancelled = ResolveChildWorkflowExecutionStartCancelled(failure=failure)
        yield WorkflowActivationJob(
            resolve_child_workflow_execution_start=ResolveChildWorkflowExecutionStart(seq=seq, cancelled=cancelled)
        )
    elif (child := run.children.get(seq)) is not None and child.order.cancellation_type in AT_ONCE:
        result = ChildWorkflowResult(cancelled=ChildCancellation(failure=child.failure(canceled(), "cancelled")))
        yield WorkflowActivationJob(
            resolve_child_workflow_execution=ResolveChildWorkflowExecution(seq=seq, result=result)
        )
