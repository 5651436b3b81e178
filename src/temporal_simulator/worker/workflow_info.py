"""What workflow code can know about its own run: the job that initializes it, and `workflow.Info`."""

from __future__ import annotations

from uuid import UUID

from temporalio import workflow
from temporalio.bridge.proto.workflow_activation import InitializeWorkflow, WorkflowActivationJob
from temporalio.common import Priority
from temporalio.converter import decode_search_attributes, decode_typed_search_attributes

from temporal_simulator.protocol.events import IDENTITY, NAMESPACE, to_datetime, to_timedelta, to_timestamp
from temporal_simulator.protocol.interfaces import RunView


def randomness_seed(run_id: str) -> int:
    """The seed of the workflow's random numbers, from the id of the first run of its chain of resets."""
    return UUID(run_id).int & 0xFFFFFFFF


def initialize_job(run: RunView) -> WorkflowActivationJob:
    """The first job of a run."""
    start, parent = run.start, run.start.parent
    job = InitializeWorkflow(
        workflow_type=start.workflow_type,
        workflow_id=run.workflow_id,
        arguments=start.input.payloads,
        randomness_seed=randomness_seed(run.origin.run_id),
        headers=start.header,
        identity=IDENTITY,
        attempt=1,
        first_execution_run_id=run.run_id,
        original_execution_run_id=run.run_id,
        memo=start.memo,
        search_attributes=start.search_attributes,
        start_time=to_timestamp(run.started_at),
    )
    if parent is not None:
        job.parent_workflow_info.namespace = NAMESPACE
        job.parent_workflow_info.workflow_id = parent.parent_ref.workflow_id
        job.parent_workflow_info.run_id = parent.parent_ref.run_id
        job.root_workflow.CopyFrom(parent.root_ref)
    return WorkflowActivationJob(initialize_workflow=job)


def workflow_info(run: RunView, first_task_at: int) -> workflow.Info:
    """The info of a workflow instance.

    Args:
        first_task_at: When the first workflow task started.
    """
    start, parent = run.start, run.start.parent
    return workflow.Info(
        attempt=1,
        continued_run_id=None,
        cron_schedule=None,
        execution_timeout=to_timedelta(start.execution_timeout) if start.execution_timeout else None,
        first_execution_run_id=run.origin.run_id,
        headers=dict(start.header),
        namespace=NAMESPACE,
        original_execution_run_id=run.origin.run_id,
        parent=workflow.ParentInfo(NAMESPACE, parent.parent_ref.run_id, parent.parent_ref.workflow_id)
        if parent
        else None,
        root=workflow.RootInfo(parent.root_ref.run_id, parent.root_ref.workflow_id) if parent else None,
        raw_memo=dict(start.memo.fields),
        retry_policy=None,
        run_id=run.run_id,
        run_timeout=to_timedelta(start.run_timeout) if start.run_timeout else None,
        search_attributes=decode_search_attributes(start.search_attributes),
        start_time=to_datetime(first_task_at),
        workflow_start_time=to_datetime(run.origin.started_at),
        task_queue=start.task_queue,
        task_timeout=to_timedelta(start.task_timeout),
        typed_search_attributes=decode_typed_search_attributes(start.search_attributes),
        workflow_id=run.workflow_id,
        workflow_type=start.workflow_type,
        priority=Priority.default,
    )
