"""Validates a client's responses, so that workflows receive well-formed ones only."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, ElicitResult
from pydantic import ValidationError

MAX_RESPONSE_BYTES = 256 * 1024


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# Not by jsonschema: forms are flat, null counts as absent, and rules other than type and required are left to the
# workflow. Importing jsonschema would also slow down servers, which mcp otherwise leaves without it.
_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: _is_number(value) and value == value // 1,
    "number": _is_number,
    "array": lambda value: isinstance(value, list),
}


def validate_responses(requests: Mapping[str, Any], responses: Mapping[str, Any]) -> None:
    """Check that each response fits its request, and that all responses together are not too large.

    An accepted form must have the required properties, and values of the declared types. All other rules of the schema
    are left to the workflow, which can ask again and say why.

    Raises:
        MCPError: -32602.
    """
    if not all(isinstance(response, Mapping) for response in responses.values()):
        raise MCPError(INVALID_PARAMS, "Each response must be an object, such as an elicitation's result")
    try:
        size = len(json.dumps(responses).encode())
    except (RecursionError, ValueError):
        size = MAX_RESPONSE_BYTES + 1
    if size > MAX_RESPONSE_BYTES:
        raise MCPError(INVALID_PARAMS, f"The responses are larger than {MAX_RESPONSE_BYTES // 1024} KiB")
    for key, response in responses.items():
        error = _find_error(requests.get(key), response)
        if error is not None:
            raise MCPError(INVALID_PARAMS, f"The response to {key} can't be taken: {error}")


def _find_error(request: Any, response: Mapping[str, Any]) -> str | None:
    if not isinstance(request, Mapping) or request.get("method") != "elicitation/create":
        return None
    try:
        action = ElicitResult.model_validate(response, by_name=False).action
    except ValidationError:
        return "it is not the result of an elicitation"
    schema = _object(_object(request.get("params")).get("requestedSchema"))
    return _find_form_error(schema, _object(response.get("content"))) if action == "accept" else None


def _find_form_error(schema: Mapping[str, Any], content: Mapping[str, Any]) -> str | None:
    required = schema.get("required") or ()
    for name in required:
        if content.get(name) is None:
            return f"{name} is required"
    for name, rule in _object(schema.get("properties")).items():
        value, kind = content.get(name), _object(rule).get("type")
        fits = _TYPES.get(kind) if isinstance(kind, str) else None
        if value is not None and fits is not None and not fits(value):
            return f"{name} must be of type {kind}"
    return None


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
