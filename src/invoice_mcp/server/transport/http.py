"""Serving MCP over streamable HTTP, until told to stop."""

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

# Seconds. Whoever still waits in a call when we are told to stop is not waited for longer than this.
_SHUTDOWN_GRACE = 3
# Seconds of these in which a call that we break off is told so.
_REPLY_TIME = 0.5
# With clients of the older protocol. Each keeps a task and its buffers, some 40 kB.
MAX_SESSIONS = 1_000
# Seconds without a request or an open stream until a session is taken for abandoned. A client whose session has gone
# gets 404, as the protocol has it, and begins another.
SESSION_IDLE_TIMEOUT = 60 * 60

_SESSIONS = (
    "Clients of a protocol before 2026-07-28 have a session, in this process only: it is how they are asked to confirm"
    " an approval. Several servers behind one address need --no-sessions"
)
_NO_SESSIONS = (
    "No sessions are kept, so any of several servers behind one address answers: clients of a protocol before"
    " 2026-07-28 can't be asked to confirm an approval, and theirs are refused but with --approval=trust"
)

_STOPPING = "This server is stopping, and what was asked may be done or not. Repeating a call is safe"


@dataclass(frozen=True)
class HttpSettings:
    """Where to listen, to which names to answer, and whether clients of the older protocol have sessions."""

    host: str
    port: int
    allowed_hosts: tuple[Authority, ...] = ()
    sessions: bool = True


def listen(settings: HttpSettings) -> socket.socket:
    """Listen at once, before anything is started that would have to be stopped again.

    Raises:
        ConfigurationError: Nothing can listen there, or it is not said who may be called so.
    """
    where = f"{settings.host}:{settings.port}"
    try:
        found = socket.getaddrinfo(
            settings.host or None, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, *_, address = found[0]
        if not is_loopback(str(address[0])) and not settings.allowed_hosts:
            raise ConfigurationError(
                f"{where} is reached by others, also by pages in a browser that have no business here: name what this"
                " server is called, with --allowed-host NAME[:PORT]; requests to any other Host are refused"
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
    """Serve on this socket until told to stop."""
    host, port = listener.getsockname()[:2]
    on_loopback = is_loopback(host)
    logger.info("Serving MCP at http://%s/mcp. Stop with Ctrl-C or SIGTERM", Authority(host, port))
    logger.info("%s", _SESSIONS if settings.sessions else _NO_SESSIONS)
    if not on_loopback:
        logger.warning("Whoever reaches this address can approve payments: put authentication in front")
    app = server.streamable_http_app(
        stateless_http=not settings.sessions,
        max_sessions=MAX_SESSIONS,
        session_idle_timeout=SESSION_IDLE_TIMEOUT,
        # GuardedApp checks Host and Origin, before anything is read or logged, and knows case and default ports.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    config = uvicorn.Config(
        GuardedApp(app, HostRule(frozenset(settings.allowed_hosts), loopback=on_loopback), bodies),
        # Not what happens to be installed: the limits are this one's.
        http=BoundedConnection,
        ws="none",
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        timeout_keep_alive=KEEP_ALIVE_TIMEOUT,
        limit_concurrency=max_connections(),
        timeout_graceful_shutdown=_SHUTDOWN_GRACE,
        # Its messages go to our handler, which bounds them.
        log_config=None,
        log_level="warning",
    )
    requests = _ActiveRequests()
    server.middleware.insert(0, requests.run)
    http_server = _HttpServer(config)
    # What it breaks off when told to stop, it would report as an error of ours.
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
    """The requests under way, to be broken off while their clients can still be told.

    Those of a session are not uvicorn's to cancel. The SDK cancels them when nobody reads any more what they write, and
    then each waits to write: a second for its answer, and five before that if it has a form open.
    """

    def __init__(self) -> None:
        self._under_way: set[anyio.CancelScope] = set()
        self._is_stopping = False

    async def run(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Middleware: have the request answered, unless it is broken off.

        Raises:
            MCPError: It is.
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
        """Break off all of them, and whatever comes now."""
        self._is_stopping = True
        for scope in self._under_way:
            scope.cancel()


class _HttpServer(uvicorn.Server):
    """Leaves the signals to us: uvicorn raises them anew at its end, which would skip what is still to be closed."""

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
