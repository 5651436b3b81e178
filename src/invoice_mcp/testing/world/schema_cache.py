"""Spares an MCP client from validating the same shape of an answer again and again, which takes a quarter of its time.

The client holds every structured answer against the tool's output schema. Whether one conforms depends on its keys and
on the types of its values; on the values themselves only where the schema limits those, and all such limits of ours are
checked again when an answer is read as its model. So of each shape the first answer is validated, and the rest are not.
"""

from __future__ import annotations

from typing import Any

from mcp import Client
from mcp_types import CallToolResult


def cache_output_validation(client: Client, known: set[tuple[str, Any]]) -> None:
    """Let a client validate the first answer of each tool and shape only. What fails is validated every time.

    Args:
        known: The shapes that conform, by tool; of all clients whose servers have the same tools.
    """
    session = client.session
    validate = session.validate_tool_result

    async def validate_once(name: str, result: CallToolResult) -> None:
        shape = name, shape_of(result.structured_content)
        if shape not in known:
            await validate(name, result)
            known.add(shape)

    session.validate_tool_result = validate_once  # type: ignore[method-assign]


def shape_of(value: Any) -> Any:
    """The keys and types in some JSON, however often they repeat in a list."""
    if isinstance(value, dict):
        return tuple((key, shape_of(part)) for key, part in value.items())
    if isinstance(value, list):
        return frozenset(map(shape_of, value))
    return type(value)
