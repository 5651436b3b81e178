"""Scans recordings for personal and machine data: every word must occur in the code, or come from Faker."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from faker import Faker

import invoice_mcp

_WORD = re.compile(r"[^\W\d_]+")
# Generated values: ids, digests, timestamps.
_GENERATED = re.compile(
    r"[0-9a-f]{64}|[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\d[T ][\d:.]+(Z|[-+][\d:]+)?"
)
# The Faker providers that the recorded paths use.
_FAKER_PROVIDERS = {"person", "company", "lorem"}
# Words of the server and the SDK that the code does not use.
_TEMPORAL_TEXTS = (
    "request-from-RespondWorkflowTaskCompleted",
    "WORKFLOWALREADYSTARTED",
    "KeywordList",
    "WorkerShutdown",
    "Worker is shutting down and this activity did not complete in time",
)


def texts_of(value: Any, under: str = "") -> Iterator[tuple[str, str]]:
    """Every text in the JSON of events, payloads decoded, with the key it is stored under."""
    if isinstance(value, dict):
        for key, each in value.items():
            is_encoded = isinstance(each, str) and (key == "data" or under == "metadata")
            yield from texts_of(base64.b64decode(each).decode() if is_encoded else each, key)
    elif isinstance(value, list):
        for each in value:
            yield from texts_of(each, under)
    elif isinstance(value, str):
        yield under, value


def unknown_texts(events: Any) -> list[str]:
    """The texts with a word that neither the code nor Faker uses, or that identify a machine."""
    return [
        text
        for under, text in texts_of(events)
        if under != "eventType" and (_words(_GENERATED.sub(" ", text)) - _known() or _identifies_machine(under, text))
    ]


def _identifies_machine(under: str, text: str) -> bool:
    is_named = under == "identity" and text != "worker"
    return is_named or under == "stackTrace" or "@" in text or "site-packages" in text or _is_world_queue(text)


_PACKAGES = ("invoice_mcp", "mcp_temporal_tasks", "temporal_replay", "temporal_simulator")


def _is_world_queue(text: str) -> bool:
    return re.fullmatch(r"world-\d+", text) is not None


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))


@cache
def _known() -> frozenset[str]:
    code = {
        word
        for package in _PACKAGES
        for path in (Path(invoice_mcp.__file__).parents[1] / package).rglob("*.py")
        for word in _words(path.read_text("utf-8"))
    }
    return frozenset(code.union(*(_words(text) for text in (*_TEMPORAL_TEXTS, *_faker_words()))))


def _faker_words() -> Iterator[str]:
    for provider in Faker("en_US").get_providers():
        if type(provider).__module__.split(".")[2] in _FAKER_PROVIDERS:
            for name in dir(type(provider)):
                if not name.startswith("__"):
                    yield from _leaves(getattr(type(provider), name))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple | set):
        for each in value:
            yield from _leaves(each)
