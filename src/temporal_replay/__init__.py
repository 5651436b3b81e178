"""A replay gate for Temporal workflows: does changed code still replay every recorded history, value by value?

Temporal's own `Replayer` compares the order and kinds of commands. This package also compares every value of every
command, in strict mode, and runs each replay in a process of its own, with a time limit. It works on the workflows of
any Python project:

    import asyncio
    from pathlib import Path

    from rich.console import Console
    from temporal_replay import ReplayPool, Target, check_histories, print_report

    report = asyncio.run(check_histories(Path("histories"), ReplayPool(Target("my_app.worker:WORKFLOWS"))))
    print_report(report, Console())
    raise SystemExit(0 if report.is_clean else 1)

A corpus is a folder of recordings (`Recording`, one history a file), with two optional lists: `paths.toml` names the
recordings that must exist, `accepted-drift.toml` the differences that are intended. Where to look:

- `gate`, `corpus`, `recording`, `outcome`: check a corpus, and what the result consists of.
- `commands`: the commands a history records, the commands code emits, and their comparison.
- `replay`: replay in this process (`InProcessReplayer`) or in several (`ReplayPool`).
- `patches.removal`: whether a patch may be removed from the code. `coverage` collects the evidence.
- `reports.check`, `reports.coverage`: what `histories check` and `histories coverage` print.
- `scrub`: fetch histories from a live namespace, with all personal data pseudonymized.

It does not record histories by itself: use `Recording.of` on a fetched history, or `Puller`. It does not see what no
history keeps, such as cancellation types or inputs of local activities.
"""

from temporal_replay.commands.command import Command
from temporal_replay.commands.diff import Drift
from temporal_replay.corpus import AcceptanceRule, Corpus, add_to_paths, read_corpus
from temporal_replay.coverage import CommandPath, Coverage, measure_coverage, outline
from temporal_replay.gate import GateReport, check_corpus, check_histories
from temporal_replay.outcome import Fault, Outcome, Problem
from temporal_replay.patches.removal import Patch
from temporal_replay.recording import Recording, RecordingError, read_recording, write_recording
from temporal_replay.replay.loading import LoadError, load_object
from temporal_replay.replay.pool import TIME_LIMIT, ReplayPool, cores
from temporal_replay.replay.replayer import InProcessReplayer
from temporal_replay.replay.target import CannotRunError, LoadedTarget, Target
from temporal_replay.reports.check import explain, print_report, render_json, render_junit, verdict
from temporal_replay.reports.coverage import print_coverage, render_coverage_json
from temporal_replay.scrub.normalize import normalize
from temporal_replay.scrub.pull import Puller, PullResult, scrub_and_prove

__all__ = [
    "TIME_LIMIT",
    "AcceptanceRule",
    "CannotRunError",
    "Command",
    "CommandPath",
    "Corpus",
    "Coverage",
    "Drift",
    "Fault",
    "GateReport",
    "InProcessReplayer",
    "LoadError",
    "LoadedTarget",
    "Outcome",
    "Patch",
    "Problem",
    "PullResult",
    "Puller",
    "Recording",
    "RecordingError",
    "ReplayPool",
    "Target",
    "add_to_paths",
    "check_corpus",
    "check_histories",
    "cores",
    "explain",
    "load_object",
    "measure_coverage",
    "normalize",
    "outline",
    "print_coverage",
    "print_report",
    "read_corpus",
    "read_recording",
    "render_coverage_json",
    "render_json",
    "render_junit",
    "scrub_and_prove",
    "verdict",
    "write_recording",
]
