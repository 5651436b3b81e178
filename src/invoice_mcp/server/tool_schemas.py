"""Transformations of tool schemas: small, without references, and in the JSON Schema subset of strict hosts.

Each function returns a new schema.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Schema = Mapping[str, Any]

_DEFINITIONS = "#/$defs/"
# Keywords whose value maps names to schemas. Any other mapping in a schema is itself a schema, except in plain data.
_MAPS = frozenset({"properties", "patternProperties"})
_PLAIN_DATA = frozenset({"const", "default", "enum", "examples", "required"})
# OpenAI's strict mode refuses these keywords. Descriptions name the defaults; the server refuses texts that are too
# long.
_NOT_STRICT = frozenset({"default", "maxLength", "minLength"})
# Gemini and OpenAI refuse regular expressions with lookaround.
_LOOKAROUND = "(?"


def compact(schema: Schema) -> dict[str, Any]:
    """Replace each `$ref` by its definition: some hosts drop `$defs`.

    Also remove titles, which repeat names, defaults of `null`, and docstrings of types, which are for developers.

    Raises:
        ValueError: A type contains itself.
    """
    definitions: Mapping[str, Schema] = schema.get("$defs", {})

    def compact_part(part: Schema, inside: tuple[str, ...] = ()) -> dict[str, Any]:
        inlined: dict[str, Any] = {}
        if "$ref" in part:
            name = str(part["$ref"]).removeprefix(_DEFINITIONS)
            if name in inside:
                raise ValueError(f"{name} contains itself, which can't be written without a reference")
            inlined = _strip_docstring(compact_part(definitions[name], (*inside, name)))
        kept = {
            key: value
            for key, value in part.items()
            if key not in {"$defs", "$ref", "title"} and (key != "default" or value is not None)
        }
        return inlined | _map_parts(kept, lambda each: compact_part(each, inside))

    return _strip_docstring(compact_part(schema))


def make_strict(schema: Schema) -> dict[str, Any]:
    """Remove keywords that strict hosts refuse. The result accepts at least the same values."""
    kept = {
        key: value
        for key, value in schema.items()
        if key not in _NOT_STRICT and not (key == "pattern" and _LOOKAROUND in value)
    }
    return _map_parts(kept, make_strict)


def strip_descriptions(schema: Schema) -> dict[str, Any]:
    """Remove all descriptions."""
    return _map_parts(_strip_docstring(schema), strip_descriptions)


def outline(schema: Schema) -> dict[str, Any]:
    """Reduce nested objects in a compact schema to `{"type": "object"}`."""
    properties = {name: _drop_properties(each) for name, each in schema.get("properties", {}).items()}
    return {**schema, "properties": properties}


def _drop_properties(schema: Schema) -> dict[str, Any]:
    return {"type": "object"} if "properties" in schema else _map_parts(schema, _drop_properties)


def _strip_docstring(schema: Schema) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "description"}


def _map_parts(schema: Schema, function: Callable[[Schema], dict[str, Any]]) -> dict[str, Any]:
    """Apply the function to each direct subschema."""

    def map_value(key: str, value: Any) -> Any:
        if key in _PLAIN_DATA:
            return value
        if isinstance(value, Mapping):
            return {name: function(each) for name, each in value.items()} if key in _MAPS else function(value)
        if isinstance(value, list):
            return [function(each) if isinstance(each, Mapping) else each for each in value]
        return value

    return {key: map_value(key, value) for key, value in schema.items()}
