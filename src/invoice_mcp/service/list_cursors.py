"""Cursors of the tool `list`. Pure.

A cursor is a checksum and Temporal's page token, in base64url. The token names the last execution shown; it is no
offset, so executions that start or end between two pages do not shift the following pages. The checksum detects a
cursor of another status and a damaged one: Temporal would answer a damaged token with an internal error.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode

from invoice_mcp.domain.errors import ErrorCode, RefusedError
from invoice_mcp.domain.report import Status

_CHECKSUM_BYTES = 6


def encode_cursor(token: bytes, status: Status | None) -> str:
    """The cursor of the page after this one, given Temporal's token."""
    return urlsafe_b64encode(_checksum(token, status) + token).decode().rstrip("=")


def decode_cursor(cursor: str, status: Status | None) -> bytes:
    """Temporal's token for the next page of this list; empty for the first one.

    Raises:
        RefusedError: INVALID_ARGUMENT: not a cursor of this list.
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
            ErrorCode.INVALID_ARGUMENT, f"{what}. Pass it unchanged, or leave it out to start at the first page."
        )
    return token


def _checksum(token: bytes, status: Status | None) -> bytes:
    return hashlib.sha256(f"{status or ''}\n".encode() + token).digest()[:_CHECKSUM_BYTES]
