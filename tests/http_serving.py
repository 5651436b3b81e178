"""An MCP server over HTTP in this process, as in `serve --http`, and raw requests to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.server import MCPServer

from invoice_mcp.server.transport.http import HttpSettings, listen, serve_http
from invoice_mcp.server.transport.http_limits import DEFAULT_LIMITS, BodyLimits

INITIALIZE = (
    b'{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18",'
    b' "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}}'
)
MCP_HEADERS = ("Content-Type: application/json", "Accept: application/json, text/event-stream")


@asynccontextmanager
async def serve_in_process(
    server: MCPServer[Any], *, host: str = "127.0.0.1", bodies: BodyLimits = DEFAULT_LIMITS, **settings: Any
) -> AsyncIterator[int]:
    """Serve it; yield the port."""
    chosen = HttpSettings(host, 0, **settings)
    listening = listen(chosen)
    port: int = listening.getsockname()[1]
    stop = asyncio.Event()
    serving = asyncio.create_task(serve_http(server, chosen, listening, stop, bodies))
    try:
        yield port
    finally:
        stop.set()
        await serving


def url_of(port: int) -> str:
    return f"http://127.0.0.1:{port}/mcp"


class Connection:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def request(
        self, *headers: str, method: str = "POST", host: str = "localhost", body: bytes | None = None
    ) -> None:
        """Send a request. Without a body, only its headers, which may announce one."""
        lines = [f"{method} /mcp HTTP/1.1", f"Host: {host}", *headers]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        await self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))

    async def head(self, within: float = 10) -> tuple[int, dict[str, str]]:
        """Read status and headers of the next response."""
        async with asyncio.timeout(within):
            text = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, *lines = text.strip().split("\r\n")
        return int(status.split()[1]), dict(line.lower().split(": ", 1) for line in lines)

    async def read(self, within: float) -> bytes | None:
        """Read the next bytes; b"" if the connection is closed, None after the timeout."""
        try:
            async with asyncio.timeout(within):
                return await self._reader.read(65536)
        except TimeoutError:
            return None
        except ConnectionError:
            return b""

    async def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()


async def status_of(port: int, *headers: str, **request: Any) -> int:
    """Send a request on a new connection. Return the status; 0 if the connection is closed without a response."""
    async with connected(port) as connection:
        try:
            await connection.request(*headers, **request)
            return (await connection.head())[0]
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0
