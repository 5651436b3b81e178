"""What Temporal can tell beside the workflows: is it there, does a worker poll, does it know InvoiceStatus."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta

import anyio
import temporalio.api.enums.v1 as enums
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from invoice_mcp.tasks._retention import Retention
from invoice_mcp.workflows import INVOICE_STATUS, TASK_QUEUE

logger = logging.getLogger(__name__)

# A worker asks for work at least once a minute; the server remembers one that is gone for five.
_POLLS_AT_LEAST_EVERY = timedelta(seconds=75)
_ASK_AGAIN_AFTER = 30.0
_RPC = timedelta(seconds=2)
_ABSENT = frozenset({RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED})
# A server that has too much to do has not said no.
_SAYS_NOTHING = _ABSENT | {RPCStatusCode.RESOURCE_EXHAUSTED}


class Probe:
    """Questions to the Temporal server itself. Everything about workflows goes through the client instead."""

    def __init__(self, client: Client, *, task_queue: str = TASK_QUEUE) -> None:
        self._client = client
        self._task_queue = task_queue
        self._indexed: bool | None = None
        self._ask_again_at = 0.0
        self._retention = Retention(client)

    async def retention(self) -> timedelta:
        """How long the namespace keeps workflows that have ended, as far as it is told."""
        return await self._retention()

    async def is_reachable(self) -> bool:
        """Whether Temporal answers at all, within two seconds."""
        # The RPC's own limit does not bound the connecting of a lazy client.
        with anyio.move_on_after(_RPC.total_seconds()):
            try:
                await self._client.service_client.check_health(timeout=_RPC)
            except RPCError as error:
                return error.status not in _ABSENT
            except RuntimeError:  # a lazy client that cannot connect
                return False
            return True
        return False

    async def has_worker(self) -> bool:
        """Whether a worker polls the task queue. A server that cannot tell is taken to have one.

        Raises:
            RPCError, RuntimeError: Temporal can't be reached.
        """
        request = DescribeTaskQueueRequest(
            namespace=self._client.namespace,
            task_queue=TaskQueue(name=self._task_queue),
            task_queue_type=enums.TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
        try:
            answer = await self._client.workflow_service.describe_task_queue(request, retry=True)
        except RPCError as error:
            if error.status in {RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.PERMISSION_DENIED}:
                return True
            raise
        oldest = datetime.now(UTC) - _POLLS_AT_LEAST_EVERY
        return any(poller.last_access_time.ToDatetime(UTC) > oldest for poller in answer.pollers)

    async def indexes_status(self) -> bool:
        """Whether workflows may set the search attribute InvoiceStatus here. Setting an unknown one would stop them.

        Raises:
            RPCError, RuntimeError: Temporal can't be reached.
        """
        if not self._indexed and time.monotonic() >= self._ask_again_at:
            self._indexed = await self._knows_the_attribute()
            self._ask_again_at = time.monotonic() + _ASK_AGAIN_AFTER
        return bool(self._indexed)

    async def register_status_index(self) -> bool:
        """Register InvoiceStatus where it is missing. False, with a warning, where that is not allowed."""
        if await self.indexes_status():
            return True
        request = AddSearchAttributesRequest(
            namespace=self._client.namespace,
            search_attributes={INVOICE_STATUS.name: enums.IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD},
        )
        why = "the server does not take it"
        try:
            await self._client.operator_service.add_search_attributes(request)
        except RPCError as error:
            if error.status in _ABSENT:
                raise
            why = error.message
        self._ask_again_at = 0.0
        if await self.indexes_status():
            return True
        logger.warning(
            "The search attribute %s (Keyword) is missing in namespace %s and could not be registered (%s). "
            "Invoices run without it; the tool `list` then can't filter by status. "
            "Ask an administrator: temporal operator search-attribute create --name %s --type Keyword",
            INVOICE_STATUS.name,
            self._client.namespace,
            why,
            INVOICE_STATUS.name,
        )
        return False

    async def _knows_the_attribute(self) -> bool:
        try:
            await self._client.count_workflows(f"{INVOICE_STATUS.name} = 'PAID'", rpc_timeout=_RPC)
        except RPCError as error:
            if error.status in _SAYS_NOTHING:
                raise
            return False
        return True
