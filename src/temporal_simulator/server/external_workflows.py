"""Signals and cancellation requests from one workflow to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.api.common.v1 import Payloads, WorkflowExecution
from temporalio.api.enums.v1 import EventType, SignalExternalWorkflowExecutionFailedCause
from temporalio.bridge.proto.workflow_activation import (
    ResolveRequestCancelExternalWorkflow,
    ResolveSignalExternalWorkflow,
    WorkflowActivationJob,
)
from temporalio.bridge.proto.workflow_commands import (
    RequestCancelExternalWorkflowExecution,
    SignalExternalWorkflowExecution,
)

from temporal_simulator.protocol.events import CANCEL_TARGET_NOT_FOUND, NAMESPACE, application_failure, new_event

if TYPE_CHECKING:
    from temporal_simulator.server.execution import Execution

_SIGNAL_TARGET_NOT_FOUND = SignalExternalWorkflowExecutionFailedCause.Value(
    "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND"
)


def request_cancel(run: Execution, command: RequestCancelExternalWorkflowExecution, task_completed: int) -> None:
    """Request cancellation of another workflow, and report to the requesting run whether it exists."""
    target = WorkflowExecution(
        workflow_id=command.workflow_execution.workflow_id, run_id=command.workflow_execution.run_id
    )
    initiated = run.record(
        new_event(
            EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED,
            workflow_task_completed_event_id=task_completed,
            namespace=NAMESPACE,
            workflow_execution=target,
            reason=command.reason,
        )
    )
    attributes = {"namespace": NAMESPACE, "workflow_execution": target, "initiated_event_id": initiated}

    def deliver() -> None:
        other = run.simulation.find(target.workflow_id, target.run_id)
        resolved = ResolveRequestCancelExternalWorkflow(seq=command.seq)
        if other is not None:
            other.request_cancel(command.reason, sender=run)
            report = new_event(EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED, **attributes)
        else:
            cause = CANCEL_TARGET_NOT_FOUND
            report = new_event(
                EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED, cause=cause, **attributes
            )
            resolved.failure.CopyFrom(
                application_failure("Unable to cancel external workflow because it was not found")
            )
            resolved.cause = cause
        run.deliver(report, job=WorkflowActivationJob(resolve_request_cancel_external_workflow=resolved))

    run.enable("cancellation is delivered", deliver, detail=str(command))


def signal(run: Execution, command: SignalExternalWorkflowExecution, task_completed: int) -> None:
    """Signal another workflow, and report to the sending run whether it is open."""
    workflow_id = command.child_workflow_id or command.workflow_execution.workflow_id
    target = WorkflowExecution(workflow_id=workflow_id, run_id=command.workflow_execution.run_id)
    payloads = Payloads(payloads=command.args)
    initiated = run.record(
        new_event(
            EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED,
            workflow_task_completed_event_id=task_completed,
            namespace=NAMESPACE,
            workflow_execution=target,
            signal_name=command.signal_name,
            input=payloads,
            child_workflow_only=bool(command.child_workflow_id),
            header={"fields": command.headers},
        )
    )
    attributes = {"namespace": NAMESPACE, "workflow_execution": target, "initiated_event_id": initiated}

    def deliver() -> None:
        other = run.simulation.find(target.workflow_id, target.run_id)
        resolved = ResolveSignalExternalWorkflow(seq=command.seq)
        if other is not None and other.is_open:
            other.signal(command.signal_name, payloads, command.headers, sender=run)
            report = new_event(EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED, **attributes)
        else:
            cause = _SIGNAL_TARGET_NOT_FOUND
            report = new_event(
                EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED, cause=cause, **attributes
            )
            resolved.failure.CopyFrom(
                application_failure("Unable to signal external workflow because it was not found")
            )
            resolved.cause = cause
        run.deliver(report, job=WorkflowActivationJob(resolve_signal_external_workflow=resolved))

    run.enable("signal is delivered", deliver, detail=str(command))
