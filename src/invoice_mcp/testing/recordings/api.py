"""The paths of invoices as data, and how they are recorded. Needs Faker, which `invoice_mcp.testing` does without."""

from invoice_mcp.testing.recordings.paths import PATHS, InvoicePath
from invoice_mcp.testing.recordings.recorder import folder_of, prove, record_path, record_release
from invoice_mcp.testing.recordings.target import KEEP, TARGET

__all__ = ["KEEP", "PATHS", "TARGET", "InvoicePath", "folder_of", "prove", "record_path", "record_release"]
