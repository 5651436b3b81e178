"""Serves MCP over streamable HTTP."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import uvicorn
from mcp.server import MCPServer
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED

from invoice_mcp.domain.errors import ConfigurationError
from invoice_mcp.server.transport.http_hosts import Authority, HostRule, is_loopback
from invoice_mcp.server.transport.http_limits import (
    DEFAULT_LIMITS,
    KEEP_ALIVE_TIMEOUT,
    MAX_HEADER_BYTES,
    BodyLimits,
    BoundedConnection,
    GuardedApp,
    max_connections,
)

logger = logging.getLogger(__name__)

# Seconds from the stop signal until open calls are cancelled and connections closed.
_SHUTDOWN_GRACE = 3
# Seconds of these for sending the error of a cancelled call.
_REPLY_TIME = 0.5
# Sessions of clients of the older protocol. Each costs a task and buffers, about 40 kB.
MAX_SESSIONS = 1_000
# Seconds without a request or an open stream after which a session ends. Its client then gets 404, as the protocol
# requires, and starts another.
SESSION_IDLE_TIMEOUT = 60 * 60

_SESSIONS = (
    "Clients of a protocol before 2026-07-28 have a session in this process, through which they are asked to confirm"
    " approvals. Several servers behind one address need --no-sessions"
)
_NO_SESSIONS = (
    "No sessions are kept, so several servers may run behind one address. Clients of a protocol before 2026-07-28 can't"
    " be asked to confirm an approval: theirs are refused, except with --approval=trust"
)

_STOPPING = "This server is stopping. The call may or may not have taken effect. Repeating it is safe"


@dataclass(frozen=True)
class HttpSettings:
    """Address to listen on, allowed names of this server, and whether clients of the older protocol have sessions."""

    host: str
    port: int
    allowed_hosts: tuple[Authority, ...] = ()
    sessions: bool = True


def listen(settings: HttpSettings) -> socket.socket:
    """Open the listening socket, before anything is started that an error would have to stop.

    Raises:
        ConfigurationError: The address can't be used, or is not loopback and no allowed host is named.
    """
    where = f"{settings.host}:{settings.port}"
    try:
        found = socket.getaddrinfo(
            settings.host or None, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, *_, address = found[0]
        if not is_loopback(str(address[0])) and not settings.allowed_hosts:
            raise ConfigurationError(
                f"{where} can be reached by others, also by web pages in a browser (DNS rebinding): give the names of"
                " this server with --allowed-host NAME[:PORT]; requests to any other Host are refused"
            )
        return socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"Can't listen at {where}: {why}. Look at --host and --port") from None


async def serve_http(
    server: MCPServer[Any],
    settings: HttpSettings,
    listener: socket.socket,
    stop: asyncio.Event,
    bodies: BodyLimits = DEFAULT_LIMITS,
) -> None:
    """Serve on this socket until `stop` is set."""
    host, port = listener.getsockname()[:2]
    on_loopback = is_loopback(host)
    logger.info("Serving MCP at http://%s/mcp. Stop with Ctrl-C or SIGTERM", Authority(host, port))
    logger.info("%s", _SESSIONS if settings.sessions else _NO_SESSIONS)
    if not on_loopback:
        logger.warning("Anyone who reaches this address can approve payments: put authentication in front of it")
    app = server.streamable_http_app(
        stateless_http=not settings.sessions,
        max_sessions=MAX_SESSIONS,
        session_idle_timeout=SESSION_IDLE_TIMEOUT,
        # GuardedApp checks Host and Origin before anything is read or logged; it handles case and default ports.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    config = uvicorn.Config(
        GuardedApp(app, HostRule(frozenset(settings.allowed_hosts), loopback=on_loopback), bodies),
        # Not "auto", which prefers httptools if that is installed: only this class has our limits.
        http=BoundedConnection,
        ws="none",
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        timeout_keep_alive=KEEP_ALIVE_TIMEOUT,
        limit_concurrency=max_connections(),
        timeout_graceful_shutdown=_SHUTDOWN_GRACE,
        # Messages of uvicorn go to our handler, which bounds them.
        log_config=None,
        log_level="warning",
    )
    requests = _ActiveRequests()
    server.middleware.insert(0, requests.run)
    http_server = _HttpServer(config)
    # uvicorn would log the requests that it cancels during shutdown as errors.
    uvicorn_logger = logging.getLogger("uvicorn.error")
    uvicorn_logger.addFilter(http_server.is_running)
    stopping = asyncio.create_task(http_server.stop_when(stop, requests))
    try:
        with listener:
            await http_server.serve(sockets=[listener])
    finally:
        stopping.cancel()
        uvicorn_logger.removeFilter(http_server.is_running)
        server.middleware.remove(requests.run)


class _ActiveRequests:
    """The requests in progress; cancels them while an error can still be sent to their clients.

    uvicorn does not cancel requests of a session. The SDK cancels them after the session's streams are closed; each
    then waits to write: a second for its answer, and five seconds more if a form is open.
    """

    def __init__(self) -> None:
        self._under_way: set[anyio.CancelScope] = set()
        self._is_stopping = False

    async def run(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Middleware: handle the request.

        Raises:
            MCPError: The request is cancelled because the server stops.
        """
        if not self._is_stopping:
            with anyio.CancelScope() as scope:
                self._under_way.add(scope)
                try:
                    return await call_next(ctx)
                finally:
                    self._under_way.remove(scope)
        raise MCPError(CONNECTION_CLOSED, _STOPPING)

    def cancel_all(self) -> None:
        """Cancel all requests in progress and refuse new ones."""
        self._is_stopping = True
        for scope in self._under_way:
            scope.cancel()


class _HttpServer(uvicorn.Server):
    """A uvicorn server without signal handlers: uvicorn re-raises a captured signal, which would skip our cleanup."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def is_running(self, _record: logging.LogRecord) -> bool:
        return not self.should_exit

    async def stop_when(self, stop: asyncio.Event, requests: _ActiveRequests) -> None:
        await stop.wait()
        self.should_exit = True
        await asyncio.sleep(_SHUTDOWN_GRACE - _REPLY_TIME)
        requests.cancel_all()
