"""A real HTTP server on this machine which answers as it is told to: well, wrongly, slowly, endlessly or never."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

_CLOSING_TIMEOUT = 5.0


@dataclass(frozen=True)
class Request:
    """What the server was asked. Names of headers are in lower case; `connection` is the number of the connection."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: int = 1

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Connection:
    """One request being answered. `over` is set when the server closes."""

    writer: asyncio.StreamWriter
    over: asyncio.Event
    request: Request

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


Behaviour = Callable[[Connection], Awaitable[None]]


@dataclass
class Server:
    """What a test sees of the server: where it is, how it behaves, what it was asked."""

    behaviour: Behaviour
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    connections: int = 0


@asynccontextmanager
async def misbehaving(behaviour: Behaviour, *, keeps_alive: bool = False) -> AsyncIterator[Server]:
    """Serve for the length of the block; every connection still open is let go at its end.

    Args:
        keeps_alive: Answer any number of requests on one connection, one after another.
    """
    server = Server(behaviour)
    over = asyncio.Event()
    answering: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        answering.add(task)
        task.add_done_callback(answering.discard)
        server.connections += 1
        number = server.connections
        # A client that hangs up, in the middle of anything, is what many of the tests are after.
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            try:
                while True:
                    request = await _request(reader, number)
                    server.requests.append(request)
                    await server.behaviour(Connection(writer, over, request))
                    if not keeps_alive:
                        break
            finally:
                writer.close()
                await writer.wait_closed()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        over.set()
        listener.close()
        async with asyncio.timeout(_CLOSING_TIMEOUT):
            await asyncio.gather(*answering)
            await listener.wait_closed()


async def _request(reader: asyncio.StreamReader, connection: int) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
    method, path, _ = head[0].split()
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, path, headers, body, connection)


def answers(status: int, body: object = b"", **headers: str) -> Behaviour:
    """Answer in full. `body` is sent as it is when it is bytes, else as JSON; headers are written with_underscores."""

    async def behave(connection: Connection) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        length = b"" if status == 204 else b"Content-Length: %d\r\n" % len(raw)
        await connection.send(_head(status, **headers) + length + b"\r\n" + raw)

    return behave


def says(raw: bytes) -> Behaviour:
    """Send exactly these bytes and hang up."""

    async def behave(connection: Connection) -> None:
        await connection.send(raw)

    return behave


def answers_twice(answer: Callable[[Request], object]) -> Behaviour:
    """Answer 200 with JSON and keep the connection, and send the same answer once more."""

    async def behave(connection: Connection) -> None:
        raw = json.dumps(answer(connection.request)).encode()
        await connection.send(2 * (b"HTTP/1.1 200 As Told\r\nContent-Length: %d\r\n\r\n" % len(raw) + raw))

    return behave


def truncates(status: int) -> Behaviour:
    """Promise a thousand bytes of JSON, send a few, and hang up."""
    return says(_head(status) + b'Content-Length: 1000\r\n\r\n{"payment_id": "P')


async def hangs(connection: Connection) -> None:
    """Take the request and never say a word."""
    await connection.over.wait()


async def drips(connection: Connection) -> None:
    """Send a byte now and then, always in time for a time-out between two bytes, and never come to an end."""
    await connection.send(_head(200) + b"\r\n{")
    while not connection.over.is_set():
        await connection.send(b" ")
        with suppress(TimeoutError):
            await asyncio.wait_for(connection.over.wait(), 0.02)


def floods(status: int) -> Behaviour:
    """Send an answer that goes on for as long as somebody reads it."""

    async def behave(connection: Connection) -> None:
        await connection.send(_head(status) + b'\r\n{"payment_id": "P", "filler": "')
        while not connection.over.is_set():
            await connection.send(b"x" * 65536)

    return behave


async def resets(connection: Connection) -> None:
    """Reset the connection instead of answering."""
    raw = connection.writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.writer.transport.abort()


def _head(status: int, **headers: str) -> bytes:
    told = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} As Told\r\nConnection: close\r\n{told}".encode()
