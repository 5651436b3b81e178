"""Checks of the Temporal server: is it reachable, does a worker poll, is InvoiceStatus registered."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from enum import Enum, auto

import anyio
import temporalio.api.enums.v1 as enums
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from invoice_mcp.domain.names import INVOICE_STATUS, TASK_QUEUE
from mcp_temporal_tasks.retention import Retention

logger = logging.getLogger(__name__)

# Seconds. A worker polls at least once a minute; the server lists a worker that has gone for five minutes.
_POLLS_AT_LEAST_EVERY = 75.0
_ASK_AGAIN_AFTER = 30.0
_RPC = timedelta(seconds=2)
# Seconds. One result serves all requests that need it at the same time.
_HOLDS_FOR = 0.5
_ABSENT = frozenset({RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED})
# Messages of the SDK's transport about a connection, in errors of status UNKNOWN or INTERNAL.
_BROKEN = re.compile("transport error|h2 protocol error|error reading a body|operation was canceled|broken pipe")


def is_connection_error(error: RPCError) -> bool:
    """Whether the error is about the connection, and not an answer of Temporal."""
    is_transports = error.status in {RPCStatusCode.UNKNOWN, RPCStatusCode.INTERNAL} and _BROKEN.search(error.message)
    return error.status in _ABSENT or bool(is_transports)


def _is_inconclusive(error: RPCError) -> bool:
    # An overloaded server has not answered.
    return is_connection_error(error) or error.status is RPCStatusCode.RESOURCE_EXHAUSTED


class NoAnswerReason(Enum):
    """Why there is no answer."""

    UNREACHABLE = auto()
    """Temporal does not answer either."""
    NO_WORKER = auto()
    """No worker polls."""
    WORKER_POLLS = auto()
    """A worker has polled recently: it or Temporal is busy, or the worker has just ended."""
    UNKNOWN = auto()
    """Temporal answers, but does not list pollers."""


class Probe:
    """Queries about the server itself, not about workflows. Results are cached briefly."""

    def __init__(
        self, client: Client, *, task_queue: str = TASK_QUEUE, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._task_queue = task_queue
        self._indexed: bool | None = None
        self._ask_again_at = 0.0
        self._monotonic = monotonic
        self._asking = anyio.Lock()
        self._found, self._found_at = NoAnswerReason.UNREACHABLE, -math.inf
        self._describing = anyio.Lock()
        self._polls: frozenset[tuple[str, int]] = frozenset()
        self._last_poll_seen_at = -math.inf
        self._polled: bool | None = None
        self._polled_until = -math.inf
        self._retention = Retention(client)

    async def retention(self) -> timedelta:
        """How long the namespace keeps closed workflows, if it says so."""
        return await self._retention()

    async def is_reachable(self) -> bool:
        """Whether Temporal answers at all, within two seconds."""
        # The RPC's timeout does not include the connecting of a lazy client.
        with anyio.move_on_after(_RPC.total_seconds()):
            try:
                await self._client.service_client.check_health(timeout=_RPC)
            except RPCError as error:
                return not is_connection_error(error)
            except RuntimeError:  # a lazy client that can't connect
                return False
            return True
        return False

    async def no_answer_reason(self) -> NoAnswerReason:
        """Why there was no answer. Takes two seconds at most, and raises nothing.

        Under load hundreds of calls run at once: one of them asks Temporal for all.
        """
        with anyio.move_on_after(_RPC.total_seconds()):
            async with self._asking:
                if self._monotonic() - self._found_at >= _HOLDS_FOR:
                    await self._find_reason()
        is_recent = self._monotonic() - self._found_at <= _RPC.total_seconds() + _HOLDS_FOR
        return self._found if is_recent else NoAnswerReason.UNREACHABLE

    async def _find_reason(self) -> None:
        if not await self.is_reachable():
            self._found, self._found_at = NoAnswerReason.UNREACHABLE, self._monotonic()
            return
        # The result if the rest takes too long.
        self._found, self._found_at = NoAnswerReason.UNKNOWN, self._monotonic()
        with suppress(RPCError, RuntimeError):
            polled = await self._is_polled()
            if polled is not None:
                self._found = NoAnswerReason.WORKER_POLLS if polled else NoAnswerReason.NO_WORKER

    async def has_worker(self) -> bool:
        """Whether there may be a worker. False only if the server says that there is none.

        Raises:
            RPCError, RuntimeError: Temporal can't be reached.
        """
        return await self._is_polled() is not False

    async def _is_polled(self) -> bool | None:
        """Whether a worker has polled the task queue recently; None if the server does not say.

        The server returns the time of each worker's last poll, by its own clock, which may differ from ours by minutes.
        So this checks when a change of these times was seen last. A worker seen for the first time counts as present;
        the server drops one that has gone after five minutes.
        """
        async with self._describing:
            if self._monotonic() >= self._polled_until:
                self._polled = await self._describe_pollers()
                # Shorter, so that a worker that has just started is found soon.
                self._polled_until = self._monotonic() + (0.1 if self._polled is False else _HOLDS_FOR)
        return self._polled

    async def _describe_pollers(self) -> bool | None:
        request = DescribeTaskQueueRequest(
            namespace=self._client.namespace,
            task_queue=TaskQueue(name=self._task_queue),
            task_queue_type=enums.TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
        try:
            answer = await self._client.workflow_service.describe_task_queue(request, retry=True)
        except RPCError as error:
            if error.status in {RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.PERMISSION_DENIED}:
                return None
            raise
        polls = frozenset((poller.identity, poller.last_access_time.ToNanoseconds()) for poller in answer.pollers)
        now = self._monotonic()
        if polls - self._polls:
            self._last_poll_seen_at = now
        self._polls = polls
        return bool(polls) and now - self._last_poll_seen_at <= _POLLS_AT_LEAST_EVERY

    async def indexes_status(self) -> bool:
        """Whether the search attribute InvoiceStatus is registered. Setting an unregistered one would block a workflow.

        Raises:
            RPCError, RuntimeError: Temporal can't be reached.
        """
        if not self._indexed and time.monotonic() >= self._ask_again_at:
            self._indexed = await self._is_attribute_known()
            self._ask_again_at = time.monotonic() + _ASK_AGAIN_AFTER
        return bool(self._indexed)

    async def register_status_index(self) -> bool:
        """Register InvoiceStatus if it is missing. Returns False, and logs a warning, if that is not allowed."""
        if await self.indexes_status():
            return True
        request = AddSearchAttributesRequest(
            namespace=self._client.namespace,
            search_attributes={INVOICE_STATUS: enums.IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD},
        )
        why = "the server does not take it"
        try:
            await self._client.operator_service.add_search_attributes(request)
        except RPCError as error:
            if is_connection_error(error):
                raise
            why = error.message
        self._ask_again_at = 0.0
        if await self.indexes_status():
            return True
        logger.warning(
            "The search attribute %s (Keyword) is missing in namespace %s and could not be registered (%s). "
            "Invoices run without it; the tool `list` then can't filter by status. "
            "Ask an administrator: temporal operator search-attribute create --name %s --type Keyword",
            INVOICE_STATUS,
            self._client.namespace,
            why,
            INVOICE_STATUS,
        )
        return False

    async def _is_attribute_known(self) -> bool:
        try:
            await self._client.count_workflows(f"{INVOICE_STATUS} = 'PAID'", rpc_timeout=_RPC)
        except RPCError as error:
            if _is_inconclusive(error):
                raise
            return False
        return True
