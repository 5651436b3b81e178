"""What `histories coverage` prints: command paths and patches, on a console or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.markup import escape

from temporal_replay.coverage import Coverage
from temporal_replay.patches.removal import Patch


def render_coverage_json(coverage: Coverage) -> str:
    """Render all of a coverage as JSON, with the verdict of each patch."""
    content = coverage.model_dump(mode="json")
    for patch, shown in zip(coverage.patches, content["patches"], strict=True):
        shown["verdict"] = patch.verdict
    return json.dumps(content, indent=2, ensure_ascii=False)


def print_coverage(coverage: Coverage, console: Console) -> None:
    """Print each path with its recordings, then each patch with its verdict."""
    for path in coverage.paths:
        console.print(f"[bold]{escape(path.workflow_type)}[/]: {escape(_abbreviate(path.commands))}", highlight=False)
        for name in path.recordings:
            console.print(f"    {escape(name)}", highlight=False)
    count = sum(len(path.recordings) for path in coverage.paths)
    console.print(f"\n{count} recordings follow {len(coverage.paths)} paths.\n", highlight=False)
    if not coverage.patches:
        console.print("No patch in the code or in a recording.")
    for patch in coverage.patches:
        _print_patch(patch, console)
    if coverage.open_workflows is not None:
        skipped = coverage.open_workflows_skipped
        rest = f"; {skipped} more exceed the limit and were not" if skipped else ""
        console.print(f"{coverage.open_workflows} open workflows were examined{rest}.", highlight=False)
    for name in coverage.unknown:
        console.print(f"[yellow]{escape(name)} does not replay: which patches it needs is unknown.[/]", highlight=False)


def _abbreviate(commands: Sequence[str]) -> str:
    """Join commands; a repeated command is written once with its count."""
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
            console.print(f"    {where}: {old} take the old branch, {markers} have the marker", highlight=False)
