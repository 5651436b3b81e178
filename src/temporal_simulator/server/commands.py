"""Carries out what the code of a workflow wants: one function for each command of the SDK. Others are refused."""

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
from temporal_simulator.protocol.command_kinds import ENDS, key_of, never_sent
from temporal_simulator.protocol.events import (
    event,
    nanoseconds,
)
from temporal_simulator.server.activities import Activity
from temporal_simulator.server.children import Child
from temporal_simulator.server.external import request_cancel, signal

# The search attribute in which core lists the patches that a run has met.
_CHANGE_VERSION = "TemporalChangeVersion"

if TYPE_CHECKING:
    from temporal_simulator.server.execution import Execution
    from temporal_simulator.server.updates import Update


class NotSimulated(NotImplementedError):  # noqa: N818 (an answer to whoever wants it)
    """A workflow wants what the simulator does not know. Nothing is passed over in silence."""


@dataclass
class _Orders:
    """The commands of one workflow task, on the way to be carried out.

    Attributes:
        completed: Number of the event that ends the task.
        refused: Ids of the updates that were refused.
    """

    run: Execution
    updates: Mapping[str, Update]
    completed: int
    refused: list[str]


def carry_out(
    run: Execution, updates: Mapping[str, Update], commands: list[WorkflowCommand], completed: int
) -> list[str]:
    """Carry out the commands of one workflow task.

    Args:
        updates: Those the task was about, and those still under way, by id.
        completed: Number of the event that ends the task.

    Returns:
        Ids of the updates that were refused.

    Raises:
        NotSimulated: There is one among them that the simulator does not know.
    """
    orders = _Orders(run, updates, completed, [])
    begun_and_ended = never_sent(commands)
    named = [(command.WhichOneof("variant") or "nothing", command) for command in commands]
    # As the SDK's core does: what ends the workflow comes last, and once.
    last = [each for each in named if each[0] in ENDS][:1]
    for kind, command in [*(each for each in named if each[0] not in ENDS), *last]:
        if begun_and_ended and key_of(command) in begun_and_ended:
            continue
        if kind not in _CARRY_OUT:
            raise NotSimulated(f"{run.start.workflow_type} wants {kind.replace('_', ' ')}, which is not simulated")
        _CARRY_OUT[kind](orders, command)
    return orders.refused


# -- timers ----------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Timer:
    """What a run waits for.

    Attributes:
        started: Number of the event.
        is_over: It has fired.
    """

    started: int
    step: Event = field(init=False)
    is_over: bool = False


def _start_timer(orders: _Orders, command: WorkflowCommand) -> None:
    run, order = orders.run, command.start_timer
    new = event(
        EventType.EVENT_TYPE_TIMER_STARTED,
        timer_id=str(order.seq),
        start_to_fire_timeout=order.start_to_fire_timeout,
        workflow_task_completed_event_id=orders.completed,
    )
    new.user_metadata.CopyFrom(command.user_metadata)
    run.record(new)
    await_timer(run, order.seq, new)


def await_timer(run: Execution, seq: int, started: HistoryEvent) -> None:
    """Let a timer fire that this event started."""
    timer = run.timers[seq] = Timer(started.event_id)

    def fire() -> None:
        fired = event(EventType.EVENT_TYPE_TIMER_FIRED, timer_id=str(seq), started_event_id=timer.started)
        timer.is_over = True
        run.arrive(fired, job=WorkflowActivationJob(fire_timer=FireTimer(seq=seq)))
        run.forget_ended()

    # The SDK counts in floating-point seconds, and may ask for a nanosecond less than it means: the agenda rounds up.
    span = nanoseconds(started.timer_started_event_attributes.start_to_fire_timeout)
    timer.step = run.later(nanoseconds(started.event_time) + span, "timer", fire, about=str(seq))


def _cancel_timer(orders: _Orders, command: WorkflowCommand) -> None:
    run, seq = orders.run, command.cancel_timer.seq
    timer = run.timers.pop(seq, None)
    if timer is None:
        # It had fired, and the code was about to be told when something else came first.
        return
    run.simulation.event_queue.cancel(timer.step)
    # Perhaps it fired while the worker was busy with this task; the code has not been told.
    run.tasks.take_back(lambda job: job.HasField("fire_timer") and job.fire_timer.seq == seq)
    run.record(
        event(
            EventType.EVENT_TYPE_TIMER_CANCELED,
            timer_id=str(seq),
            started_event_id=timer.started,
            workflow_task_completed_event_id=orders.completed,
        )
    )


# -- activities ------------------------------------------------------------------------------------------------


def _schedule_activity(orders: _Orders, command: WorkflowCommand) -> None:
    order = command.schedule_activity
    orders.run.activities[order.seq] = Activity(orders.run, order, orders.completed)


def _request_cancel_activity(orders: _Orders, command: WorkflowCommand) -> None:
    activity = orders.run.activities.get(command.request_cancel_activity.seq)
    if activity is not None:
        activity.request_cancel(orders.completed)


# -- other workflows -------------------------------------------------------------------------------------------


def _start_child(orders: _Orders, command: WorkflowCommand) -> None:
    order = command.start_child_workflow_execution
    orders.run.children[order.seq] = Child(orders.run, order, command, orders.completed)


def _cancel_child(orders: _Orders, command: WorkflowCommand) -> None:
    order = command.cancel_child_workflow_execution
    child = orders.run.children.get(order.child_workflow_seq)
    if child is not None:
        child.request_cancel(order.reason, orders.completed)


def _cancel_external(orders: _Orders, command: WorkflowCommand) -> None:
    request_cancel(orders.run, command.request_cancel_external_workflow_execution, orders.completed)


def _signal_external(orders: _Orders, command: WorkflowCommand) -> None:
    signal(orders.run, command.signal_external_workflow_execution, orders.completed)


def _cancel_signal(orders: _Orders, command: WorkflowCommand) -> None:
    """It has been sent: that is not taken back."""


# -- updates ---------------------------------------------------------------------------------------------------


def _respond(orders: _Orders, command: WorkflowCommand) -> None:
    run, answer = orders.run, command.update_response
    update = orders.updates[answer.protocol_instance_id]
    match answer.WhichOneof("response"):
        case "accepted":
            update.accepted = run.record(
                event(
                    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
                    protocol_instance_id=update.id,
                    accepted_request_message_id=f"{update.id}/request",
                    accepted_request_sequencing_event_id=update.admitted or orders.completed - 2,
                    accepted_request=None if update.admitted else update.request,
                )
            )
        case "completed":
            _complete_update(orders, update, Outcome(success=Payloads(payloads=[answer.completed])))
        case "rejected" if update.accepted:
            _complete_update(orders, update, Outcome(failure=answer.rejected))
        case "rejected" if update.admitted:
            run.simulation.raise_not_simulated("an update that a reset applies again and the workflow refuses then")
        case "rejected":
            orders.refused.append(update.id)
            update.outcome.set_result(Outcome(failure=answer.rejected))


def _complete_update(orders: _Orders, update: Update, outcome: Outcome) -> None:
    orders.run.record(
        event(
            EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED,
            meta=update.request.meta,
            accepted_event_id=update.accepted,
            outcome=outcome,
        )
    )
    update.outcome.set_result(outcome)


# -- what is told about the workflow ---------------------------------------------------------------------------


def _upsert_search_attributes(orders: _Orders, command: WorkflowCommand) -> None:
    new = event(
        EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
        workflow_task_completed_event_id=orders.completed,
        search_attributes=command.upsert_workflow_search_attributes.search_attributes,
    )
    orders.run.record(new)
    apply_to_properties(orders.run, new)


def _modify_properties(orders: _Orders, command: WorkflowCommand) -> None:
    new = event(
        EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED,
        workflow_task_completed_event_id=orders.completed,
        upserted_memo=command.modify_workflow_properties.upserted_memo,
    )
    orders.run.record(new)
    apply_to_properties(orders.run, new)


def apply_to_properties(run: Execution, new: HistoryEvent) -> None:
    """What an event says of search attributes and memo, if it says anything of them."""
    changed = new.upsert_workflow_search_attributes_event_attributes.search_attributes
    run.search_attributes.update(changed.indexed_fields)
    for name, value in new.workflow_properties_modified_event_attributes.upserted_memo.fields.items():
        if value.metadata.get("encoding") == b"binary/null":
            run.memo.pop(name, None)
        else:
            run.memo[name] = value


def _set_patch_marker(orders: _Orders, command: WorkflowCommand) -> None:
    marker = command.set_patch_marker
    data = DataConverter.default.payload_converter.to_payload({"id": marker.patch_id, "deprecated": marker.deprecated})
    orders.run.record(
        event(
            EventType.EVENT_TYPE_MARKER_RECORDED,
            marker_name="core_patch",
            details={"patch-data": Payloads(payloads=[data])},
            workflow_task_completed_event_id=orders.completed,
        )
    )
    _index_patch(orders, marker.patch_id)


def _index_patch(orders: _Orders, patch_id: str) -> None:
    """As core does: visibility can be asked which patches a run has met."""
    known = orders.run.search_attributes.get(_CHANGE_VERSION)
    patches = [*(json.loads(known.data) if known is not None else ()), patch_id]
    value = Payload(data=json.dumps(patches, separators=(",", ":")).encode())
    value.metadata.update({"encoding": b"json/plain", "type": b"KeywordList"})
    upsert = UpsertWorkflowSearchAttributes()
    upsert.search_attributes.indexed_fields[_CHANGE_VERSION].CopyFrom(value)
    _upsert_search_attributes(orders, WorkflowCommand(upsert_workflow_search_attributes=upsert))


# -- the end ---------------------------------------------------------------------------------------------------


def _complete(orders: _Orders, command: WorkflowCommand) -> None:
    last = event(
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
        result=_payloads(command.complete_workflow_execution.result),
        workflow_task_completed_event_id=orders.completed,
    )
    orders.run.close(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED, last)


def _payloads(result: Payload) -> Payloads:
    return Payloads(payloads=[result])


def _fail(orders: _Orders, command: WorkflowCommand) -> None:
    last = event(
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
        failure=command.fail_workflow_execution.failure,
        workflow_task_completed_event_id=orders.completed,
    )
    orders.run.close(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_FAILED, last)


def _cancel(orders: _Orders, command: WorkflowCommand) -> None:  # noqa: ARG001 (it says no more than that)
    last = event(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED, workflow_task_completed_event_id=orders.completed)
    orders.run.close(WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CANCELED, last)


_CARRY_OUT: Mapping[str, Callable[[_Orders, WorkflowCommand], None]] = {
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
