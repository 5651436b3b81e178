"""What the probe makes of a server's answer: which workers are there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.taskqueue.v1 import PollerInfo
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, DescribeTaskQueueResponse
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from invoice_mcp.probe import Probe
from tests.requirements import requirement

# A worker asks for work at least once a minute, and the server remembers for five who did.
THERE, GONE = 75, 5 * 60


class _Server:
    """Stands in for a Temporal server, which takes minutes to forget a worker."""

    namespace = "default"

    def __init__(self, *polled: float, refuses: RPCStatusCode | None = None) -> None:
        self._polled = polled
        self._refuses = refuses
        self.workflow_service = self

    async def describe_task_queue(self, request: DescribeTaskQueueRequest, **_: Any) -> DescribeTaskQueueResponse:
        if self._refuses is not None:
            raise RPCError("no", self._refuses, b"")
        assert request.task_queue.name == "queue"
        answer = DescribeTaskQueueResponse()
        for ago in self._polled:
            poller = PollerInfo()
            poller.last_access_time.FromDatetime(datetime.now(UTC) - timedelta(seconds=ago))
            answer.pollers.append(poller)
        return answer


async def has_worker(server: _Server) -> bool:
    return await Probe(cast(Client, server), task_queue="queue").has_worker()


@requirement("TEMPORAL-NO-WORKER")
@given(polled=st.lists(st.floats(0, THERE - 5) | st.floats(THERE + 1, GONE), max_size=4))
async def test_there_is_a_worker_if_one_has_asked_for_work_lately(polled: list[float]) -> None:
    assert await has_worker(_Server(*polled)) is any(ago < THERE for ago in polled)


@pytest.mark.parametrize("status", [RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.PERMISSION_DENIED])
async def test_a_server_that_does_not_tell_is_taken_to_have_one(status: RPCStatusCode) -> None:
    assert await has_worker(_Server(refuses=status))


async def test_a_server_that_is_not_there_has_none() -> None:
    with pytest.raises(RPCError):
        await has_worker(_Server(refuses=RPCStatusCode.UNAVAILABLE))
