"""Limits for HTTP clients: size, time and number of requests and connections.

The same process runs payments: unfinished requests must not exhaust its memory, file descriptors or time.
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

# Bytes of request line and headers. h11 bounds only incomplete ones; it accepts any size that arrives in one piece.
MAX_HEADER_BYTES = 16 * 1024
# Seconds from the connection, or the first byte of a request, until its headers are complete.
HEADER_TIMEOUT = 10.0
# Seconds that a connection may be idle between two requests. Longer than that of proxies (60): then they close it, and
# send no request into a connection that is being closed.
KEEP_ALIVE_TIMEOUT = 75
# Bytes. An invoice of 256 KiB has at most three times as many if each letter is written as an escape.
MAX_BODY_BYTES = 1024 * 1024
# Seconds until a body is complete.
BODY_TIMEOUT = 30.0
# Bytes of all bodies of open requests.
MAX_TOTAL_BODY_BYTES = 16 * 1024 * 1024
# Connections. A client uses one or two for as long as it listens.
MAX_CONNECTIONS = 512
# Further connections that are answered with 503; any beyond these are closed at once.
SPARE_CONNECTIONS = 64


@dataclass(frozen=True)
class BodyLimits:
    """Limits for request bodies: bytes of one and of all, and seconds until one is complete."""

    size: int = MAX_BODY_BYTES
    max_total: int = MAX_TOTAL_BODY_BYTES
    timeout: float = BODY_TIMEOUT


DEFAULT_LIMITS = BodyLimits()


class _HttpError(Exception):
    def __init__(self, status: int, why: str, *, close: bool = False) -> None:
        self.status, self.why, self.close = status, why, close


class _Body:
    """The received part of a body. Its size counts until the request ends, also after the application has read it."""

    def __init__(self) -> None:
        self.size = 0
        self._data: bytearray | None = bytearray()

    def add(self, part: bytes) -> None:
        if self._data is not None:
            self._data += part
            self.size += len(part)

    @property
    def data(self) -> bytes:
        """The received bytes; empty after the application has read them."""
        return bytes(self._data or b"")

    def replay_before(self, receive: Receive) -> Receive:
        """Return an ASGI `receive` that first returns the body as one message, then calls `receive`."""

        async def replay() -> Message:
            if self._data is None:
                return await receive()
            data, self._data = bytes(self._data), None
            return {"type": "http.request", "body": data, "more_body": False}

        return replay


class GuardedApp:
    """An ASGI wrapper that passes on only requests that are allowed, complete and valid JSON-RPC.

    The responses, which may be streams that last for days, are not limited.
    """

    def __init__(self, app: ASGIApp, rule: HostRule, limits: BodyLimits = DEFAULT_LIMITS) -> None:
        self._app = app
        self._rule = rule
        self._limits = limits
        self._bytes_held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; pass on lifespan events."""
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
            # Without "close", uvicorn reads and discards the rest of the request, so that the client reads the answer.
            headers = {"connection": "close"} if refused.close else None
            await PlainTextResponse(refused.why, refused.status, headers)(scope, receive, send)
        finally:
            self._bytes_held -= body.size

    def _check(self, scope: Scope) -> None:
        # First: headers that are too long are neither parsed nor logged.
        lengths = (len(name) + len(value) + len(": \r\n") for name, value in scope["headers"])
        if len(scope["raw_path"]) + len(scope["query_string"]) + sum(lengths) > MAX_HEADER_BYTES:
            raise _HttpError(431, f"the request line and headers are larger than {MAX_HEADER_BYTES} bytes")
        headers = Headers(scope=scope)
        for host in headers.getlist("host") or [""]:
            if not self._rule.allows_host(host):
                logger.warning("Refused a request with Host %.200r, which is not allowed; see --allowed-host", host)
                raise _HttpError(421, "this Host is not allowed here; --allowed-host allows it")
        for origin in headers.getlist("origin"):
            if not self._rule.allows_origin(origin):
                logger.warning("Refused a request with Origin %.200r, which is not allowed; see --allowed-host", origin)
                raise _HttpError(403, "this Origin is not allowed here; --allowed-host allows it")
        if int(headers.get("content-length", "0")) > self._limits.size:
            raise self._too_large()

    async def _read(self, body: _Body, receive: Receive) -> bool:
        """Read the whole body. Return False if the client has disconnected."""
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
    """Return 400 with the error, or with the errors of a batch as a list, as in JSON-RPC."""
    sent = [error.model_dump_json(by_alias=True, exclude_unset=True) for error in errors]
    body = sent[0] if len(sent) == 1 else f"[{','.join(sent)}]"
    return Response(body, 400, media_type="application/json")


class BoundedConnection(H11Protocol):
    """Closes a connection whose request does not arrive in time: uvicorn waits for ever after the first byte."""

    _header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the first request."""
        super().connection_made(transport)
        if len(self.connections) > max_connections() + SPARE_CONNECTIONS:
            transport.abort()
        else:
            self._expect_request()

    def data_received(self, data: bytes) -> None:
        """Stop the timer if the headers are complete; start it if a request has begun."""
        super().data_received(data)
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._stop_waiting()
        elif self._header_timer is None:
            self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_waiting()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, also if its client has not read the last answer."""
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
    """Return the limit: at most half of the process's file descriptors, since worker and ledger need some too."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if files == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, files // 2)
