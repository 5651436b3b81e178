"""Recorded histories of any project's Temporal workflows: kept, replayed, compared. Knows nothing of invoices."""

from temporal_replay.commands.command import Command
from temporal_replay.commands.diff import Drift
from temporal_replay.corpus import Accepted, Corpus, add_to_paths, read_corpus
from temporal_replay.gate import Report, check_corpus, check_histories
from temporal_replay.outcome import Fault, Outcome, Problem
from temporal_replay.patches.coverage import (
    CommandPath,
    Coverage,
    Patch,
    coverage_as_json,
    coverage_of,
    outline,
    print_coverage,
)
from temporal_replay.recording import Recording, Unreadable, read, write
from temporal_replay.replay.loading import LoadError, load_object
from temporal_replay.replay.pool import TIME_LIMIT, Pool, cores
from temporal_replay.replay.replayer import Replaying
from temporal_replay.replay.target import CannotRun, Code, Target
from temporal_replay.report import as_json, as_junit, explained, print_report, verdict
from temporal_replay.scrub.normalize import tidied
from temporal_replay.scrub.pull import Pulled, Puller, scrub_and_prove

__all__ = [
    "TIME_LIMIT",
    "Accepted",
    "CannotRun",
    "Code",
    "Command",
    "CommandPath",
    "Corpus",
    "Coverage",
    "Drift",
    "Fault",
    "LoadError",
    "Outcome",
    "Patch",
    "Pool",
    "Problem",
    "Pulled",
    "Puller",
    "Recording",
    "Replaying",
    "Report",
    "Target",
    "Unreadable",
    "add_to_paths",
    "as_json",
    "as_junit",
    "check_corpus",
    "check_histories",
    "cores",
    "coverage_as_json",
    "coverage_of",
    "explained",
    "load_object",
    "outline",
    "print_coverage",
    "print_report",
    "read",
    "read_corpus",
    "scrub_and_prove",
    "tidied",
    "verdict",
    "write",
]
