"""Limits, hosts and shutdown of the HTTP server, on real connections."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

from invoice_mcp.domain.errors import ConfigurationError
from invoice_mcp.server.transport import http as http_server
from invoice_mcp.server.transport import http_limits
from invoice_mcp.server.transport.http import HttpSettings, listen
from invoice_mcp.server.transport.http_hosts import Authority
from invoice_mcp.server.transport.http_limits import MAX_BODY_BYTES, MAX_HEADER_BYTES, BodyLimits
from tests.http_serving import INITIALIZE, MCP_HEADERS, Connection, connected, serve_in_process, status_of
from tests.requirements import requirement

LISTEN = (
    b'{"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": {"notifications":'
    b' {"toolsListChanged": true}, "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28",'
    b' "io.modelcontextprotocol/clientCapabilities": {}}}}'
)
LISTEN_HEADERS = (*MCP_HEADERS, "Mcp-Protocol-Version: 2026-07-28", "Mcp-Method: subscriptions/listen")


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Captures INFO, which is the level of the command line."""
    caplog.set_level(logging.INFO, "invoice_mcp")
    return caplog


@pytest.fixture
def server() -> MCPServer[Any]:
    return MCPServer[Any]("empty")


def since_start(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the log messages after the first two, which every server logs."""
    return caplog.messages[2:]


async def session_of(connection: Connection) -> str:
    """Open a session on this connection and return its id."""
    await connection.request(*MCP_HEADERS, body=INITIALIZE)
    status, headers = await connection.head()
    assert status == 200
    return headers["mcp-session-id"]


@requirement("HTTP-BOUNDS", "LOG-BOUNDED")
async def test_oversized_headers_are_refused_at_once_and_not_logged(
    server: MCPServer[Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with serve_in_process(server) as port:
        began = time.monotonic()
        assert await status_of(port, *MCP_HEADERS, host="x" * 60_000, body=b"{}") == 431
        assert await status_of(port, *MCP_HEADERS, "Cookie: " + "x" * MAX_HEADER_BYTES, body=b"{}") == 431
        assert time.monotonic() - began < 5
        assert since_start(caplog) == []
        assert (
            await status_of(port, *MCP_HEADERS, "Cookie: " + "x" * (MAX_HEADER_BYTES - 1_000), body=INITIALIZE) == 200
        )


@requirement("HTTP-HOSTS")
async def test_only_allowed_hosts_and_origins_are_served(server: MCPServer[Any]) -> None:
    allowed = (Authority.parse_option("invoices.example.com"),)
    async with serve_in_process(server) as port, serve_in_process(another_server(), allowed_hosts=allowed) as proxied:
        for host, origin, here, there in [
            ("localhost", None, 200, 200),
            (f"LOCALHOST:{port}", "https://[::1]:9", 200, 200),
            ("invoices.example.com", None, 421, 200),
            ("localhost", "https://invoices.example.com", 403, 200),
            ("evil.example", None, 421, 421),
            ("evil.example", "http://localhost", 421, 421),
            ("localhost", "http://evil.example", 403, 403),
            ("localhost", "null", 403, 403),
        ]:
            headers = [*MCP_HEADERS, *([f"Origin: {origin}"] if origin else [])]
            assert await status_of(port, *headers, host=host, body=INITIALIZE) == here
            assert await status_of(proxied, *headers, host=host, body=INITIALIZE) == there
        # Two different origins are refused.
        two = (*MCP_HEADERS, "Origin: http://localhost", "Origin: http://evil.example")
        assert await status_of(port, *two, body=INITIALIZE) == 403


def another_server() -> MCPServer[Any]:
    return MCPServer[Any]("empty")


@requirement("HTTP-HOSTS")
async def test_off_loopback_hosts_must_be_named_and_loopback_names_are_refused(server: MCPServer[Any]) -> None:
    everywhere = "0.0.0.0"
    for host in (everywhere, ""):
        with pytest.raises(ConfigurationError, match="--allowed-host"):
            listen(HttpSettings(host, 0))
    allowed = (Authority.parse_option("invoices.example.com"),)
    async with serve_in_process(server, host=everywhere, allowed_hosts=allowed) as port:
        assert await status_of(port, *MCP_HEADERS, host="invoices.example.com:1", body=INITIALIZE) == 200
        assert await status_of(port, *MCP_HEADERS, host=f"127.0.0.1:{port}", body=INITIALIZE) == 421


@pytest.mark.parametrize("host", ["300.1.1.1", "x" * 70, "no host", "::1%nowhere"])
def test_an_address_that_can_not_be_used_is_reported(host: str) -> None:
    with pytest.raises(ConfigurationError, match="Look at --host and --port"):
        listen(HttpSettings(host, 0))


@requirement("HTTP-BOUNDS")
async def test_a_body_is_bounded_in_size(server: MCPServer[Any]) -> None:
    async with serve_in_process(server) as port:
        assert await status_of(port, *MCP_HEADERS, body=INITIALIZE.ljust(MAX_BODY_BYTES)) == 200
        assert await status_of(port, *MCP_HEADERS, f"Content-Length: {MAX_BODY_BYTES + 1}") == 413
        async with connected(port) as chunked:
            await chunked.request(*MCP_HEADERS, "Transfer-Encoding: chunked")
            for _ in range(17):
                await chunked.send(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
            assert (await chunked.head())[0] == 413
        # A client that sends the whole body can read the response.
        async with connected(port) as stubborn:
            await stubborn.request(*MCP_HEADERS, body=b" " * 4 * MAX_BODY_BYTES)
            assert (await stubborn.head())[0] == 413


@requirement("RPC-ERRORS", "TOOL-PROTOCOLS")
@pytest.mark.parametrize("headers", [(), ("Mcp-Protocol-Version: 2026-07-28",)], ids=["old", "new"])
async def test_an_invalid_message_gets_an_error_with_its_id(server: MCPServer[Any], headers: tuple[str, ...]) -> None:
    deep = b'{"jsonrpc":"2.0","id":"deep","method":"ping","params":' + b'{"x":' * 400 + b"1" + b"}" * 401
    async with serve_in_process(server) as port:
        for body, found in [
            (deep, [("deep", -32700)]),
            (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', [(None, -32600)]),
            (b'{"jsonrpc":"2.0","id":1.5,"method":"ping","params":[]}', [(1.5, -32600)]),
            (b"", [(None, -32700)]),
            (b'[{"id":1,"method":"ping"},{"id":2,"method":"ping"}]', [(1, -32600), (2, -32600)]),
        ]:
            async with connected(port) as connection:
                await connection.request(*MCP_HEADERS, *headers, body=body)
                status, response_headers = await connection.head()
                answer = json.loads(await connection.read(5) or b"")
            assert (status, response_headers["content-type"]) == (400, "application/json")
            errors = answer if isinstance(answer, list) else [answer]
            assert [(error["id"], error["error"]["code"]) for error in errors] == found


@requirement("HTTP-BOUNDS")
async def test_a_body_is_bounded_in_time(server: MCPServer[Any]) -> None:
    async with serve_in_process(server, bodies=BodyLimits(timeout=0.1)) as port, connected(port) as slow:
        await slow.request(*MCP_HEADERS, "Content-Length: 100")
        await slow.send(b"{")
        status, headers = await slow.head()
        assert (status, headers["connection"]) == (408, "close")
        while await slow.read(5):
            pass


@requirement("HTTP-BOUNDS")
async def test_all_bodies_together_are_bounded_and_aborted_ones_are_freed(
    server: MCPServer[Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with serve_in_process(server, bodies=BodyLimits(max_total=10_000)) as port:
        async with AsyncExitStack() as unfinished:
            for _ in range(4):
                connection = await unfinished.enter_async_context(connected(port))
                await connection.request(*MCP_HEADERS, "Content-Length: 3000")
                await connection.send(b" " * 2_400)
            async with asyncio.timeout(5):
                while await status_of(port, *MCP_HEADERS, body=INITIALIZE.ljust(2_500)) != 503:
                    await asyncio.sleep(0.01)
        # The clients disconnected: their bodies no longer count.
        async with asyncio.timeout(5):
            while await status_of(port, *MCP_HEADERS, body=INITIALIZE.ljust(2_500)) != 200:
                await asyncio.sleep(0.01)
    assert {message.partition(":")[0] for message in since_start(caplog)} == {"Refused a request"}


@requirement("HTTP-BOUNDS")
async def test_incomplete_requests_time_out_and_streams_do_not(
    server: MCPServer[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_limits, "HEADER_TIMEOUT", 0.5)
    monkeypatch.setattr(http_server, "KEEP_ALIVE_TIMEOUT", 1)
    async with (
        serve_in_process(server, bodies=BodyLimits(timeout=0.5)) as port,
        connected(port) as legacy,
        connected(port) as current,
        AsyncExitStack() as others,
    ):
        await current.request(*LISTEN_HEADERS, body=LISTEN)
        assert (await current.head())[0] == 200
        session = await session_of(legacy)
        while not (await legacy.read(5) or b"").endswith(b"0\r\n\r\n"):
            pass
        await legacy.request(*MCP_HEADERS, f"Mcp-Session-Id: {session}", method="GET")
        assert (await legacy.head())[0] == 200
        for connection in (current, legacy):
            while await connection.read(0.05):
                pass

        second_half, between = [await others.enter_async_context(connected(port)) for _ in range(2)]
        for connection in (second_half, between):
            assert await status_of_one(connection) == 405
        silent, half, early = [await others.enter_async_context(connected(port)) for _ in range(3)]
        await half.send(b"POST /mcp HTTP/1.1\r\nHost: loc")
        await second_half.send(b"POST /mcp HTTP/1.1\r\nHost: loc")
        # Answered before its body, which never arrives.
        await early.request(*MCP_HEADERS, f"Content-Length: {MAX_BODY_BYTES + 1}")
        await early.send(b" ")
        for connection in (silent, half, second_half, early, between):
            async with asyncio.timeout(5):
                while await connection.read(5):
                    pass
        # The streams were silent for longer than all limits and are still open.
        assert await legacy.read(0.05) is None
        assert await current.read(0.05) is None


@requirement("HTTP-BOUNDS")
async def test_connections_are_bounded_in_number(server: MCPServer[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_limits, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(http_limits, "SPARE_CONNECTIONS", 1)
    async with serve_in_process(server) as port:
        async with AsyncExitStack() as others:
            for _ in range(2):
                assert await status_of_one(await others.enter_async_context(connected(port))) == 405
            assert await status_of(port, method="OPTIONS") == 503
            for _ in range(2):
                await others.enter_async_context(connected(port))
            async with connected(port) as refused:
                assert await refused.read(5) == b""
        async with asyncio.timeout(5):
            while await status_of(port, method="OPTIONS") != 405:
                await asyncio.sleep(0.01)


async def status_of_one(connection: Connection) -> int:
    await connection.request(method="OPTIONS")
    return (await connection.head())[0]


@requirement("HTTP-BOUNDS")
async def test_sessions_are_bounded_in_number_and_idle_ones_end(
    server: MCPServer[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "MAX_SESSIONS", 1)
    monkeypatch.setattr(http_server, "SESSION_IDLE_TIMEOUT", 0.3)
    async with serve_in_process(server) as port:
        async with connected(port) as connection:
            session = await session_of(connection)
        assert len(session) == 32
        ping = b'{"jsonrpc": "2.0", "id": 2, "method": "ping"}'
        assert await status_of(port, *MCP_HEADERS, f"Mcp-Session-Id: {session}", body=ping) == 200
        assert await status_of(port, *MCP_HEADERS, f"Mcp-Session-Id: {'0' * 32}", body=ping) == 404
        assert await status_of(port, *MCP_HEADERS, f"Mcp-Session-Id: {session}", host="evil.example", body=ping) == 421
        assert await status_of(port, *MCP_HEADERS, body=INITIALIZE) == 503
        async with asyncio.timeout(5):
            while await status_of(port, *MCP_HEADERS, body=INITIALIZE) != 200:
                await asyncio.sleep(0.05)
        assert await status_of(port, *MCP_HEADERS, f"Mcp-Session-Id: {session}", body=ping) == 404


@requirement("HTTP-STOPS")
@pytest.mark.parametrize("tool", ["form", "work"])
async def test_on_stop_an_open_call_in_a_session_is_cancelled_with_an_error(
    tool: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(http_server, "_SHUTDOWN_GRACE", 1)
    server, began = MCPServer[Any]("waiting"), asyncio.Event()

    @server.tool()
    async def form(ctx: Context[Any, Any]) -> None:
        began.set()
        await ctx.session.elicit_form("Well?", {"type": "object", "properties": {}}, ctx.request_id)

    @server.tool()
    async def work() -> None:
        began.set()
        await asyncio.Event().wait()

    call = b'{"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "%b"}}' % tool.encode()
    async with AsyncExitStack() as clients:
        async with serve_in_process(server) as port:
            legacy, stream = [await clients.enter_async_context(connected(port)) for _ in range(2)]
            session = await session_of(legacy)
            while not (await legacy.read(5) or b"").endswith(b"0\r\n\r\n"):
                pass
            in_session = (*MCP_HEADERS, f"Mcp-Session-Id: {session}")
            await stream.request(*in_session, method="GET")
            await legacy.request(*in_session, body=call)
            await began.wait()
            stops = time.monotonic()
        assert time.monotonic() - stops < 2
        answer = b""
        while part := await legacy.read(5):
            answer += part
    assert b"This server is stopping" in answer
    # Lets the client close the form.
    assert (b"notifications/cancelled" in answer) is (tool == "form")
    assert since_start(caplog) == []


@requirement("HTTP-SESSIONS", "CLI-LOG-LEVEL")
@pytest.mark.parametrize("sessions", [True, False])
async def test_the_start_log_says_whether_sessions_are_kept(
    server: MCPServer[Any], caplog: pytest.LogCaptureFixture, *, sessions: bool
) -> None:
    async with serve_in_process(server, host="localhost", sessions=sessions) as port:
        assert await status_of(port, *MCP_HEADERS, body=INITIALIZE) == 200
    [where, kept] = caplog.messages
    assert [record.levelno for record in caplog.records] == [logging.INFO] * 2
    assert f":{port}/mcp" in where
    assert kept.startswith("Clients of a protocol before 2026-07-28 have a session" if sessions else "No sessions are")
