"""Walks protobuf messages: all nested messages, and every field that holds payloads."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from temporalio.api.common.v1 import Header, Payload, SearchAttributes
from temporalio.api.history.v1 import HistoryEvent

_NOT_ENCODED = frozenset(kind.DESCRIPTOR.full_name for kind in (Header, SearchAttributes))


@dataclass(frozen=True)
class PayloadSlot:
    """A field or map entry that holds payloads.

    Attributes:
        name: Name of the field, or key of the map entry.
    """

    name: str
    _container: Any

    def payloads(self) -> Sequence[Payload]:
        """The payloads in the slot."""
        return [self._container] if isinstance(self._container, Payload) else list(self._container)

    def replace(self, payloads: Sequence[Payload]) -> None:
        """Replace the payloads; a singular field takes the first one."""
        if isinstance(self._container, Payload):
            self._container.CopyFrom(payloads[0])
        else:
            del self._container[:]
            self._container.extend(payloads)


def walk(message: Message, *, excluding: Container[str] = ()) -> Iterator[Message]:
    """Yield the message and all messages nested in it, except types whose full names are in `excluding`."""
    if message.DESCRIPTOR.full_name in excluding:
        return
    yield message
    for field, value in message.ListFields():
        for each in _messages(field, value):
            yield from walk(each, excluding=excluding)


def payload_slots(message: Message, *, excluding: Container[str] = ()) -> list[PayloadSlot]:
    """All payload slots below a message, in a fixed order; `excluding` as for `walk`."""
    found: list[PayloadSlot] = []
    for each in walk(message, excluding=excluding):
        for field, value in each.ListFields():
            if _is_map(field):
                found += [
                    PayloadSlot(key, value[key]) for key in sorted(value, key=str) if isinstance(value[key], Payload)
                ]
            elif field.message_type is not None and field.message_type.full_name == Payload.DESCRIPTOR.full_name:
                found.append(PayloadSlot(field.name, value))
    return found


def encoded_slots(event: HistoryEvent) -> list[PayloadSlot]:
    """All slots of an event whose payloads a codec has encoded.

    The SDK does not encode search attributes (the server reads them), nor headers by default. In markers it
    encodes only the result or failure of a local activity.
    """
    if not event.HasField("marker_recorded_event_attributes"):
        return payload_slots(event, excluding=_NOT_ENCODED)
    marker = event.marker_recorded_event_attributes
    roots: list[Message] = [marker.failure, *([marker.details["result"]] if "result" in marker.details else [])]
    return [held for root in roots for held in payload_slots(root)]


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _messages(field: FieldDescriptor, value: Any) -> Iterator[Message]:
    if field.message_type is None:
        return
    if _is_map(field):
        yield from (value[key] for key in sorted(value, key=str) if isinstance(value[key], Message))
    elif isinstance(value, Message):
        yield value
    else:
        yield from value
