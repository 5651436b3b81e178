"""What code cancels that has ended by then, as the history tells, is no command: the SDK's core drops it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from temporalio.api.history.v1 import HistoryEvent, WorkflowExecutionStartedEventAttributes
from temporalio.bridge.proto.child_workflow import ChildWorkflowCancellationType
from temporalio.bridge.proto.workflow_commands import WorkflowCommand

from temporal_replay.commands.emitted import EmittedCommands
from temporal_replay.commands.endings import Endings
from temporal_replay.commands.schema import RunDefaults
from tests.requirements import requirement

ENDED_AT, TASK = 7, 9
CANCELS = ("CancelActivity", "CancelTimer", "CancelChildWorkflow")


def a_history(ends_at: int) -> Sequence[HistoryEvent]:
    """An activity, a timer and a child begin, and end at that event; each as if it were alone."""
    activity, timer, child = (HistoryEvent(event_id=5) for _ in range(3))
    activity.activity_task_scheduled_event_attributes.activity_id = "1"
    timer.timer_started_event_attributes.timer_id = "1"
    child.start_child_workflow_execution_initiated_event_attributes.workflow_id = "child"
    ends = [HistoryEvent(event_id=ends_at) for _ in range(3)]
    ends[0].activity_task_completed_event_attributes.scheduled_event_id = 5
    ends[1].timer_fired_event_attributes.started_event_id = 5
    ends[2].child_workflow_execution_completed_event_attributes.initiated_event_id = 5
    return [activity, timer, child, *ends]


def what_is_emitted(endings: Endings) -> list[str]:
    """Kinds of commands of a task that cancels all three."""
    begin = [WorkflowCommand() for _ in range(3)]
    begin[0].schedule_activity.seq, begin[0].schedule_activity.activity_id = 1, "1"
    begin[1].start_timer.seq = 1
    begin[2].start_child_workflow_execution.seq = 1
    begin[2].start_child_workflow_execution.workflow_id = "child"
    begin[2].start_child_workflow_execution.cancellation_type = ChildWorkflowCancellationType.TRY_CANCEL
    cancel = [WorkflowCommand() for _ in range(3)]
    cancel[0].request_cancel_activity.seq = 1
    cancel[1].cancel_timer.seq = 1
    cancel[2].cancel_child_workflow_execution.child_workflow_seq = 1
    emitted = EmittedCommands(RunDefaults.of(WorkflowExecutionStartedEventAttributes()))
    emitted.add(3, begin)
    emitted.add(TASK, cancel)
    return [command.kind for command in emitted.tasks([3, TASK], (), (), endings)[TASK]]


@requirement("HISTORY-STRICT")
def test_what_had_ended_when_the_task_started_is_not_cancelled_by_a_command() -> None:
    """As where an update comes with the answer of an activity: the update is handled first, and may cancel it."""
    assert what_is_emitted(Endings(a_history(ENDED_AT))) == []


@requirement("HISTORY-STRICT")
@pytest.mark.parametrize("endings", [Endings(), Endings(a_history(TASK + 2)[:3]), Endings(a_history(TASK + 2))])
def test_what_had_not_ended_by_then_is(endings: Endings) -> None:
    assert what_is_emitted(endings) == list(CANCELS)


@requirement("HISTORY-STRICT")
def test_of_what_began_again_under_its_id_the_newest_counts() -> None:
    again = HistoryEvent(event_id=8)
    again.start_child_workflow_execution_initiated_event_attributes.workflow_id = "child"
    assert what_is_emitted(Endings([*a_history(ENDED_AT), again])) == ["CancelChildWorkflow"]
