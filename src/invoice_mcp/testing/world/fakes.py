"""Fakes of the two ports, ERP and gateway. They record their requests and fail on demand."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from invoice_mcp.adapters.erp import ErpMismatchError, ErpUnavailableError
from invoice_mcp.adapters.payments import PaymentRefusedError, PaymentUnavailableError
from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.report import PaymentOrder, PaymentReceipt
from invoice_mcp.testing.model.actions import Verb
from invoice_mcp.testing.records import Attempt, CallContext, Outcome, RecordedPayment, wall_clock_context


@dataclass(frozen=True)
class _Fault:
    """The fault that one request meets. `code` is the error code of a refusal."""

    verb: Verb
    code: str = ""


class _RequestGate:
    """Holds requests until it is opened."""

    def __init__(self) -> None:
        self._remaining = 0
        self._opened = asyncio.Event()
        self.waiting = 0

    def hold(self, times: int) -> None:
        self._remaining = times
        # Keep the same event, so that requests which are held already are released with the later ones.
        self._opened.clear()

    def open(self) -> None:
        self._remaining = 0
        self._opened.set()

    async def wait_if_held(self) -> None:
        if self._remaining:
            self._remaining -= 1
            self.waiting += 1
            try:
                await self._opened.wait()
            finally:
                self.waiting -= 1


class ScriptedErp:
    """A fake `Erp` that accepts every invoice unless a fault is scripted.

    Attributes:
        asked: Every invoice that it was asked about, in order.
        faults_met: Every fault that a request met, in order.
    """

    def __init__(self) -> None:
        self.asked: list[Invoice] = []
        self.faults_met: list[Verb] = []
        self._faults: deque[Exception] = deque()
        self._gate = _RequestGate()

    def is_down(self, times: int = 1) -> None:
        """Fail the next `times` calls with a retryable error."""
        self._faults.extend(ErpUnavailableError("connection refused") for _ in range(times))

    def refuses(self, reason: str = "unknown purchase order") -> None:
        """Refuse the next invoice for good."""
        self._faults.append(ErpMismatchError(reason))

    def is_slow(self, times: int = 1) -> None:
        """Hold the next `times` calls until `answers` or `heal`."""
        self._gate.hold(times)

    def answers(self) -> None:
        """Release the held calls."""
        self._gate.open()

    def heal(self) -> None:
        """Remove all pending faults and release the held calls."""
        self._faults.clear()
        self.answers()

    async def validate(self, invoice: Invoice) -> None:
        """See `Erp.validate`."""
        self.asked.append(invoice)
        fault = self._faults.popleft() if self._faults else None
        await self._gate.wait_if_held()
        if fault is not None:
            self.faults_met.append(Verb.ERP_REFUSES if isinstance(fault, ErpMismatchError) else Verb.ERP_DOWN)
            raise fault


class RecordingPayments:
    """A fake `Payments` that records its payments and fails on demand.

    It is idempotent, as the port requires: one key is one payment. Faults apply in the order in which they are
    scripted; those for a line number come before those for any line.

    Attributes:
        echoes: Whether receipts have the idempotency key.
        asked: Every request, in order.
        made: Every payment, in order.
        answered: Every request and its outcome, in the order of the answers.
        faults_met: Every fault that a request met, in order.
    """

    def __init__(self, call_context: Callable[[], CallContext] = wall_clock_context) -> None:
        self.asked: list[PaymentOrder] = []
        self.made: list[RecordedPayment] = []
        self.answered: list[Attempt] = []
        self.faults_met: list[Verb] = []
        self.echoes = True
        self._call_context = call_context
        self._faults: dict[int | None, deque[_Fault]] = {}
        self._refused_keys: set[str] = set()
        self._gate = _RequestGate()

    def is_down(self, times: int = 1, *, line: int | None = None) -> None:
        """Fail the next `times` requests (for one line number, or any) before anything is paid."""
        self._add(line, times, _Fault(Verb.PAYMENT_DOWN))

    def refuses(self, code: str = "INSUFFICIENT_FUNDS", *, line: int | None = None, times: int = 1) -> None:
        """Refuse the next requests (for one line number, or any) for good."""
        self._add(line, times, _Fault(Verb.PAYMENT_REFUSED, code))

    def loses_the_answer(self, times: int = 1, *, line: int | None = None) -> None:
        """Make the next payments, but lose their answers."""
        self._add(line, times, _Fault(Verb.ANSWER_LOST))

    def refuses_again(self, times: int = 1, *, line: int | None = None) -> None:
        """Make the next payments, lose their answers, and refuse their keys from then on, until `heal`."""
        self._add(line, times, _Fault(Verb.REFUSED_AGAIN))

    def repeats_an_answer(self, times: int = 1, *, line: int | None = None) -> None:
        """Answer the next requests with the receipt of another line of the invoice, and pay nothing.

        There is no answer if no payment of another line was answered yet.
        """
        self._add(line, times, _Fault(Verb.STALE_ANSWER))

    @property
    def refused_keys(self) -> frozenset[str]:
        """The keys that `refuses_again` makes the gateway refuse."""
        return frozenset(self._refused_keys)

    def is_slow(self, times: int = 1) -> None:
        """Hold the next `times` payments until `answers` or `heal`."""
        self._gate.hold(times)

    def answers(self) -> None:
        """Release the held payments: they are made and answered."""
        self._gate.open()

    @property
    def under_way(self) -> int:
        """The number of held payments."""
        return self._gate.waiting

    def heal(self) -> None:
        """Remove all pending faults and refused keys, and release the held payments."""
        self._faults.clear()
        self._refused_keys.clear()
        self.answers()

    def of_invoice(self, invoice_id: str) -> list[RecordedPayment]:
        """The payments of one invoice, sorted by line."""
        made = [paid for paid in self.made if paid.order.invoice_id == invoice_id]
        return sorted(made, key=lambda paid: paid.order.line)

    async def pay(self, order: PaymentOrder) -> PaymentReceipt:
        """See `Payments.pay`."""
        self.asked.append(order)
        call_context = self._call_context()
        outcome, payment_id = Outcome.UNKNOWN, ""
        try:
            receipt = await self._answer(order, call_context)
            payment_id = receipt.payment_id
            # The receipt of another payment gives no verdict about this one.
            outcome = Outcome.PAID if receipt.idempotency_key == order.idempotency_key else Outcome.UNKNOWN
        except PaymentRefusedError:
            outcome = Outcome.REFUSED
            raise
        finally:
            self.answered.append(Attempt(order, outcome, call_context.run_id, call_context.attempt, payment_id))
        return receipt if self.echoes else PaymentReceipt(payment_id=receipt.payment_id)

    async def _answer(self, order: PaymentOrder, call_context: CallContext) -> PaymentReceipt:
        faults = self._faults.get(order.line) or self._faults.get(None)
        fault = faults.popleft() if faults else None
        await self._gate.wait_if_held()
        if fault is None:
            if order.idempotency_key in self._refused_keys:
                raise PaymentRefusedError("DUPLICATE_KEY", "this key was used before")
            return self._book(order, call_context)
        self.faults_met.append(fault.verb)
        match fault.verb:
            case Verb.PAYMENT_REFUSED:
                raise PaymentRefusedError(fault.code, "refused by script")
            case Verb.STALE_ANSWER if receipt := self._receipt_of_another(order):
                return receipt
            case Verb.ANSWER_LOST | Verb.REFUSED_AGAIN:
                self._book(order, call_context)
                if fault.verb is Verb.REFUSED_AGAIN:
                    self._refused_keys.add(order.idempotency_key)
        raise PaymentUnavailableError("gateway timeout" if fault.verb is Verb.PAYMENT_DOWN else "connection reset")

    def _receipt_of_another(self, order: PaymentOrder) -> PaymentReceipt | None:
        """The last receipt that another line of the invoice got."""
        for each in reversed(self.answered):
            is_of_it = each.order.invoice_id == order.invoice_id and each.order.line != order.line
            if is_of_it and each.outcome is Outcome.PAID:
                return PaymentReceipt(payment_id=each.payment_id, idempotency_key=each.order.idempotency_key)
        return None

    def _book(self, order: PaymentOrder, call_context: CallContext) -> PaymentReceipt:
        for paid in self.made:
            if paid.order.idempotency_key == order.idempotency_key:
                if paid.order.model_dump(exclude={"due_date"}) != order.model_dump(exclude={"due_date"}):
                    raise PaymentRefusedError("IDEMPOTENCY_CONFLICT", "this key paid something else")
                return PaymentReceipt(payment_id=paid.payment_id, idempotency_key=order.idempotency_key)
        number = sum(paid.order.line == order.line for paid in self.of_invoice(order.invoice_id)) + 1
        payment_id = f"PAY-{order.invoice_id}-{order.line}-{number}"
        self.made.append(RecordedPayment(order, payment_id, call_context.at, call_context.run_id))
        return PaymentReceipt(payment_id=payment_id, idempotency_key=order.idempotency_key)

    def _add(self, line: int | None, times: int, fault: _Fault) -> None:
        self._faults.setdefault(line, deque()).extend([fault] * times)
