"""Builds events of every kind with a person's name in every text field, and finds the name again."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload
from temporalio.api.history.v1 import HistoryEvent

NAME = "Zbigniew"
_KINDS = [field.name for field in HistoryEvent.DESCRIPTOR.oneofs_by_name["attributes"].fields]
_numbers = itertools.count(1)


def every_event() -> Iterator[HistoryEvent]:
    """Events of every kind, with the name in every text. Each alternative of a oneof is filled in turn."""
    for name in _KINDS:
        for choice in range(12):
            event = HistoryEvent()
            _fill(event, choice, ())
            held = getattr(event, name)
            held.SetInParent()
            _fill(held, choice, ())
            event.event_id = next(_numbers)
            yield event


def left_in(event: HistoryEvent) -> Iterator[tuple[str, str]]:
    """Message and field names of all texts that contain the name."""
    yield from _left(event)


def planted(text: str) -> str:
    """The text with the name in it, like a hand-written id."""
    return f"{text}-by-{NAME}.smith@example.com"


def _left(message: Message) -> Iterator[tuple[str, str]]:
    for field, value in message.ListFields():
        for key, each in _items(field, value):
            if isinstance(each, Message):
                yield from _left(each)
            elif NAME in (each.decode() if isinstance(each, bytes) else str(each)):
                yield message.DESCRIPTOR.name, field.name
            if NAME in key:
                yield message.DESCRIPTOR.name, f"{field.name}[key]"


def _items(field: FieldDescriptor, value: Any) -> Iterator[tuple[str, Any]]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        yield from ((str(key), value[key]) for key in value)
    elif field.is_repeated:
        yield from (("", each) for each in value)
    else:
        yield "", value


def _fill(message: Any, choice: int, within: tuple[str, ...]) -> None:
    if isinstance(message, Payload):
        message.metadata["encoding"] = b"json/plain"
        message.data = json.dumps({"by": _text()}).encode()
        return
    name = message.DESCRIPTOR.full_name
    if name in within or len(within) > 8:
        return
    for field in message.DESCRIPTOR.fields:
        chosen = field.containing_oneof
        if chosen is not None and chosen.fields[choice % len(chosen.fields)] is not field:
            continue
        if isinstance(message, HistoryEvent) and chosen is not None:
            continue
        _fill_field(message, field, choice, (*within, name))


def _fill_field(message: Any, field: FieldDescriptor, choice: int, within: tuple[str, ...]) -> None:
    value = getattr(message, field.name)
    kind = field.message_type
    if kind is not None and kind.full_name.startswith("google.protobuf."):
        return
    if kind is not None and kind.GetOptions().map_entry:
        of = kind.fields_by_name["value"]
        if of.message_type is not None:
            _fill(value["of_a_field"], choice, within)
        else:
            value["token"] = _text() if of.type == FieldDescriptor.TYPE_STRING else _text().encode()
    elif kind is not None:
        _fill(value.add() if hasattr(value, "add") else value, choice, within)
    elif field.type == FieldDescriptor.TYPE_STRING:
        if hasattr(value, "append"):
            value.append(_text())
        else:
            setattr(message, field.name, _text())
    elif field.type == FieldDescriptor.TYPE_BYTES:
        setattr(message, field.name, _text().encode())


def _text() -> str:
    return planted(f"id{next(_numbers)}")
