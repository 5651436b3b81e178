"""What comes in as JSON-RPC, and the error for whatever is no message that MCP knows. Pure.

The SDK drops such input on stdin without an answer, and over HTTP it takes a request whose id it does not allow for a
notification, or answers without the request's id (docs/upstream/unanswered-input.md). Whoever sent it then waits for
ever. Here each gets the error that JSON-RPC has for it, with its id where one can be found, and a method, which shows
that it is no answer: the id of an answer is one of the server's.
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

# Strings (possessive: what is never closed is looked at once), brackets and separators, and anything else in one piece.
_TOKEN = re.compile(rb'"(?:[^"\\]+|\\.)*+"?|[{}\[\]:,]|[^\s{}\[\]:,"]+', re.DOTALL)
# Of what can't be parsed so much is looked at: its first tokens, and its last bytes. Whoever sends it waits for little,
# and everybody else waits meanwhile.
_TOKENS = 4096
_LAST_BYTES = 1024
_RELEVANT = {f'"{name}"'.encode(): name for name in ("id", "method", "result", "error")}
# Behind the value of another member.
_LAST_MEMBERS = re.compile(
    rb',((?:\s*+"(?:jsonrpc|id|method)"\s*+:\s*+(?:"[^"\\]*+"|[-+.\w]++)\s*+(?:,|(?=\}))){1,3}+)\}\Z'
)
_BATCH = "JSON-RPC batches are not part of this protocol: send each message by itself"


class InputError(JSONRPCError):
    """The answer to what is no message. JSON-RPC allows any number as an id, MCP whole ones only."""

    id: RequestId | float | None  # type: ignore[assignment]


def parse_message(raw: bytes) -> JSONRPCMessage | list[InputError]:
    """A message as the SDK reads it, or what to answer instead: nothing where JSON-RPC has no answer.

    That is to a notification, and to an answer, also to one that can't be parsed. A batch gets one error for each
    request in it.
    """
    try:
        content = from_json(raw)
    except ValueError as error:
        content = _recover_content(raw)
        if isinstance(content, dict) and _needs_no_answer(content):
            return []
        # By the letter of JSON-RPC the id is null here. Where it can be found, its sender waits for it.
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
        # A request whose id is none also fits the model of a notification, which ignores what it does not know.
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
        yield "id must be a text or a whole number"
    if not isinstance(content.get("method"), str):
        yield "method must be a text"
    if not isinstance(content.get("params"), dict | None):
        yield "params must be an object"


def _error(request_id: RequestId | float | None, code: int, message: str) -> InputError:
    return InputError(jsonrpc=JSONRPC_VERSION, id=request_id, error=ErrorData(code=code, message=message))


def _id_of(content: dict[str, Any]) -> RequestId | float | None:
    """The id of a request, as far as JSON-RPC knows such ids. Without a method, it may be the id of one of ours."""
    found = content.get("id") if "method" in content else None
    is_one = isinstance(found, str | int | float) and not isinstance(found, bool)
    return found if is_one and _is_serializable(found) else None


def _is_serializable(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:  # a lone surrogate, no number, or too many digits
        return False
    return True


def _recover_content(raw: bytes) -> object:
    """What a text that can't be parsed says, or of an object the members that can be told, which may be none.

    The parser of the standard library takes what the SDK's does not: lone surrogates, control characters, no UTF-8,
    more levels.
    """
    try:
        return json.loads(raw.decode(errors="surrogateescape"), strict=False)
    except (ValueError, RecursionError):
        pass
    tokens = [found[0] for found in islice(_TOKEN.finditer(raw), _TOKENS)]
    content, is_open = _members(tokens)
    if is_open and len(tokens) == _TOKENS and (last := _LAST_MEMBERS.search(raw.rstrip()[-_LAST_BYTES:])):
        content = _members([b"{", *_TOKEN.findall(last[1])])[0] | content
    # Where the syntax is broken, that no id is found does not make it a notification.
    return {"id": None} | content


def _members(tokens: list[bytes]) -> tuple[dict[str, Any], bool]:
    """The members of the object that the tokens begin with, as far as these go, and whether it goes on behind them.

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
