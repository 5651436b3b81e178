"""A server on byte streams: every request is answered, also invalid ones and those open at the end of input."""

from __future__ import annotations

import io
import json
import os
from errno import ENOSPC
from types import AsyncGeneratorType
from typing import Any

import anyio
import pytest
from mcp.shared.message import SessionMessage
from mcp_types import CONNECTION_CLOSED, JSONRPCError, JSONRPCRequest, JSONRPCResponse

from invoice_mcp.server.errors import ErrorCodeServer
from invoice_mcp.server.transport import stdio as module
from invoice_mcp.server.transport.stdio import stdio_streams
from tests.requirements import requirement

INITIALIZE = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "raw", "version": "0"}}
ENVELOPE = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}


def a_server() -> ErrorCodeServer:
    server = ErrorCodeServer("raw")

    async def waits() -> str:
        await anyio.sleep_forever()
        return "never"

    server.add_tool(waits)
    return server


def message(method: str, request_id: object = None, **params: Any) -> bytes:
    named = {} if request_id is None else {"id": request_id}
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": params, **named}).encode()


async def answered(*lines: bytes, mode: str = "old") -> dict[Any, dict[str, Any]]:
    """Send these lines, end stdin, and return the answers by id. An id with two answers is an error."""
    begin = [message("initialize", 0, **INITIALIZE), message("notifications/initialized")]
    lines = (*begin, *lines) if mode == "old" else (message("tools/list", 0, _meta=ENVELOPE), *lines)
    stdout = io.StringIO()
    with anyio.fail_after(10):
        async with stdio_streams(anyio.wrap_file(io.BytesIO(b"\n".join(lines))), anyio.wrap_file(stdout)) as streams:
            await a_server().serve_streams(*streams)
    answers = [json.loads(line) for line in stdout.getvalue().splitlines()]
    by_id = {answer["id"]: answer for answer in answers}
    assert len(by_id) == len(answers)
    return by_id


@requirement("RPC-ERRORS", "TOOL-PROTOCOLS")
@pytest.mark.parametrize("mode", ["old", "new"])
async def test_an_invalid_message_is_answered_and_the_next_one_is_served(mode: str) -> None:
    deep = b'{"jsonrpc":"2.0","id":"deep","method":"ping","params":' + b'{"x":' * 400 + b"1" + b"}" * 401
    answers = await answered(
        deep,
        b" ",
        b"garbage",
        message("ping", 1.5),
        b'{"jsonrpc":\r"2.0","id":"ok","method":"ping"}',
        mode=mode,
    )
    assert {request_id: answer.get("error", {}).get("code") for request_id, answer in answers.items()} == {
        0: None,
        "deep": -32700,
        None: -32700,
        1.5: -32600,
        "ok": None if mode == "old" else -32602,
    }


@requirement("STDIO-END")
async def test_requests_before_the_end_of_stdin_are_answered() -> None:
    answers = await answered(*(message("ping", number) for number in range(1, 300)))
    assert set(answers) == set(range(300))
    assert not any("error" in answer for answer in answers.values())


@requirement("STDIO-END")
async def test_after_stdin_ends_open_requests_get_an_error_and_cancelled_ones_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_DRAIN_TIMEOUT", 0.1)
    answers = await answered(
        message("tools/call", "waits", name="waits", arguments={}),
        message("tools/call", "given up", name="waits", arguments={}),
        message("notifications/cancelled", requestId="given up"),
    )
    assert {request_id: "error" in answer for request_id, answer in answers.items()} == {0: False, "waits": True}


@requirement("STDIO-END")
async def test_without_open_requests_the_server_ends_at_once() -> None:
    with anyio.fail_after(0.8):
        await answered(message("notifications/progress", progressToken=1, progress=1))


@requirement("STDIO-END")
@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("subscriptions/listen", {"notifications": {}}),
        ("tools/call", {"name": "waits", "arguments": {"wait_seconds": 40}}),
    ],
)
async def test_long_running_requests_do_not_delay_the_end(method: str, params: dict[str, Any]) -> None:
    with anyio.fail_after(0.8):
        await answered(message(method, "lasts", **params))


class FullStream(io.StringIO):
    """A stream whose every write fails."""

    def write(self, _: str) -> int:
        raise OSError(ENOSPC, "full")


@requirement("CLI-STDIO")
@pytest.mark.parametrize("line", [b"garbage", message("ping", 1)])
async def test_a_write_error_ends_the_server_while_stdin_is_open(line: bytes) -> None:
    ours, theirs = os.pipe()
    with open(ours, "rb") as stdin, open(theirs, "wb") as host, anyio.fail_after(10):  # noqa: PTH123
        host.write(b"\n".join([message("initialize", 0, **INITIALIZE), *100 * [line], b""]))
        host.flush()
        with pytest.raises(ExceptionGroup) as raised:
            async with stdio_streams(anyio.wrap_file(stdin), anyio.wrap_file(FullStream())) as streams:
                await a_server().serve_streams(*streams)
        host.close()
    matched, other = raised.value.split(OSError)
    assert matched
    assert other is None


@requirement("CLI-STDIO")
async def test_a_write_error_closes_the_input_iterator(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[AsyncGeneratorType[str]] = []

    def kept(*args: Any, made: Any = module._read_messages) -> AsyncGeneratorType[str]:
        lines.append(made(*args))
        return lines[-1]

    monkeypatch.setattr(module, "_read_messages", kept)
    with pytest.raises(ExceptionGroup, match="unhandled"):
        await _fail_to_write(message("ping", 1))
    assert lines[0].ag_frame is None  # it has ended


async def _fail_to_write(unread: bytes) -> None:
    streams = stdio_streams(anyio.wrap_file(io.BytesIO(unread)), anyio.wrap_file(FullStream()))
    with anyio.fail_after(10):
        async with streams as (messages, answers), messages, answers:
            await anyio.wait_all_tasks_blocked()
            await answers.send(SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=0, result={})))
            await anyio.sleep_forever()


@requirement("STDIO-END")
async def test_an_id_reused_after_a_long_running_request_is_waited_for() -> None:
    unanswered = module._PendingRequests()
    lasting = {"name": "status", "arguments": {"wait_seconds": 40}}
    unanswered.note_input(JSONRPCRequest(jsonrpc="2.0", id=1, method="tools/call", params=lasting))
    await unanswered.wait_until_answered(0.01)
    unanswered.note_output(JSONRPCResponse(jsonrpc="2.0", id=1, result={}))
    unanswered.note_input(JSONRPCRequest(jsonrpc="2.0", id=1, method="ping"))
    with pytest.raises(TimeoutError), anyio.fail_after(0.05):
        await unanswered.wait_until_answered(10)


@requirement("STDIO-END")
async def test_requests_that_the_sdk_left_unanswered_get_an_error() -> None:
    pending = module._PendingRequests()
    pending.note_input(JSONRPCRequest(jsonrpc="2.0", id="left", method="tools/list"))
    to_write, messages = anyio.create_memory_object_stream[SessionMessage](0)
    output, written = anyio.create_memory_object_stream[SessionMessage](1)
    to_write.close()
    await module._write_messages(messages, output, pending)
    answer = written.receive_nowait().message
    written.close()
    assert isinstance(answer, JSONRPCError)
    assert (answer.id, answer.error.code) == ("left", CONNECTION_CLOSED)
