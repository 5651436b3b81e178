"""The retention of a Temporal namespace: how long it keeps closed workflows."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

logger = logging.getLogger(__name__)

# The minimum that Temporal allows, assumed if the namespace can't be described.
MINIMUM_RETENTION = timedelta(days=1)
_RPC = timedelta(seconds=2)
_ASK_AGAIN_AFTER = 300.0


class Retention:
    """Reads the retention of a namespace, at most every five minutes; one day until the server has answered.

    Example:
        TasksExtension(client, bindings, retention=Retention(client))
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known = MINIMUM_RETENTION
        self._ask_again_at = 0.0

    async def __call__(self) -> timedelta:
        """The current retention. Never raises: no request should fail only because the retention is unknown."""
        if time.monotonic() >= self._ask_again_at:
            request = DescribeNamespaceRequest(namespace=self._client.namespace)
            try:
                answer = await self._client.workflow_service.describe_namespace(request, timeout=_RPC)
            except (RPCError, RuntimeError) as error:
                logger.debug("The retention of %s is unknown: %s", self._client.namespace, error)
            else:
                self._known = answer.config.workflow_execution_retention_ttl.ToTimedelta() or MINIMUM_RETENTION
            self._ask_again_at = time.monotonic() + _ASK_AGAIN_AFTER
        return self._known
