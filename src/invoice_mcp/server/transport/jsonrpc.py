"""Parsing of JSON-RPC input, and the error responses to input that is no MCP message. Pure.

The SDK drops such input on stdin without a response. Over HTTP it treats a request with an invalid id as a
notification, or responds without the request's id (docs/upstream/unanswered-input.md). Its sender then waits for ever.
Here it gets the JSON-RPC error, with its id if that can be found together with a method: without a method the input may
be a response, whose id is one of the server's requests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from mcp_types import (
    INVALID_REQUEST,
    JSONRPC_VERSION,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    RequestId,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError
from pydantic_core import from_json

# A string (possessive, so that an unclosed one is scanned once), a bracket or separator, or other characters.
_TOKEN = re.compile(rb'"(?:[^"\\]+|\\.)*+"?|[{}\[\]:,]|[^\s{}\[\]:,"]+', re.DOTALL)
# Limits for scanning input that can't be parsed: its first tokens and its last bytes. All other clients wait meanwhile.
_TOKENS = 4096
_LAST_BYTES = 1024
_RELEVANT = {f'"{name}"'.encode(): name for name in ("id", "method", "result", "error")}
# Members at the end of an object, after the value of another member.
_LAST_MEMBERS = re.compile(
    rb',((?:\s*+"(?:jsonrpc|id|method)"\s*+:\s*+(?:"[^"\\]*+"|[-+.\w]++)\s*+(?:,|(?=\}))){1,3}+)\}\Z'
)
_BATCH = "JSON-RPC batches are not part of this protocol: send each message by itself"


class InputError(JSONRPCError):
    """The response to invalid input. JSON-RPC allows any number as an id, MCP only integers."""

    id: RequestId | float | None  # type: ignore[assignment]


def parse_message(raw: bytes) -> JSONRPCMessage | list[InputError]:
    """Parse a message as the SDK does, or return the errors to respond with.

    The list is empty for an invalid notification or response, to which JSON-RPC has no response. A batch gets one error
    for each request in it.
    """
    try:
        content = from_json(raw)
    except ValueError as error:
        content = _recover_content(raw)
        if isinstance(content, dict) and _needs_no_answer(content):
            return []
        # JSON-RPC specifies an id of null here. But the sender waits for its own id, if that can be found.
        request_id = _id_of(content) if isinstance(content, dict) else None
        return [_error(request_id, PARSE_ERROR, f"Parse error: {error}")]
    if isinstance(content, list):
        ids = [_id_of(each) for each in content if isinstance(each, dict) and {"id", "method"} <= each.keys()]
        return [_error(each, INVALID_REQUEST, _BATCH) for each in ids or [None]]
    try:
        message = jsonrpc_message_adapter.validate_python(content, by_name=False)
    except ValidationError:
        pass
    else:
        # A request with an invalid id also matches the model of a notification, which ignores unknown members.
        if not (isinstance(message, JSONRPCNotification) and "id" in content):
            return message
    if not isinstance(content, dict):
        return [_error(None, INVALID_REQUEST, "Invalid request: a message is a JSON object")]
    if _needs_no_answer(content):
        return []
    return [_error(_id_of(content), INVALID_REQUEST, f"Invalid request: {'; '.join(_faults(content))}")]


def _needs_no_answer(content: dict[str, Any]) -> bool:
    is_answer = "method" not in content and ("result" in content or "error" in content)
    return is_answer or ("id" not in content and isinstance(content.get("method"), str))


def _faults(content: dict[str, Any]) -> Iterator[str]:
    if content.get("jsonrpc") != JSONRPC_VERSION:
        yield f'jsonrpc must be "{JSONRPC_VERSION}"'
    if not isinstance(content.get("id"), str | int) or isinstance(content["id"], bool):
        yield "id must be a string or an integer"
    if not isinstance(content.get("method"), str):
        yield "method must be a string"
    if not isinstance(content.get("params"), dict | None):
        yield "params must be an object"


def _error(request_id: RequestId | float | None, code: int, message: str) -> InputError:
    return InputError(jsonrpc=JSONRPC_VERSION, id=request_id, error=ErrorData(code=code, message=message))


def _id_of(content: dict[str, Any]) -> RequestId | float | None:
    """Return the id of a request if JSON-RPC allows it. Without a method, it may be the id of one of our requests."""
    found = content.get("id") if "method" in content else None
    is_one = isinstance(found, str | int | float) and not isinstance(found, bool)
    return found if is_one and _is_serializable(found) else None


def _is_serializable(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:  # a lone surrogate, NaN, or too many digits
        return False
    return True


def _recover_content(raw: bytes) -> object:
    """Return the content of a text that the SDK can't parse; for a broken object, the members that can be found.

    The parser of the standard library also accepts lone surrogates, control characters, invalid UTF-8 and deeper
    nesting.
    """
    try:
        return json.loads(raw.decode(errors="surrogateescape"), strict=False)
    except (ValueError, RecursionError):
        pass
    tokens = [found[0] for found in islice(_TOKEN.finditer(raw), _TOKENS)]
    content, is_open = _members(tokens)
    if is_open and len(tokens) == _TOKENS and (last := _LAST_MEMBERS.search(raw.rstrip()[-_LAST_BYTES:])):
        content = _members([b"{", *_TOKEN.findall(last[1])])[0] | content
    # A missing id in broken syntax does not make the input a notification.
    return {"id": None} | content


def _members(tokens: list[bytes]) -> tuple[dict[str, Any], bool]:
    """Return the relevant members of the object at the beginning of the tokens, and whether it continues after them.

    A value that is no scalar is None.
    """
    members: dict[str, Any] = {}
    depth = 0
    name = separator = b""
    for token in tokens:
        if not depth and (token != b"{" or name):
            break
        if depth == 1 and separator == b":" and name in _RELEVANT:
            members.setdefault(_RELEVANT[name], _scalar(token))
        depth += (token in b"{[") - (token in b"}]")
        name, separator = separator, token
    return members, depth > 0


def _scalar(token: bytes) -> Any:
    try:
        return json.loads(token)
    except ValueError:
        return None
