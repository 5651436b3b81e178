"""Schemas of the tools: small, and readable by strict hosts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from mcp import Client
from mcp_types import Tool
from pydantic import BaseModel, Field

from invoice_mcp.cli.demo import sample_invoice
from invoice_mcp.server.startup import Startup
from invoice_mcp.server.tool_schemas import compact, make_strict, outline, strip_descriptions
from invoice_mcp.server.tools import Backend, build_deferred_server
from tests.requirements import requirement

# Keywords that OpenAI's strict mode accepts and that we use.
STRICT = {"type", "description", "properties", "required", "additionalProperties", "items", "enum", "anyOf", "const"}
STRICT |= {"pattern", "format", "minimum", "maximum", "exclusiveMinimum", "minItems", "maxItems"}
# Size of the tool list in release 0.1.0.
BYTES_BEFORE = 27_000


class Inner(BaseModel):
    """For developers. Raises: pydantic.ValidationError."""

    title: str = Field(description="A title", max_length=5)


class Outer(BaseModel):
    one: Inner = Field(description="The one")
    many: list[Inner] = []
    named: dict[str, Inner] = {}
    pattern: str = Field(default="x", pattern="^x$")


class Endless(BaseModel):
    next: Endless | None = None


async def tools() -> list[Tool]:
    startup: Startup[Backend] = Startup()
    async with Client(build_deferred_server(startup)) as client:
        return (await client.list_tools()).tools


def schemas_in(schema: object) -> Iterator[dict[str, Any]]:
    """Yield a schema and all its subschemas."""
    if isinstance(schema, dict):
        yield schema
        for key, part in schema.items():
            for each in part.values() if key == "properties" else [part]:
                yield from schemas_in(each)
    elif isinstance(schema, list):
        for part in schema:
            yield from schemas_in(part)


@requirement("TOOL-SCHEMAS")
async def test_the_tool_list_is_small_without_references_and_internals() -> None:
    listed = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in await tools()]
    text = json.dumps(listed, separators=(",", ":"))
    assert len(text) < BYTES_BEFORE / 2
    for word in ("$ref", "$defs", "pydantic", "Raises", "seed", "idempotency_key"):
        assert word not in text


@requirement("TOOL-SCHEMAS")
async def test_every_input_schema_is_strict() -> None:
    """OpenAI's strict mode: objects list all properties, and few keywords are allowed."""
    for tool in await tools():
        for schema in schemas_in(tool.input_schema):
            assert "type" in schema or "anyOf" in schema, (tool.name, schema)
            assert "items" not in schema or schema["type"] == "array", (tool.name, schema)
            if schema.get("type") == "object":
                assert schema["additionalProperties"] is False, (tool.name, schema)
                assert schema["properties"]
            assert schema.keys() <= STRICT, (tool.name, schema)
            assert "(?" not in schema.get("pattern", "")


@requirement("TOOL-SCHEMAS")
async def test_every_output_schema_is_an_object() -> None:
    for tool in await tools():
        assert tool.output_schema
        assert tool.output_schema["type"] == "object"
        assert "anyOf" not in tool.output_schema
        assert tool.output_schema["properties"]["summary"]["type"] == "string"


@requirement("TOOL-SCHEMAS", "INV-SAMPLE")
async def test_the_sample_matches_the_schema_of_trigger() -> None:
    [trigger, *_] = await tools()
    pairs = {"metadata": [{"key": "purchase_order", "value": "4711"}]}
    for invoice in (sample_invoice(), sample_invoice() | pairs):
        Draft202012Validator(trigger.input_schema).validate({"invoice": invoice})


def test_a_compact_schema_accepts_the_same_objects() -> None:
    schema, whole = compact(Outer.model_json_schema()), Outer.model_json_schema()
    inner = {"title": "a"}
    good = [{"one": inner}, {"one": inner, "many": [inner], "named": {"description": inner}}]
    bad = [
        {},
        {"one": {}},
        {"one": inner, "many": [1]},
        {"one": inner, "pattern": "y"},
        {"one": inner, "named": {"x": 1}},
    ]
    for value, is_good in [*((each, True) for each in good), *((each, False) for each in bad)]:
        assert Draft202012Validator(whole).is_valid(value) == Draft202012Validator(schema).is_valid(value) == is_good
    assert schema["properties"]["one"] == {
        "description": "The one",
        "properties": {"title": {"type": "string", "description": "A title", "maxLength": 5}},
        "required": ["title"],
        "type": "object",
    }
    assert schema["properties"]["pattern"] == {"default": "x", "pattern": "^x$", "type": "string"}
    assert make_strict(schema)["properties"]["pattern"] == {"pattern": "^x$", "type": "string"}
    assert "maxLength" not in str(make_strict(schema))


def test_an_outline_omits_the_properties_of_nested_objects() -> None:
    schema = outline(strip_descriptions(compact(Outer.model_json_schema())))
    assert schema["properties"]["one"] == {"type": "object"}
    assert schema["properties"]["many"] == {"default": [], "items": {"type": "object"}, "type": "array"}
    assert schema["required"] == ["one"]


def test_a_recursive_type_can_not_be_compacted() -> None:
    with pytest.raises(ValueError, match="contains itself"):
        compact(Endless.model_json_schema())
