"""Servers that share one Temporal are killed: no invoice is lost."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from invoice_mcp.adapters.ledger import PaymentLedger
from invoice_mcp.adapters.settings import ledger_path
from invoice_mcp.cli.demo import sample_invoice
from tests.end_to_end.host import PROGRAM, Host, environment, host, processes_of, read_until, wait_until_gone
from tests.processes import running_process
from tests.requirements import requirement
from tests.tool_client import PAST_DUE, an_invoice


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


class KilledHostStack(AsyncExitStack):
    """Ignores the errors of a client whose server was killed."""

    async def start(self, home: Path, *arguments: str) -> Host:
        return await self.enter_async_context(host(home, *arguments))

    async def aclose(self) -> None:
        with suppress(Exception, BaseExceptionGroup):
            await super().aclose()


@requirement("TEMPORAL-SHARED", "TEMPORAL-CLEAN")
async def test_after_the_owner_is_killed_the_other_server_continues(home: Path) -> None:
    first, second = KilledHostStack(), AsyncExitStack()
    try:
        owner = await first.start(home)
        other = await second.enter_async_context(host(home))
        assert len(processes_of(home)) == 2  # one guardian, one Temporal, for both
        workflow_id = await owner.submit(an_invoice("A", ("1", PAST_DUE), ("2", PAST_DUE)))
        assert (await other.call("status", workflow_id=workflow_id))["status"] == "PENDING-APPROVAL"

        owner.kill()
        began = time.monotonic()
        assert (await other.call("status", workflow_id=workflow_id))["status"] == "PENDING-APPROVAL"
        await other.call("approve", workflow_id=workflow_id, approver="Ann")
        await other.until(workflow_id, "PAID")
        assert time.monotonic() - began < 30
    finally:
        await second.aclose()
        await first.aclose()
    assert len(await PaymentLedger(ledger_path(home)).entries()) == 2
    await wait_until_gone(home)


@requirement("TEMPORAL-RESTART", "TEMPORAL-CLEAN")
async def test_after_both_servers_are_killed_a_new_one_finds_the_invoice_waiting(home: Path) -> None:
    servers = [KilledHostStack(), KilledHostStack()]
    clients = [await server.start(home) for server in servers]
    workflow_id = await clients[0].submit(sample_invoice())
    for tools in clients:
        tools.kill()
    for server in reversed(servers):
        await server.aclose()
    await wait_until_gone(home)
    async with host(home) as later:
        assert (await later.call("status", workflow_id=workflow_id))["status"] == "PENDING-APPROVAL"
        assert not (await later.call("trigger", invoice=sample_invoice()))["created"]
        await later.call("approve", workflow_id=workflow_id)
        await later.until(workflow_id, "PAID")
    assert len(await PaymentLedger(ledger_path(home)).entries()) == 2
    await wait_until_gone(home)


@requirement("TEMPORAL-RESTART", "PAY-ONCE")
async def test_killed_while_paying_nothing_is_lost_and_nothing_is_paid_twice(home: Path) -> None:
    lines = [("1", PAST_DUE)] * 20
    server = KilledHostStack()
    tools = await server.start(home)
    workflow_id = await tools.submit(an_invoice("A", *lines))
    await tools.call("approve", workflow_id=workflow_id)
    tools.kill()
    await server.aclose()
    async with host(home) as later:
        # The workflow may first wait for its task timeout, because the worker was killed.
        await later.until(workflow_id, "PAID", calls=40, patient=True)
    assert sorted(entry.line for entry in await PaymentLedger(ledger_path(home)).entries()) == list(range(1, 21))


@requirement("TEMPORAL-NO-WORKER", "TOOL-CODES")
async def test_without_a_worker_every_tool_answers_no_worker_within_ten_seconds(home: Path) -> None:
    async with host(home) as tools:
        workflow_id = await tools.submit(sample_invoice())
        expired = await tools.submit(an_invoice("R"))
        await tools.call("reject", workflow_id=expired)
        await tools.until(expired, "REJECTED")
    async with host(home, "--no-worker") as idle:

        async def says_so(tool: str, **arguments: object) -> None:
            began = time.monotonic()
            refused = await idle.refused(tool, **arguments)
            assert time.monotonic() - began < 10, tool
            assert refused.code == "NO_WORKER", tool
            assert "invoice-mcp worker" in str(refused)

        await asyncio.gather(
            says_so("trigger", invoice=an_invoice("B")),
            says_so("status", workflow_id=workflow_id, wait_seconds=50),
            says_so("approve", workflow_id=workflow_id),
            says_so("reject", workflow_id=workflow_id),
        )
        # Temporal answers these without a worker.
        assert (await idle.call("status", workflow_id=expired))["status"] == "REJECTED"
        assert len((await idle.call("list"))["invoices"]) in {2, 3}


@requirement("CLI-WORKER")
async def test_a_separate_worker_pays_and_stops_cleanly_on_sigterm(home: Path) -> None:
    async with host(home, "--no-worker") as tools:
        with running_process(
            [*PROGRAM, "worker", "-v"],
            env=environment(home),
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        ) as worker:
            assert worker.stderr
            await read_until(worker.stderr, "Worker polls")
            workflow_id = await tools.submit(sample_invoice())
            await tools.call("approve", workflow_id=workflow_id)
            await tools.until(workflow_id, "PAID")
            worker.send_signal(signal.SIGTERM)
            _, errors = worker.communicate(timeout=30)
    assert worker.returncode == 0
    assert "Worker stopped" in errors
    assert "Traceback" not in errors
    await wait_until_gone(home)


@requirement("TEMPORAL-DOWN")
async def test_a_configured_temporal_that_is_down_is_reported_by_every_tool(home: Path) -> None:
    async with host(home, "--address", "127.0.0.1:1") as tools:
        calls: dict[str, dict[str, Any]] = {
            "trigger": {"invoice": sample_invoice()},
            "status": {"workflow_id": "invoice-A"},
            "approve": {"workflow_id": "invoice-A"},
            "reject": {"workflow_id": "invoice-A"},
            "cancel": {"workflow_id": "invoice-A"},
            "list": {},
        }
        for tool, arguments in calls.items():
            began = time.monotonic()
            assert (await tools.refused(tool, **arguments)).code == "TEMPORAL_UNAVAILABLE"
            assert time.monotonic() - began < 10
