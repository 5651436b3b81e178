"""The worker: its workflows, activities and options, and how it reconnects."""

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

# Workflow code logs, and RichHandler, installed by the command line and by the MCP SDK, imports more of rich when it
# first prints. In the sandbox that import fails, and so does every workflow task.
_RUNNER = SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default.with_passthrough_modules("rich", "pygments"))

REPLAY: Mapping[str, Any] = {
    "workflows": WORKFLOWS,
    "workflow_runner": _RUNNER,
    "data_converter": pydantic_data_converter,
}
"""Arguments for a `temporalio.worker.Replayer` that runs workflows exactly as the worker does."""

# How long a payment under way may take to finish at shutdown. After that it is cancelled, and retried elsewhere.
_GRACE = timedelta(seconds=10)
# Workflows stay on the sticky queue of a killed worker for this long. Until then their queries get no answer.
_STICKY = timedelta(seconds=2)
_DEFAULTS: Mapping[str, Any] = {
    "graceful_shutdown_timeout": _GRACE,
    "sticky_queue_schedule_to_start_timeout": _STICKY,
    "workflow_runner": _RUNNER,
}
_CONNECT_TIMEOUT = 10.0
_LONGEST_PAUSE = 10.0
_OUR_ACTIVITIES = frozenset({VALIDATE_AGAINST_ERP, PAYMENT_GATEWAY})


class _ExpectedFailureFilter(logging.Filter):
    """Removes the traceback from the SDK's log record of an activity attempt that raised ApplicationError.

    Our activities raise it for expected failures, which are retried; its traceback shows nothing but the `raise`. Other
    exceptions are faults, and keep their tracebacks.

    The SDK logs for all workers of a process by one logger, and a worker can't have its own. So this filter is added
    once per process, and ignores activities of other names than ours.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        about = getattr(record, "temporal_activity", {})
        if isinstance(error, ApplicationError) and about.get("activity_type") in _OUR_ACTIVITIES:
            which = [about[name] for name in ("activity_type", "workflow_id", "attempt")]
            record.msg, record.args = "%s of %s, attempt %s: %s", (*which, error)
            record.exc_info = None
        return True


_FILTER = _ExpectedFailureFilter()


def build_worker(
    client: Client,
    erp: Erp,
    payments: Payments,
    *,
    task_queue: str = TASK_QUEUE,
    workflows: Sequence[type] = WORKFLOWS,
    **options: Any,
) -> Worker:
    """A worker for all workflows and activities.

    Args:
        workflows: Replace the product's, under the same names: the harness is tested with broken ones.
        options: Passed to `temporalio.worker.Worker`.
    """
    # Adding the same filter again does nothing.
    activity.logger.base_logger.addFilter(_FILTER)
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
    """Run a worker until cancelled, then let activities under way finish. If Temporal fails: warn and reconnect.

    Args:
        connect: Returns a connected client, or raises RuntimeError.
    """
    pause = 0.5
    while True:
        try:
            with anyio.fail_after(_CONNECT_TIMEOUT):
                client = await connect()
                await Probe(client).register_status_index()
            worker = build_worker(client, erp, payments, task_queue=task_queue)
            logger.debug("Worker polls %s in namespace %s", task_queue, client.namespace)
            pause = 0.5
            await worker.run()
        except (RPCError, RuntimeError, TimeoutError) as error:
            logger.warning("The worker can't work: Temporal is away (%s). Next try in %.1f s", error, pause)
        except Exception:
            # Whatever the error is: a server without a worker is useless.
            logger.exception("The worker ended unexpectedly. It starts again in %.1f s", pause)
        await anyio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
