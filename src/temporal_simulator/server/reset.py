"""Resets: another run under the same id goes on from the end of an earlier workflow task.

As Temporal Server 1.32 does (tests/unit/testing/simulator/test_resets.py). The new run has the events up to the task,
and then that task has failed. What had begun by then goes on: timers until the time at which they would have fired,
activities with their first attempt, children as they are. What began later is the base run's; its children go on, too,
but nobody hears how they end. What came later comes again: signals and updates as far as that is asked for, and what
became of children that had begun by then; never a cancellation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

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

from temporal_simulator.protocol.command_kinds import key_of
from temporal_simulator.protocol.events import attributes_of, event
from temporal_simulator.server.activities import Activity
from temporal_simulator.server.children import Child
from temporal_simulator.server.commands import apply_to_properties, await_timer
from temporal_simulator.server.execution import Execution

if TYPE_CHECKING:
    from temporal_simulator.simulation import Simulation

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
_CHILD_TAKEN = EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED
_CHILD_ENDS = frozenset(
    {
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED,
    }
)
# By which of its attributes an event names the one that began what it ends.
_ENDS: Mapping[int, str] = {
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
    **dict.fromkeys((_CHILD_TAKEN, *_CHILD_ENDS), "initiated_event_id"),
}
_TASK_STARTED = EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED
_TASK_ENDS = frozenset(
    {
        EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
    }
)


def reapplied(request: ResetWorkflowExecutionRequest) -> tuple[bool, bool]:
    """Whether signals, and whether updates, are to come again."""
    kind, excluded = request.reset_reapply_type, request.reset_reapply_exclude_types
    signals = kind != ResetReapplyType.RESET_REAPPLY_TYPE_NONE
    updates = signals and kind != ResetReapplyType.RESET_REAPPLY_TYPE_SIGNAL
    return (
        signals and ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL not in excluded,
        updates and ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE not in excluded,
    )


def reset(
    simulation: Simulation, base: Execution, finish: int, reason: str, *, signals: bool = True, updates: bool = True
) -> Execution:
    """Reset the newest run under an id; the run that goes on.

    Args:
        finish: Number of the event with which a workflow task ended.
        signals, updates: Whether those that came later come again.

    Raises:
        NotSimulated: It is a child, has a time-out, has a request to another workflow under way, or the event does not
            end a workflow task.
    """
    _require_simulated(simulation, base, finish, reapplies=signals or updates)
    started = finish - 1
    was_open = base.is_open
    new = simulation.create_reset_run(base)
    base.reset_to = new.run_id
    base.close(
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TERMINATED,
        event(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED, reason=reason, identity="history-resetter"),
        keeps_children=True,
    )
    new.inherit(base.history[:started])
    new.tasks.go_on_from(base.tasks, started)
    for each in new.history:
        apply_to_properties(new, each)
    new.is_cancel_requested = any(
        each.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED for each in new.history
    )
    task = new.history[-1]
    new.record(
        event(
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
    children = _go_on(new, was_open=was_open, later=base.history[started:])
    for each in base.history[started:]:
        _reapply(new, children, each, signals=signals, updates=updates)
    for child in children.values():
        child.begin_unless_begun()
    new.tasks.go_on()
    return new


def _require_simulated(simulation: Simulation, base: Execution, finish: int, *, reapplies: bool) -> None:
    if simulation.find(base.workflow_id) is not base:
        simulation.raise_not_simulated("a reset of another run than the newest one")
    if base.start.parent is not None:
        simulation.raise_not_simulated("a reset of a child")
    if base.start.run_timeout or base.start.execution_timeout:
        simulation.raise_not_simulated("a reset of a workflow with a time-out")
    if base.history[finish - 1].event_type not in _TASK_ENDS or base.history[finish - 2].event_type != _TASK_STARTED:
        simulation.raise_not_simulated("a reset to another event than one that ends a workflow task")
    if reapplies and base.tasks.has_buffered:
        simulation.raise_not_simulated("a reset that applies again what came while a worker was busy")


def _go_on(new: Execution, *, was_open: bool, later: Iterable[HistoryEvent]) -> dict[int, Child]:
    """Let go on what had begun; the children among that, by the numbers of their events."""
    begun: dict[int, HistoryEvent] = {}
    started: dict[int, HistoryEvent] = {}
    for each in new.history:
        if each.event_type in {_TIMER, _ACTIVITY, _CHILD, *_EXTERNAL}:
            begun[each.event_id] = each
        elif each.event_type == _CHILD_STARTED:
            started[_about(each, "initiated_event_id")] = each
        elif each.event_type in _ENDS:
            begun.pop(_about(each, _ENDS[each.event_type]), None)
    ended_later = {_about(each, "initiated_event_id") for each in later if each.event_type in _CHILD_ENDS}
    commands = new.tasks.code.wanted()
    cancelled = {
        key_of(command)
        for command in commands
        if command.HasField("request_cancel_activity") or command.HasField("cancel_child_workflow_execution")
    }
    children: dict[int, Child] = {}
    for number, each in begun.items():
        if each.event_type in _EXTERNAL:
            new.simulation.raise_not_simulated("a reset while a request to another workflow is under way")
        command = _command_of(each, commands)
        if key_of(command) in cancelled:
            new.simulation.raise_not_simulated("a reset while an activity or a child is being cancelled")
        if each.event_type == _TIMER:
            await_timer(new, command.start_timer.seq, each)
        elif each.event_type == _ACTIVITY:
            order = command.schedule_activity
            new.activities[order.seq] = Activity(new, order, 0, scheduled=number)
        else:
            order_of_child = command.start_child_workflow_execution
            child = Child(new, order_of_child, command, 0, initiated=number)
            new.children[order_of_child.seq] = children[number] = child
            if number in started:
                run = child.follow(started[number])
                if not run.is_open and not was_open and number not in ended_later:
                    new.simulation.raise_not_simulated("a reset of a workflow that closed before its child did")
    return children


def _command_of(begun: HistoryEvent, commands: list[WorkflowCommand]) -> WorkflowCommand:
    """What the code wanted when that began. Of several under one id only the last can still be under way."""
    about = getattr(begun, attributes_of(begun.event_type))
    for command in reversed(commands):
        match begun.event_type:
            case kind if kind == _TIMER:
                is_it = command.HasField("start_timer") and str(command.start_timer.seq) == about.timer_id
            case kind if kind == _ACTIVITY:
                order = command.schedule_activity
                is_it = command.HasField("schedule_activity") and order.activity_id == about.activity_id
            case _:
                child = command.start_child_workflow_execution
                is_it = command.HasField("start_child_workflow_execution") and child.workflow_id == about.workflow_id
        if is_it:
            return command
    raise AssertionError(f"nobody wanted {begun}")


def _reapply(
    new: Execution, children: Mapping[int, Child], each: HistoryEvent, *, signals: bool, updates: bool
) -> None:
    about = getattr(each, attributes_of(each.event_type))
    match each.event_type:
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED if signals:
            new.signal(about.signal_name, about.input, about.header.fields)
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED if updates:
            new.tasks.admit(about.request)
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED if updates and about.HasField("accepted_request"):
            # Of one that was admitted before, that event has come again already.
            new.tasks.admit(about.accepted_request)
        case kind if kind in {_CHILD_STARTED, _CHILD_TAKEN, *_CHILD_ENDS} and about.initiated_event_id in children:
            child = children[about.initiated_event_id]
            if kind == _CHILD_STARTED:
                child.tell_started(about.workflow_execution.run_id)
            elif kind == _CHILD_TAKEN:
                child.tell_taken()
            else:
                child.tell_end_at_once()


def _about(each: HistoryEvent, attribute: str) -> int:
    number: int = getattr(getattr(each, attributes_of(each.event_type)), attribute)
    return number
