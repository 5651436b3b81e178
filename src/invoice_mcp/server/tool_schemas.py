"""JSON schemas of tools, as hosts need them: small, without references, and in the subset that strict hosts take.

Each function takes a schema, leaves it as it is, and returns another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Schema = Mapping[str, Any]

_DEFINITIONS = "#/$defs/"
# Maps from names to schemas. Every other mapping in a schema is a schema itself, but in plain data.
_MAPS = frozenset({"properties", "patternProperties"})
_PLAIN_DATA = frozenset({"const", "default", "enum", "examples", "required"})
# OpenAI's strict mode refuses a schema with one of these. A default is said in the description, and a text that is too
# long is refused by name.
_NOT_STRICT = frozenset({"default", "maxLength", "minLength"})
# Regular expressions that look around are refused by the engines of Gemini and OpenAI.
_LOOKAROUND = "(?"


def compact(schema: Schema) -> dict[str, Any]:
    """The same without `$ref`: some hosts drop `$defs`, and with it what every reference means.

    And without titles, which repeat names, `null` as default, and the docstrings of types, which are for developers.

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
    """What is left of a compact schema for hosts that know few keywords. It takes at least the same values."""
    kept = {
        key: value
        for key, value in schema.items()
        if key not in _NOT_STRICT and not (key == "pattern" and _LOOKAROUND in value)
    }
    return _map_parts(kept, make_strict)


def strip_descriptions(schema: Schema) -> dict[str, Any]:
    """What there is, but not what it means."""
    return _map_parts(_strip_docstring(schema), strip_descriptions)


def outline(schema: Schema) -> dict[str, Any]:
    """A compact schema of an object, that does not say what the objects in it hold."""
    properties = {name: _open_objects(each) for name, each in schema.get("properties", {}).items()}
    return {**schema, "properties": properties}


def _open_objects(schema: Schema) -> dict[str, Any]:
    return {"type": "object"} if "properties" in schema else _map_parts(schema, _open_objects)


def _strip_docstring(schema: Schema) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "description"}


def _map_parts(schema: Schema, function: Callable[[Schema], dict[str, Any]]) -> dict[str, Any]:
    """A schema, with the function done to each schema directly in it."""

    def map_value(key: str, value: Any) -> Any:
        if key in _PLAIN_DATA:
            return value
        if isinstance(value, Mapping):
            return {name: function(each) for name, each in value.items()} if key in _MAPS else function(value)
        if isinstance(value, list):
            return [function(each) if isinstance(each, Mapping) else each for each in value]
        return value

    return {key: map_value(key, value) for key, value in schema.items()}
