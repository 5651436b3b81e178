"""Cursors of `list`: where a page ended, as a text to pass back. Pure.

A cursor holds Temporal's own page token, which names the last execution shown and is no count: what begins or ends
between two pages moves nothing out of the pages to come. Its checksum is there to notice a list of another status, and
what was copied wrongly, which Temporal would answer as a fault of its own.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode

from invoice_mcp.domain.errors import ErrorCode, RefusedError
from invoice_mcp.domain.report import Status

_CHECKSUM_BYTES = 6


def encode_cursor(token: bytes, status: Status | None) -> str:
    """The cursor behind a page of this list, given Temporal's token."""
    return urlsafe_b64encode(_checksum(token, status) + token).decode().rstrip("=")


def decode_cursor(cursor: str, status: Status | None) -> bytes:
    """Temporal's token for the next page of this list; empty for the first one.

    Raises:
        RefusedError: INVALID_ARGUMENT, it is no cursor of this list.
    """
    if not cursor:
        return b""
    try:
        raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError:
        raw = b""
    token = raw[_CHECKSUM_BYTES:]
    if not token or raw[:_CHECKSUM_BYTES] != _checksum(token, status) or encode_cursor(token, status) != cursor:
        what = "cursor: this is not the next_cursor of a list of the same status"
        raise RefusedError(
            ErrorCode.INVALID_ARGUMENT, f"{what}. Pass it as it was answered, or leave it out to begin anew."
        )
    return token


def _checksum(token: bytes, status: Status | None) -> bytes:
    return hashlib.sha256(f"{status or ''}\n".encode() + token).digest()[:_CHECKSUM_BYTES]
