"""This project's workflows as a target of the replay gate."""

from invoice_mcp.domain.names import INVOICE_STATUS
from temporal_replay import Target

TARGET = Target("invoice_mcp.workflow.worker:REPLAY")
"""The workflows as the production worker runs them."""

KEPT_FIELDS = frozenset({"status", "workflow_status", "verdict", "confirmation", "currency", "error", INVOICE_STATUS})
"""Fields whose texts the workflows branch on, so scrubbing keeps them. All other texts are replaced."""
