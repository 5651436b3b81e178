"""What the code of a workflow is told of itself: when it begins, and whenever it asks."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from temporalio import workflow
from temporalio.bridge.proto.workflow_activation import InitializeWorkflow, WorkflowActivationJob
from temporalio.common import Priority
from temporalio.converter import decode_search_attributes, decode_typed_search_attributes

from temporal_simulator.protocol.events import IDENTITY, NAMESPACE, length, moment, timestamp

if TYPE_CHECKING:
    from temporal_simulator.server.execution import Execution


def seed(run: Execution) -> int:
    """Of the code's own chance."""
    return seed_of(run.origin.run_id)


def seed_of(run_id: str) -> int:
    """The same, by the id of the run with which it begins."""
    return UUID(run_id).int & 0xFFFFFFFF


def beginning(run: Execution) -> WorkflowActivationJob:
    """How the code is told to begin."""
    start, parent, root = run.start, run.start.parent, run.root
    job = InitializeWorkflow(
        workflow_type=start.workflow_type,
        workflow_id=run.workflow_id,
        arguments=start.input.payloads,
        randomness_seed=seed(run),
        headers=start.header,
        identity=IDENTITY,
        attempt=1,
        first_execution_run_id=run.run_id,
        original_execution_run_id=run.run_id,
        memo=start.memo,
        search_attributes=start.search_attributes,
        start_time=timestamp(run.started_at),
    )
    if parent is not None:
        job.parent_workflow_info.namespace = NAMESPACE
        job.parent_workflow_info.workflow_id = parent.owner.workflow_id
        job.parent_workflow_info.run_id = parent.owner.run_id
        job.root_workflow.CopyFrom(root.name)
    return WorkflowActivationJob(initialize_workflow=job)


def info(run: Execution, begins: int) -> workflow.Info:
    """What the code can know about itself."""
    start, parent, root = run.start, run.start.parent, run.root
    return workflow.Info(
        attempt=1,
        continued_run_id=None,
        cron_schedule=None,
        execution_timeout=length(start.execution_timeout) if start.execution_timeout else None,
        first_execution_run_id=run.origin.run_id,
        headers=dict(start.header),
        namespace=NAMESPACE,
        original_execution_run_id=run.origin.run_id,
        parent=workflow.ParentInfo(NAMESPACE, parent.owner.run_id, parent.owner.workflow_id) if parent else None,
        root=workflow.RootInfo(root.run_id, root.workflow_id) if parent else None,
        raw_memo=dict(start.memo.fields),
        retry_policy=None,
        run_id=run.run_id,
        run_timeout=length(start.run_timeout) if start.run_timeout else None,
        search_attributes=decode_search_attributes(start.search_attributes),
        start_time=moment(begins),
        workflow_start_time=moment(run.origin.started_at),
        task_queue=start.task_queue,
        task_timeout=length(start.task_timeout),
        typed_search_attributes=decode_typed_search_attributes(start.search_attributes),
        workflow_id=run.workflow_id,
        workflow_type=start.workflow_type,
        priority=Priority.default,
    )
