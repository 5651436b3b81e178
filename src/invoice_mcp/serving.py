"""Running the parts together: the MCP server with or without its worker, or a worker alone, until told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from typing import Any, NoReturn

import uvicorn

from invoice_mcp.approval import ApprovalPolicy, default_policy
from invoice_mcp.errors import ConfigurationError
from invoice_mcp.ports import PortSettings, open_ports
from invoice_mcp.server import build_server
from invoice_mcp.service import InvoiceService
from invoice_mcp.temporal import Connection, TemporalSettings, connection
from invoice_mcp.tool_errors import CodedServer
from invoice_mcp.worker import keep_working

logger = logging.getLogger(__name__)

_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_HTTP_GRACE = 3


async def serve(
    temporal: TemporalSettings,
    ports: PortSettings,
    *,
    approval_timeout: timedelta,
    approval: ApprovalPolicy | None = None,
    with_worker: bool = True,
    http: tuple[str, int] | None = None,
) -> NoReturn:
    """Serve MCP on stdin and stdout, or over streamable HTTP at `http` (host, port), until the host leaves.

    Then ends the process.

    Args:
        approval: None: see `default_policy`.

    Raises:
        ConfigurationError: Nothing can be served like this; EmbeddedUnavailable: there is no Temporal.
    """
    listening = _listen(*http) if http is not None else None
    if listening is None and sys.stdin is None:
        raise ConfigurationError("stdin is closed, so no host can speak. Hosts start this with a pipe; or use --http")
    async with connection(temporal) as reached:
        logger.info("Temporal: %s%s", reached.where, f", Web UI {reached.ui_url}" if reached.ui_url else "")
        queue = ports.task_queue(is_embedded=reached.is_embedded)
        service = InvoiceService(reached.client, approval_timeout=approval_timeout, task_queue=queue)
        server = build_server(service, approval=approval or _told_default(reached, ports))
        async with _working(reached, ports) if with_worker else _idle():
            if listening is None:
                await _run_until_told(server.run_stdio_async())
            else:
                await _serve_http(server, listening)
    _leave()


def _told_default(reached: Connection, ports: PortSettings) -> ApprovalPolicy:
    policy, why = default_policy(embedded_temporal=reached.is_embedded, ports=ports)
    # Told without -v as well: who may pay is no detail.
    logger.warning("Approvals: --approval=%s, because %s", policy, why)
    return policy


def _listen(host: str, port: int) -> socket.socket:
    """Bound at once, before anything is started that would have to be stopped again."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigurationError(
            f"Can't listen at {host}:{port}: {error.strerror}. Look at --host and --port"
        ) from None


async def _serve_http(server: CodedServer, listening: socket.socket) -> None:
    told = _told_to_stop()
    host, port = listening.getsockname()[:2]
    logger.warning("Serving MCP at http://%s:%d/mcp. Stop with Ctrl-C or SIGTERM", host, port)
    if host not in _LOOPBACK:
        logger.warning("Whoever reaches this address can approve payments: put authentication in front")
    # No sessions: any replica behind a load balancer answers any request.
    app = server.streamable_http_app(host=host, stateless_http=True)
    # Whoever still waits in a call when we are told to stop is not waited for longer than this.
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=_HTTP_GRACE)
    serving = _HttpServer(config)
    # What it breaks off when told to stop, it would report as an error of ours.
    logging.getLogger("uvicorn.error").addFilter(lambda _record: not serving.should_exit)
    stopping = asyncio.create_task(serving.stop_when(told))
    with listening:
        await serving.serve(sockets=[listening])
    stopping.cancel()


class _HttpServer(uvicorn.Server):
    """Leaves the signals to us: uvicorn raises them anew at its end, which would skip what is still to be closed."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def stop_when(self, told: asyncio.Event) -> None:
        await told.wait()
        self.should_exit = True


async def work(temporal: TemporalSettings, ports: PortSettings) -> NoReturn:
    """Run a worker until SIGTERM or SIGINT, let what is under way finish, and end the process."""
    async with connection(temporal) as reached:
        told = _told_to_stop()
        logger.warning("Worker for %s. Stop with Ctrl-C or SIGTERM", reached.where)
        async with _working(reached, ports):
            await told.wait()
    logger.warning("Worker stopped")
    _leave()


@asynccontextmanager
async def _working(reached: Connection, settings: PortSettings) -> AsyncIterator[None]:
    settings.require_real(is_local=reached.is_local)
    if settings.missing and not reached.is_embedded:
        what = " and ".join(settings.missing)
        logger.warning("%s not set: what stands in for that only pretends. Only for trying things out", what)
    queue = settings.task_queue(is_embedded=reached.is_embedded)
    async with open_ports(settings) as (erp, payments):
        worker = asyncio.create_task(keep_working(reached.worker_client, erp, payments, task_queue=queue))
        try:
            yield
        finally:
            worker.cancel()
            with suppress(asyncio.CancelledError):
                await worker


@asynccontextmanager
async def _idle() -> AsyncIterator[None]:
    yield


def _told_to_stop() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _run_until_told(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` to its end, or until we are told to stop: then it is left running."""
    running = asyncio.create_task(main)
    stopping = asyncio.create_task(_told_to_stop().wait())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if running.done():
        running.result()


def _leave() -> NoReturn:
    """End the process now, cleanly: a read of stdin that a thread still waits in can't be interrupted, and a thread of
    the SDK that logs while Python shuts down would abort it."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or never there
            stream.flush()
    os._exit(0)
