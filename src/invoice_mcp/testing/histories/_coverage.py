"""What a corpus covers: which recordings take which path of commands, and which patches still need to be there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from temporalio.client import Client
from temporalio.service import RPCError

from invoice_mcp.testing.histories._corpus import Corpus
from invoice_mcp.testing.histories._patches import Needs, needs_of, patches_in
from invoice_mcp.testing.histories._recorded import recorded_commands
from invoice_mcp.testing.histories._recording import Recording, Unreadable, read
from invoice_mcp.testing.histories._target import CannotRun, Code, away


class CommandPath(BaseModel):
    """One sequence of commands, and the recordings that take it."""

    model_config = ConfigDict(frozen=True)

    workflow_type: str
    commands: tuple[str, ...]
    recordings: tuple[str, ...]


class Patch(BaseModel):
    """One patch, who needs what of it, and what may be done.

    Attributes:
        in_code: `patched`, `deprecate_patch`, or "" if the code does not speak of it any more.
        old: Recordings that take the old way.
        markers: Recordings that have its marker.
        open_old, open_markers: So many open workflows; None: nobody was asked.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    in_code: str
    old: tuple[str, ...]
    markers: tuple[str, ...]
    open_old: int | None = None
    open_markers: int | None = None

    @property
    def verdict(self) -> str:
        """What may be done."""
        unless = "" if self.open_old is not None else ", if no open workflow does: ask with --address"
        if self.in_code == "patched":
            if self.old or self.open_old:
                return "keep both ways"
            return f"the old way can go (deprecate_patch): nothing needs it{unless}"
        if self.in_code == "deprecate_patch":
            if self.markers or self.open_markers:
                return "keep deprecate_patch"
            return f"can go: nothing needs it{unless}"
        return "put deprecate_patch back: its marker is needed" if self.markers or self.open_markers else "gone"


class Coverage(BaseModel):
    """What a corpus covers.

    Attributes:
        unknown: Recordings and open workflows that do not replay: what they need, nobody knows.
        asked: How many open workflows were looked at; None: nobody was asked.
    """

    model_config = ConfigDict(frozen=True)

    paths: tuple[CommandPath, ...]
    patches: tuple[Patch, ...]
    unknown: tuple[str, ...] = ()
    asked: int | None = None


async def coverage_of(corpus: Corpus, code: Code, client: Client | None = None, *, limit: int = 1000) -> Coverage:
    """What a corpus covers; with a client also what the open workflows of its namespace need.

    Args:
        limit: At most so many open workflows of each type are looked at.

    Raises:
        CannotRun: A recording can't be read, or Temporal can't be asked.
    """
    recordings = [(name, _read(name, corpus)) for name in sorted(corpus.files)]
    kept = await needs_of(recordings, code)
    running = None if client is None else await _open(client, code, limit)
    opened = None if running is None else await needs_of(running, code)
    in_code = patches_in(code.workflows)
    every = {name for needs in (*kept, *(opened or ())) for name in (*needs.old, *needs.markers)}
    return Coverage(
        paths=tuple(_paths(recordings)),
        patches=tuple(_patch(name, in_code, kept, opened) for name in sorted(every | set(in_code))),
        unknown=tuple(needs.name for needs in (*kept, *(opened or ())) if not needs.replays),
        asked=None if running is None else len(running),
    )


def _read(name: str, corpus: Corpus) -> Recording:
    try:
        return read(corpus.files[name])
    except Unreadable as why:
        raise CannotRun(f"{name}: {why}") from None


async def _open(client: Client, code: Code, limit: int) -> list[tuple[str, Recording]]:
    found = []
    try:
        for name in filter(None, code.names):
            query = f'WorkflowType = "{name}" AND ExecutionStatus = "Running"'
            async for execution in client.list_workflows(query, limit=limit):
                handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
                try:
                    found.append((f"open: {execution.id}", Recording.of(await handle.fetch_history())))
                except Unreadable:
                    continue  # it has not begun: it needs nothing
    except RPCError as error:
        raise CannotRun(f"Temporal refuses: {error.message}. Look at --address and --namespace") from None
    except (RuntimeError, OSError) as error:
        raise CannotRun(away(error)) from None
    return found


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
    console.print(_patch_table(coverage.patches) if coverage.patches else "No patch in the code, nor in a recording.")
    if coverage.asked is not None:
        console.print(f"{coverage.asked} open workflows were looked at.", highlight=False)
    for name in coverage.unknown:
        console.print(f"[yellow]{escape(name)} does not replay: what it needs is not known.[/]", highlight=False)


def _shortly(commands: Sequence[str]) -> str:
    """Commands in a row, one after itself counted."""
    counted = [(command, len(list(same))) for command, same in groupby(commands)]
    return " > ".join(command if count == 1 else f"{command} x{count}" for command, count in counted)


def _patch_table(patches: Sequence[Patch]) -> Table:
    table = Table(title="Patches", title_justify="left", box=None, pad_edge=False)
    for column in ("patch", "in the code", "old way", "marker", "open: old way", "open: marker", "verdict"):
        table.add_column(column, overflow="fold")
    for patch in patches:
        counts = (len(patch.old), len(patch.markers), patch.open_old, patch.open_markers)
        shown = ("?" if count is None else str(count) for count in counts)
        table.add_row(escape(patch.name), patch.in_code or "no", *shown, patch.verdict)
    return table
