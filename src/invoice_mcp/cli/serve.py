"""The `serve` command: MCP on stdin and stdout or over HTTP, until the host leaves or a signal arrives.

The handshake is answered before Temporal is imported and connected. Hosts wait only some seconds for it, and some begin
their first turn without the tools of a server that is slower.
"""

# Only what the handshake needs is imported at the top.

from __future__ import annotations

import asyncio
import logging
import os
import select
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

from invoice_mcp.cli.process import stop_event_on_signals
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
"""Imports Temporal's client and returns the builder of the backend. It takes a second: call it in a thread."""

# Methods of the handshake. Any other method shows that the host has read the answers to these.
_HANDSHAKE = frozenset({"initialize", "server/discover", "tools/list", "ping"})
# Seconds. The imports start so long after a handshake answer, which is then written first.
_WRITE_DELAY = 0.05
# Seconds until the imports start for a host that sends nothing.
_MAX_START_DELAY = 1.0
# Seconds. How long `serve` stays after its host has left, to report a configuration that can't work.
_CHECK_TIMEOUT = 10.0


async def serve(load: Load, *, http: HttpSettings | None = None, names: ToolNames = UNPREFIXED) -> NoReturn:
    """Serve MCP on stdin and stdout, or over streamable HTTP if `http` is given; then end the process.

    Raises:
        ConfigurationError: The settings can't work.
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
        connecting = asyncio.create_task(source.run(configuration, source.select_policy(configuration), startup))
        # The task ends by itself only on an error.
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
    # Before the server runs: the SDK redirects descriptor 1 while it serves.
    stdout_closed = asyncio.create_task(_wait_until_closed(_duplicate_stdout()))
    running = asyncio.create_task(_run(server))
    connecting = asyncio.create_task(_connect(load, startup, start, checked))
    stops = [asyncio.create_task(stop_event_on_signals().wait()), stdout_closed]
    try:
        await asyncio.wait({running, connecting, *stops}, return_when=asyncio.FIRST_COMPLETED)
        host_left = stdout_closed.done() and not running.done()
        if running.done():
            # A configuration that can't work is reported also if the host leaves at once.
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
                logger.exception("serve failed")
            _exit_with_error(error)
    if running.done() and (fault := running.result()) and not host_left:
        if not isinstance(fault, ConnectionError):
            _exit_with_error(f"stdin or stdout can't be used: {fault.strerror}")
        _log_stdout_closed()


def _check_standard_streams() -> None:
    if sys.stdin is None:
        raise ConfigurationError(
            "stdin is closed, so no host can send requests. Hosts start this with a pipe; or use --http"
        )
    if sys.stdout is None:
        raise ConfigurationError(
            "stdout is closed, so no answer can be sent. Hosts start this with a pipe; or use --http"
        )
    if sys.stdin.isatty():
        logger.info("Waiting for an MCP host on stdin. To try it without a host: invoice-mcp demo")


async def _connect(load: Load, startup: Startup[Backend], start: asyncio.Event, checked: asyncio.Event) -> NoReturn:
    await start.wait()
    source = await asyncio.to_thread(load)
    configuration = await source.configuration()
    policy = source.select_policy(configuration)
    checked.set()
    await source.run(configuration, policy, startup)


async def _run(server: ErrorCodeServer) -> OSError | None:
    """Serve until the host leaves. Return the error if stdin or stdout failed."""
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
    # Not sys.exit: Python would wait for the thread that reads stdin.
    exit_process(1)


def _start_after_handshake(start: asyncio.Event) -> Any:
    """Return the middleware that sets `start` once the handshake is answered or another request comes."""

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
    """Return a duplicate of stdout's descriptor; None if stdout is closed or has none."""
    with suppress(OSError, AttributeError, ValueError):
        return os.dup(sys.stdout.fileno())
    return None


async def _wait_until_closed(descriptor: int | None) -> None:
    """Wait until the other end of the pipe is closed. A write would notice that only with the next answer."""
    loop, closed = asyncio.get_running_loop(), asyncio.Event()

    def watch(descriptor: int) -> None:
        poll = select.poll()
        # With no events requested, poll still reports POLLERR and POLLHUP.
        poll.register(descriptor, 0)
        poll.poll()
        with suppress(RuntimeError):  # the loop is closed: the process ends anyway
            loop.call_soon_threadsafe(closed.set)

    if descriptor is not None:
        threading.Thread(target=watch, args=(descriptor,), name="stdout-watch", daemon=True).start()
    await closed.wait()


def _log_stdout_closed() -> None:
    logger.warning("The host closed stdout: no answer can be sent")


async def _cancel_and_wait(task: asyncio.Task[NoReturn]) -> None:
    """Cancel the task, wait for it, and raise its error if it had failed."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
