"""Fakes at the two ports, and only there: they record what they are asked and fail on demand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from invoice_mcp.erp import ErpMismatch, ErpUnavailable
from invoice_mcp.invoices import Invoice
from invoice_mcp.payments import PaymentRefused, PaymentUnavailable
from invoice_mcp.reports import PaymentOrder, PaymentReceipt

Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


class ScriptedErp:
    """An `Erp` that accepts everything, except what it is told beforehand to refuse or to fail."""

    def __init__(self) -> None:
        self.asked: list[Invoice] = []
        self._faults: deque[Exception] = deque()

    def is_down(self, times: int = 1) -> None:
        """Fail the next `times` calls; they are worth a retry."""
        self._faults.extend(ErpUnavailable("connection refused") for _ in range(times))

    def refuses(self, reason: str = "unknown purchase order") -> None:
        """Refuse the next invoice, for good."""
        self._faults.append(ErpMismatch(reason))

    async def validate(self, invoice: Invoice) -> None:
        """See `Erp.validate`."""
        self.asked.append(invoice)
        if self._faults:
            raise self._faults.popleft()


@dataclass(frozen=True)
class Paid:
    """One payment that was made."""

    order: PaymentOrder
    payment_id: str
    at: datetime


class RecordingPayments:
    """A `Payments` that remembers what it paid and when, and fails on demand.

    It is idempotent, as the port demands; `asked` counts every request, `made` every payment.
    """

    def __init__(self, clock: Clock = _now) -> None:
        self.asked: list[PaymentOrder] = []
        self.made: list[Paid] = []
        self._clock = clock
        self._faults: dict[int | None, deque[tuple[Exception, bool]]] = {}

    def is_down(self, times: int = 1, *, line: int | None = None) -> None:
        """Fail the next `times` requests (for one line number, or any) before anything is paid."""
        self._add(line, times, PaymentUnavailable("gateway timeout"), pays=False)

    def refuses(self, code: str = "INSUFFICIENT_FUNDS", *, line: int | None = None, times: int = 1) -> None:
        """Refuse the next requests (for one line number, or any) for good."""
        self._add(line, times, PaymentRefused(code, "refused by script"), pays=False)

    def loses_the_answer(self, times: int = 1, *, line: int | None = None) -> None:
        """Make the next payments, but let their answers get lost on the way."""
        self._add(line, times, PaymentUnavailable("connection reset"), pays=True)

    def of_invoice(self, invoice_id: str) -> list[Paid]:
        """The payments made for one invoice, by line."""
        made = [paid for paid in self.made if paid.order.invoice_id == invoice_id]
        return sorted(made, key=lambda paid: paid.order.line)

    async def pay(self, order: PaymentOrder) -> PaymentReceipt:
        """See `Payments.pay`."""
        self.asked.append(order)
        faults = self._faults.get(order.line) or self._faults.get(None)
        fault, pays = faults.popleft() if faults else (None, True)
        receipt = self._book(order) if pays else None
        if fault is not None:
            raise fault
        assert receipt is not None  # noqa: S101 (only a fault leaves it unpaid)
        return receipt

    def _book(self, order: PaymentOrder) -> PaymentReceipt:
        for paid in self.made:
            if paid.order.idempotency_key == order.idempotency_key:
                if paid.order.model_dump(exclude={"due_date"}) != order.model_dump(exclude={"due_date"}):
                    raise PaymentRefused("IDEMPOTENCY_CONFLICT", "this key paid something else")
                return PaymentReceipt(payment_id=paid.payment_id)
        payment_id = f"PAY-{order.invoice_id}-{order.line}-{len(self.made) + 1}"
        self.made.append(Paid(order, payment_id, self._clock()))
        return PaymentReceipt(payment_id=payment_id)

    def _add(self, line: int | None, times: int, fault: Exception, *, pays: bool) -> None:
        self._faults.setdefault(line, deque()).extend((fault, pays) for _ in range(times))
