"""The original sample's two activities, on plain dicts and fakes. Finds out which invoice and line a payment is for."""

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
from invoice_mcp.testing.records import CallContext
from invoice_mcp.testing.world.fakes import RecordingPayments, ScriptedErp

# For invoices without a currency.
_CURRENCY = "USD"

_DUE_DATE: TypeAdapter[datetime] = TypeAdapter(datetime)
_paying_run: ContextVar[str] = ContextVar("_paying_run", default="")


@dataclass(frozen=True)
class BaselineNames:
    """Names of a workflow with the original sample's interface, and of its activities.

    Attributes:
        workflow: The type of the workflow that is started.
        validate: The activity that takes an invoice and returns whether the ERP accepts it.
        pay: The activity that takes a line and returns whether it is paid.
        task_queue: The worker's task queue; "" for a new one. Needed if the workflow names its queue.
    """

    workflow: str = "InvoiceWorkflow"
    validate: str = VALIDATE_AGAINST_ERP
    pay: str = PAYMENT_GATEWAY
    task_queue: str = ""


@dataclass(frozen=True)
class _Origin:
    """The invoice that an activity runs for.

    Attributes:
        run_id: The run of the invoice's workflow.
        payer: The id of what pays one line: a child workflow, or an activity of the invoice's workflow.
    """

    invoice: dict[str, Any]
    run_id: str
    payer: str


class BaselineActivities:
    """The activities of such a workflow, on fakes.

    The invoice of a payment is found by following the parents of the activity's workflow up to one that was started in
    the world. The line is the one with the same content; if several are equal, each child workflow pays another one. A
    payment has an idempotency key only if the line has a field `idempotency_key`, which the workflow may add. Without
    it the gateway takes every request for a new payment, retries included.

    Args:
        invoices: The invoice of every workflow that was started in the world, by workflow id.
        on_run: Called with workflow id and run id of an invoice's workflow that requests a payment.
    """

    def __init__(
        self,
        engine: Engine,
        names: BaselineNames,
        invoices: Mapping[str, dict[str, Any]],
        on_run: Callable[[str, str], None],
    ) -> None:
        self.erp = ScriptedErp()
        self.payments = RecordingPayments(self._call_context)
        self._engine = engine
        self._names = names
        self._invoices = invoices
        self._on_run = on_run
        self._payers: dict[tuple[str, int], str] = {}

    def activities(self) -> list[Callable[..., Any]]:
        """The two activities, under their configured names."""

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
            # The fake ERP only does what the scenario says. Refusing an incomplete invoice is up to the workflow.
            invoice = Invoice.model_construct(**fields)
        try:
            await self.erp.validate(invoice)
        except ErpMismatchError as mismatch:
            raise ApplicationError(mismatch.reason, type="MISMATCH", non_retryable=True) from None
        except ErpUnavailableError as error:
            raise ApplicationError(str(error), type="ERP_UNAVAILABLE") from None

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
            due_date=_due_date(line) or self._engine.call_context().at,
        )
        _paying_run.set(origin.run_id)
        try:
            receipt = await self.payments.pay(order)
        except PaymentRefusedError as refusal:
            # The code alone: the original sample's gateway has no messages.
            raise ApplicationError(refusal.code, type=refusal.code, non_retryable=True) from None
        except PaymentUnavailableError:
            receipt = None
        if receipt is None or receipt.idempotency_key not in {None, order.idempotency_key}:
            raise ApplicationError("PAYMENT_GATEWAY_ERROR", type="PAYMENT_GATEWAY_ERROR")

    def _call_context(self) -> CallContext:
        """The stamp of a payment: attributed to the run of the invoice's workflow, also if a child requests it."""
        return replace(self._engine.call_context(), run_id=_paying_run.get())

    async def _origin(self) -> _Origin:
        info = activity.info()
        workflow_id, run_id, payer = info.workflow_id or "", info.workflow_run_id or "", info.activity_id
        while workflow_id not in self._invoices:
            handle = self._engine.client.get_workflow_handle(workflow_id, run_id=run_id)
            described = await handle.describe()
            if described.parent_id is None or described.parent_run_id is None:
                # No invoice of this world. The checker reports the payment as S1.
                return _Origin({"invoice_id": f"unknown to {workflow_id}"}, run_id, payer)
            payer, workflow_id, run_id = workflow_id, described.parent_id, described.parent_run_id
        self._on_run(workflow_id, run_id)
        return _Origin(self._invoices[workflow_id], run_id, payer)

    def _line_number(self, origin: _Origin, line: dict[str, Any]) -> int:
        """The number of the line with this content. Of equal lines the payer's own, else a free, else an unpaid one."""
        lines = origin.invoice.get("lines")
        every = list(enumerate(map(_fields, lines), 1)) if isinstance(lines, list) else []
        equal = [number for number, each in every if _content(each) == _content(line)]
        equal = equal or [number for number, each in every if each.get("description") == line.get("description")]
        if not equal:
            return len(every) + 1
        held = {number: self._payers.get((origin.run_id, number)) for number in equal}
        paid = {paid.order.line for paid in self.payments.made if paid.run_id == origin.run_id}
        own = [number for number in equal if held[number] == origin.payer]
        free = [number for number in equal if held[number] is None]
        unpaid = [number for number in equal if number not in paid]
        number = (own or free or unpaid or equal)[0]
        self._payers[origin.run_id, number] = origin.payer
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
    """The time in its zone; UTC if it has none."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def accepted_invoice(request: dict[str, Any]) -> AcceptedInvoice | None:
    """The invoice in the workflow's input; None if it is incomplete."""
    known = {name: request[name] for name in ("invoice_id", "customer", "lines") if name in request}
    try:
        invoice = AcceptedInvoice.model_validate({"currency": request.get("currency") or _CURRENCY, **known})
    except ValidationError:
        return None
    lines = (line.model_copy(update={"due_date": _zoned(line.due_date)}) for line in invoice.lines)
    return invoice.model_copy(update={"lines": tuple(lines)})
