"""Collects the commands that workflow code emits on replay."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from temporalio.bridge.proto.child_workflow import ChildWorkflowCancellationType
from temporalio.bridge.proto.workflow_commands import ActivityCancellationType, UpdateResponse, WorkflowCommand

from temporal_replay.commands import values
from temporal_replay.commands.command import ENDS, LOCAL_ACTIVITIES, Command, Tasks, UnknownCommand
from temporal_replay.commands.endings import Endings
from temporal_replay.commands.schema import SHAPES, Run, Shape

_BY_COMMAND: Mapping[str, Shape] = {shape.command: shape for shape in SHAPES}
# Nothing of these gets into a history as a command's event. Of patches the SDK's own replay sees to.
_LEAVE_NO_EVENT = frozenset({"respond_to_query", "set_patch_marker", "request_cancel_local_activity"})
_CANCELS = {
    "cancel_timer": ("start_timer", "CancelTimer"),
    "request_cancel_activity": ("schedule_activity", "CancelActivity"),
    "cancel_child_workflow_execution": ("start_child_workflow_execution", "CancelChildWorkflow"),
    "cancel_signal_workflow": ("signal_external_workflow_execution", ""),
    "request_cancel_nexus_operation": ("schedule_nexus_operation", "CancelNexusOperation"),
}


@dataclass
class Emitted:
    """What one run of a workflow has emitted since its replay began.

    Attributes:
        run: Where it runs.
        patches: Every patch it holds a marker of.
        failures: Why the code failed workflow tasks, in its own words, with the traceback.
    """

    run: Run
    patches: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    _by_length: dict[int, list[WorkflowCommand]] = field(default_factory=dict)

    def add(self, history_length: int, commands: Iterable[WorkflowCommand]) -> None:
        """Add what one activation was answered with; the length is that of the history it saw."""
        for command in commands:
            self._by_length.setdefault(history_length, []).append(command)
            if command.HasField("set_patch_marker"):
                self.patches.add(command.set_patch_marker.patch_id)

    def tasks(
        self,
        started: Sequence[int],
        local: Iterable[str],
        settled: Collection[int] = (),
        endings: Endings | None = None,
    ) -> Tasks:
        """The commands of each of the workflow tasks, as a server would have recorded them.

        Args:
            started: Event ids of WorkflowTaskStarted, in order, of the tasks that were completed and of the one that
                was not, if the history ends in the middle of one; or of its WorkflowTaskScheduled, if it ends there.
            local: Ids of the local activities whose markers the history has.
            settled: The tasks whose local activities must all have markers; in the others one may still run.
            endings: What had ended when each task started.

        Raises:
            UnknownCommand: The code emits a command of a kind that nobody here knows.
        """
        found: dict[int, list[WorkflowCommand]] = {task: [] for task in started}
        for length in sorted(self._by_length):
            # A task that led to no command may be seen together with what came after it.
            place = bisect_right(started, length)
            if place:
                found[started[place - 1]] += self._by_length[length]
        every = [command for commands in found.values() for command in commands]
        cancelled = frozenset(
            each.request_cancel_local_activity.seq for each in every if each.HasField("request_cancel_local_activity")
        )
        reader = _Reader(self.run, frozenset(local), cancelled, endings or Endings())
        tasks = {task: reader.read(commands, task, task in settled) for task, commands in found.items()}
        return tasks | ({LOCAL_ACTIVITIES: tuple(reader.local)} if reader.local else {})


class _Reader:
    """Turns emitted commands into `Command`s, task by task."""

    def __init__(self, run: Run, local: frozenset[str], cancelled: frozenset[int], endings: Endings) -> None:
        self._endings = endings
        self.local: list[Command] = []
        self._run = run
        self._local_ids = local
        self._cancelled = cancelled
        # What was begun before: the command that began it, by its variant and number.
        self._begun: dict[tuple[str, int], WorkflowCommand] = {}

    def read(self, emitted: Sequence[WorkflowCommand], task: int, is_settled: bool) -> tuple[Command, ...]:
        found: list[Command] = []
        here: dict[tuple[str, int], Command] = {}
        for command in emitted:
            variant = command.WhichOneof("variant") or ""
            message: Any = getattr(command, variant, None)
            if variant in _LEAVE_NO_EVENT:
                continue
            if variant in _CANCELS:
                cancels = self._cancel(variant, message, found, here)
                found += [each for each in cancels if not self._endings.had_ended(each.kind, each.key, task)]
            elif variant == "schedule_local_activity":
                self._add_local(message, is_settled)
            elif variant == "update_response":
                found += _update(message, command)
            elif shape := _BY_COMMAND.get(variant):
                fields = shape.fields(message, self._run)
                read = Command(shape.kind, shape.name(message), shape.key(message), fields, source=command)
                if "seq" in message.DESCRIPTOR.fields_by_name:
                    here[variant, message.seq] = read
                    self._begun[variant, message.seq] = command
                found.append(read)
            else:
                raise UnknownCommand(f"the code emits {variant!r}, a command that strict replay does not know")
        # The SDK's core sends what ends the run last, whenever the code emitted it.
        return (*(each for each in found if each.kind not in ENDS), *(each for each in found if each.kind in ENDS))

    def _cancel(
        self, variant: str, message: Any, found: list[Command], here: Mapping[tuple[str, int], Command]
    ) -> Iterator[Command]:
        """What is cancelled in the task that began it never gets to the server; what is abandoned is not cancelled."""
        began, kind = _CANCELS[variant]
        number = message.child_workflow_seq if kind == "CancelChildWorkflow" else message.seq
        if (began, number) in here:
            found[:] = [each for each in found if each is not here[began, number]]
            return
        command = self._begun.get((began, number))
        match began:
            case "start_timer":
                yield Command(kind, "", str(number))
            case "schedule_activity" if command is not None:
                if command.schedule_activity.cancellation_type != ActivityCancellationType.ABANDON:
                    yield Command(kind, "", command.schedule_activity.activity_id)
            case "start_child_workflow_execution" if command is not None:
                child = command.start_child_workflow_execution
                if child.cancellation_type != ChildWorkflowCancellationType.ABANDON:
                    yield Command(kind, "", child.workflow_id, {"reason": values.cancel_reason(message.reason)})
            case "schedule_nexus_operation":
                yield Command(kind)

    def _add_local(self, message: Any, is_settled: bool) -> None:
        """Without a marker it still runs, was cancelled, or was never recorded: only the last is another command."""
        is_new = is_settled and message.seq not in self._cancelled
        if is_new or message.activity_id in self._local_ids:
            self.local.append(Command("LocalActivity", message.activity_type, message.activity_id))


def _update(answer: UpdateResponse, source: WorkflowCommand) -> list[Command]:
    key = answer.protocol_instance_id
    match answer.WhichOneof("response"):
        case "accepted":
            return [Command("AcceptUpdate", "", key)]
        case "completed":
            answered = {"answer": [values.payload(answer.completed)]}
            return [Command("CompleteUpdate", "", key, answered, source=source)]
        case _:
            refused = {"answer": {"failure": values.failure(answer.rejected)}}
            return [Command("CompleteUpdate", "", key, refused, source=source)]
