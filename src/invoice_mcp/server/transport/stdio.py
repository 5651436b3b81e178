"""MCP over stdin and stdout, as the SDK has it, but every request is answered: see `jsonrpc_input`."""

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

# Seconds. When stdin ends, requests under way have this long to be answered, as each call of a tool is promised. A host
# that waits for our end asks for it by SIGTERM when it has waited enough.
_DRAIN_TIMEOUT = 10.0
_UNKNOWN_OUTCOME = "stdin ended before the answer was there. What was asked for may have been done: ask again"


class _PendingRequests:
    """Ids of requests that have come in and are not answered yet."""

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
            # What its sender gives up must not be answered any more.
            self._remove((message.params or {}).get("requestId"))

    def note_output(self, message: JSONRPCMessage) -> None:
        if isinstance(message, JSONRPCResponse | JSONRPCError):
            self._remove(message.id)

    async def wait_until_answered(self, within: float) -> None:
        """Wait until all are answered that do not last, but not long."""
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
    """Whether its sender wants to wait longer than for an answer: until something changes."""
    if request.method == "subscriptions/listen":
        return True
    arguments = (request.params or {}).get("arguments")
    return isinstance(arguments, dict) and bool(arguments.get("wait_seconds"))


@asynccontextmanager
async def stdio_streams(
    stdin: anyio.AsyncFile[bytes] | None = None, stdout: anyio.AsyncFile[str] | None = None
) -> AsyncIterator[tuple[ReadStream[SessionMessage | Exception], WriteStream[SessionMessage]]]:
    """The streams to give to the SDK's low-level server. By default those of this process."""
    unanswered = _PendingRequests()
    answers, to_write = anyio.create_memory_object_stream[SessionMessage](0)
    # Closed here, too: where writing fails, the SDK leaves the lines in the middle.
    async with (
        answers.clone() as errors,
        aclosing(_read_messages(stdin or anyio.wrap_file(sys.stdin.buffer), errors, unanswered)) as lines,
        # The SDK only iterates over them.
        stdio_server(cast("anyio.AsyncFile[str]", lines), stdout) as (messages, written),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(_write_messages, to_write, written, unanswered)
        yield messages, answers


async def _read_messages(
    stdin: anyio.AsyncFile[bytes], errors: MemoryObjectSendStream[SessionMessage], unanswered: _PendingRequests
) -> AsyncGenerator[str]:
    """The lines that are messages. Others are answered here."""
    async with errors:
        # As bytes: the end of a line is a line feed only, and what is no UTF-8 is not taken for other text.
        # Abandoned where answers can't be written any more: a host that gets none may say nothing more.
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
    # Broken: the SDK's writer has failed, and raises why.
    with suppress(anyio.BrokenResourceError):
        async with to_write, written:
            async for answer in to_write:
                unanswered.note_output(answer.message)
                await written.send(answer)
            # The SDK has ended. It leaves out answers that it had begun to write when its input ended.
            error = ErrorData(code=CONNECTION_CLOSED, message=_UNKNOWN_OUTCOME)
            for request_id in unanswered.ids.elements():
                await written.send(SessionMessage(JSONRPCError(jsonrpc=JSONRPC_VERSION, id=request_id, error=error)))
