"""Running the parts together: the MCP server with or without its worker, or a worker alone, until told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Any, NoReturn

from invoice_mcp.approval import WITHOUT_FORMS, ApprovalPolicy, default_policy
from invoice_mcp.errors import ConfigurationError
from invoice_mcp.http_server import HttpSettings, listen, serve_http
from invoice_mcp.ledger import PaymentLedger
from invoice_mcp.ports import PortSettings, open_ports
from invoice_mcp.server import build_server
from invoice_mcp.service import InvoiceService
from invoice_mcp.state import ACCEPTANCE, bind_state, require_database
from invoice_mcp.temporal import Connection, TemporalSettings, configured, connection
from invoice_mcp.worker import keep_working

logger = logging.getLogger(__name__)

# Seconds. Who does not read what we write must not keep the process from ending.
_LAST_WORDS_WITHIN = 2.0


async def serve(
    temporal: TemporalSettings,
    ports: PortSettings,
    *,
    approval_timeout: timedelta,
    approval: ApprovalPolicy | None = None,
    with_worker: bool = True,
    http: HttpSettings | None = None,
) -> NoReturn:
    """Serve MCP on stdin and stdout, or over streamable HTTP as `http` says, until the host leaves.

    Then ends the process.

    Args:
        approval: None: see `default_policy`.

    Raises:
        ConfigurationError: Nothing can be served like this; EmbeddedUnavailable: there is no Temporal.
    """
    if http is None and sys.stdin is None:
        raise ConfigurationError("stdin is closed, so no host can speak. Hosts start this with a pipe; or use --http")
    with listen(http) if http is not None else nullcontext() as listening:
        _tell_risk(temporal, ports)
        async with _reached(temporal, ports) as reached:
            logger.info("Temporal: %s%s", reached.where, f", Web UI {reached.ui_url}" if reached.ui_url else "")
            queue = ports.task_queue(is_embedded=reached.is_embedded)
            policy = approval or _told_default(reached, ports)
            service = InvoiceService(
                reached.client,
                approval_timeout=approval_timeout,
                signals_approve=policy.lets_signals_approve,
                task_queue=queue,
            )
            server = build_server(service, approval=policy)
            async with _working(reached, ports) if with_worker else _idle():
                if http is None or listening is None:
                    await _run_until_told(server.run_stdio_async())
                else:
                    await serve_http(server, http, listening, _told_to_stop())
    _leave()


def _told_default(reached: Connection, ports: PortSettings) -> ApprovalPolicy:
    policy, why = default_policy(embedded_temporal=reached.is_embedded, ports=ports)
    # Told without -v as well: who may pay is no detail.
    logger.warning("Approvals: --approval=%s, because %s. %s", policy, why, WITHOUT_FORMS[policy])
    return policy


async def work(temporal: TemporalSettings, ports: PortSettings) -> NoReturn:
    """Run a worker until SIGTERM or SIGINT, let what is under way finish, and end the process.

    Raises:
        ConfigurationError: Nothing can be worked on like this; EmbeddedUnavailable: there is no Temporal.
    """
    _tell_risk(temporal, ports)
    async with _reached(temporal, ports) as reached:
        told = _told_to_stop()
        logger.warning("Worker for %s. Stop with Ctrl-C or SIGTERM", reached.where)
        async with _working(reached, ports):
            await told.wait()
    logger.warning("Worker stopped")
    _leave()


def _tell_risk(temporal: TemporalSettings, ports: PortSettings) -> None:
    """Say what the embedded Temporal is not for, and refuse to use it for that, unless its owner accepts it."""
    if temporal.accepts_risk or configured(temporal) is not None:
        return
    ports.require_pretended()
    logger.warning(
        "The embedded Temporal is for trying out, not for real money: any user of this machine can reach it and approve"
        " (docs/security.md). --accept-embedded-risk accepts that"
    )


@asynccontextmanager
async def _reached(temporal: TemporalSettings, ports: PortSettings) -> AsyncIterator[Connection]:
    if configured(temporal) is not None:
        if ports.accept_lost_state:
            raise ConfigurationError(f"{ACCEPTANCE} is for the embedded Temporal alone: leave it out")
    elif not ports.accept_lost_state:
        await require_database(temporal.home)
    async with connection(temporal) as reached:
        yield reached


@asynccontextmanager
async def _working(reached: Connection, settings: PortSettings) -> AsyncIterator[None]:
    settings.require_real(is_local=reached.is_local)
    if settings.missing and not reached.is_embedded:
        what = " and ".join(settings.missing)
        logger.warning("%s not set: what stands in for that only pretends. Only for trying things out", what)
    queue = settings.task_queue(is_embedded=reached.is_embedded)
    async with open_ports(settings) as (erp, payments):
        if reached.is_embedded:
            ledger = payments if isinstance(payments, PaymentLedger) else None
            accepted = settings.accept_lost_state
            await bind_state(reached.client, settings.home, ledger, task_queue=queue, accept_lost_state=accepted)
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
    # In a thread: a stream that nobody reads blocks whoever flushes it.
    last_words = threading.Thread(target=_flush, daemon=True)
    last_words.start()
    last_words.join(_LAST_WORDS_WITHIN)
    os._exit(0)


def _flush() -> None:
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or never there
            stream.flush()
