"""The server before Temporal is connected: which requests are answered, wait or are refused."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError

from invoice_mcp.adapters.settings import PortSettings
from invoice_mcp.cli import backend
from invoice_mcp.cli.backend import BackendSource
from invoice_mcp.domain.errors import RefusedError
from invoice_mcp.server.approval_policy import ApprovalPolicy
from invoice_mcp.server.startup import Startup
from invoice_mcp.server.tools import INSTRUCTIONS, Backend, build_deferred_server
from invoice_mcp.service.invoice_service import InvoiceService
from invoice_mcp.temporal.connection import TemporalSettings
from invoice_mcp.temporal.embedded import EmbeddedUnavailableError
from invoice_mcp.testing.model.actions import PROTOCOL_MODES
from invoice_mcp.testing.plugin import NewWorld
from mcp_temporal_tasks import EXTENSION_ID, TasksClient, get_task
from tests.requirements import requirement


@requirement("STARTUP-HANDSHAKE", "STARTUP-WAITS")
@pytest.mark.parametrize("protocol_mode", PROTOCOL_MODES)
async def test_requests_that_need_no_temporal_are_answered_before_it_is_connected(protocol_mode: str) -> None:
    startup: Startup[Backend] = Startup(max_wait=0.05)
    async with Client(build_deferred_server(startup), mode=protocol_mode, extensions=[TasksClient()]) as client:
        assert client.instructions == INSTRUCTIONS
        assert len((await client.list_tools()).tools) == 6
        answer = await client.call_tool("status", {"workflow_id": "invoice-A"})
        assert answer.is_error
        assert "TEMPORAL_UNAVAILABLE: Temporal is still being started" in str(answer.content)
        startup.fail("The embedded Temporal is not available: the disk is full. Repair that.\nEnd of its log: ...")
        answer = await client.call_tool("list", {})
        assert "TEMPORAL_UNAVAILABLE: The embedded Temporal is not available: the disk is full. Repair" in str(
            answer.content
        )
        assert "End of its log" not in str(answer.content)
        if protocol_mode != "legacy":
            assert EXTENSION_ID in (client.server_capabilities.extensions or {})
            with pytest.raises(MCPError, match=r"TEMPORAL_UNAVAILABLE: .*the disk is full"):
                await get_task(client.session, "invoice-A:01a20fc5-9476-4000-8000-000000000000")


@requirement("STARTUP-WAITS")
async def test_waiting_calls_are_served_once_temporal_is_connected(new_world: NewWorld) -> None:
    startup: Startup[Backend] = Startup(max_wait=30)
    async with new_world() as world, Client(build_deferred_server(startup)) as client:
        calls = [
            client.call_tool("trigger", {"invoice": world.invoice()}),
            client.call_tool("status", {"workflow_id": "invoice-nobody", "wait_seconds": 30}),
        ]
        waiting = asyncio.gather(*calls)
        await startup.wait_until_needed()
        assert not waiting.done()
        startup.provide(Backend(InvoiceService(world.client, task_queue=world.task_queue)))
        submitted, asked = await waiting
        assert submitted.structured_content
        assert submitted.structured_content["created"]
        assert "NOT_FOUND" in str(asked.content)


@requirement("STARTUP-FAILS")
async def test_a_temporal_that_fails_to_start_is_logged_once_and_retried_when_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = 0

    @asynccontextmanager
    async def connected(*_: Any) -> AsyncIterator[Any]:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise EmbeddedUnavailableError("It is not installed. Install it.")
        yield Reached

    class Reached:
        client: Any = None
        where = "there"
        ui_url = None

    monkeypatch.setattr(backend, "open_configured", connected)
    monkeypatch.setattr(backend, "_RETRY_INTERVAL", 0.0)
    monkeypatch.setattr(backend, "InvoiceService", lambda _, **_options: "the service")
    settings = TemporalSettings(home=tmp_path / "home")
    ports = PortSettings(settings.home)
    source = BackendSource(settings, ports, timedelta(days=5), ApprovalPolicy.ASK, with_worker=False)
    startup: Startup[Backend] = Startup(max_wait=30)
    keeping = asyncio.create_task(source.run(await source.configuration(), ApprovalPolicy.ASK, startup))
    with pytest.raises(RefusedError, match=r"It is not installed\. Install it\. It is tried again"):
        await startup()
    for _ in range(10):
        await asyncio.sleep(0)
    assert attempts == 1, "no retry without need, because each starts a process"
    found: list[Any] = []
    async with asyncio.timeout(5):
        while not found:
            with suppress(RefusedError):
                found.append((await startup()).service)
            await asyncio.sleep(0)
    assert found == ["the service"]
    assert attempts == 3
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "It is not installed. Install it."
    ]
