"""Recorded histories of any project's Temporal workflows: kept, replayed, compared. Knows nothing of invoices."""

from invoice_mcp.testing.histories._commands import Command
from invoice_mcp.testing.histories._comparing import Drift
from invoice_mcp.testing.histories._corpus import Accepted, Corpus, add_to_paths, read_corpus
from invoice_mcp.testing.histories._coverage import (
    CommandPath,
    Coverage,
    Patch,
    coverage_as_json,
    coverage_of,
    outline,
    print_coverage,
)
from invoice_mcp.testing.histories._gate import Report, check_corpus, check_histories
from invoice_mcp.testing.histories._outcomes import Fault, Outcome, Problem
from invoice_mcp.testing.histories._pool import TIME_LIMIT, Pool, cores
from invoice_mcp.testing.histories._pulling import Pulled, Puller, scrub_and_prove
from invoice_mcp.testing.histories._recording import Recording, Unreadable, read, write
from invoice_mcp.testing.histories._replaying import Replaying
from invoice_mcp.testing.histories._reports import as_json, as_junit, explained, print_report, verdict
from invoice_mcp.testing.histories._target import CannotRun, Code, Target
from invoice_mcp.testing.histories._tidying import tidied

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
