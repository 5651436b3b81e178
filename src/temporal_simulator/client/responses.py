"""What a server answers, of what there is in a simulation."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any as AnyMessage
from temporalio.api.common.v1 import GrpcStatus, Memo, SearchAttributes, WorkflowType
from temporalio.api.enums.v1 import UpdateWorkflowExecutionLifecycleStage as Stage
from temporalio.api.errordetails.v1 import WorkflowExecutionAlreadyStartedFailure
from temporalio.api.update.v1 import Outcome, UpdateRef
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.service import RPCError, RPCStatusCode

from temporal_simulator.protocol.events import timestamp
from temporal_simulator.server.execution import Execution
from temporal_simulator.server.updates import Update


def info_of(run: Execution) -> WorkflowExecutionInfo:
    """What a server tells of a run without asking it."""
    return WorkflowExecutionInfo(
        execution=run.name,
        type=WorkflowType(name=run.start.workflow_type),
        start_time=timestamp(run.started_at),
        execution_time=timestamp(run.started_at),
        close_time=timestamp(run.ended_at) if run.ended_at else None,
        status=run.status,
        history_length=len(run.history),
        memo=Memo(fields=run.memo),
        search_attributes=SearchAttributes(indexed_fields=run.search_attributes),
        task_queue=run.start.task_queue,
        parent_execution=run.start.parent.owner.name if run.start.parent else None,
        root_execution=run.root.name,
        first_run_id=run.origin.run_id,
    )


def ref_of(run: Execution, update: Update) -> UpdateRef:
    """How an update is named."""
    return UpdateRef(workflow_execution=run.name, update_id=update.id)


def outcome_of(update: Update) -> Outcome | None:
    """How an update has ended; None if it has not yet.

    Raises:
        RPCError: NOT_FOUND: nobody will answer it any more.
    """
    if not update.outcome.done():
        return None
    if (outcome := update.outcome.result()) is None:
        raise refusal(RPCStatusCode.NOT_FOUND, "workflow execution already completed")
    return outcome


def stage_of(update: Update) -> Stage.ValueType:
    """How far an update is."""
    if update.outcome.done():
        return Stage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED
    return Stage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED


def refusal(status: RPCStatusCode, message: str) -> RPCError:
    """How a server refuses a request."""
    return RPCError(message, status, GrpcStatus(code=status, message=message).SerializeToString())


def already_started(run: Execution) -> RPCError:
    """How a server refuses to start what is there."""
    message = "Workflow execution is already running or has run"
    detail = AnyMessage()
    detail.Pack(WorkflowExecutionAlreadyStartedFailure(run_id=run.run_id, first_execution_run_id=run.run_id))
    status = GrpcStatus(code=RPCStatusCode.ALREADY_EXISTS, message=message, details=[detail])
    return RPCError(message, RPCStatusCode.ALREADY_EXISTS, status.SerializeToString())
