"""MCP over stdin and stdout, as in the SDK, except that every request is answered; see `jsonrpc`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, cast

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp_types import (
    CONNECTION_CLOSED,
    JSONRPC_VERSION,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
)

from invoice_mcp.server.transport.jsonrpc import parse_message

if TYPE_CHECKING:
    from mcp.shared._stream_protocols import ReadStream, WriteStream

# Seconds for open requests after the end of stdin: the promised limit of a tool call. A host that does not want to wait
# sends SIGTERM.
_DRAIN_TIMEOUT = 10.0
_UNKNOWN_OUTCOME = "stdin ended before the request was answered. It may have taken effect. Repeating it is safe"


class _PendingRequests:
    """Ids of requests that are not answered yet."""

    def __init__(self) -> None:
        self.ids: Counter[RequestId] = Counter()
        self._long_running: set[RequestId] = set()
        self._changed = anyio.Event()

    def note_input(self, message: JSONRPCMessage) -> None:
        if isinstance(message, JSONRPCRequest):
            self.ids[message.id] += 1
            if _is_long_running(message):
                self._long_running.add(message.id)
        elif isinstance(message, JSONRPCNotification) and message.method == "notifications/cancelled":
            # A cancelled request must not be answered.
            self._remove((message.params or {}).get("requestId"))

    def note_output(self, message: JSONRPCMessage) -> None:
        if isinstance(message, JSONRPCResponse | JSONRPCError):
            self._remove(message.id)

    async def wait_until_answered(self, within: float) -> None:
        """Wait until all requests are answered, except those that run long; at most `within` seconds."""
        with anyio.move_on_after(within):
            while self.ids.keys() - self._long_running:
                self._changed = anyio.Event()
                await self._changed.wait()

    def _remove(self, request_id: object) -> None:
        if isinstance(request_id, str | int) and request_id in self.ids:
            self.ids -= Counter([request_id])
            if request_id not in self.ids:
                self._long_running.discard(request_id)
            self._changed.set()


def _is_long_running(request: JSONRPCRequest) -> bool:
    """Whether the request asks to wait for a change: a subscription, or a call with `wait_seconds`."""
    if request.method == "subscriptions/listen":
        return True
    arguments = (request.params or {}).get("arguments")
    return isinstance(arguments, dict) and bool(arguments.get("wait_seconds"))


@asynccontextmanager
async def stdio_streams(
    stdin: anyio.AsyncFile[bytes] | None = None, stdout: anyio.AsyncFile[str] | None = None
) -> AsyncIterator[tuple[ReadStream[SessionMessage | Exception], WriteStream[SessionMessage]]]:
    """Open the streams for the SDK's low-level server, by default on this process's stdin and stdout."""
    unanswered = _PendingRequests()
    answers, to_write = anyio.create_memory_object_stream[SessionMessage](0)
    # `aclosing`: if writing fails, the SDK does not close the iterator.
    async with (
        answers.clone() as errors,
        aclosing(_read_messages(stdin or anyio.wrap_file(sys.stdin.buffer), errors, unanswered)) as lines,
        # The SDK only iterates over its stdin.
        stdio_server(cast("anyio.AsyncFile[str]", lines), stdout) as (messages, written),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(_write_messages, to_write, written, unanswered)
        yield messages, answers


async def _read_messages(
    stdin: anyio.AsyncFile[bytes], errors: MemoryObjectSendStream[SessionMessage], unanswered: _PendingRequests
) -> AsyncGenerator[str]:
    """Yield the lines that are messages; respond to all others."""
    async with errors:
        # Bytes, not text: only a line feed ends a line, and invalid UTF-8 is not replaced.
        # Abandoned on cancel: after a write error the host may never send another line.
        while line := await anyio.to_thread.run_sync(stdin.wrapped.readline, abandon_on_cancel=True):
            if line.isspace():
                continue
            found = parse_message(line)
            if isinstance(found, list):
                for error in found:
                    with suppress(anyio.BrokenResourceError):  # as in _write
                        await errors.send(SessionMessage(error))
            else:
                unanswered.note_input(found)
                yield line.decode()
        await unanswered.wait_until_answered(_DRAIN_TIMEOUT)


async def _write_messages(
    to_write: MemoryObjectReceiveStream[SessionMessage],
    written: WriteStream[SessionMessage],
    unanswered: _PendingRequests,
) -> None:
    # BrokenResourceError: the SDK's writer has failed and raises the cause itself.
    with suppress(anyio.BrokenResourceError):
        async with to_write, written:
            async for answer in to_write:
                unanswered.note_output(answer.message)
                await written.send(answer)
            # The SDK has ended. It drops answers that were being written when its input ended.
            error = ErrorData(code=CONNECTION_CLOSED, message=_UNKNOWN_OUTCOME)
            for request_id in unanswered.ids.elements():
                await written.send(SessionMessage(JSONRPCError(jsonrpc=JSONRPC_VERSION, id=request_id, error=error)))
