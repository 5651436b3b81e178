"""Our own workflows, for the replay gate."""

from invoice_mcp.domain.names import INVOICE_STATUS
from temporal_replay import Target

TARGET = Target("invoice_mcp.workflow.worker:REPLAY")
"""Our own workflows, as our own worker runs them."""

KEPT_FIELDS = frozenset({"status", "workflow_status", "verdict", "confirmation", "currency", "error", INVOICE_STATUS})
"""Fields of invoices whose texts steer the workflows. Whatever else anybody wrote is scrubbed."""
