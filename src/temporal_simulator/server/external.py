"""From any workflow to any other: cancellations and signals, and whether they got there."""

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

from temporal_simulator.protocol.events import NAMESPACE, NOBODY_TO_CANCEL, application, event

if TYPE_CHECKING:
    from temporal_simulator.server.execution import Execution

_NOBODY_TO_SIGNAL = SignalExternalWorkflowExecutionFailedCause.Value(
    "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND"
)


def request_cancel(run: Execution, order: RequestCancelExternalWorkflowExecution, completed: int) -> None:
    """A workflow wants another one cancelled, and to know whether that was asked for."""
    target = WorkflowExecution(workflow_id=order.workflow_execution.workflow_id, run_id=order.workflow_execution.run_id)
    initiated = run.record(
        event(
            EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED,
            workflow_task_completed_event_id=completed,
            namespace=NAMESPACE,
            workflow_execution=target,
            reason=order.reason,
        )
    )
    about = {"namespace": NAMESPACE, "workflow_execution": target, "initiated_event_id": initiated}

    def deliver() -> None:
        other = run.simulation.find(target.workflow_id, target.run_id)
        resolved = ResolveRequestCancelExternalWorkflow(seq=order.seq)
        if other is not None:
            other.request_cancel(order.reason, sender=run)
            told = event(EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED, **about)
        else:
            cause = NOBODY_TO_CANCEL
            told = event(EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED, cause=cause, **about)
            resolved.failure.CopyFrom(application("Unable to cancel external workflow because it was not found"))
            resolved.cause = cause
        run.arrive(told, job=WorkflowActivationJob(resolve_request_cancel_external_workflow=resolved))

    run.soon("cancellation is delivered", deliver, about=str(order))


def signal(run: Execution, order: SignalExternalWorkflowExecution, completed: int) -> None:
    """A workflow sends another one a signal, and wants to know whether it got there."""
    workflow_id = order.child_workflow_id or order.workflow_execution.workflow_id
    target = WorkflowExecution(workflow_id=workflow_id, run_id=order.workflow_execution.run_id)
    given = Payloads(payloads=order.args)
    initiated = run.record(
        event(
            EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED,
            workflow_task_completed_event_id=completed,
            namespace=NAMESPACE,
            workflow_execution=target,
            signal_name=order.signal_name,
            input=given,
            child_workflow_only=bool(order.child_workflow_id),
            header={"fields": order.headers},
        )
    )
    about = {"namespace": NAMESPACE, "workflow_execution": target, "initiated_event_id": initiated}

    def deliver() -> None:
        other = run.simulation.find(target.workflow_id, target.run_id)
        resolved = ResolveSignalExternalWorkflow(seq=order.seq)
        if other is not None and other.is_open:
            other.signal(order.signal_name, given, order.headers, sender=run)
            told = event(EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED, **about)
        else:
            cause = _NOBODY_TO_SIGNAL
            told = event(EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED, cause=cause, **about)
            resolved.failure.CopyFrom(application("Unable to signal external workflow because it was not found"))
            resolved.cause = cause
        run.arrive(told, job=WorkflowActivationJob(resolve_signal_external_workflow=resolved))

    run.soon("signal is delivered", deliver, about=str(order))
