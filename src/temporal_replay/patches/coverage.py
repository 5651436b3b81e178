"""What a corpus covers: which recordings take which path of commands, and which patches still need to be there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.markup import escape
from temporalio.client import Client
from temporalio.service import RPCError

from temporal_replay.commands.recorded import recorded_commands
from temporal_replay.corpus import Corpus
from temporal_replay.patches.usage import Needs, merged, needs_of, patches_in
from temporal_replay.recording import Recording, Unreadable, read
from temporal_replay.replay.pool import TIME_LIMIT
from temporal_replay.replay.target import CannotRun, Code, away


class CommandPath(BaseModel):
    """One sequence of commands, and the recordings that take it."""

    model_config = ConfigDict(frozen=True)

    workflow_type: str
    commands: tuple[str, ...]
    recordings: tuple[str, ...]


class Patch(BaseModel):
    """One patch, who needs what of it, and what may be done.

    Attributes:
        in_code: `patched`, `deprecate_patch`, or "" if the code does not speak of it any more, as far as is known.
        old: Recordings that take the old way.
        markers: Recordings that have its marker.
        open_old, open_markers: So many open workflows; None: nobody was asked.
        not_known: What keeps it from being known that nothing else needs it; "" if that is known.
        unread: So many calls in the code ask for a patch by a name that is not known.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    in_code: str
    old: tuple[str, ...]
    markers: tuple[str, ...]
    open_old: int | None = None
    open_markers: int | None = None
    not_known: str = ""
    unread: int = 0

    @property
    def verdict(self) -> str:
        """What may be done. That something can go is said only if it is known that nothing needs it."""
        if self.old or self.open_old:
            return "keep both ways"
        needs_marker = bool(self.markers or self.open_markers)
        if self.in_code == "deprecate_patch" and needs_marker:
            return "keep deprecate_patch"
        if not self.in_code and self.unread:
            return f"not known: {self.unread} calls in the code ask for a patch by a name that is not known"
        if not self.in_code and needs_marker:
            return "put deprecate_patch back: its marker is needed"
        if self.not_known:
            return f"not known: {self.not_known}"
        unless = "" if self.open_old is not None else ", if no open workflow does: ask with --address"
        if self.in_code == "patched":
            return f"the old way can go (deprecate_patch): nothing needs it{unless}"
        return f"can go: nothing needs it{unless}" if self.in_code else "gone"


class Coverage(BaseModel):
    """What a corpus covers.

    Attributes:
        unknown: Recordings and open workflows that do not replay: what they need, nobody knows.
        asked: How many open workflows were looked at; None: nobody was asked.
        not_asked: How many were not, because there are more than the limit.
    """

    model_config = ConfigDict(frozen=True)

    paths: tuple[CommandPath, ...]
    patches: tuple[Patch, ...]
    unknown: tuple[str, ...] = ()
    asked: int | None = None
    not_asked: int = 0


async def coverage_of(
    corpus: Corpus,
    code: Code,
    client: Client | None = None,
    *,
    limit: int = 1000,
    time_limit: float = TIME_LIMIT,
    told: Callable[[], None] = lambda: None,
) -> Coverage:
    """What a corpus covers; with a client also what the open workflows of its namespace need.

    Args:
        limit: At most so many open workflows of each type are looked at.
        time_limit: Seconds for the replay of one, in this process: see `needs_of`.
        told: Called after each.

    Raises:
        CannotRun: A recording can't be read, or Temporal can't be asked.
    """
    recordings = [(name, _read(name, corpus)) for name in sorted(corpus.files)]
    running, left = (None, 0) if client is None else await _open(client, code, limit)
    measure = partial(needs_of, code=code, time_limit=time_limit, told=lambda _: told())
    kept = await measure(recordings)
    opened = None if running is None else await measure(running)
    every = [*kept, *(opened or ())]
    in_code, unread = patches_in(code.workflows)
    for needs in every:
        in_code = merged(in_code, needs.asked)
    unknown = tuple(needs.name for needs in every if not needs.replays)
    # What else could be said of a patch: the same of each.
    whole = {"not_known": _not_known(len(unknown), left), "unread": unread}
    names = {name for needs in every for name in (*needs.old, *needs.markers)} | set(in_code)
    return Coverage(
        paths=tuple(_paths(recordings)),
        patches=tuple(_patch(name, in_code, kept, opened).model_copy(update=whole) for name in sorted(names)),
        unknown=unknown,
        asked=None if running is None else len(running),
        not_asked=left,
    )


def _not_known(failing: int, left: int) -> str:
    """Why it is not known what is needed; "" if it is."""
    failed = f"{failing} {'does' if failing == 1 else 'do'} not replay" if failing else ""
    unseen = f"{left} open {'workflow was' if left == 1 else 'workflows were'} not looked at" if left else ""
    return ", ".join(filter(None, (failed, unseen)))


def _read(name: str, corpus: Corpus) -> Recording:
    try:
        return read(corpus.files[name])
    except Unreadable as why:
        raise CannotRun(f"{name}: {why}") from None


async def _open(client: Client, code: Code, limit: int) -> tuple[list[tuple[str, Recording]], int]:
    """The open workflows that the code answers to, and how many more there are."""
    found, left = [], 0
    try:
        for query in _queries(code):
            seen = 0
            async for execution in client.list_workflows(query, limit=limit):
                seen += 1
                handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
                try:
                    found.append((f"open: {execution.id}", Recording.of(await handle.fetch_history())))
                except Unreadable:
                    continue  # it has not begun: it needs nothing
            if seen >= limit:
                left += max(0, (await client.count_workflows(query)).count - seen)
    except RPCError as error:
        raise CannotRun(f"Temporal refuses: {error.message}. Look at --address and --namespace") from None
    except (RuntimeError, OSError) as error:
        raise CannotRun(away(error)) from None
    return found, left


def _queries(code: Code) -> list[str]:
    running = 'ExecutionStatus = "Running"'
    if None in code.names:
        return [running]  # there is a workflow that answers to any type
    return [f'WorkflowType = "{name}" AND {running}' for name in code.names]


def _paths(recordings: Sequence[tuple[str, Recording]]) -> list[CommandPath]:
    def of(item: tuple[str, Recording]) -> tuple[str, tuple[str, ...]]:
        return item[1].workflow_type, outline(item[1])

    grouped = groupby(sorted(recordings, key=of), key=of)
    return [
        CommandPath(workflow_type=kind, commands=commands, recordings=tuple(name for name, _ in group))
        for (kind, commands), group in grouped
    ]


def outline(recording: Recording) -> tuple[str, ...]:
    """The commands of a recording in order, each by kind and name."""
    tasks = recorded_commands(recording.events)
    every = (command for task in sorted(tasks) for command in tasks[task])
    return tuple(f"{command.kind} {command.name}".strip() for command in every)


def _patch(name: str, in_code: Mapping[str, str], kept: Sequence[Needs], opened: Sequence[Needs] | None) -> Patch:
    return Patch(
        name=name,
        in_code=in_code.get(name, ""),
        old=tuple(needs.name for needs in kept if name in needs.old),
        markers=tuple(needs.name for needs in kept if name in needs.markers),
        open_old=None if opened is None else sum(name in needs.old for needs in opened),
        open_markers=None if opened is None else sum(name in needs.markers for needs in opened),
    )


def coverage_as_json(coverage: Coverage) -> str:
    """All of it, with a verdict for each patch."""
    told = coverage.model_dump(mode="json")
    for patch, shown in zip(coverage.patches, told["patches"], strict=True):
        shown["verdict"] = patch.verdict
    return json.dumps(told, indent=2, ensure_ascii=False)


def print_coverage(coverage: Coverage, console: Console) -> None:
    """The paths, each with its recordings, and a table of patches."""
    for path in coverage.paths:
        console.print(f"[bold]{escape(path.workflow_type)}[/]: {escape(_shortly(path.commands))}", highlight=False)
        for name in path.recordings:
            console.print(f"    {escape(name)}", highlight=False)
    count = sum(len(path.recordings) for path in coverage.paths)
    console.print(f"\n{count} recordings take {len(coverage.paths)} paths.\n", highlight=False)
    if not coverage.patches:
        console.print("No patch in the code, nor in a recording.")
    for patch in coverage.patches:
        _print_patch(patch, console)
    if coverage.asked is not None:
        left = f", {coverage.not_asked} were not: there are too many" if coverage.not_asked else ""
        console.print(f"{coverage.asked} open workflows were looked at{left}.", highlight=False)
    for name in coverage.unknown:
        console.print(f"[yellow]{escape(name)} does not replay: what it needs is not known.[/]", highlight=False)


def _shortly(commands: Sequence[str]) -> str:
    """Commands in a row, one after itself counted."""
    counted = [(command, len(list(same))) for command, same in groupby(commands)]
    return " > ".join(command if count == 1 else f"{command} x{count}" for command, count in counted)


def _print_patch(patch: Patch, console: Console) -> None:
    console.print(f"[bold]{escape(patch.name)}[/]: {escape(patch.verdict)}", highlight=False)
    console.print(f"    in the code: {patch.in_code or 'no'}", highlight=False)
    for where, old, markers in (
        ("recordings", len(patch.old), len(patch.markers)),
        ("open workflows", patch.open_old, patch.open_markers),
    ):
        if old is not None:
            console.print(f"    {where}: {old} take the old way, {markers} have the marker", highlight=False)
