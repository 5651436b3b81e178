"""The harness: what a test of invoices, or of anything built on them, needs. Free of pytest."""

from invoice_mcp.testing._ports import Paid, RecordingPayments, ScriptedErp

__all__ = ["Paid", "RecordingPayments", "ScriptedErp"]
