"""Finds the workflow of a task, whichever of its runs goes on by now, from the task's id alone."""

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

# Of a run whose first task is not done yet: it was started, the task scheduled, and taken up.
_FIRST_EVENTS = 3
# A retry policy, or a schedule, begins another run when one ends.
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
    """A task there is.

    Attributes:
        execution: The run that goes on, or went on last, where the task's own continued as a new one, or was reset.
        created: When the task's own run began; the one after it that Temporal still has, where its own is forgotten.
        handle: Of `execution`.
        chain: Of whichever of the task's runs goes on when Temporal is asked.
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
        """Whether a worker has done something of this run."""
        return self.execution.history_length > _FIRST_EVENTS


async def resolve_task(client: Client, bindings: Mapping[str, TaskBinding], task_id: str) -> ResolvedTask:
    """The task of this id.

    Args:
        bindings: By the type of their workflows.

    Raises:
        MCPError: -32602 where there is none.
    """
    run = parse_task_id(task_id)
    if run is None:
        raise unknown_task()
    own = await _describe(client.get_workflow_handle(run.workflow_id, run_id=run.run_id))
    if own is None:
        # Each run is forgotten when its own retention is over; the task may well go on as another one.
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
    """The run that a workflow which continued as new, was retried or reset, has now, or had last."""
    if own.status not in _MAY_HAVE_SUCCESSOR and not _reset_run_id(own):
        return own
    newest = await _describe(client.get_workflow_handle(own.id))
    if newest is not None and own.run_id in {newest.run_id, _first_run_id(newest)}:
        return newest
    # Somebody has used the workflow id again since.
    last = own
    while successor := _reset_run_id(last) or await _successor_run_id(client, last):
        following = await _describe(client.get_workflow_handle(last.id, run_id=successor))
        if following is None:
            break
        last = following
    return last


async def _successor_run_id(client: Client, run: WorkflowExecutionDescription) -> str:
    """The run that the server began when this one ended; empty: none."""
    if run.status not in _MAY_HAVE_SUCCESSOR:
        return ""
    handle = client.get_workflow_handle(run.id, run_id=run.run_id)
    closing = handle.fetch_history_events(event_filter_type=WorkflowHistoryEventFilterType.CLOSE_EVENT)
    return "".join(
        [getattr(event, str(event.WhichOneof("attributes"))).new_execution_run_id async for event in closing]
    )


def _reset_run_id(run: WorkflowExecutionDescription) -> str:
    """The run that an operator has reset it to; empty: none has."""
    return run.raw_description.workflow_extended_info.reset_run_id


def _first_run_id(run: WorkflowExecutionDescription) -> str:
    """With which run the workflow began; a reset one's too."""
    return run.raw_description.workflow_execution_info.first_run_id


async def _describe(handle: Handle) -> WorkflowExecutionDescription | None:
    """The run; None: there is none, or none any more."""
    try:
        return await handle.describe()
    except RPCError as error:
        if error.status in _NOT_FOUND and not _is_namespace_missing(error):
            return None
        raise


def _is_namespace_missing(error: RPCError) -> bool:
    details = error.grpc_status.details
    return any(detail.Is(NamespaceNotFoundFailure.DESCRIPTOR) for detail in details)
