"""Compares the commands of a replay with the original ones, by what identifies a command, as the SDK's core does.

`temporal_replay` compares commands too, by all their values. Both are written on purpose: the packages are independent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from temporalio.bridge.proto.workflow_commands import SetPatchMarker, WorkflowCommand

_IDENTIFYING = (
    "seq",
    "patch_id",
    "activity_id",
    "activity_type",
    "workflow_id",
    "workflow_type",
    "workflow_execution",
    "signal_name",
    "child_workflow_id",
    "protocol_instance_id",
)


def describe_difference(
    now: list[WorkflowCommand], before: list[WorkflowCommand], *, in_kind_only: bool = False
) -> str:
    """How the commands of a replay differ from the original ones; "" if they do not.

    Compares all contents, where the SDK compares only types and ids: a workflow that schedules a payment of another
    amount on replay is nondeterministic, too. A patch may have been deprecated meanwhile, and then removed, as the SDK
    allows.

    Args:
        in_kind_only: Compare types and ids only, as the SDK does.
    """
    if now == before:
        # The common case, for each activation of each replay.
        return ""
    marked = {command.set_patch_marker.patch_id for command in now if command.HasField("set_patch_marker")}
    before = [_undeprecated(each) for each in before if not _may_be_removed(each.set_patch_marker, marked)]
    now = [_undeprecated(each) for each in now]
    if now == before:
        return ""
    if (names := _names(now)) != (had := _names(before)):
        return f"{names}, but originally {had}"
    if in_kind_only and [_identity(each) for each in now] == [_identity(each) for each in before]:
        return ""
    first, was = next((each, other) for each, other in zip(now, before, strict=True) if each != other)
    return f"{names} with other contents: {_words(first)}, originally {_words(was)}"


def _may_be_removed(marker: SetPatchMarker, marked: Collection[str]) -> bool:
    return marker.deprecated and marker.patch_id not in marked


def _undeprecated(command: WorkflowCommand) -> WorkflowCommand:
    if not command.set_patch_marker.deprecated:
        return command
    other = WorkflowCommand()
    other.CopyFrom(command)
    other.set_patch_marker.deprecated = False
    return other


def _identity(command: WorkflowCommand) -> tuple[object, ...]:
    """What the SDK compares on replay: the sequence number of a command, and the type and id of its target."""
    attributes = getattr(command, command.WhichOneof("variant") or "")
    return tuple(str(getattr(attributes, name, "")) for name in _IDENTIFYING)


def _words(command: WorkflowCommand) -> str:
    return " ".join(str(command).split())


def _names(commands: Iterable[WorkflowCommand]) -> str:
    return ", ".join(command.WhichOneof("variant") or "nothing" for command in commands) or "nothing"
