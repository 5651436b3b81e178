"""Fakes at the two ports, and only there: they record what they are asked, and fail on demand."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from temporalio import activity

from invoice_mcp.erp import ErpMismatch, ErpUnavailable
from invoice_mcp.invoices import Invoice
from invoice_mcp.payments import PaymentRefused, PaymentUnavailable
from invoice_mcp.reports import PaymentOrder, PaymentReceipt
from invoice_mcp.testing._actions import Verb


@dataclass(frozen=True)
class Stamp:
    """When a port is asked, by the clock of whoever asks, and which run asks ("" outside of a workflow)."""

    at: datetime
    run_id: str = ""


def activity_clock() -> Stamp:
    """The time of the server that started the activity which asks. Call it inside of an activity only."""
    info = activity.info()
    return Stamp(info.started_time.astimezone(UTC), info.workflow_run_id or "")


def wall_clock() -> Stamp:
    """This machine's time."""
    return Stamp(datetime.now(UTC))


@dataclass(frozen=True)
class Paid:
    """One payment that was made. `run_id` is the run of the workflow that had it made (of PayLineItem, usually)."""

    order: PaymentOrder
    payment_id: str
    at: datetime
    run_id: str = ""


class Outcome(StrEnum):
    """How the gateway answered one request: paid, refused for good, or in a way that leaves both possible."""

    PAID = "paid"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Attempt:
    """One request to the gateway, and how it was answered. `run_id` as for `Paid`."""

    order: PaymentOrder
    outcome: Outcome
    run_id: str = ""


class _Slowness:
    """Holds up who comes, until told to let go."""

    def __init__(self) -> None:
        self._left = 0
        self._go = asyncio.Event()
        self.waiting = 0

    def begin(self, times: int) -> None:
        self._left = times
        # The same event: who is held up already is let go together with those to come.
        self._go.clear()

    def end(self) -> None:
        self._left = 0
        self._go.set()

    async def pass_by(self) -> None:
        if self._left:
            self._left -= 1
            self.waiting += 1
            try:
                await self._go.wait()
            finally:
                self.waiting -= 1


class ScriptedErp:
    """An `Erp` that accepts everything, except what it is told beforehand to refuse or to fail.

    Attributes:
        asked: Every invoice it was asked about, in order.
        faults_met: Every fault it has answered with, in order.
    """

    def __init__(self) -> None:
        self.asked: list[Invoice] = []
        self.faults_met: list[Verb] = []
        self._faults: deque[Exception] = deque()
        self._slowness = _Slowness()

    def is_down(self, times: int = 1) -> None:
        """Fail the next `times` calls; they are worth a retry."""
        self._faults.extend(ErpUnavailable("connection refused") for _ in range(times))

    def refuses(self, reason: str = "unknown purchase order") -> None:
        """Refuse the next invoice, for good."""
        self._faults.append(ErpMismatch(reason))

    def is_slow(self, times: int = 1) -> None:
        """Let the next `times` calls wait for `heal`."""
        self._slowness.begin(times)

    def answers(self) -> None:
        """End the slowness; what waits is answered."""
        self._slowness.end()

    def heal(self) -> None:
        """Drop every fault that has not happened yet, and answer what waits."""
        self._faults.clear()
        self.answers()

    async def validate(self, invoice: Invoice) -> None:
        """See `Erp.validate`."""
        self.asked.append(invoice)
        fault = self._faults.popleft() if self._faults else None
        await self._slowness.pass_by()
        if fault is not None:
            self.faults_met.append(Verb.ERP_REFUSES if isinstance(fault, ErpMismatch) else Verb.ERP_DOWN)
            raise fault


class RecordingPayments:
    """A `Payments` that remembers what it paid and when, and fails on demand.

    It is idempotent, as the port demands: one key is one payment. Its faults are taken in the order they were asked
    for, those of a line's own number first.

    Attributes:
        asked: Every request, in order.
        made: Every payment, in order.
        answered: Every request and how it was answered, in the order of the answers.
        faults_met: Every fault it has answered with, in order.
    """

    def __init__(self, stamp: Callable[[], Stamp] = wall_clock) -> None:
        self.asked: list[PaymentOrder] = []
        self.made: list[Paid] = []
        self.answered: list[Attempt] = []
        self.faults_met: list[Verb] = []
        self._stamp = stamp
        self._faults: dict[int | None, deque[tuple[Exception, bool]]] = {}
        self._slowness = _Slowness()

    def is_down(self, times: int = 1, *, line: int | None = None) -> None:
        """Fail the next `times` requests (for one line number, or any) before anything is paid."""
        self._add(line, times, PaymentUnavailable("gateway timeout"), pays=False)

    def refuses(self, code: str = "INSUFFICIENT_FUNDS", *, line: int | None = None, times: int = 1) -> None:
        """Refuse the next requests (for one line number, or any) for good."""
        self._add(line, times, PaymentRefused(code, "refused by script"), pays=False)

    def loses_the_answer(self, times: int = 1, *, line: int | None = None) -> None:
        """Make the next payments, but let their answers get lost on the way."""
        self._add(line, times, PaymentUnavailable("connection reset"), pays=True)

    def is_slow(self, times: int = 1) -> None:
        """Let the next `times` payments be under way until `answers` or `heal`."""
        self._slowness.begin(times)

    def answers(self) -> None:
        """End the slowness; payments under way are made and answered."""
        self._slowness.end()

    @property
    def under_way(self) -> int:
        """How many payments a slow gateway is working on."""
        return self._slowness.waiting

    def heal(self) -> None:
        """Drop every fault that has not happened yet, and answer what waits."""
        self._faults.clear()
        self.answers()

    def of_invoice(self, invoice_id: str) -> list[Paid]:
        """The payments made for one invoice, by line."""
        made = [paid for paid in self.made if paid.order.invoice_id == invoice_id]
        return sorted(made, key=lambda paid: paid.order.line)

    async def pay(self, order: PaymentOrder) -> PaymentReceipt:
        """See `Payments.pay`."""
        self.asked.append(order)
        stamp = self._stamp()
        outcome = Outcome.UNKNOWN
        try:
            receipt = await self._answer(order, stamp)
            outcome = Outcome.PAID
        except PaymentRefused:
            outcome = Outcome.REFUSED
            raise
        finally:
            self.answered.append(Attempt(order, outcome, stamp.run_id))
        return receipt

    async def _answer(self, order: PaymentOrder, stamp: Stamp) -> PaymentReceipt:
        faults = self._faults.get(order.line) or self._faults.get(None)
        fault, pays = faults.popleft() if faults else (None, True)
        if isinstance(fault, PaymentRefused) and self._has_paid(order):
            # A refusal says that nothing was paid: no port may answer so once it has.
            fault, pays = None, True
        await self._slowness.pass_by()
        receipt = self._book(order, stamp) if pays else None
        if fault is not None:
            refused = isinstance(fault, PaymentRefused)
            self.faults_met.append(Verb.PAYMENT_REFUSED if refused else Verb.ANSWER_LOST if pays else Verb.PAYMENT_DOWN)
            raise fault
        assert receipt is not None  # noqa: S101 (only a fault leaves it unpaid)
        return receipt

    def _has_paid(self, order: PaymentOrder) -> bool:
        return any(paid.order.idempotency_key == order.idempotency_key for paid in self.made)

    def _book(self, order: PaymentOrder, stamp: Stamp) -> PaymentReceipt:
        for paid in self.made:
            if paid.order.idempotency_key == order.idempotency_key:
                if paid.order.model_dump(exclude={"due_date"}) != order.model_dump(exclude={"due_date"}):
                    raise PaymentRefused("IDEMPOTENCY_CONFLICT", "this key paid something else")
                return PaymentReceipt(payment_id=paid.payment_id)
        number = sum(paid.order.line == order.line for paid in self.of_invoice(order.invoice_id)) + 1
        payment_id = f"PAY-{order.invoice_id}-{order.line}-{number}"
        self.made.append(Paid(order, payment_id, stamp.at, stamp.run_id))
        return PaymentReceipt(payment_id=payment_id)

    def _add(self, line: int | None, times: int, fault: Exception, *, pays: bool) -> None:
        self._faults.setdefault(line, deque()).extend((fault, pays) for _ in range(times))
