"""Measures what a corpus covers: the command paths of its recordings, and which histories still need each patch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby

from pydantic import BaseModel, ConfigDict
from temporalio.client import Client
from temporalio.service import RPCError

from temporal_replay.commands.recorded import recorded_commands
from temporal_replay.corpus import Corpus
from temporal_replay.patches.removal import Patch
from temporal_replay.patches.source import find_patches, merge_calls
from temporal_replay.patches.usage import PatchUsage, measure_patch_usage
from temporal_replay.recording import Recording, RecordingError, read_recording
from temporal_replay.replay.pool import TIME_LIMIT
from temporal_replay.replay.target import CannotRunError, LoadedTarget, unreachable_message


class CommandPath(BaseModel):
    """A sequence of commands, and the recordings that follow it.

    Attributes:
        commands: Kind and name of each command, as `outline` returns them.
        recordings: Names of the recordings.
    """

    model_config = ConfigDict(frozen=True)

    workflow_type: str
    commands: tuple[str, ...]
    recordings: tuple[str, ...]


class Coverage(BaseModel):
    """What a corpus covers, and what its workflows' patches are still needed for.

    Attributes:
        unknown: Recordings and open workflows that do not replay. Which patches they need is unknown.
        open_workflows: Number of open workflows examined; None if no namespace was given.
        open_workflows_skipped: Number of open workflows beyond the limit, which were not examined.
    """

    model_config = ConfigDict(frozen=True)

    paths: tuple[CommandPath, ...]
    patches: tuple[Patch, ...]
    unknown: tuple[str, ...] = ()
    open_workflows: int | None = None
    open_workflows_skipped: int = 0


async def measure_coverage(
    corpus: Corpus,
    target: LoadedTarget,
    client: Client | None = None,
    *,
    limit: int = 1000,
    time_limit: float = TIME_LIMIT,
    on_progress: Callable[[], None] = lambda: None,
) -> Coverage:
    """Measure what a corpus covers; with a client, also what the open workflows of its namespace need.

    Example:
        coverage = await measure_coverage(read_corpus(Path("histories")), Target("my_app.worker:WORKFLOWS").load())
        removable = [patch.name for patch in coverage.patches if patch.verdict.startswith("can be removed")]

    Args:
        limit: Number of open workflows of each type to examine at most.
        time_limit: Seconds for one replay, which runs in this process; see `measure_patch_usage`.
        on_progress: Called after each replay.

    Raises:
        CannotRunError: A recording can't be read, or the Temporal server can't be queried.
    """
    recordings = [(name, _read(name, corpus)) for name in sorted(corpus.files)]
    running, skipped = (None, 0) if client is None else await _fetch_open(client, target, limit)
    measure = partial(measure_patch_usage, target=target, time_limit=time_limit, on_usage=lambda _: on_progress())
    recorded = await measure(recordings)
    opened = None if running is None else await measure(running)
    every = [*recorded, *(opened or ())]
    in_code, unresolved = find_patches(target.workflows)
    for usage in every:
        in_code = merge_calls(in_code, usage.calls)
    unknown = tuple(usage.name for usage in every if not usage.replays)
    shared = {"unknown_because": _unknown_because(len(unknown), skipped), "unresolved_calls": unresolved}
    names = {name for usage in every for name in (*usage.old, *usage.markers)} | set(in_code)
    return Coverage(
        paths=tuple(_paths(recordings)),
        patches=tuple(_patch(name, in_code, recorded, opened).model_copy(update=shared) for name in sorted(names)),
        unknown=unknown,
        open_workflows=None if running is None else len(running),
        open_workflows_skipped=skipped,
    )


def outline(recording: Recording) -> tuple[str, ...]:
    """Kind and name of each command of a recording, in order: `("ScheduleActivity pay", "StartTimer", ...)`."""
    tasks = recorded_commands(recording.events)
    every = (command for task in sorted(tasks) for command in tasks[task])
    return tuple(f"{command.kind} {command.name}".strip() for command in every)


def _unknown_because(failing: int, skipped: int) -> str:
    """Why it is unknown which patches are needed; "" if it is known."""
    failed = f"{failing} {'history does' if failing == 1 else 'histories do'} not replay" if failing else ""
    unseen = f"{skipped} open {'workflow was' if skipped == 1 else 'workflows were'} not examined" if skipped else ""
    return ", ".join(filter(None, (failed, unseen)))


def _read(name: str, corpus: Corpus) -> Recording:
    try:
        return read_recording(corpus.files[name])
    except RecordingError as error:
        raise CannotRunError(f"{name}: {error}") from None


async def _fetch_open(client: Client, target: LoadedTarget, limit: int) -> tuple[list[tuple[str, Recording]], int]:
    """Fetch the open workflows of the target's types; also return how many exceed the limit."""
    found, skipped = [], 0
    try:
        for query in _queries(target):
            seen = 0
            async for execution in client.list_workflows(query, limit=limit):
                seen += 1
                handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
                try:
                    found.append((f"open: {execution.id}", Recording.of(await handle.fetch_history())))
                except RecordingError:
                    continue  # no workflow task has completed: the workflow depends on no patch yet
            if seen >= limit:
                skipped += max(0, (await client.count_workflows(query)).count - seen)
    except RPCError as error:
        raise CannotRunError(f"Temporal rejects the query: {error.message}. Check --address and --namespace") from None
    except (RuntimeError, OSError) as error:
        raise CannotRunError(unreachable_message(error)) from None
    return found, skipped


def _queries(target: LoadedTarget) -> list[str]:
    running = 'ExecutionStatus = "Running"'
    if None in target.workflow_types:
        return [running]  # a dynamic workflow handles any type
    return [f'WorkflowType = "{name}" AND {running}' for name in target.workflow_types]


def _paths(recordings: Sequence[tuple[str, Recording]]) -> list[CommandPath]:
    def path_of(item: tuple[str, Recording]) -> tuple[str, tuple[str, ...]]:
        return item[1].workflow_type, outline(item[1])

    grouped = groupby(sorted(recordings, key=path_of), key=path_of)
    return [
        CommandPath(workflow_type=kind, commands=commands, recordings=tuple(name for name, _ in group))
        for (kind, commands), group in grouped
    ]


def _patch(
    name: str, in_code: Mapping[str, str], recorded: Sequence[PatchUsage], opened: Sequence[PatchUsage] | None
) -> Patch:
    return Patch(
        name=name,
        in_code=in_code.get(name, ""),
        old=tuple(usage.name for usage in recorded if name in usage.old),
        markers=tuple(usage.name for usage in recorded if name in usage.markers),
        open_old=None if opened is None else sum(name in usage.old for usage in opened),
        open_markers=None if opened is None else sum(name in usage.markers for usage in opened),
    )
