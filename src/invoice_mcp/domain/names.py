"""Names that outlive a release: histories, queues, clients and other programs know them by heart."""

from __future__ import annotations

TASK_QUEUE = "invoice-task-queue"
WORKFLOW_TYPE = "InvoiceWorkflow"
LINE_WORKFLOW_TYPE = "PayLineItem"
VALIDATE_AGAINST_ERP = "validate_against_erp"
PAYMENT_GATEWAY = "payment_gateway"
INVOICE_STATUS = "InvoiceStatus"
"""The search attribute, of type Keyword, by which invoices are listed."""


def workflow_id_for(invoice_id: str) -> str:
    """The workflow that keeps this invoice."""
    return f"invoice-{invoice_id}"


def line_workflow_id(workflow_id: str, number: int) -> str:
    """Id of the child workflow that pays line `number` (from 1)."""
    return f"{workflow_id}-line-{number}"
