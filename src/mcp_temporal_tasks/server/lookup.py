"""Resolves a task id to the current or last run of its workflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowHistoryEventFilterType,
)
from temporalio.service import RPCError, RPCStatusCode

from mcp_temporal_tasks.binding import Handle, TaskBinding
from mcp_temporal_tasks.errors import unknown_task
from mcp_temporal_tasks.ids import parse_task_id

# The events before the first completed workflow task: execution started, task scheduled, task started.
_FIRST_EVENTS = 3
# A closed run with these statuses may have a successor: by continue-as-new, a retry policy or a cron schedule.
_MAY_HAVE_SUCCESSOR = frozenset(
    {
        WorkflowExecutionStatus.CONTINUED_AS_NEW,
        WorkflowExecutionStatus.FAILED,
        WorkflowExecutionStatus.TIMED_OUT,
        WorkflowExecutionStatus.COMPLETED,
    }
)
_NOT_FOUND = frozenset({RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT})


@dataclass(frozen=True)
class ResolvedTask:
    """A task and its workflow.

    Attributes:
        execution: The current or last run, after continue-as-new, retries and resets.
        created: Start of the task's first run; of the earliest retained run if Temporal no longer has the first.
        handle: Handle of `execution`.
        chain: Handle of whichever run of the chain is current when it is used.
    """

    task_id: str
    binding: TaskBinding
    execution: WorkflowExecutionDescription
    created: datetime
    handle: Handle
    chain: Handle

    @property
    def is_open(self) -> bool:
        return self.execution.status in {None, WorkflowExecutionStatus.RUNNING}

    @property
    def has_started(self) -> bool:
        """Whether a worker has completed a workflow task of this run."""
        return self.execution.history_length > _FIRST_EVENTS


async def resolve_task(client: Client, bindings: Mapping[str, TaskBinding], task_id: str) -> ResolvedTask:
    """Resolve a task id.

    Args:
        bindings: By workflow type.

    Raises:
        MCPError: -32602 if there is no such task.
    """
    run = parse_task_id(task_id)
    if run is None:
        raise unknown_task()
    own = await _describe(client.get_workflow_handle(run.workflow_id, run_id=run.run_id))
    if own is None:
        # Each run is deleted after its own retention, though the task may continue in a later run.
        own = await _describe(client.get_workflow_handle(run.workflow_id))
        if own is None or _first_run_id(own) != run.run_id:
            raise unknown_task()
    elif own.run_id != run.run_id:
        raise unknown_task()
    binding = bindings.get(own.workflow_type)
    if binding is None:
        raise unknown_task()
    execution = await _latest_run(client, own)
    handle: Handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
    first = _first_run_id(execution)
    chain: Handle = client.get_workflow_handle(execution.id, first_execution_run_id=first) if first else handle
    return ResolvedTask(task_id, binding, execution, own.start_time, handle, chain)


async def _latest_run(client: Client, own: WorkflowExecutionDescription) -> WorkflowExecutionDescription:
    """The current or last run of a workflow that was continued as new, retried or reset."""
    if own.status not in _MAY_HAVE_SUCCESSOR and not _reset_run_id(own):
        return own
    newest = await _describe(client.get_workflow_handle(own.id))
    if newest is not None and own.run_id in {newest.run_id, _first_run_id(newest)}:
        return newest
    # The workflow id has been reused since. Follow the chain from run to run.
    last = own
    while successor := _reset_run_id(last) or await _successor_run_id(client, last):
        following = await _describe(client.get_workflow_handle(last.id, run_id=successor))
        if following is None:
            break
        last = following
    return last


async def _successor_run_id(client: Client, run: WorkflowExecutionDescription) -> str:
    """Run id that the server started when this run closed; "" if none."""
    if run.status not in _MAY_HAVE_SUCCESSOR:
        return ""
    handle = client.get_workflow_handle(run.id, run_id=run.run_id)
    closing = handle.fetch_history_events(event_filter_type=WorkflowHistoryEventFilterType.CLOSE_EVENT)
    return "".join(
        [getattr(event, str(event.WhichOneof("attributes"))).new_execution_run_id async for event in closing]
    )


def _reset_run_id(run: WorkflowExecutionDescription) -> str:
    """Run id that an operator has reset this run to; "" if none."""
    return run.raw_description.workflow_extended_info.reset_run_id


def _first_run_id(run: WorkflowExecutionDescription) -> str:
    """Id of the first run of the chain; resets keep it."""
    return run.raw_description.workflow_execution_info.first_run_id


async def _describe(handle: Handle) -> WorkflowExecutionDescription | None:
    """Describe a run; None if it does not exist, or no longer."""
    try:
        return await handle.describe()
    except RPCError as error:
        if error.status in _NOT_FOUND and not _is_namespace_missing(error):
            return None
        raise


def _is_namespace_missing(error: RPCError) -> bool:
    details = error.grpc_status.details
    return any(detail.Is(NamespaceNotFoundFailure.DESCRIPTOR) for detail in details)
