"""Resets: a new run with the same workflow id continues from the end of an earlier workflow task.

As in Temporal Server 1.32 (tests/unit/testing/simulator/test_resets.py). The new run has the events up to that task,
which then counts as failed. Operations that were open at this point stay open: timers until the time at which they
would have fired, activities from their first attempt, children as they are. Operations that the base run opened later
are not in the new run; their children continue, but no run awaits their close. Later events are reapplied: signals and
updates as requested, and the starts and closes of children that were initiated before the point. Cancellation requests
are never reapplied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from temporalio.api.enums.v1 import (
    EventType,
    ResetReapplyExcludeType,
    ResetReapplyType,
    WorkflowExecutionStatus,
    WorkflowTaskFailedCause,
)
from temporalio.api.failure.v1 import Failure, ResetWorkflowFailureInfo
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.bridge.proto.workflow_commands import WorkflowCommand

from temporal_simulator.protocol.command_kinds import command_key
from temporal_simulator.protocol.events import attributes_field, new_event
from temporal_simulator.server.activities import Activity
from temporal_simulator.server.children import ChildWorkflow
from temporal_simulator.server.commands import apply_properties, schedule_timer
from temporal_simulator.server.execution import Execution
from temporal_simulator.server.interfaces import SimulationContext

_TIMER = EventType.EVENT_TYPE_TIMER_STARTED
_ACTIVITY = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
_CHILD = EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED
_EXTERNAL = frozenset(
    {
        EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED,
        EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED,
    }
)
_CHILD_STARTED = EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED
_CHILD_START_FAILED = EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED
_CHILD_CLOSED = frozenset(
    {
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED,
    }
)
# The attribute in which a closing event refers to the one that opened the operation.
_CLOSING_EVENTS: Mapping[int, str] = {
    EventType.EVENT_TYPE_TIMER_FIRED: "started_event_id",
    EventType.EVENT_TYPE_TIMER_CANCELED: "started_event_id",
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: "scheduled_event_id",
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: "scheduled_event_id",
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: "scheduled_event_id",
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED: "scheduled_event_id",
    EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED: "initiated_event_id",
    EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED: "initiated_event_id",
    EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED: "initiated_event_id",
    EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED: "initiated_event_id",
    **dict.fromkeys((_CHILD_START_FAILED, *_CHILD_CLOSED), "initiated_event_id"),
}
_TASK_STARTED = EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED
_TASK_CLOSED = frozenset(
    {
        EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
    }
)


def reapply_options(request: ResetWorkflowExecutionRequest) -> tuple[bool, bool]:
    """Whether signals are reapplied, and whether updates are."""
    kind, excluded = request.reset_reapply_type, request.reset_reapply_exclude_types
    signals = kind != ResetReapplyType.RESET_REAPPLY_TYPE_NONE
    updates = signals and kind != ResetReapplyType.RESET_REAPPLY_TYPE_SIGNAL
    return (
        signals and ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL not in excluded,
        updates and ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE not in excluded,
    )


def reset(
    simulation: SimulationContext,
    base: Execution,
    finish: int,
    reason: str,
    *,
    signals: bool = True,
    updates: bool = True,
) -> Execution:
    """Reset the newest run of a workflow id, and return the new run.

    Args:
        finish: Id of the event that closed a workflow task.
        signals, updates: Whether later ones are reapplied.

    Raises:
        NotSimulated: The run is a child, has a timeout, has an open request to another workflow, or the event closes no
            workflow task.
    """
    _require_simulated(simulation, base, finish, reapplies=signals or updates)
    started = finish - 1
    was_open = base.is_open
    new = simulation.create_reset_run(base)
    base.reset_to = new.run_id
    base.close(
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TERMINATED,
        new_event(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED, reason=reason, identity="history-resetter"),
        keeps_children=True,
    )
    new.copy_history(base.history[:started])
    new.tasks.restore_from(base.tasks, started)
    for each in new.history:
        apply_properties(new, each)
    new.is_cancel_requested = any(
        each.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED for each in new.history
    )
    task = new.history[-1]
    new.record(
        new_event(
            EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED,
            scheduled_event_id=task.workflow_task_started_event_attributes.scheduled_event_id,
            started_event_id=task.event_id,
            cause=WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW,
            failure=Failure(message=reason, reset_workflow_failure_info=ResetWorkflowFailureInfo()),
            identity="history-service",
            base_run_id=base.run_id,
            new_run_id=new.run_id,
        )
    )
    children = _reopen(new, was_open=was_open, later=base.history[started:])
    for each in base.history[started:]:
        _reapply(new, children, each, signals=signals, updates=updates)
    for child in children.values():
        child.start_if_pending()
    new.tasks.resume()
    return new


def _require_simulated(simulation: SimulationContext, base: Execution, finish: int, *, reapplies: bool) -> None:
    if simulation.find(base.workflow_id) is not base:
        simulation.raise_not_simulated("a reset of a run that is not the newest one")
    if base.start.parent is not None:
        simulation.raise_not_simulated("a reset of a child")
    if base.start.run_timeout or base.start.execution_timeout:
        simulation.raise_not_simulated("a reset of a workflow with a timeout")
    if base.history[finish - 1].event_type not in _TASK_CLOSED or base.history[finish - 2].event_type != _TASK_STARTED:
        simulation.raise_not_simulated("a reset to an event that closes no workflow task")
    if reapplies and base.tasks.has_buffered:
        simulation.raise_not_simulated("a reset that reapplies what arrived while a workflow task was running")


def _reopen(new: Execution, *, was_open: bool, later: Iterable[HistoryEvent]) -> dict[int, ChildWorkflow]:
    """Reopen what was open, and return the children among that, by the ids of their initiating events."""
    opened: dict[int, HistoryEvent] = {}
    started: dict[int, HistoryEvent] = {}
    for each in new.history:
        if each.event_type in {_TIMER, _ACTIVITY, _CHILD, *_EXTERNAL}:
            opened[each.event_id] = each
        elif each.event_type == _CHILD_STARTED:
            started[_event_id(each, "initiated_event_id")] = each
        elif each.event_type in _CLOSING_EVENTS:
            opened.pop(_event_id(each, _CLOSING_EVENTS[each.event_type]), None)
    closed_later = {_event_id(each, "initiated_event_id") for each in later if each.event_type in _CHILD_CLOSED}
    commands = new.tasks.replay.commands()
    cancelled = {
        command_key(command)
        for command in commands
        if command.HasField("request_cancel_activity") or command.HasField("cancel_child_workflow_execution")
    }
    children: dict[int, ChildWorkflow] = {}
    for event_id, each in opened.items():
        if each.event_type in _EXTERNAL:
            new.simulation.raise_not_simulated("a reset while a request to another workflow is open")
        command = _command_of(each, commands)
        if command_key(command) in cancelled:
            new.simulation.raise_not_simulated("a reset while an activity or a child is being cancelled")
        if each.event_type == _TIMER:
            schedule_timer(new, command.start_timer.seq, each)
        elif each.event_type == _ACTIVITY:
            activity_command = command.schedule_activity
            new.activities[activity_command.seq] = Activity(new, activity_command, 0, scheduled=event_id)
        else:
            child_command = command.start_child_workflow_execution
            child = ChildWorkflow(new, child_command, command.user_metadata, 0, initiated=event_id)
            new.children[child_command.seq] = children[event_id] = child
            if event_id in started:
                run = child.attach(started[event_id])
                if not run.is_open and not was_open and event_id not in closed_later:
                    new.simulation.raise_not_simulated("a reset of a workflow that closed before its child did")
    return children


def _command_of(opening: HistoryEvent, commands: list[WorkflowCommand]) -> WorkflowCommand:
    """The command that opened an operation: the last one with its id, because only that can still be open."""
    attributes = getattr(opening, attributes_field(opening.event_type))
    for command in reversed(commands):
        match opening.event_type:
            case kind if kind == _TIMER:
                matches = command.HasField("start_timer") and str(command.start_timer.seq) == attributes.timer_id
            case kind if kind == _ACTIVITY:
                activity_command = command.schedule_activity
                matches = (
                    command.HasField("schedule_activity") and activity_command.activity_id == attributes.activity_id
                )
            case _:
                child = command.start_child_workflow_execution
                matches = (
                    command.HasField("start_child_workflow_execution") and child.workflow_id == attributes.workflow_id
                )
        if matches:
            return command
    raise AssertionError(f"no command for {opening}")


def _reapply(
    new: Execution, children: Mapping[int, ChildWorkflow], each: HistoryEvent, *, signals: bool, updates: bool
) -> None:
    attributes = getattr(each, attributes_field(each.event_type))
    match each.event_type:
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED if signals:
            new.signal(attributes.signal_name, attributes.input, attributes.header.fields)
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED if updates:
            new.tasks.admit_update(attributes.request)
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED if updates and attributes.HasField(
            "accepted_request"
        ):
            # If it was admitted before, that event has been reapplied already.
            new.tasks.admit_update(attributes.accepted_request)
        case kind if (
            kind in {_CHILD_STARTED, _CHILD_START_FAILED, *_CHILD_CLOSED} and attributes.initiated_event_id in children
        ):
            child = children[attributes.initiated_event_id]
            if kind == _CHILD_STARTED:
                child.report_started(attributes.workflow_execution.run_id)
            elif kind == _CHILD_START_FAILED:
                child.report_start_failed()
            else:
                child.resolve_closed()


def _event_id(each: HistoryEvent, attribute: str) -> int:
    event_id: int = getattr(getattr(each, attributes_field(each.event_type)), attribute)
    return event_id
