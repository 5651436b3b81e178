"""A JSON POST to another system, bounded in time and in the size of the response. Used by both HTTP adapters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx2

from invoice_mcp.domain.display_text import printable

MAX_RESPONSE_BYTES = 64 * 1024
MAX_TEXT = 300

# Statuses about the configuration, never about the invoice or the payment, and what to check.
_SETUP = {
    401: "check the credentials",
    403: "check the credentials and what they may do",
    404: "check the base URL: nothing answers there",
    405: "check the base URL: what answers there takes no POST",
    407: "check the proxy and its credentials",
}
_TRANSIENT = frozenset({408, 425, 429})
_ACCEPTED = 202


class NoVerdictError(Exception):
    """No response, or one without a verdict: the request may or may not have had its effect."""


@dataclass(frozen=True)
class JsonResponse:
    """A verdict of the other system.

    Attributes:
        status: 2xx, or a 4xx about the request itself.
        body: The JSON object in the body; None if the body is anything else.
    """

    status: int
    body: Mapping[str, object] | None

    def text(self, *names: str, max_length: int = MAX_TEXT) -> str | None:
        """The first of these fields that contains text, made printable and truncated; None if none does."""
        for name in names:
            value = (self.body or {}).get(name)
            if isinstance(value, str) and (text := printable(value, max_length)):
                return text
        return None


class JsonEndpoint:
    """A URL of another system, to which JSON is posted, each time over a new connection.

    On a reused connection, a response that arrives twice or too late would be taken for that of the next request.

    Args:
        name: Name of the system in messages, such as "the ERP".
        base_url: http or https. A user and password in it are sent as basic authentication, and never shown.
        path: Appended to `base_url`; with a leading slash.
        timeout: Seconds for a whole call, from connecting to the last byte of the response.
        client: A client to use instead of a new one, for other authentication, certificates or proxies. The caller
            closes it. It must speak HTTP/1.1. Use it for nothing else: an open connection in its pool may be reused.

    Raises:
        ValueError: `base_url` is not such a URL.
    """

    def __init__(
        self, name: str, base_url: str, path: str, *, timeout: float, client: httpx2.AsyncClient | None = None
    ) -> None:
        try:
            url = httpx2.URL(base_url)
        except httpx2.InvalidURL:
            # The client's own message may contain a part of the password.
            raise ValueError(f"the URL of {name} is not valid; is its password percent-encoded?") from None
        if url.scheme not in {"http", "https"} or not url.host or url.query or url.fragment:
            raise ValueError(f"the URL of {name} must look like https://host/path, without a query")
        self._auth = httpx2.BasicAuth(url.username, url.password) if url.userinfo else httpx2.USE_CLIENT_DEFAULT
        # The client logs each URL, so the password is removed.
        self._url = url.copy_with(userinfo=b"", raw_path=url.raw_path.rstrip(b"/?") + path.encode())
        self._name = f"{name} at {self._url}"
        self._timeout = timeout
        self._owns_client = client is None
        # No cookies: nothing from one invoice's response is sent with the next invoice.
        self._client = client or httpx2.AsyncClient(cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])))

    async def aclose(self) -> None:
        """Close the client, unless the caller provided it."""
        if self._owns_client:
            await self._client.aclose()

    async def post(
        self, content: object, *, echoed_fields: Mapping[str, object], headers: Mapping[str, str] | None = None
    ) -> JsonResponse:
        """Post `content` as JSON and return the verdict.

        Args:
            echoed_fields: Field -> text or number. If the response has the field, its value must be the same: otherwise
                the response belongs to another request.
            headers: Sent with the request. If the response has such a header, its value must be the same.

        Raises:
            NoVerdictError: In all other cases. The message says what to check.
        """
        sent = headers or {}
        try:
            async with asyncio.timeout(self._timeout):
                status, raw, echoed = await self._exchange(content, sent)
        except (TimeoutError, httpx2.TimeoutException) as error:
            raise NoVerdictError(f"{self._name} gave no complete answer within {self._timeout:g} s") from error
        except Exception as error:
            # A broken peer can make the client raise anything; callers handle one kind of error.
            detail = printable(f"{type(error).__name__}: {error}", MAX_TEXT)
            raise NoVerdictError(f"{self._name} could not be asked, or broke off ({detail})") from error
        answer = JsonResponse(status, _json_object(raw))
        if (advice := _no_verdict_advice(status)) is not None:
            reason = answer.text("reason", "error")
            raise NoVerdictError(f"{self._name} answered {status}{f' ({reason})' if reason else ''}: {advice}")
        for expected, received in ((echoed_fields, answer.body or {}), (sent, echoed)):
            for name, value in expected.items():
                if received.get(name) is not None and not _is_same(value, received[name]):
                    is_plain = isinstance(received[name], str | int | float)
                    shown = printable(str(received[name]), 80) if is_plain else "neither text nor number"
                    what = f"its {name} is {shown}, not {value}"
                    raise NoVerdictError(f"{self._name} gave an answer for something else: {what}")
        return answer

    async def _exchange(
        self, content: object, headers: Mapping[str, str]
    ) -> tuple[int, bytes | None, Mapping[str, object]]:
        """Status, body (None if too long or compressed) and headers of the response."""
        async with self._client.stream(
            "POST",
            self._url,
            json=content,
            # Uncompressed, so that a small response can't expand, and over a connection that is then closed.
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "Connection": "close", **headers},
            auth=self._auth,
            follow_redirects=False,
            timeout=self._timeout,
        ) as response:
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                return response.status_code, None, response.headers
            raw = b""
            async with aclosing(response.aiter_raw()) as chunks:
                async for chunk in chunks:
                    raw += chunk
                    if len(raw) > MAX_RESPONSE_BYTES:
                        return response.status_code, None, response.headers
            return response.status_code, raw, response.headers


def _no_verdict_advice(status: int) -> str | None:
    """What to do about a status that is no verdict; None for a verdict."""
    if status in _SETUP:
        return _SETUP[status]
    if status == _ACCEPTED:
        return "it was accepted, and is not done yet"
    if 300 <= status < 400:
        return "check the base URL: redirects are not followed"
    if 200 <= status < 300 or (400 <= status < 500 and status not in _TRANSIENT):
        return None
    return "it may work another time"


def _json_object(raw: bytes | None) -> Mapping[str, object] | None:
    try:
        body = json.loads(raw or b"")
    except (ValueError, RecursionError):
        # No JSON, a broken encoding, a number of thousands of digits, or too deeply nested.
        return None
    return body if isinstance(body, dict) else None


def _is_same(expected: object, received: object) -> bool:
    """Whether an echoed value is the text, or the number in any notation, that was sent."""
    if isinstance(received, bool) or not isinstance(received, str | int | float):
        return False
    if isinstance(expected, str):
        return expected == str(received)
    number = Decimal(str(expected))
    if isinstance(received, float):
        # JSON numbers with decimals are parsed as floats.
        return float(number) == received
    if isinstance(received, str) and not (received.isascii() and "_" not in received):
        # Decimal accepts digits of all scripts, and ignores underscores.
        return False
    try:
        return Decimal(received) == number
    except InvalidOperation:
        return False
