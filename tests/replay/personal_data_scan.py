"""Looks for people and machines in a recording: every word of it must be one of the code's own, or of Faker's."""

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
# What machines make: ids, digests, points in time.
_MADE = re.compile(
    r"[0-9a-f]{64}|[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\d[T ][\d:.]+(Z|[-+][\d:]+)?"
)
# Faker's providers of which the recorded paths make names and sentences.
_MAKES_UP = {"person", "company", "lorem"}
# What the server and the SDK say of themselves, and the code does not.
_TEMPORALS = (
    "request-from-RespondWorkflowTaskCompleted",
    "WORKFLOWALREADYSTARTED",
    "KeywordList",
    "WorkerShutdown",
    "Worker is shutting down and this activity did not complete in time",
)


def texts_of(value: Any, under: str = "") -> Iterator[tuple[str, str]]:
    """Every text in the JSON of a recording's events, payloads decoded, with the name it stands under."""
    if isinstance(value, dict):
        for key, each in value.items():
            is_encoded = isinstance(each, str) and (key == "data" or under == "metadata")
            yield from texts_of(base64.b64decode(each).decode() if is_encoded else each, key)
    elif isinstance(value, list):
        for each in value:
            yield from texts_of(each, under)
    elif isinstance(value, str):
        yield under, value


def strangers_in(events: Any) -> list[str]:
    """The texts with a word that neither the code nor Faker uses, or that names a machine."""
    return [
        text
        for under, text in texts_of(events)
        if under != "eventType" and (_words(_MADE.sub(" ", text)) - _known() or _is_of_a_machine(under, text))
    ]


def _is_of_a_machine(under: str, text: str) -> bool:
    is_named = under == "identity" and text != "worker"
    return is_named or under == "stackTrace" or "@" in text or "site-packages" in text or _is_a_worlds_queue(text)


_PACKAGES = ("invoice_mcp", "mcp_temporal_tasks", "temporal_replay", "temporal_simulator")


def _is_a_worlds_queue(text: str) -> bool:
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
    return frozenset(code.union(*(_words(text) for text in (*_TEMPORALS, *_made_up()))))


def _made_up() -> Iterator[str]:
    for provider in Faker("en_US").get_providers():
        if type(provider).__module__.split(".")[2] in _MAKES_UP:
            for name in dir(type(provider)):
                if not name.startswith("__"):
                    yield from _leaves(getattr(type(provider), name))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple | set):
        for each in value:
            yield from _leaves(each)
