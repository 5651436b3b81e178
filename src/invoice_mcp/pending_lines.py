"""Whether an invoice waits for a payment, as Temporal's server knows it at this moment.

A reset of an invoice's run leaves the workflows of its lines open: the server keeps them so that the new run can go on
with them. A run that is reset to a time before they began does not; without this check they would pay on their due
dates, on an approval that the new run does not have. The same check refuses workflows of lines that were started by
hand.
"""

from __future__ import annotations

import re
from datetime import timedelta

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

_LINE_ID = re.compile(r"(?P<invoice>.+)-line-[0-9]+")
_RPC = timedelta(seconds=10)


async def is_awaited(client: Client, workflow_id: str, run_id: str) -> bool:
    """Whether the newest run of the invoice is open, and this run of a line's workflow is a child it waits for.

    A server records a child's run with its parent before the child's first task, so a line that is due at once is
    known, too. A run that was reset to a time after the line began has it as its child.

    Args:
        workflow_id, run_id: Of the line's workflow; see `line_workflow_id`.

    Raises:
        RPCError: Temporal can't be reached.
    """
    line = _LINE_ID.fullmatch(workflow_id)
    if line is None:
        return False
    try:
        invoice = await client.get_workflow_handle(line["invoice"]).describe(rpc_timeout=_RPC)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    # The run that was reset still names its children, though it has ended.
    children = invoice.raw_description.pending_children if invoice.status is WorkflowExecutionStatus.RUNNING else ()
    return any((child.workflow_id, child.run_id) == (workflow_id, run_id) for child in children)
