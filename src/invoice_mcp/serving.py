"""Running the parts together: the MCP server with or without its worker, or a worker alone, until told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, NoReturn

from invoice_mcp.ports import PortSettings, open_ports
from invoice_mcp.server import build_server
from invoice_mcp.service import InvoiceService
from invoice_mcp.temporal import Connection, TemporalSettings, connection
from invoice_mcp.worker import keep_working

logger = logging.getLogger(__name__)

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


async def serve(
    temporal: TemporalSettings,
    ports: PortSettings,
    *,
    approval_timeout: timedelta,
    with_worker: bool = True,
    http: tuple[str, int] | None = None,
) -> None:
    """Serve MCP on stdin and stdout, or over streamable HTTP at `http` (host, port), until the host leaves."""
    async with connection(temporal) as reached:
        logger.info("Temporal: %s%s", reached.where, f", Web UI {reached.ui_url}" if reached.ui_url else "")
        server = build_server(InvoiceService(reached.client, approval_timeout=approval_timeout))
        async with _working(reached, ports) if with_worker else _idle():
            if http is None:
                left_behind = await _until_told_to_stop(server.run_stdio_async())
            else:
                left_behind = None
                host, port = http
                if host not in _LOOPBACK:
                    logger.warning(
                        "Whoever reaches %s:%d can approve payments: put authentication in front", host, port
                    )
                await server.run_streamable_http_async(host=host, port=port, stateless_http=True)
    if left_behind is not None:
        _exit_now()


async def work(temporal: TemporalSettings, ports: PortSettings) -> None:
    """Run a worker until SIGTERM or SIGINT, then let what is under way finish."""
    async with connection(temporal) as reached:
        logger.warning("Worker for %s. Stop with Ctrl-C or SIGTERM", reached.where)
        async with open_ports(ports) as (erp, payments):
            working = await _until_told_to_stop(keep_working(reached.worker_client, erp, payments))
            await _stopped(working)
    logger.warning("Worker stopped")


@asynccontextmanager
async def _working(reached: Connection, settings: PortSettings) -> AsyncIterator[None]:
    async with open_ports(settings) as (erp, payments):
        worker = asyncio.create_task(keep_working(reached.worker_client, erp, payments))
        try:
            yield
        finally:
            await _stopped(worker)


@asynccontextmanager
async def _idle() -> AsyncIterator[None]:
    yield


async def _stopped(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _until_told_to_stop(main: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
    """Run `main` to its end, or to SIGTERM or SIGINT: then it is still running, and returned."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    running = asyncio.create_task(main)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not running.done():
        return running
    running.result()
    return None


def _exit_now() -> NoReturn:
    """Leave although a thread still waits for stdin: a read of it can't be interrupted."""
    logging.shutdown()
    sys.stderr.flush()
    os._exit(0)
