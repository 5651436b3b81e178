"""Exceptions of the product, and the stable error codes."""

from __future__ import annotations

from enum import StrEnum


class ErrorCode(StrEnum):
    """The code that every refusal starts with. Stable: agents, hosts and tests rely on it."""

    INVOICE_INVALID = "INVOICE_INVALID"
    INVOICE_CONFLICT = "INVOICE_CONFLICT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_DECIDED = "ALREADY_DECIDED"
    ALREADY_CLOSED = "ALREADY_CLOSED"
    TEMPORAL_UNAVAILABLE = "TEMPORAL_UNAVAILABLE"
    NO_WORKER = "NO_WORKER"
    NO_ANSWER = "NO_ANSWER"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_SUPPORTED = "NOT_SUPPORTED"
    NOT_CONFIRMED = "NOT_CONFIRMED"
    INTERNAL = "INTERNAL"


class RefusedError(Exception):
    """A request that is refused. The text reads `CODE: why. What to do next.`"""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class ConfigurationError(Exception):
    """The configuration can't work. The message says where to look."""
