"""Applies workflow commands: one handler for each kind of command. Unknown kinds raise `NotSimulated`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.enums.v1 import EventType, WorkflowExecutionStatus
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.update.v1 import Outcome
from temporalio.bridge.proto.workflow_activation import (
    FireTimer,
    WorkflowActivationJob,
)
from temporalio.bridge.proto.workflow_commands import UpsertWorkflowSearchAttributes, WorkflowCommand
from temporalio.converter import DataConverter

from temporal_simulator.event_queue import Event
from temporal_simulator.protocol.command_kinds import CLOSING_COMMANDS, cancelled_unsent, command_key
from temporal_simulator.protocol.events import (
    new_event,
    to_nanoseconds,
)
from temporal_simulator.server.activities import Activity
from temporal_simulator.server.children import ChildWorkflow
from temporal_simulator.server.external_workflows import request_cancel, signal

if TYPE_CHECKING:
    from temporal_simulator.server.execution import Execution
    from temporal_simulator.server.updates import Update


# The search attribute in which core lists the patches of a run.
_CHANGE_VERSION = "TemporalChangeVersion"


class NotSimulated(NotImplementedError):
    """A workflow or a client needs a feature of Temporal that is not simulated; docs/simulator.md lists them."""


@dataclass
class _CommandContext:
    """What the handlers of one workflow task share.

    Attributes:
        updates: By id.
        task_completed: Id of the event that completed the task.
        rejected: Ids of the updates that the workflow rejected.
    """

    run: Execution
    updates: Mapping[str, Update]
    task_completed: int
    rejected: list[str]


def apply_commands(
    run: Execution, updates: Mapping[str, Update], commands: list[WorkflowCommand], task_completed: int
) -> list[str]:
    """Apply the commands of one workflow task.

    Args:
        updates: Those that the task delivered, and those still open, by id.
        task_completed: Id of the event that completed the task.

    Returns:
        Ids of the updates that the workflow rejected.

    Raises:
        NotSimulated: There is no handler for a command.
    """
    context = _CommandContext(run, updates, task_completed, [])
    unsent = cancelled_unsent(commands)
    kinds = [(command.WhichOneof("variant") or "nothing", command) for command in commands]
    # As in the SDK's core: only the first closing command counts, and it comes last.
    last = [each for each in kinds if each[0] in CLOSING_COMMANDS][:1]
    for kind, command in [*(each for each in kinds if each[0] not in CLOSING_COMMANDS), *last]:
        if unsent and command_key(command) in unsent:
            continue
        if kind not in _HANDLERS:
            raise NotSimulated(f"{run.start.workflow_type} needs {kind.replace('_', ' ')}, which is not simulated")
        _HANDLERS[kind](context, command)
    return context.rejected


# -- timers ----------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Timer:
    """A timer of a run.

    Attributes:
        started: Id of the event that started it.
        event: Fires it.
        is_closed: Whether it has fired.
    """

    started: int
    event: Event = field(init=False)
    is_closed: bool = False


def _start_timer(context: _CommandContext, command: WorkflowCommand) -> None:
    run, attributes = context.run, command.start_timer
    new = new_event(
        EventType.EVENT_TYPE_TIMER_STARTED,
        timer_id=str(attributes.seq),
        start_to_fire_timeout=attributes.start_to_fire_timeout,
        workflow_task_completed_event_id=context.task_completed,
    )
    new.user_metadata.CopyFrom(command.user_metadata)
    run.record(new)
    schedule_timer(run, attributes.seq, new)


def schedule_timer(run: Execution, seq: int, started: HistoryEvent) -> None:
    """Schedule the firing of a timer that this event started."""
    timer = run.timers[seq] = Timer(started.event_id)

    def fire() -> None:
        fired = new_event(EventType.EVENT_TYPE_TIMER_FIRED, timer_id=str(seq), started_event_id=timer.started)
        timer.is_closed = True
        run.deliver(fired, job=WorkflowActivationJob(fire_timer=FireTimer(seq=seq)))
        run.prune_closed()

    # The SDK has floating-point seconds, and may request a nanosecond less than it means; the event queue rounds up.
    span = to_nanoseconds(started.timer_started_event_attributes.start_to_fire_timeout)
    timer.event = run.schedule(to_nanoseconds(started.event_time) + span, "timer", fire, detail=str(seq))


def _cancel_timer(context: _CommandContext, command: WorkflowCommand) -> None:
    run, seq = context.run, command.cancel_timer.seq
    timer = run.timers.pop(seq, None)
    if timer is None:
        # It has fired, but the job that tells the code was preceded by another one.
        return
    run.simulation.event_queue.cancel(timer.event)
    # It may have fired while this task was running. Then the firing is not written.
    run.tasks.discard_buffered(lambda job: job.HasField("fire_timer") and job.fire_timer.seq == seq)
    run.record(
        new_event(
            EventType.EVENT_TYPE_TIMER_CANCELED,
            timer_id=str(seq),
            started_event_id=timer.started,
            workflow_task_completed_event_id=context.task_completed,
        )
    )


# -- activities ------------------------------------------------------------------------------------------------


def _schedule_activity(context: _CommandContext, command: WorkflowCommand) -> None:
    attributes = command.schedule_activity
    context.run.activities[attributes.seq] = Activity(context.run, attributes, context.task_completed)


def _request_cancel_activity(context: _CommandContext, command: WorkflowCommand) -> None:
    activity = context.run.activities.get(command.request_cancel_activity.seq)
    if activity is not None:
        activity.request_cancel(context.task_completed)


# -- other workflows -------------------------------------------------------------------------------------------


def _start_child(context: _CommandContext, command: WorkflowCommand) -> None:
    attributes = command.start_child_workflow_execution
    context.run.children[attributes.seq] = ChildWorkflow(
        context.run, attributes, command.user_metadata, context.task_completed
    )


def _cancel_child(context: _CommandContext, command: WorkflowCommand) -> None:
    attributes = command.cancel_child_workflow_execution
    child = context.run.children.get(attributes.child_workflow_seq)
    if child is not None:
        child.request_cancel(attributes.reason, context.task_completed)


def _cancel_external(context: _CommandContext, command: WorkflowCommand) -> None:
    request_cancel(context.run, command.request_cancel_external_workflow_execution, context.task_completed)


def _signal_external(context: _CommandContext, command: WorkflowCommand) -> None:
    signal(context.run, command.signal_external_workflow_execution, context.task_completed)


def _cancel_signal(context: _CommandContext, command: WorkflowCommand) -> None:
    """The signal has been sent, which cannot be undone."""


# -- updates ---------------------------------------------------------------------------------------------------


def _respond(context: _CommandContext, command: WorkflowCommand) -> None:
    run, response = context.run, command.update_response
    update = context.updates[response.protocol_instance_id]
    match response.WhichOneof("response"):
        case "accepted":
            update.accepted = run.record(
                new_event(
                    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
                    protocol_instance_id=update.id,
                    accepted_request_message_id=f"{update.id}/request",
                    accepted_request_sequencing_event_id=update.admitted or context.task_completed - 2,
                    accepted_request=None if update.admitted else update.request,
                )
            )
        case "completed":
            _complete_update(context, update, Outcome(success=Payloads(payloads=[response.completed])))
        case "rejected" if update.accepted:
            _complete_update(context, update, Outcome(failure=response.rejected))
        case "rejected" if update.admitted:
            run.simulation.raise_not_simulated("an update that a reset reapplies and the workflow then rejects")
        case "rejected":
            context.rejected.append(update.id)
            update.outcome.set_result(Outcome(failure=response.rejected))


def _complete_update(context: _CommandContext, update: Update, outcome: Outcome) -> None:
    context.run.record(
        new_event(
            EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED,
            meta=update.request.meta,
            accepted_event_id=update.accepted,
            outcome=outcome,
        )
    )
    update.outcome.set_result(outcome)


# -- search attributes, memo, patches --------------------------------------------------------------------------


def _upsert_search_attributes(context: _CommandContext, command: WorkflowCommand) -> None:
    new = new_event(
        EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
        workflow_task_completed_event_id=context.task_completed,
        search_attributes=command.upsert_workflow_search_attributes.search_attributes,
    )
    context.run.record(new)
    apply_properties(context.run, new)


def _modify_properties(context: _CommandContext, command: WorkflowCommand) -> None:
    new = new_event(
        EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED,
        workflow_task_completed_event_id=context.task_completed,
        upserted_memo=command.modify_workflow_properties.upserted_memo,
    )
    context.run.record(new)
    apply_properties(context.run, new)


def apply_properties(run: Execution, new: HistoryEvent) -> None:
    """Apply the changes of search attributes and memo in an event, if there are any."""
    changed = new.upsert_workflow_search_attributes_event_attributes.search_attributes
    run.search_attributes.update(changed.indexed_fields)
    for name, value in new.workflow_properties_modified_event_attributes.upserted_memo.fields.items():
        if value.metadata.get("encoding") == b"binary/null":
            run.memo.pop(name, None)
        else:
            run.memo[name] = value


def _set_patch_marker(context: _CommandContext, command: WorkflowCommand) -> None:
    marker = command.set_patch_marker
    data = DataConverter.default.payload_converter.to_payload({"id": marker.patch_id, "deprecated": marker.deprecated})
    context.run.record(
        new_event(
            EventType.EVENT_TYPE_MARKER_RECORDED,
            marker_name="core_patch",
            details={"patch-data": Payloads(payloads=[data])},
            workflow_task_completed_event_id=context.task_completed,
        )
    )
    _index_patch(context, marker.patch_id)


def _index_patch(context: _CommandContext, patch_id: str) -> None:
    """Add a patch to a search attribute, as core does, so that runs can be listed by patch."""
    known = context.run.search_attributes.get(_CHANGE_VERSION)
    patches = [*(json.loads(known.data) if known is not None else ()), patch_id]
    value = Payload(data=json.dumps(patches, separators=(",", ":")).encode())
    value.metadata.update({"encoding": b"json/plain", "type": b"KeywordList"})
    upsert = UpsertWorkflowSearchAttributes()
    upsert.search_attributes.indexed_fields[_CHANGE_VERSION].CopyFrom(value)
    _upsert_search_attributes(context, WorkflowCommand(upsert_workflow_search_attributes=upsert))


# -- close -----------------------------------------------------------------------------------------------------


def _complete(context: _CommandContext, command: WorkflowCommand) -> None:
    last = new_event(
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
        result=_payloads(command.complete_workflow_execution.result),
        workflow_task_completed_event_id=context.task_completed,
    )
    context.run.close(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED, last)


def _payloads(result: Payload) -> Payloads:
    return Payloads(payloads=[result])


def _fail(context: _CommandContext, command: WorkflowCommand) -> None:
    last = new_event(
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
        failure=command.fail_workflow_execution.failure,
        workflow_task_completed_event_id=context.task_completed,
    )
    context.run.close(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_FAILED, last)


def _cancel(context: _CommandContext, _command: WorkflowCommand) -> None:
    last = new_event(
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED, workflow_task_completed_event_id=context.task_completed
    )
    context.run.close(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CANCELED, last)


_HANDLERS: Mapping[str, Callable[[_CommandContext, WorkflowCommand], None]] = {
    "start_timer": _start_timer,
    "cancel_timer": _cancel_timer,
    "schedule_activity": _schedule_activity,
    "request_cancel_activity": _request_cancel_activity,
    "start_child_workflow_execution": _start_child,
    "cancel_child_workflow_execution": _cancel_child,
    "request_cancel_external_workflow_execution": _cancel_external,
    "signal_external_workflow_execution": _signal_external,
    "cancel_signal_workflow": _cancel_signal,
    "update_response": _respond,
    "upsert_workflow_search_attributes": _upsert_search_attributes,
    "modify_workflow_properties": _modify_properties,
    "set_patch_marker": _set_patch_marker,
    "complete_workflow_execution": _complete,
    "fail_workflow_execution": _fail,
    "cancel_workflow_execution": _cancel,
}
