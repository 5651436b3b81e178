"""Collects the commands that workflow code emits on replay."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from temporalio.bridge.proto.child_workflow import ChildWorkflowCancellationType
from temporalio.bridge.proto.workflow_commands import ActivityCancellationType, UpdateResponse, WorkflowCommand

from temporal_replay.commands import values
from temporal_replay.commands.command import CLOSING_KINDS, LOCAL_ACTIVITIES, Command, Tasks, UnknownCommandError
from temporal_replay.commands.endings import Endings
from temporal_replay.commands.schema import COMMAND_SCHEMAS, CommandSchema, RunDefaults

_BY_COMMAND: Mapping[str, CommandSchema] = {schema.command: schema for schema in COMMAND_SCHEMAS}
# These leave no command event in a history. The SDK's own replay checks patches.
_UNRECORDED_VARIANTS = frozenset({"respond_to_query", "set_patch_marker", "request_cancel_local_activity"})
_CANCEL_VARIANTS = {
    "cancel_timer": ("start_timer", "CancelTimer"),
    "request_cancel_activity": ("schedule_activity", "CancelActivity"),
    "cancel_child_workflow_execution": ("start_child_workflow_execution", "CancelChildWorkflow"),
    "cancel_signal_workflow": ("signal_external_workflow_execution", ""),
    "request_cancel_nexus_operation": ("schedule_nexus_operation", "CancelNexusOperation"),
}


@dataclass
class EmittedCommands:
    """The commands that one run has emitted since its replay started.

    Attributes:
        defaults: Defaults of the run.
        patches: Patches for which the code emitted a marker.
        failures: Messages, with tracebacks, of the workflow tasks that the code failed.
    """

    defaults: RunDefaults
    patches: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    _by_length: dict[int, list[WorkflowCommand]] = field(default_factory=dict)

    def add(self, history_length: int, commands: Iterable[WorkflowCommand]) -> None:
        """Add the commands of one activation, which saw a history of `history_length` events."""
        for command in commands:
            self._by_length.setdefault(history_length, []).append(command)
            if command.HasField("set_patch_marker"):
                self.patches.add(command.set_patch_marker.patch_id)

    def tasks(
        self,
        started: Sequence[int],
        local: Iterable[str],
        quiescent: Collection[int] = (),
        endings: Endings | None = None,
    ) -> Tasks:
        """Group the commands by workflow task, as a server would have recorded them.

        Args:
            started: Event ids of WorkflowTaskStarted, in order: of the completed tasks, and of a last task that
                is still open. If the history ends before the last task started, the event id of its
                WorkflowTaskScheduled.
            local: Ids of the local activities whose markers the history has.
            quiescent: The tasks after which no local activity may be running, so that each must have its marker.
            endings: What had ended when each task started.

        Raises:
            UnknownCommandError: The code emits a command of an unknown kind.
        """
        found: dict[int, list[WorkflowCommand]] = {task: [] for task in started}
        for length in sorted(self._by_length):
            # A task without commands may share an activation with the next task.
            place = bisect_right(started, length)
            if place:
                found[started[place - 1]] += self._by_length[length]
        every = [command for commands in found.values() for command in commands]
        cancelled = frozenset(
            each.request_cancel_local_activity.seq for each in every if each.HasField("request_cancel_local_activity")
        )
        reader = _Reader(self.defaults, frozenset(local), cancelled, endings or Endings())
        tasks = {task: reader.read(commands, task, task in quiescent) for task, commands in found.items()}
        return tasks | ({LOCAL_ACTIVITIES: tuple(reader.local)} if reader.local else {})


class _Reader:
    """Turns emitted messages into `Command`s, task by task."""

    def __init__(
        self, defaults: RunDefaults, local: frozenset[str], cancelled: frozenset[int], endings: Endings
    ) -> None:
        self._endings = endings
        self.local: list[Command] = []
        self._defaults = defaults
        self._local_ids = local
        self._cancelled = cancelled
        # The command that started an operation, by its variant and sequence number.
        self._started: dict[tuple[str, int], WorkflowCommand] = {}

    def read(self, emitted: Sequence[WorkflowCommand], task: int, is_quiescent: bool) -> tuple[Command, ...]:
        found: list[Command] = []
        in_this_task: dict[tuple[str, int], Command] = {}
        for command in emitted:
            variant = command.WhichOneof("variant") or ""
            message: Any = getattr(command, variant, None)
            if variant in _UNRECORDED_VARIANTS:
                continue
            if variant in _CANCEL_VARIANTS:
                cancel = self._cancel(variant, message, found, in_this_task)
                if cancel is not None and not self._endings.had_ended(cancel.kind, cancel.key, task):
                    found.append(cancel)
            elif variant == "schedule_local_activity":
                self._add_local_activity(message, is_quiescent)
            elif variant == "update_response":
                found += _update_commands(message, command)
            elif schema := _BY_COMMAND.get(variant):
                fields = schema.fields(message, self._defaults)
                read = Command(schema.kind, schema.name(message), schema.key(message), fields, source=command)
                if "seq" in message.DESCRIPTOR.fields_by_name:
                    in_this_task[variant, message.seq] = read
                    self._started[variant, message.seq] = command
                found.append(read)
            else:
                raise UnknownCommandError(f"the code emits {variant!r}, a command that strict replay does not know")
        # The SDK core moves the closing command to the end, whenever the code emitted it.
        return (
            *(each for each in found if each.kind not in CLOSING_KINDS),
            *(each for each in found if each.kind in CLOSING_KINDS),
        )

    def _cancel(
        self, variant: str, message: Any, found: list[Command], in_this_task: Mapping[tuple[str, int], Command]
    ) -> Command | None:
        """The cancel command, unless the server would not record it.

        A command cancelled in the task that emitted it never reaches the server: it is removed from `found`. With
        ABANDON, nothing is cancelled.
        """
        start_variant, kind = _CANCEL_VARIANTS[variant]
        number = message.child_workflow_seq if kind == "CancelChildWorkflow" else message.seq
        if (start_variant, number) in in_this_task:
            found[:] = [each for each in found if each is not in_this_task[start_variant, number]]
            return None
        command = self._started.get((start_variant, number))
        match start_variant:
            case "start_timer":
                return Command(kind, "", str(number))
            case "schedule_activity" if command is not None:
                if command.schedule_activity.cancellation_type != ActivityCancellationType.ABANDON:
                    return Command(kind, "", command.schedule_activity.activity_id)
            case "start_child_workflow_execution" if command is not None:
                child = command.start_child_workflow_execution
                if child.cancellation_type != ChildWorkflowCancellationType.ABANDON:
                    return Command(kind, "", child.workflow_id, {"reason": values.cancel_reason(message.reason)})
            case "schedule_nexus_operation":
                return Command(kind)
        return None

    def _add_local_activity(self, message: Any, is_quiescent: bool) -> None:
        """Add a local activity if the history has its marker, or should have it.

        Without a marker it may still be running, or be cancelled. Otherwise it was never recorded: another command.
        """
        is_new = is_quiescent and message.seq not in self._cancelled
        if is_new or message.activity_id in self._local_ids:
            self.local.append(Command("LocalActivity", message.activity_type, message.activity_id))


def _update_commands(answer: UpdateResponse, source: WorkflowCommand) -> list[Command]:
    key = answer.protocol_instance_id
    match answer.WhichOneof("response"):
        case "accepted":
            return [Command("AcceptUpdate", "", key)]
        case "completed":
            outcome: values.Plain = [values.payload(answer.completed)]
        case _:
            outcome = {"failure": values.failure(answer.rejected)}
    return [Command("CompleteUpdate", "", key, {"answer": outcome}, source=source)]
