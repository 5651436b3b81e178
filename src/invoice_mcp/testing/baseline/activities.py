"""The seed's two activities, on plain dicts, against the fakes at the ports: whose payment it is, and of which line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic import TypeAdapter, ValidationError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from invoice_mcp.adapters.erp import ErpMismatchError, ErpUnavailableError
from invoice_mcp.adapters.payments import PaymentRefusedError, PaymentUnavailableError
from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.names import PAYMENT_GATEWAY, VALIDATE_AGAINST_ERP
from invoice_mcp.domain.report import AcceptedInvoice, PaymentOrder
from invoice_mcp.testing.engines.base import Engine
from invoice_mcp.testing.records import Stamp
from invoice_mcp.testing.world.fakes import RecordingPayments, ScriptedErp

# Of invoices that name none.
_CURRENCY = "USD"

_DUE_DATE: TypeAdapter[datetime] = TypeAdapter(datetime)
_asking: ContextVar[str] = ContextVar("_asking", default="")


@dataclass(frozen=True)
class BaselineNames:
    """How a workflow of the seed's kind, and the activities it calls, are called.

    Attributes:
        workflow: The type of the workflow that is started.
        validate: The activity that takes an invoice and answers whether the ERP accepts it.
        pay: The activity that takes a line and answers whether it is paid.
        task_queue: Where its worker polls; "" for one of its own. Name it if the workflow does.
    """

    workflow: str = "InvoiceWorkflow"
    validate: str = VALIDATE_AGAINST_ERP
    pay: str = PAYMENT_GATEWAY
    task_queue: str = ""


@dataclass(frozen=True)
class _Origin:
    """On whose behalf an activity runs.

    Attributes:
        run_id: Of the invoice's own workflow.
        payer: What pays one line in it: a child workflow, or one of its own activities.
    """

    invoice: dict[str, Any]
    run_id: str
    payer: str


class BaselineActivities:
    """The ports behind such a workflow.

    Whom a payment belongs to is found out from who asks: the activity's workflow, and from there parent by parent up
    to one that was started in the world. The line is the one of that invoice with the same content; of several alike,
    each child workflow pays another. A payment carries a key only if the line has a field `idempotency_key`, which the
    workflow may add. Without one the gateway takes every request, each attempt of a retry too, for a new payment.

    Args:
        invoices: Workflow id -> invoice, of every workflow that was started in the world.
        saw: Is told workflow id and run id of an invoice's workflow that asks for a payment.
    """

    def __init__(
        self,
        engine: Engine,
        names: BaselineNames,
        invoices: Mapping[str, dict[str, Any]],
        saw: Callable[[str, str], None],
    ) -> None:
        self.erp = ScriptedErp()
        self.payments = RecordingPayments(self._stamp)
        self._engine = engine
        self._names = names
        self._invoices = invoices
        self._saw = saw
        self._holders: dict[tuple[str, int], str] = {}

    def activities(self) -> list[Callable[..., Any]]:
        """The two activities, by their names, against these ports."""

        @activity.defn(name=self._names.validate)
        async def validate(invoice: Any) -> bool:
            await self._validate(_fields(invoice))
            return True

        @activity.defn(name=self._names.pay)
        async def pay(line: Any) -> bool:
            await self._pay(_fields(line))
            return True

        return [validate, pay]

    async def _validate(self, fields: dict[str, Any]) -> None:
        try:
            invoice = Invoice.model_validate(fields)
        except ValidationError:
            # This ERP judges what it is told to, no more: an incomplete invoice is for the workflow to refuse.
            invoice = Invoice.model_construct(**fields)
        try:
            await self.erp.validate(invoice)
        except ErpMismatchError as mismatch:
            raise ApplicationError(mismatch.reason, type="MISMATCH", non_retryable=True) from None
        except ErpUnavailableError as trouble:
            raise ApplicationError(str(trouble), type="ERP_UNAVAILABLE") from None

    async def _pay(self, line: dict[str, Any]) -> None:
        info = activity.info()
        origin = await self._origin()
        number = self._line_number(origin, line)
        order = PaymentOrder(
            idempotency_key=str(
                line.get("idempotency_key") or f"{info.workflow_run_id}/{info.activity_id}/{info.attempt}"
            ),
            invoice_id=str(origin.invoice.get("invoice_id")),
            customer=str(origin.invoice.get("customer")),
            line=number,
            description=str(line.get("description")),
            amount=_amount(line),
            currency=str(origin.invoice.get("currency") or _CURRENCY),
            due_date=_due_date(line) or self._engine.stamp().at,
        )
        _asking.set(origin.run_id)
        try:
            receipt = await self.payments.pay(order)
        except PaymentRefusedError as refusal:
            # The code alone, as the seed's gateway has no words.
            raise ApplicationError(refusal.code, type=refusal.code, non_retryable=True) from None
        except PaymentUnavailableError:
            receipt = None
        if receipt is None or receipt.idempotency_key not in {None, order.idempotency_key}:
            raise ApplicationError("PAYMENT_GATEWAY_ERROR", type="PAYMENT_GATEWAY_ERROR")

    def _stamp(self) -> Stamp:
        """A payment is the invoice's own, whatever child, or run of a child, has it made."""
        return replace(self._engine.stamp(), run_id=_asking.get())

    async def _origin(self) -> _Origin:
        info = activity.info()
        workflow_id, run_id, payer = info.workflow_id or "", info.workflow_run_id or "", info.activity_id
        while workflow_id not in self._invoices:
            handle = self._engine.client.get_workflow_handle(workflow_id, run_id=run_id)
            described = await handle.describe()
            if described.parent_id is None or described.parent_run_id is None:
                # Nobody's here. The checker is to know.
                return _Origin({"invoice_id": f"unknown to {workflow_id}"}, run_id, payer)
            payer, workflow_id, run_id = workflow_id, described.parent_id, described.parent_run_id
        self._saw(workflow_id, run_id)
        return _Origin(self._invoices[workflow_id], run_id, payer)

    def _line_number(self, origin: _Origin, line: dict[str, Any]) -> int:
        """Which line that is, by its content. Of lines alike, one that nobody else holds, or that is still unpaid."""
        lines = origin.invoice.get("lines")
        every = list(enumerate(map(_fields, lines), 1)) if isinstance(lines, list) else []
        alike = [number for number, each in every if _content(each) == _content(line)]
        alike = alike or [number for number, each in every if each.get("description") == line.get("description")]
        if not alike:
            return len(every) + 1
        held = {number: self._holders.get((origin.run_id, number)) for number in alike}
        paid = {paid.order.line for paid in self.payments.made if paid.run_id == origin.run_id}
        own = [number for number in alike if held[number] == origin.payer]
        free = [number for number in alike if held[number] is None]
        unpaid = [number for number in alike if number not in paid]
        number = (own or free or unpaid or alike)[0]
        self._holders[origin.run_id, number] = origin.payer
        return number


def _fields(given: object) -> dict[str, Any]:
    return given if isinstance(given, dict) else {}


def _content(line: dict[str, Any]) -> tuple[object, ...]:
    return line.get("description"), _amount(line), line.get("due_date")


def _amount(line: dict[str, Any]) -> Decimal:
    with suppress(InvalidOperation):
        if (amount := Decimal(str(line.get("amount")))).is_finite():
            return amount
    return Decimal(0)


def _due_date(line: dict[str, Any]) -> datetime | None:
    with suppress(ValidationError):
        return _zoned(_DUE_DATE.validate_python(line.get("due_date")))
    return None


def _zoned(moment: datetime) -> datetime:
    """A time without a zone is taken to be UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def accepted(request: dict[str, Any]) -> AcceptedInvoice | None:
    """The invoice in such a workflow's input; None if it is incomplete."""
    known = {name: request[name] for name in ("invoice_id", "customer", "lines") if name in request}
    try:
        invoice = AcceptedInvoice.model_validate({"currency": request.get("currency") or _CURRENCY, **known})
    except ValidationError:
        return None
    lines = (line.model_copy(update={"due_date": _zoned(line.due_date)}) for line in invoice.lines)
    return invoice.model_copy(update={"lines": tuple(lines)})
