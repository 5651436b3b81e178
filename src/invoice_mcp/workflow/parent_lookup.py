"""Whether an invoice's workflow waits for a line's workflow, according to the Temporal server.

A reset of an invoice's run leaves its child workflows open, so that the new run can continue with them. A run that was
reset to a time before they started does not have them as children. Without this check they would still pay on their
due dates, on an approval that the new run does not have. The check also refuses line workflows started by hand.
"""

from __future__ import annotations

from datetime import timedelta
from enum import Enum, auto

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from invoice_mcp.domain.names import invoice_workflow_id_of

_RPC = timedelta(seconds=10)


class Parent(Enum):
    """Whether an invoice's workflow waits for a line's workflow."""

    NONE = auto()
    """None waits."""
    WAITING = auto()
    """The newest run of the invoice waits for this run of the line."""
    WAITING_FOR_RESET_LINE = auto()
    """The same, but the line's run was reset: activity attempts before the reset are not counted in `attempt`."""


async def find_parent(client: Client, workflow_id: str, run_id: str) -> Parent:
    """Whether the newest run of the invoice is open and has this run of the line's workflow as a pending child.

    The server records a child's run in its parent before the child's first task, so the check holds for a line that is
    due at once, too. A run of the invoice that was reset to a time after the line started has the line as its child. Of
    a line that was itself reset, the parent takes the result, though the server names the line's first run as child.

    Args:
        workflow_id, run_id: Of the line's workflow; see `line_workflow_id`.

    Raises:
        RPCError: Temporal can't be reached.
    """
    invoice_workflow_id = invoice_workflow_id_of(workflow_id)
    if invoice_workflow_id is None:
        return Parent.NONE
    try:
        invoice = await client.get_workflow_handle(invoice_workflow_id).describe(rpc_timeout=_RPC)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return Parent.NONE
        raise
    # A run that ended by a reset still lists its children.
    children = invoice.raw_description.pending_children if invoice.status is WorkflowExecutionStatus.RUNNING else ()
    runs = {child.run_id for child in children if child.workflow_id == workflow_id and child.run_id}
    if run_id in runs:
        return Parent.WAITING
    if not runs:
        return Parent.NONE
    described = await client.get_workflow_handle(workflow_id, run_id=run_id).describe(rpc_timeout=_RPC)
    is_reset = described.raw_description.workflow_execution_info.first_run_id in runs
    return Parent.WAITING_FOR_RESET_LINE if is_reset else Parent.NONE
