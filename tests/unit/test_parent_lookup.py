"""Who waits for a line's workflow, by what Temporal's server tells of it and of its invoice."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from invoice_mcp.workflow.parent_lookup import Parent, find_parent
from tests.requirements import requirement

INVOICE, LINE = "invoice-A", "invoice-A-line-1"


class Server:
    """What Temporal's server would tell."""

    def __init__(self, *, is_open: bool = True, child: str = "r1", first: str = "r1", error: str = "") -> None:
        self._status = WorkflowExecutionStatus.RUNNING if is_open else WorkflowExecutionStatus.TERMINATED
        self._children = [
            SimpleNamespace(workflow_id=LINE, run_id=child),
            SimpleNamespace(workflow_id="x", run_id="r2"),
        ]
        self._first = first
        self._error = error

    def get_workflow_handle(self, workflow_id: str, **_: Any) -> Any:
        async def describe(rpc_timeout: timedelta) -> Any:
            # The activity that asks does so twice, in an attempt of 30 seconds.
            assert timedelta(0) < rpc_timeout <= timedelta(seconds=10)
            if self._error:
                raise RPCError(self._error, RPCStatusCode[self._error], b"")
            about = {
                INVOICE: SimpleNamespace(pending_children=self._children),
                LINE: SimpleNamespace(workflow_execution_info=SimpleNamespace(first_run_id=self._first)),
            }
            return SimpleNamespace(status=self._status, raw_description=about[workflow_id])

        return SimpleNamespace(describe=describe)


@requirement("ATTACK-RESET")
@pytest.mark.parametrize(
    ("server", "run_id", "who"),
    [
        (Server(), "r1", Parent.WAITING),
        (Server(is_open=False), "r1", Parent.NONE),
        (Server(child="r0", first="r0"), "r1", Parent.WAITING_FOR_RESET_LINE),
        (Server(child="r0", first="r9"), "r1", Parent.NONE),
        (Server(child=""), "r1", Parent.NONE),
        (Server(child="r1", first="r9"), "r2", Parent.NONE),
        (Server(error="NOT_FOUND"), "r1", Parent.NONE),
    ],
    ids=["its run", "ended", "reset", "another run", "not begun", "another child's", "no invoice"],
)
async def test_only_a_run_that_the_open_invoice_waits_for_is_awaited(server: Any, run_id: str, who: Parent) -> None:
    assert await find_parent(server, LINE, run_id) is who
    assert await find_parent(server, INVOICE, run_id) is Parent.NONE


@requirement("ATTACK-RESET")
async def test_that_the_server_is_away_does_not_mean_that_nobody_waits() -> None:
    server: Any = Server(error="UNAVAILABLE")
    with pytest.raises(RPCError):
        await find_parent(server, LINE, "r1")
