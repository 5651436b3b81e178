"""JSON schemas of tools, as hosts need them: small, without references, and in the subset that strict hosts take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DEFINITIONS = "#/$defs/"
# Titles repeat names for developers. OpenAI's strict mode refuses a schema with one of the others: a default is said in
# the description, and a text that is too long is refused by name.
_LEFT_OUT = frozenset({"$defs", "$ref", "title", "default", "minLength", "maxLength"})
# Maps from names to schemas; every other mapping in a schema is a schema itself, or plain data.
_MAPS = frozenset({"properties", "patternProperties"})
_DATA = frozenset({"const", "enum", "examples", "required"})
# Regular expressions that look around are refused by the engines of Gemini and OpenAI.
_LOOKS_AROUND = "(?"


def compact(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without `$ref`, docstrings, and what some hosts refuse. It takes at least the same values.

    Some hosts drop `$defs`, and with it what every reference means.

    Raises:
        ValueError: A type contains itself.
    """
    return _without_docstring(_compacted(schema, schema.get("$defs", {}), ()))


def without_descriptions(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A compact schema that says what there is, and leaves what it means to a tool that says it."""
    return {
        key: _mapped(value, without_descriptions, is_map=key in _MAPS) if key not in _DATA else value
        for key, value in schema.items()
        if key != "description"
    }


def outline(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A compact schema of an object that takes more: of the objects in it, it does not say what they hold."""
    properties = {name: _mapped(each, _opened) for name, each in schema.get("properties", {}).items()}
    return {**schema, "properties": properties}


def _opened(schema: Mapping[str, Any]) -> dict[str, Any]:
    if "properties" in schema:
        return {"type": "object"}
    return {key: value if key in _DATA else _mapped(value, _opened) for key, value in schema.items()}


def _compacted(schema: Mapping[str, Any], definitions: Mapping[str, Any], inside: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if (reference := schema.get("$ref")) is not None:
        name = str(reference).removeprefix(_DEFINITIONS)
        if name in inside:
            raise ValueError(f"{name} contains itself, which can't be written without a reference")
        found = _without_docstring(_compacted(definitions[name], definitions, (*inside, name)))
    for key, value in schema.items():
        if key in _LEFT_OUT or (key == "pattern" and _LOOKS_AROUND in value):
            continue
        if key in _DATA:
            found[key] = value
        else:
            found[key] = _mapped(value, lambda each: _compacted(each, definitions, inside), is_map=key in _MAPS)
    return found


def _without_docstring(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "description"}


def _mapped(value: Any, function: Any, *, is_map: bool = False) -> Any:
    """A part of a schema, with the function done to each schema in it."""
    if isinstance(value, Mapping):
        return {name: function(each) for name, each in value.items()} if is_map else function(value)
    if isinstance(value, list):
        return [function(each) if isinstance(each, Mapping) else each for each in value]
    return value
