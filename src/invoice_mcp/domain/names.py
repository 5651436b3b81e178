"""Names and id formats that must not change: histories, task queues, clients and other programs contain them."""

from __future__ import annotations

import re

TASK_QUEUE = "invoice-task-queue"
WORKFLOW_TYPE = "InvoiceWorkflow"
LINE_WORKFLOW_TYPE = "PayLineItem"
VALIDATE_AGAINST_ERP = "validate_against_erp"
PAYMENT_GATEWAY = "payment_gateway"
INVOICE_STATUS = "InvoiceStatus"
"""The search attribute, of type Keyword, by which invoices are listed."""

_LINE_WORKFLOW_ID = re.compile(r"(?P<invoice>.+)-line-[0-9]+")


def workflow_id_for(invoice_id: str) -> str:
    """Id of the workflow of this invoice."""
    return f"invoice-{invoice_id}"


def line_workflow_id(workflow_id: str, number: int) -> str:
    """Id of the child workflow that pays line `number` (from 1)."""
    return f"{workflow_id}-line-{number}"


def invoice_workflow_id_of(line_workflow_id: str) -> str | None:
    """Id of the invoice's workflow, from that of one of its lines; None if it is not the id of a line's workflow."""
    line = _LINE_WORKFLOW_ID.fullmatch(line_workflow_id)
    return line["invoice"] if line else None
