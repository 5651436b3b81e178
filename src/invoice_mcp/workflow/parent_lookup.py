"""Whether an invoice waits for a payment, as Temporal's server knows it at this moment.

A reset of an invoice's run leaves the workflows of its lines open: the server keeps them so that the new run can go on
with them. A run that is reset to a time before they began does not; without this check they would pay on their due
dates, on an approval that the new run does not have. The same check refuses workflows of lines that were started by
hand.
"""

from __future__ import annotations

from datetime import timedelta
from enum import Enum, auto

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from invoice_mcp.domain.names import invoice_workflow_id_of

_RPC = timedelta(seconds=10)


class Parent(Enum):
    """Who waits for a line's workflow."""

    NOBODY = auto()
    INVOICE = auto()
    """The newest run of its invoice does, for this run of it."""
    INVOICE_AFTER_RESET = auto()
    """The same, but this run was reset: what an activity did before that, its attempts do not tell."""


async def find_parent(client: Client, workflow_id: str, run_id: str) -> Parent:
    """Whether the newest run of the invoice is open, and this run of a line's workflow is a child it waits for.

    A server records a child's run with its parent before the child's first task, so a line that is due at once is
    known, too. A run of the invoice that was reset to a time after the line began has it as its child. Of a line that
    was itself reset, the parent takes the result, though the server names its first run as the child.

    Args:
        workflow_id, run_id: Of the line's workflow; see `line_workflow_id`.

    Raises:
        RPCError: Temporal can't be reached.
    """
    invoice_workflow_id = invoice_workflow_id_of(workflow_id)
    if invoice_workflow_id is None:
        return Parent.NOBODY
    try:
        invoice = await client.get_workflow_handle(invoice_workflow_id).describe(rpc_timeout=_RPC)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return Parent.NOBODY
        raise
    # The run that was reset still names its children, though it has ended.
    children = invoice.raw_description.pending_children if invoice.status is WorkflowExecutionStatus.RUNNING else ()
    runs = {child.run_id for child in children if child.workflow_id == workflow_id and child.run_id}
    if run_id in runs:
        return Parent.INVOICE
    if not runs:
        return Parent.NOBODY
    described = await client.get_workflow_handle(workflow_id, run_id=run_id).describe(rpc_timeout=_RPC)
    is_reset = described.raw_description.workflow_execution_info.first_run_id in runs
    return Parent.INVOICE_AFTER_RESET if is_reset else Parent.NOBODY
