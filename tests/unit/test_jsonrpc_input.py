"""JSON-RPC input: valid messages, errors for invalid ones, and input that gets no response."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from mcp_types import JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from invoice_mcp.server.transport import jsonrpc as module
from invoice_mcp.server.transport.jsonrpc import parse_message
from tests.requirements import requirement

PARSE, INVALID = -32700, -32600


def call(request_id: str = '"a"', name: str = '"list"', arguments: str = "{}") -> bytes:
    params = f'{{"name":{name},"arguments":{arguments}}}'
    return f'{{"jsonrpc":"2.0","id":{request_id},"method":"tools/call","params":{params}}}'.encode()


def nested(levels: int) -> str:
    return '{"x":' * levels + "1" + "}" * levels


def id_last(params: str, more: str = "") -> bytes:
    return f'{{"jsonrpc":"2.0","method":"tools/call","params":{params}, "id" : "z"{more}}}\n'.encode()


def method_last(params: str) -> bytes:
    return f'{{"params":{params},"jsonrpc":"2.0","id":5,"method":"tools/call"}}'.encode()


def answer(result: str) -> bytes:
    return f'{{"jsonrpc":"2.0","id":1,"result":{{"action":"accept","content":{result}}}}}'.encode()


def request(**fields: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": "a", "method": "ping"} | fields).encode()


def errors(raw: bytes) -> list[tuple[Any, int]]:
    """Return id and code of each error, as sent."""
    answer = parse_message(raw)
    assert isinstance(answer, list)
    sent = [json.loads(each.model_dump_json(by_alias=True, exclude_unset=True)) for each in answer]
    assert all(each["jsonrpc"] == "2.0" and each["error"]["message"] for each in sent)
    return [(each["id"], each["error"]["code"]) for each in sent]


@requirement("RPC-ERRORS")
@pytest.mark.parametrize(
    ("raw", "request_id", "code"),
    [
        (call(arguments=nested(400)), "a", PARSE),
        (call("7", arguments=nested(50_000)), 7, PARSE),
        (call(name=r'"\ud800"'), "a", PARSE),
        (call(name='"a\x0bb"'), "a", PARSE),
        (call(name='"a\rb"'), "a", PARSE),
        (call(arguments=r'{"workflow_id":"\ud800"}'), "a", PARSE),
        (call(arguments=r'{"\udc00":1}'), "a", PARSE),
        (call(arguments='{"limit":1' + 5000 * "0" + "}"), "a", PARSE),
        (call().replace(b"list", b"\xff\xfe"), "a", PARSE),
        (call()[:-1], "a", PARSE),
        (b'{"params": {"id": 1, "x": [{"id": 2}]}, "x": "id", "method": "x", "id" : 1.5, ', 1.5, PARSE),
        (id_last(nested(400)), "z", PARSE),
        (id_last(nested(50_000)), "z", PARSE),
        (id_last('{"x":"' + 500_000 * "x" + '\\ud800"}'), "z", PARSE),
        (id_last(f'{{"lines":[{",".join(60_000 * ["{}"])},]}}'), "z", PARSE),
        (method_last(f'{{"lines":[{",".join(60_000 * ["{}"])},]}}'), 5, PARSE),
        (id_last('{"id":1}' + 60_000 * ",", more=',"x":[]'), None, PARSE),
        (call('"\\ud800"'), None, PARSE),
        (call("1" + 5000 * "0"), None, PARSE),
        (call('"never closed').replace(b'",', b","), None, PARSE),
        (b'{"id": {"id": 1}, ', None, PARSE),
        # It is unknown whether this is a request or a response.
        (b'{"jsonrpc":"2.0","id":1,', None, PARSE),
        (b'{"jsonrpc":"2.0","id":1,"x":{"method":"ping"},', None, PARSE),
        (b'{"jsonrpc":"2.0","id":1,"x":"\\ud800"}', None, PARSE),
        (b'{"jsonrpc":"2.0","id":1}{"jsonrpc":"2.0","id":2,"method":"ping"}', None, PARSE),
        (b'{"jsonrpc":"2.0","method":"notifications/x","params":{', None, PARSE),
        (b'{"jsonrpc":"2.0",id:1,"method":"ping"}', None, PARSE),
        (b'{"jsonrpc":"2.0","method":"x"}' + 5000 * b"{}" + b'{"result":{},"id":1}', None, PARSE),
        (b'[{"id": 1}, ', None, PARSE),
        (b"garbage", None, PARSE),
        (b"[" * 50_000, None, PARSE),
        (b"\xef\xbb\xbf" + request(), None, PARSE),
        (request(id=None), None, INVALID),
        (request(id=True), None, INVALID),
        (request(id=1.5), 1.5, INVALID),
        (request(id={}), None, INVALID),
        (request(id=float("nan")), None, INVALID),
        (request(params=[]), "a", INVALID),
        (request(params="x"), "a", INVALID),
        (request(jsonrpc="1.0"), "a", INVALID),
        (request(method=5), "a", INVALID),
        (b'{"jsonrpc":"2.0","id":0}', None, INVALID),
        (b'{"jsonrpc":"2.0","method":1,"params":"bar"}', None, INVALID),
        (b"{}", None, INVALID),
        (b"5", None, INVALID),
        (b"null", None, INVALID),
        (b"[]", None, INVALID),
        (b"[1,2,3]", None, INVALID),
    ],
    ids=lambda value: value[:60].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_an_invalid_message_gets_the_json_rpc_error(raw: bytes, request_id: object, code: int) -> None:
    assert errors(raw) == [(request_id, code)]


@requirement("RPC-ERRORS")
def test_each_request_of_a_batch_gets_an_error() -> None:
    batch = b"[" + b",".join([request(id=1), request(id="b"), b'{"jsonrpc":"2.0","method":"x"}', b"5"]) + b"]"
    assert errors(batch) == [(1, INVALID), ("b", INVALID)]


@requirement("RPC-ERRORS")
@pytest.mark.parametrize(
    "raw",
    [
        b'{"jsonrpc":"2.0","method":"notifications/initialized","params":[]}',
        b'{"jsonrpc":"1.0","method":"notifications/initialized"}',
        b'{"jsonrpc":"2.0","id":"a","result":5}',
        b'{"jsonrpc":"2.0","id":[],"error":{}}',
        answer('"\\ud800"'),
        answer(nested(400)),
        answer(nested(50_000)),
        answer("1" + 5000 * "0"),
        answer('"never closed'),
        answer('"a\x0bb"').replace(b"result", b"error"),
        b'{"result":{"x":"\xff"},"jsonrpc":"2.0","id":1}',
        f'{{"result":{nested(50_000)},"jsonrpc":"2.0","id":1}}'.encode(),
        f'{{"jsonrpc":"2.0","method":"notifications/x","params":{nested(400)}}}'.encode(),
        b'{"jsonrpc":"2.0","method":"notifications/x","params":{"x":"\\ud800"}}',
    ],
    ids=lambda raw: raw[:60].decode("latin-1"),
)
def test_invalid_notifications_and_responses_get_no_error(raw: bytes) -> None:
    assert errors(raw) == []


@requirement("RPC-ERRORS")
def test_valid_messages_are_parsed_as_by_the_sdk() -> None:
    assert isinstance(parse_message(request(id=10**30)), JSONRPCRequest)
    assert isinstance(parse_message(call(arguments='{"limit":NaN}')), JSONRPCRequest)
    assert isinstance(parse_message(b'{"jsonrpc":\r"2.0","id":1,"method":"ping","extra":1}'), JSONRPCRequest)
    assert isinstance(parse_message(b'{"jsonrpc":"2.0","method":"notifications/initialized"}'), JSONRPCNotification)
    assert isinstance(parse_message(b'{"jsonrpc":"2.0","id":1,"result":{}}'), JSONRPCResponse)


class CountingPattern:
    """A pattern that counts its matches."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self.found = 0
        self._pattern = pattern

    def finditer(self, raw: bytes) -> Iterator[re.Match[bytes]]:
        for each in self._pattern.finditer(raw):
            self.found += 1
            yield each


@requirement("RPC-ERRORS")
@pytest.mark.parametrize("unit", [b",", b"{", b'"":', b'{"id":1,', b"[]"])
def test_the_scan_of_invalid_input_is_bounded(monkeypatch: pytest.MonkeyPatch, unit: bytes) -> None:
    counting = CountingPattern(module._TOKEN)
    monkeypatch.setattr(module, "_TOKEN", counting)
    scanned = []
    for size in (64 * 1024, 1024 * 1024):
        counting.found = 0
        parse_message((b"{" + unit * size)[:size])
        scanned.append(counting.found)
    assert 0 < scanned[0] == scanned[1] < 5000


@requirement("RPC-ERRORS")
@pytest.mark.parametrize("unit", [b'\\"', b'"', b'{"id', b'"id":', b"[", b"\\", b',"id":1'])
def test_the_search_for_an_id_takes_linear_time(unit: bytes) -> None:
    began = time.process_time()
    parse_message(b'{"x' + unit * (500_000 // len(unit)))
    assert time.process_time() - began < 2
