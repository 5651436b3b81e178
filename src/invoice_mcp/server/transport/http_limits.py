"""What a server on HTTP takes from whoever reaches it: bounded in size, in time and in number.

The process also pays: what clients leave unfinished must not cost it its memory, its files or its time.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from dataclasses import dataclass

import anyio
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from invoice_mcp.server.transport.http_hosts import HostRule
from invoice_mcp.server.transport.jsonrpc import InputError, parse_message

logger = logging.getLogger(__name__)

# Request line and headers, in bytes. h11 bounds what is incomplete; what comes in one piece it takes in any size.
MAX_HEADER_BYTES = 16 * 1024
# Seconds from the first byte of a request, or from the connection, until its headers are there.
HEADER_TIMEOUT = 10.0
# Seconds that a connection may stay open between two requests: longer than proxies keep theirs (60), so that it is they
# who close it, and no request is sent into a connection that is being closed.
KEEP_ALIVE_TIMEOUT = 75
# Bytes. An invoice of 256 KiB has at most three times as many where each letter is written as an escape.
MAX_BODY_BYTES = 1024 * 1024
# Seconds until a body is there.
BODY_TIMEOUT = 30.0
# Bytes of all bodies that are under way or being answered.
MAX_TOTAL_BODY_BYTES = 16 * 1024 * 1024
# Each client holds one or two, for as long as it listens.
MAX_CONNECTIONS = 512
# More than those are answered with 503, which also takes a connection; more than these too are closed at once.
SPARE_CONNECTIONS = 64


@dataclass(frozen=True)
class BodyLimits:
    """For what a request brings: bytes of one and of all bodies, and seconds until one is there."""

    size: int = MAX_BODY_BYTES
    max_total: int = MAX_TOTAL_BODY_BYTES
    timeout: float = BODY_TIMEOUT


DEFAULT_LIMITS = BodyLimits()


class _HttpError(Exception):
    def __init__(self, status: int, why: str, *, close: bool = False) -> None:
        self.status, self.why, self.close = status, why, close


class _Body:
    """What has come of a body. Its size counts until the request has ended, also when the application has it."""

    def __init__(self) -> None:
        self.size = 0
        self._data: bytearray | None = bytearray()

    def add(self, part: bytes) -> None:
        if self._data is not None:
            self._data += part
            self.size += len(part)

    @property
    def data(self) -> bytes:
        """What has come; nothing once the application has it."""
        return bytes(self._data or b"")

    def replay_before(self, receive: Receive) -> Receive:
        """Give it as one message, once, and then whatever else comes."""

        async def replay() -> Message:
            if self._data is None:
                return await receive()
            data, self._data = bytes(self._data), None
            return {"type": "http.request", "body": data, "more_body": False}

        return replay


class GuardedApp:
    """An ASGI application that is called only for requests that are allowed, there as a whole, and JSON-RPC.

    What it does then, a stream of days among it, is not limited.
    """

    def __init__(self, app: ASGIApp, rule: HostRule, limits: BodyLimits = DEFAULT_LIMITS) -> None:
        self._app = app
        self._rule = rule
        self._limits = limits
        self._bytes_held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or pass on the server's start and end."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body()
        try:
            self._check(scope)
            if await self._read(body, receive):
                if scope["method"] == "POST" and isinstance(found := parse_message(body.data), list) and found:
                    await _error_response(found)(scope, receive, send)
                else:
                    await self._app(scope, body.replay_before(receive), send)
        except _HttpError as refused:
            # Else the rest of the request is read and thrown away, so that the client gets to read the answer.
            headers = {"connection": "close"} if refused.close else None
            await PlainTextResponse(refused.why, refused.status, headers)(scope, receive, send)
        finally:
            self._bytes_held -= body.size

    def _check(self, scope: Scope) -> None:
        # Of what is too long nothing is read, nor logged.
        lengths = (len(name) + len(value) + len(": \r\n") for name, value in scope["headers"])
        if len(scope["raw_path"]) + len(scope["query_string"]) + sum(lengths) > MAX_HEADER_BYTES:
            raise _HttpError(431, f"the request line and headers are larger than {MAX_HEADER_BYTES} bytes")
        headers = Headers(scope=scope)
        for host in headers.getlist("host") or [""]:
            if not self._rule.allows_host(host):
                logger.warning(
                    "Refused a request to the Host %.200r: it is not an allowed one, see --allowed-host", host
                )
                raise _HttpError(421, "this Host is not allowed here; --allowed-host allows it")
        for origin in headers.getlist("origin"):
            if not self._rule.allows_origin(origin):
                logger.warning("Refused a request of a page of %.200r: not an allowed one, see --allowed-host", origin)
                raise _HttpError(403, "this Origin is not allowed here; --allowed-host allows it")
        if int(headers.get("content-length", "0")) > self._limits.size:
            raise self._too_large()

    async def _read(self, body: _Body, receive: Receive) -> bool:
        """Read the whole body. False: the client has gone, and nobody is left to be answered."""
        try:
            with anyio.fail_after(self._limits.timeout):
                more = True
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        return False
                    self._append(body, message.get("body", b""))
                    more = message.get("more_body", False)
        except TimeoutError:
            why = f"the body did not come within {self._limits.timeout:g} seconds"
            raise _HttpError(408, why, close=True) from None
        return True

    def _append(self, body: _Body, part: bytes) -> None:
        if body.size + len(part) > self._limits.size:
            raise self._too_large()
        if self._bytes_held + len(part) > self._limits.max_total:
            logger.warning("Refused a request: the bodies under way are larger than %d bytes", self._limits.max_total)
            raise _HttpError(503, "too much is under way; try again")
        self._bytes_held += len(part)
        body.add(part)

    def _too_large(self) -> _HttpError:
        return _HttpError(413, f"the body is larger than {self._limits.size} bytes")


def _error_response(errors: list[InputError]) -> Response:
    """400 with the error, or with those of a batch in a list, as JSON-RPC has it."""
    sent = [error.model_dump_json(by_alias=True, exclude_unset=True) for error in errors]
    body = sent[0] if len(sent) == 1 else f"[{','.join(sent)}]"
    return Response(body, 400, media_type="application/json")


class BoundedConnection(H11Protocol):
    """A connection that is closed where no request comes: uvicorn itself waits for ever, once a byte has come."""

    _header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        if len(self.connections) > max_connections() + SPARE_CONNECTIONS:
            transport.abort()
        else:
            self._expect_request()

    def data_received(self, data: bytes) -> None:
        """Take what has come: a whole request's head, or a part of one that has to be complete in time."""
        super().data_received(data)
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._stop_waiting()
        elif self._header_timer is None:
            self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection between two requests, also if the last answer was never read."""
        super().timeout_keep_alive_handler()
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _expect_request(self) -> None:
        self._header_timer = self.loop.call_later(HEADER_TIMEOUT, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


def max_connections() -> int:
    """At most half of the files that this process may open: the worker and the ledger need some too."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if files == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, files // 2)
