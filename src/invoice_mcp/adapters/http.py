"""One JSON request to another system, bounded in time and size whatever comes back: what both HTTP adapters share."""

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

# These speak about how we are set up, never about the invoice or the payment.
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
    """No answer, or one that settles nothing: the request may or may not have had its effect."""


@dataclass(frozen=True)
class JsonResponse:
    """A verdict of the other system.

    Attributes:
        status: 2xx, or a 4xx that speaks about what was asked.
        body: The JSON object it came with; None when it was anything else.
    """

    status: int
    body: Mapping[str, object] | None

    def text(self, *names: str, max_length: int = MAX_TEXT) -> str | None:
        """The first of these fields to hold text, printable and shortened; None when none does."""
        for name in names:
            value = (self.body or {}).get(name)
            if isinstance(value, str) and (text := printable(value, max_length)):
                return text
        return None


class JsonEndpoint:
    """One address of another system, to which JSON is posted, each time over a connection of its own.

    On a connection that is used again, an answer that arrives twice, or too late, is taken for the next request's.

    Args:
        name: What messages call the system, such as "the ERP".
        base_url: http or https. A user and password in it are sent as basic authentication and never told.
        path: What is added to `base_url`, with its leading slash.
        timeout: Seconds for a whole call, from connecting to the last byte of the answer.
        client: A client to use instead, for other authentication, certificates or proxies; whoever made it closes it.
            It must speak HTTP/1.1, and is best used for nothing else: a connection that others left open in it may
            be taken for a request.

    Raises:
        ValueError: `base_url` is no such URL.
    """

    def __init__(
        self, name: str, base_url: str, path: str, *, timeout: float, client: httpx2.AsyncClient | None = None
    ) -> None:
        try:
            url = httpx2.URL(base_url)
        except httpx2.InvalidURL:
            # The client's own words may quote a piece of the password.
            raise ValueError(f"the URL of {name} is not valid; is its password percent-encoded?") from None
        if url.scheme not in {"http", "https"} or not url.host or url.query or url.fragment:
            raise ValueError(f"the URL of {name} must look like https://host/path, without a query")
        self._auth = httpx2.BasicAuth(url.username, url.password) if url.userinfo else httpx2.USE_CLIENT_DEFAULT
        # The client logs each URL it calls, so the password must not stay in it.
        self._url = url.copy_with(userinfo=b"", raw_path=url.raw_path.rstrip(b"/?") + path.encode())
        self._name = f"{name} at {self._url}"
        self._timeout = timeout
        self._owns_client = client is None
        # No cookies: nothing that came with one invoice goes along with the next.
        self._client = client or httpx2.AsyncClient(cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])))

    async def aclose(self) -> None:
        """Close the connections, unless the client is somebody else's."""
        if self._owns_client:
            await self._client.aclose()

    async def post(
        self, content: object, *, about: Mapping[str, object], headers: Mapping[str, str] | None = None
    ) -> JsonResponse:
        """Post `content` as JSON and return the verdict.

        Args:
            about: Field -> text or number. Each that the answer has as well must be the same there: else it is the
                answer to something else.
            headers: Are sent; those that come back must be the same.

        Raises:
            NoVerdictError: everything else that can happen, in words that tell what to check.
        """
        sent = headers or {}
        try:
            async with asyncio.timeout(self._timeout):
                status, raw, echoed = await self._exchange(content, sent)
        except (TimeoutError, httpx2.TimeoutException) as error:
            raise NoVerdictError(f"{self._name} gave no complete answer within {self._timeout:g} s") from error
        except Exception as error:
            # Whatever a broken peer can make the client raise, a caller has one kind of error to expect.
            detail = printable(f"{type(error).__name__}: {error}", MAX_TEXT)
            raise NoVerdictError(f"{self._name} could not be asked, or broke off ({detail})") from error
        answer = JsonResponse(status, _json_object(raw))
        if (advice := _no_verdict_advice(status)) is not None:
            said = answer.text("reason", "error")
            raise NoVerdictError(f"{self._name} answered {status}{f' ({said})' if said else ''}: {advice}")
        for asked, told in ((about, answer.body or {}), (sent, echoed)):
            for name, value in asked.items():
                if told.get(name) is not None and not _is_same(value, told[name]):
                    is_plain = isinstance(told[name], str | int | float)
                    shown = printable(str(told[name]), 80) if is_plain else "neither text nor number"
                    what = f"its {name} is {shown}, not {value}"
                    raise NoVerdictError(f"{self._name} gave an answer for something else: {what}")
        return answer

    async def _exchange(
        self, content: object, headers: Mapping[str, str]
    ) -> tuple[int, bytes | None, Mapping[str, object]]:
        """The status, the body (None for one that is too long or compressed), and the headers."""
        async with self._client.stream(
            "POST",
            self._url,
            json=content,
            # Uncompressed, so that a small answer can't swell while it is read.
            # And over a connection that is closed afterwards.
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
    """What to do about a status that settles nothing; None for a verdict."""
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
        # Garbage, a broken encoding, a number of thousands of digits, or brackets nested beyond all measure.
        return None
    return body if isinstance(body, dict) else None


def _is_same(asked: object, told: object) -> bool:
    """Whether an answer has the text, or the number in whichever notation, that was asked about."""
    if isinstance(told, bool) or not isinstance(told, str | int | float):
        return False
    if isinstance(asked, str):
        return asked == str(told)
    number = Decimal(str(asked))
    if isinstance(told, float):
        # JSON numbers are read as floats.
        return float(number) == told
    if isinstance(told, str) and not (told.isascii() and "_" not in told):
        # Decimal reads the digits of every script, and takes underscores for nothing.
        return False
    try:
        return Decimal(told) == number
    except InvalidOperation:
        return False
