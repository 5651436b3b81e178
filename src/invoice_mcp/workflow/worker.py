"""The worker: which workflows and activities there are, named once, and how they are run."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import anyio
from temporalio import activity
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from invoice_mcp.adapters.erp import Erp
from invoice_mcp.adapters.payments import Payments
from invoice_mcp.domain.names import PAYMENT_GATEWAY, TASK_QUEUE, VALIDATE_AGAINST_ERP
from invoice_mcp.temporal.probe import Probe
from invoice_mcp.workflow.activities import InvoiceActivities
from invoice_mcp.workflow.invoice_workflow import InvoiceWorkflow
from invoice_mcp.workflow.line_workflow import PayLineItem
from invoice_mcp.workflow.parent_lookup import find_parent

logger = logging.getLogger(__name__)

WORKFLOWS: tuple[type, ...] = (InvoiceWorkflow, PayLineItem)

# Workflow code logs, and RichHandler, which our command line and the MCP server install, imports more of itself when it
# first prints something. Inside of the sandbox that import fails, and with it the workflow's task, for ever.
_RUNNER = SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default.with_passthrough_modules("rich", "pygments"))

REPLAY: Mapping[str, Any] = {
    "workflows": WORKFLOWS,
    "workflow_runner": _RUNNER,
    "data_converter": pydantic_data_converter,
}
"""What a `temporalio.worker.Replayer` is given to run workflows exactly as the worker does."""

# What a payment under way is given to finish before the worker leaves it to a retry elsewhere.
_GRACE = timedelta(seconds=10)
# A worker that is killed leaves its workflows pinned to itself for this long; until then nobody can ask them.
_STICKY = timedelta(seconds=2)
_DEFAULTS: Mapping[str, Any] = {
    "graceful_shutdown_timeout": _GRACE,
    "sticky_queue_schedule_to_start_timeout": _STICKY,
    "workflow_runner": _RUNNER,
}
_CONNECTS_WITHIN = 10.0
_LONGEST_PAUSE = 10.0
_OUR_ACTIVITIES = frozenset({VALIDATE_AGAINST_ERP, PAYMENT_GATEWAY})


class _OneLine(logging.Filter):
    """Takes the traceback from the SDK's message about an attempt that failed as our activities say that it may.

    It is tried again, and its traceback leads to the line that says so. Other exceptions are faults, and keep theirs.

    All workers of a process log by one logger of the SDK, and none takes a logger of its own. So the filter is the
    process's, and leaves alone what is said of activities with other names than ours.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        about = getattr(record, "temporal_activity", {})
        if isinstance(error, ApplicationError) and about.get("activity_type") in _OUR_ACTIVITIES:
            which = [about[name] for name in ("activity_type", "workflow_id", "attempt")]
            record.msg, record.args = "%s of %s, attempt %s: %s", (*which, error)
            record.exc_info = None
        return True


_ONE_LINE = _OneLine()


def build_worker(
    client: Client,
    erp: Erp,
    payments: Payments,
    *,
    task_queue: str = TASK_QUEUE,
    workflows: Sequence[type] = WORKFLOWS,
    **options: Any,
) -> Worker:
    """A worker for everything this project runs; `options` go to `temporalio.worker.Worker` as they are.

    Args:
        workflows: Others than the product's, of the same names: a harness proves itself on broken ones.
    """
    # Once in a process, however often this is called.
    activity.logger.base_logger.addFilter(_ONE_LINE)
    return Worker(
        client,
        task_queue=task_queue,
        workflows=workflows,
        activities=InvoiceActivities(erp, payments, partial(find_parent, client)).all(),
        **{**_DEFAULTS, **options},
    )


async def run_reconnecting_worker(
    connect: Callable[[], Awaitable[Client]], erp: Erp, payments: Payments, *, task_queue: str = TASK_QUEUE
) -> None:
    """Work until cancelled, then finish what is under way. While Temporal is away: wait for it, and say so.

    Args:
        connect: Gives a connected client, or raises RuntimeError.
    """
    pause = 0.5
    while True:
        try:
            with anyio.fail_after(_CONNECTS_WITHIN):
                client = await connect()
                await Probe(client).register_status_index()
            worker = build_worker(client, erp, payments, task_queue=task_queue)
            logger.debug("Worker polls %s in namespace %s", task_queue, client.namespace)
            pause = 0.5
            await worker.run()
        except (RPCError, RuntimeError, TimeoutError) as error:
            logger.warning("The worker can't work: Temporal is away (%s). Next try in %.1f s", error, pause)
        except Exception:
            # Whatever it was: a server without its worker is of no use.
            logger.exception("The worker ended unexpectedly. It starts again in %.1f s", pause)
        await anyio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
