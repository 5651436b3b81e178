"""A hostile ERP and payment gateway over HTTP: answers as a seed says, and records every request and payment."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from invoice_mcp.domain.report import PaymentOrder
from invoice_mcp.testing.chaos.journal import Journal
from invoice_mcp.testing.chaos.schedule import Answers, LineAnswers

PAST_TIMEOUT = 10.5
"""Seconds. The product gives up on a request after 10."""

_SLOW = 1.0
_DRIP = 0.02
_CLOSES_WITHIN = 15.0
_LONGEST_HEAD = 64 * 1024


@dataclass(frozen=True)
class Payment:
    """One payment that was made. Times are in UTC."""

    order: PaymentOrder
    payment_id: str
    at: datetime


@dataclass
class Asked:
    """One request, and what came of it.

    Attributes:
        number: Of the requests of its kind, from 1.
        kind: `pay` or `validate`.
        fault: How it was answered; "" for well.
        answered_at: When all of the answer was sent; None: never.
    """

    number: int
    kind: str
    body: Mapping[str, Any]
    at: datetime
    fault: str = ""
    answered_at: datetime | None = None


class _Exchange(NamedTuple):
    """One request being answered.

    Attributes:
        pay: Makes the payment, or accepts the invoice; returns the answer that tells so.
    """

    writer: asyncio.StreamWriter
    pay: Callable[[], Awaitable[dict[str, Any]]]
    is_known: bool

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


Behaviour = Callable[[_Exchange], Awaitable[None]]


def _raw(status: int, body: bytes, **headers: str) -> bytes:
    head = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
    if status == 204:
        del head["Content-Length"], head["Content-Type"]
    head |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"HTTP/1.1 {status} Answered\r\n{lines}\r\n".encode() + body


def _json(status: int, body: Mapping[str, Any], **headers: str) -> bytes:
    return _raw(status, json.dumps(body).encode(), **headers)


async def _well(exchange: _Exchange) -> None:
    await exchange.send(_json(200, await exchange.pay()))


def _says(status: int, body: bytes = b"", *, pays: bool, **headers: str) -> Behaviour:
    async def behave(exchange: _Exchange) -> None:
        if pays:
            await exchange.pay()
        await exchange.send(_raw(status, body, **headers))

    return behave


def _hangs_up(*, pays: bool, resets: bool = False) -> Behaviour:
    async def behave(exchange: _Exchange) -> None:
        if pays:
            await exchange.pay()
        if resets:
            raw = exchange.writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            exchange.writer.transport.abort()

    return behave


def _waits(seconds: float, *, first: bool = False) -> Behaviour:
    """Pays, waits and answers; or first waits."""

    async def behave(exchange: _Exchange) -> None:
        if first:
            await asyncio.sleep(seconds)
        answer = await exchange.pay()
        if not first:
            await asyncio.sleep(seconds)
        await exchange.send(_json(200, answer))

    return behave


async def _answers_twice(exchange: _Exchange) -> None:
    await exchange.send(2 * _json(200, await exchange.pay()))


async def _drips(exchange: _Exchange) -> None:
    for byte in _json(200, await exchange.pay()):
        await exchange.send(bytes([byte]))
        await asyncio.sleep(_DRIP / 4)


async def _drips_for_ever(exchange: _Exchange) -> None:
    """Longer than anybody waits."""
    await exchange.pay()
    await exchange.send(b"HTTP/1.1 200 Answered\r\nConnection: close\r\n\r\n{")
    until = time.monotonic() + PAST_TIMEOUT
    while time.monotonic() < until:
        await exchange.send(b" ")
        await asyncio.sleep(10 * _DRIP)


async def _truncates(exchange: _Exchange) -> None:
    whole = _json(200, await exchange.pay())
    await exchange.send(whole[:-10])


async def _tells_another_key(exchange: _Exchange) -> None:
    answer = await exchange.pay()
    await exchange.send(_json(200, answer | {"idempotency_key": "of-another-payment", "invoice_id": "ANOTHER"}))


async def _refuses(exchange: _Exchange) -> None:
    """Refuses for good what it has not paid before."""
    if exchange.is_known:
        await _well(exchange)
        return
    await exchange.send(_json(402, {"code": "INSUFFICIENT_FUNDS", "reason": "the account is empty"}))


async def _refuses_repeated(exchange: _Exchange) -> None:
    """Pays and loses the answer; the same request again it refuses, as some gateways do."""
    if not exchange.is_known:
        await exchange.pay()
        return
    await exchange.send(_json(422, {"code": "DUPLICATE_KEY", "reason": "this key was used before"}))


_BOTH: Mapping[str, Behaviour] = {
    "lose-after": _hangs_up(pays=True),
    "lose-before": _hangs_up(pays=False),
    "reset-after": _hangs_up(pays=True, resets=True),
    "reset-before": _hangs_up(pays=False, resets=True),
    "slow": _waits(_SLOW),
    "duplicate": _answers_twice,
    "drip": _drips,
    "truncate": _truncates,
    "garbage": _says(200, b"<html>\xff{", pays=True),
    "redirect": _says(307, pays=False, Location="/elsewhere"),
    "error-before": _says(500, b"{}", pays=False),
    "error-after": _says(503, b'{"reason": "restarting"}', pays=True),
    "busy": _says(429, b'{"code": "SLOW_DOWN"}', pays=False),
}
LONG_FAULTS = ("delay", "pay-late", "drip-for-ever")
"""Faults that outlast the time-out of the product, and make an episode long."""
_LONG: Mapping[str, Behaviour] = {
    "delay": _waits(PAST_TIMEOUT),
    "pay-late": _waits(PAST_TIMEOUT, first=True),
    "drip-for-ever": _drips_for_ever,
}
GATEWAY_FAULTS: Mapping[str, Behaviour] = MappingProxyType(
    {
        **_BOTH,
        **_LONG,
        "no-content": _says(204, pays=True),
        "accepted": _says(202, b"{}", pays=True),
        "conflict-before": _says(409, b'{"code": "IN_PROGRESS"}', pays=False),
        "conflict-after": _says(409, b'{"code": "IN_PROGRESS"}', pays=True),
        "other-key": _tells_another_key,
        "refuse": _refuses,
        "refuse-repeated": _refuses_repeated,
    }
)
"""How the gateway can answer a payment, other than well."""
ERP_FAULTS: Mapping[str, Behaviour] = MappingProxyType(
    {
        **_BOTH,
        "delay": _waits(PAST_TIMEOUT),
        "not-found": _says(404, pays=False),
        "unclear": _says(200, b'{"valid": "perhaps"}', pays=False),
        "mismatch": _says(200, b'{"valid": false, "reason": "no such order"}', pays=False),
    }
)
"""How the ERP can answer, other than well."""


class Gateway:
    """Both systems, behind one port.

    Attributes:
        payments: Every payment that was made, in order.
        asked: Every request, in order.
        faults: How often each fault was met, by `pay lose-after` and the like.
    """

    def __init__(
        self, seed: int, journal: Journal, erp: Answers, gateway: Answers, lines: Iterable[LineAnswers] = ()
    ) -> None:
        """Prepare. `seed` says which request is answered by which fault."""
        self._seed = seed
        self._journal = journal
        self._plans = {"validate": erp, "pay": gateway}
        self._lines = {(each.invoice, each.line): each for each in lines}
        self._counts: Counter[str] = Counter()
        self._by_line: Counter[tuple[int, int]] = Counter()
        self._by_key: dict[str, Payment] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self.payments: list[Payment] = []
        self.asked: list[Asked] = []
        self.faults: Counter[str] = Counter()
        self.port = 0

    @property
    def erp_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/erp"

    @property
    def payments_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/bank"

    def heal(self) -> None:
        """Answer well from now on."""
        self._plans = dict.fromkeys(self._plans, Answers())
        self._lines = {}

    async def idle(self) -> None:
        """Wait until no request is under way: what is answered late may pay late."""
        while self._answering:
            await asyncio.wait(self._answering, timeout=1)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Listen on loopback for the length of the block."""
        listener = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_LONGEST_HEAD)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            listener.close()
            for task in self._answering:
                task.cancel()
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSES_WITHIN):
                    await asyncio.gather(*self._answering, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)
        # Clients are killed in the middle of anything.
        with suppress(ConnectionError, asyncio.IncompleteReadError, ValueError):
            try:
                await self._answer(await _request(reader), writer)
            finally:
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()

    async def _answer(self, request: tuple[str, Mapping[str, str], bytes], writer: asyncio.StreamWriter) -> None:
        path, headers, raw = request
        body = json.loads(raw)
        kind = {"/erp/invoices/validate": "validate", "/bank/payments": "pay"}.get(path)
        if kind is None:
            writer.write(_raw(404, b"{}"))
            return
        self._counts[kind] += 1
        asked = Asked(self._counts[kind], kind, body, datetime.now(UTC))
        self.asked.append(asked)
        asked.fault = self._fault(asked)
        if asked.fault:
            self.faults[f"{kind} {asked.fault}"] += 1
        what = f"{body.get('invoice_id')}" + (f" line {body.get('line')}" if kind == "pay" else "")
        await self._journal.event(kind, "gateway", f"is asked to {kind} {what}: {asked.fault or 'well'}")
        make = self._pay(body, headers.get("idempotency-key", "")) if kind == "pay" else _accept(body)
        exchange = _Exchange(writer, make, kind == "pay" and headers.get("idempotency-key", "") in self._by_key)
        faults = GATEWAY_FAULTS if kind == "pay" else ERP_FAULTS
        await faults.get(asked.fault, _well)(exchange)
        asked.answered_at = datetime.now(UTC)
        await self._journal.event(f"{kind}-answered", "gateway", f"has answered {what}")

    def _fault(self, asked: Asked) -> str:
        """Which fault answers a request; "" for none. A function of seed and number, but for the named lines."""
        if asked.kind == "pay":
            with suppress(ValueError, KeyError):
                place = int(str(asked.body["invoice_id"]).rpartition("-")[2]), int(asked.body["line"])
                named = self._lines.get(place)
                self._by_line[place] += 1
                if named is not None:
                    return named.kind if self._by_line[place] <= named.times else ""
        plan = self._plans[asked.kind]
        dice = random.Random(f"{self._seed}/{asked.kind}/{asked.number}")  # noqa: S311 (no secret)
        return dice.choice(plan.kinds) if plan.kinds and dice.random() < plan.rate else ""

    def _pay(self, body: Mapping[str, Any], key: str) -> Callable[[], Awaitable[dict[str, Any]]]:
        async def pay() -> dict[str, Any]:
            payment = self._by_key.get(key)
            if payment is None:
                order = PaymentOrder.model_validate({**body, "idempotency_key": key})
                payment = Payment(order, f"P-{len(self.payments) + 1}", datetime.now(UTC))
                self._by_key[key] = payment
                self.payments.append(payment)
                what = f"has paid line {order.line} of {order.invoice_id} as {payment.payment_id}"
                await self._journal.event("paid", "gateway", what)
            return {"payment_id": payment.payment_id, "idempotency_key": key, "line": payment.order.line}

        return pay


def _accept(body: Mapping[str, Any]) -> Callable[[], Awaitable[dict[str, Any]]]:
    async def accept() -> dict[str, Any]:
        return {"valid": True, "invoice_id": body.get("invoice_id")}

    return accept


async def _request(reader: asyncio.StreamReader) -> tuple[str, Mapping[str, str], bytes]:
    """Path, headers by their names in lower case, body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
    _, path, _ = head[0].split()
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return path, headers, await reader.readexactly(int(headers.get("content-length", 0)))
