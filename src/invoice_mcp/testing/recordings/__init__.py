"""Recorded paths of this project's own workflows, as data, and how a release records them.

Needs Faker, which the rest of `invoice_mcp.testing` does without.
"""

from invoice_mcp.testing.recordings.paths import PATHS, InvoicePath
from invoice_mcp.testing.recordings.recorder import prove, record_path, record_release, release_folder
from invoice_mcp.testing.recordings.target import KEPT_FIELDS, TARGET

__all__ = ["KEPT_FIELDS", "PATHS", "TARGET", "InvoicePath", "prove", "record_path", "record_release", "release_folder"]
