"""Parts of the server's responses, and its errors."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any as AnyMessage
from temporalio.api.common.v1 import ActivityType, GrpcStatus, Memo, Payloads, SearchAttributes, WorkflowType
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.enums.v1 import UpdateWorkflowExecutionLifecycleStage as Stage
from temporalio.api.errordetails.v1 import WorkflowExecutionAlreadyStartedFailure
from temporalio.api.update.v1 import Outcome, UpdateRef
from temporalio.api.workflow.v1 import PendingActivityInfo, PendingChildExecutionInfo, WorkflowExecutionInfo
from temporalio.service import RPCError, RPCStatusCode

from temporal_simulator.protocol.events import to_timestamp
from temporal_simulator.server.activities import Activity
from temporal_simulator.server.children import ChildWorkflow
from temporal_simulator.server.execution import Execution
from temporal_simulator.server.updates import Update


def execution_info(run: Execution) -> WorkflowExecutionInfo:
    """The info of a run in descriptions and lists."""
    return WorkflowExecutionInfo(
        execution=run.ref,
        type=WorkflowType(name=run.start.workflow_type),
        start_time=to_timestamp(run.started_at),
        execution_time=to_timestamp(run.started_at),
        close_time=to_timestamp(run.ended_at) if run.ended_at else None,
        status=run.status,
        history_length=len(run.history),
        memo=Memo(fields=run.memo),
        search_attributes=SearchAttributes(indexed_fields=run.search_attributes),
        task_queue=run.start.task_queue,
        parent_execution=run.start.parent.parent_ref if run.start.parent else None,
        root_execution=run.root_ref,
        first_run_id=run.origin.run_id,
    )


def pending_activity_info(activity: Activity) -> PendingActivityInfo:
    """The info of a pending activity in the description of its run."""
    state = PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
    if activity.is_started:
        state = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
    if activity.is_started and activity.cancel_event_id:
        state = PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED
    return PendingActivityInfo(
        activity_id=activity.command.activity_id,
        activity_type=ActivityType(name=activity.command.activity_type),
        state=state,
        attempt=activity.attempt,
        maximum_attempts=activity.policy.maximum_attempts,
        scheduled_time=to_timestamp(activity.attempt_scheduled_at),
        last_started_time=to_timestamp(activity.started_at) if activity.started_at else None,
        last_failure=activity.last_failure,
        heartbeat_details=Payloads(payloads=activity.details) if activity.details else None,
    )


def pending_child_info(child: ChildWorkflow) -> PendingChildExecutionInfo:
    """The info of a pending child in the description of its parent."""
    return PendingChildExecutionInfo(
        workflow_id=child.command.workflow_id,
        run_id=child.run_id,
        workflow_type_name=child.command.workflow_type,
        initiated_id=child.initiated,
    )


def update_ref(run: Execution, update: Update) -> UpdateRef:
    """The reference to an update."""
    return UpdateRef(workflow_execution=run.ref, update_id=update.id)


def update_outcome(update: Update) -> Outcome | None:
    """The outcome of an update; None if it is open.

    Raises:
        RPCError: NOT_FOUND, if the workflow closed before it was accepted.
    """
    if not update.outcome.done():
        return None
    if (outcome := update.outcome.result()) is None:
        raise rpc_error(RPCStatusCode.NOT_FOUND, "workflow execution already completed")
    return outcome


def update_stage(update: Update) -> Stage.ValueType:
    """The lifecycle stage of an update."""
    if update.outcome.done():
        return Stage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED
    return Stage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED


def rpc_error(status: RPCStatusCode, message: str) -> RPCError:
    """An error response."""
    return RPCError(message, status, GrpcStatus(code=status, message=message).SerializeToString())


def already_started_error(run: Execution) -> RPCError:
    """The error response to a start whose workflow id is taken."""
    message = "Workflow execution is already running or has run"
    detail = AnyMessage()
    detail.Pack(WorkflowExecutionAlreadyStartedFailure(run_id=run.run_id, first_execution_run_id=run.run_id))
    status = GrpcStatus(code=RPCStatusCode.ALREADY_EXISTS, message=message, details=[detail])
    return RPCError(message, RPCStatusCode.ALREADY_EXISTS, status.SerializeToString())
