"""Serving MCP on stdin and stdout, or over HTTP, until told to stop.

What takes long is loaded and connected behind the first answers: hosts wait for these, some for five seconds at most,
and some begin their first turn without our tools.
"""

# What no first answer needs is imported when it is needed.
# ruff: noqa: PLC0415

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

from invoice_mcp.domain.errors import ConfigurationError
from invoice_mcp.exit import exit_process
from invoice_mcp.server.startup import Startup
from invoice_mcp.server.tool_names import UNPREFIXED, ToolNames
from invoice_mcp.server.tools import Backend, build_deferred_server

if TYPE_CHECKING:
    from invoice_mcp.cli.backend import BackendSource
    from invoice_mcp.server.errors import ErrorCodeServer
    from invoice_mcp.server.transport.http import HttpSettings

logger = logging.getLogger(__name__)

Load = Callable[[], "BackendSource"]
"""Imports what the tools work on, and says how it is made. It takes long: called in a thread."""

# What a host asks before it needs anything. What it asks next shows that it has the answer.
_HANDSHAKE = frozenset({"initialize", "server/discover", "tools/list", "ping"})
# Seconds. In this time the answer is written: it has the processor for itself.
_WRITE_DELAY = 0.05
# Seconds until everything begins for a host that says nothing.
_MAX_START_DELAY = 1.0
# Seconds, for a host that has left: by then it is known whether the configuration can work.
_CHECK_TIMEOUT = 10.0


async def serve(load: Load, *, http: HttpSettings | None = None, names: ToolNames = UNPREFIXED) -> NoReturn:
    """Serve MCP on stdin and stdout, or over streamable HTTP as `http` says, until the host leaves.

    Then ends the process.

    Raises:
        ConfigurationError: Nothing can be served like this.
    """
    startup: Startup[Backend] = Startup()
    server = build_deferred_server(startup, names=names)
    if http is None:
        await _serve_stdio(server, load, startup)
    else:
        await _serve_http(server, http, load, startup)
    exit_process()


async def _serve_http(server: ErrorCodeServer, http: HttpSettings, load: Load, startup: Startup[Backend]) -> None:
    from invoice_mcp.server.transport.http import listen, serve_http

    with listen(http) as listening:
        source = await asyncio.to_thread(load)
        configuration = await source.configuration()
        stop = stop_event_on_signals()
        connecting = asyncio.create_task(source.keep(configuration, source.policy(configuration), startup))
        # It ends by itself only where nothing can be served.
        connecting.add_done_callback(lambda _: stop.set())
        try:
            await serve_http(server, http, listening, stop)
        finally:
            await _cancel_and_wait(connecting)


async def _serve_stdio(server: ErrorCodeServer, load: Load, startup: Startup[Backend]) -> None:
    _check_standard_streams()
    start, checked = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().call_later(_MAX_START_DELAY, start.set)
    server.middleware.append(_start_after_handshake(start))
    # Before the server runs: while it does, descriptor 1 points elsewhere.
    stdout_closed = asyncio.create_task(_wait_until_closed(_duplicate_stdout()))
    running = asyncio.create_task(_run(server))
    connecting = asyncio.create_task(_connect(load, startup, start, checked))
    stops = [asyncio.create_task(stop_event_on_signals().wait()), stdout_closed]
    try:
        await asyncio.wait({running, connecting, *stops}, return_when=asyncio.FIRST_COMPLETED)
        host_left = stdout_closed.done() and not running.done()
        if running.done():
            # Whoever leaves at once is told all the same if the configuration can't work.
            start.set()
            stops.append(asyncio.create_task(checked.wait()))
            await asyncio.wait({connecting, *stops}, timeout=_CHECK_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        elif host_left:
            _log_stdout_closed()
    finally:
        for stop in stops:
            stop.cancel()
        try:
            await _cancel_and_wait(connecting)
        except Exception as error:
            if not isinstance(error, ConfigurationError):
                logger.exception("serve can't go on")
            _exit_with_error(error)
    if running.done() and (fault := running.result()) and not host_left:
        if not isinstance(fault, ConnectionError):
            _exit_with_error(f"stdin or stdout can't be used: {fault.strerror}")
        _log_stdout_closed()


def _check_standard_streams() -> None:
    if sys.stdin is None:
        raise ConfigurationError("stdin is closed, so no host can speak. Hosts start this with a pipe; or use --http")
    if sys.stdout is None:
        raise ConfigurationError("stdout is closed, where answers go. Hosts start this with a pipe; or use --http")
    if sys.stdin.isatty():
        logger.info("This waits for an MCP host to speak on stdin. To look around, try: invoice-mcp demo")


async def _connect(load: Load, startup: Startup[Backend], start: asyncio.Event, checked: asyncio.Event) -> NoReturn:
    await start.wait()
    source = await asyncio.to_thread(load)
    configuration = await source.configuration()
    policy = source.policy(configuration)
    checked.set()
    await source.keep(configuration, policy, startup)


async def _run(server: ErrorCodeServer) -> OSError | None:
    """Serve until the host leaves, or can't be read from or written to any more: then why."""
    fault = None
    try:
        await server.run_stdio_async()
    except* OSError as errors:
        fault = _first_of(errors)
    return fault


def _first_of(errors: BaseExceptionGroup[OSError]) -> OSError:
    first = errors.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first


def _exit_with_error(why: object) -> NoReturn:
    logging.shutdown()
    sys.stderr.write(f"Error: {why}\n")
    # A thread still reads stdin, and would be waited for.
    exit_process(1)


def _start_after_handshake(start: asyncio.Event) -> Any:
    """Middleware that lets the rest begin, once the handshake is answered, or something else is asked."""

    async def note(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        if ctx.method not in _HANDSHAKE:
            start.set()
            return await call_next(ctx)
        try:
            return await call_next(ctx)
        finally:
            asyncio.get_running_loop().call_later(_WRITE_DELAY, start.set)

    return note


def _duplicate_stdout() -> int | None:
    """A descriptor of our stdout; None where it is closed, none, or no file."""
    with suppress(OSError, AttributeError, ValueError):
        return os.dup(sys.stdout.fileno())
    return None


async def _wait_until_closed(descriptor: int | None) -> None:
    """Return when nobody can read any more what is written there. Who writes would notice with the next answer only."""
    loop, closed = asyncio.get_running_loop(), asyncio.Event()

    def watch(descriptor: int) -> None:
        poll = select.poll()
        # Of no event: that the other end is gone is always told.
        poll.register(descriptor, 0)
        poll.poll()
        with suppress(RuntimeError):  # the loop is closed: we end anyway
            loop.call_soon_threadsafe(closed.set)

    if descriptor is not None:
        threading.Thread(target=watch, args=(descriptor,), name="stdout-watch", daemon=True).start()
    await closed.wait()


def _log_stdout_closed() -> None:
    logger.warning("The host closed stdout, where answers go")


async def _cancel_and_wait(task: asyncio.Task[NoReturn]) -> None:
    """Have the task end, and raise what it failed with."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def stop_event_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
