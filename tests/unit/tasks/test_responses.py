"""Validation of responses against the requested forms."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError

from mcp_temporal_tasks.server.responses import validate_responses
from tests.requirements import requirement


def asked(kind: str, required: bool = True) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"it": {"type": kind}}, "required": ["it"] if required else []}
    return {"key": {"method": "elicitation/create", "params": {"mode": "form", "requestedSchema": schema}}}


def filled(value: Any) -> dict[str, Any]:
    return {"key": {"action": "accept", "content": {"it": value}}}


@requirement("TASK-UPDATE")
@pytest.mark.parametrize(
    ("kind", "fitting", "others"),
    [
        ("string", ["", "x"], [1, True, ["x"], None]),
        ("boolean", [True, False], ["true", 1, 0, "on", None]),
        ("integer", [1, 1.0, 0], [1.5, "1", True, None]),
        ("number", [1, 1.5], ["1", True, None]),
        ("array", [[], ["x"]], ["x", 1, None]),
    ],
)
def test_a_value_must_have_the_declared_type(kind: str, fitting: list[Any], others: list[Any]) -> None:
    for value in fitting:
        validate_responses(asked(kind), filled(value))
    for value in others:
        with pytest.raises(MCPError, match="it"):
            validate_responses(asked(kind), filled(value))


@requirement("TASK-UPDATE")
def test_optional_values_may_be_omitted() -> None:
    for response in ({"action": "accept"}, {"action": "accept", "content": {}}, {"action": "decline"}):
        validate_responses(asked("string", required=False), {"key": response})
    validate_responses(asked("string", required=False), filled(None))
    validate_responses(asked("string"), {"key": {"action": "cancel", "content": {"it": 1}}})


@requirement("TASK-UPDATE")
def test_only_forms_are_checked() -> None:
    bare: Any = {"key": {"method": "elicitation/create"}}
    validate_responses(bare, {"key": {"action": "accept"}})
    others: list[Any] = [{"method": "roots/list"}, {}, "anything"]
    for request in others:
        validate_responses({"key": request}, {"key": {"roots": 1}})


@requirement("TASK-UPDATE")
def test_responses_up_to_256_kib_are_accepted() -> None:
    def responses(size: int) -> dict[str, Any]:
        empty = len(json.dumps({"key": {"text": ""}}))
        return {"key": {"text": "x" * (size - empty)}}

    validate_responses({}, responses(256 * 1024))
    with pytest.raises(MCPError, match="larger than 256 KiB"):
        validate_responses({}, responses(256 * 1024 + 1))
