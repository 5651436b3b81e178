"""Invoice workflows with faults in paying and stopping lines."""

from __future__ import annotations

import asyncio
import itertools

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from invoice_mcp.domain.line_outcomes import PAYMENT_ID_REUSED
    from invoice_mcp.domain.names import line_workflow_id
    from invoice_mcp.domain.report import InvoiceRequest, LineStatus, PaymentOrder
    from invoice_mcp.workflow.invoice_workflow import InvoiceWorkflow
    from invoice_mcp.workflow.line_workflow import PayLineItem
    from tests.scenarios.controls.replacement import in_place_of_invoice

_runs = itertools.count()


@in_place_of_invoice
class DropsALine(InvoiceWorkflow):
    """Pays all lines but the last, and is PAID."""

    async def _pay(self) -> None:
        self._orders, self._lines = self._orders[:-1], self._lines[:-1]
        await super()._pay()


@in_place_of_invoice
class ResubmissionPaysAgain(InvoiceWorkflow):
    """Uses one idempotency key per run instead of one per line."""

    def _initialize(self, request: InvoiceRequest) -> None:
        super()._initialize(request)
        run_id = workflow.info().run_id
        self._orders = [
            order.model_copy(update={"idempotency_key": f"{order.idempotency_key}-{run_id}"}) for order in self._orders
        ]


@in_place_of_invoice
class ForgetsWhatWasSettled(InvoiceWorkflow):
    """Treats the refusal of a line as certain, although an earlier run got no verdict."""

    def _initialize(self, request: InvoiceRequest) -> None:
        super()._initialize(request.model_copy(update={"settled": ()}))


@in_place_of_invoice
class TakesAnotherLinesPayment(InvoiceWorkflow):
    """Accepts the receipt of another line's payment."""

    def _update_line(self, number: int, **changes: object) -> None:
        if changes.get("error") == PAYMENT_ID_REUSED:
            changes |= {"status": LineStatus.PAID, "error": None, "reason": None, "unconfirmed": False}
        super()._update_line(number, **changes)


@in_place_of_invoice
class IgnoresCancellation(InvoiceWorkflow):
    """Ignores a cancellation for some seconds. The harness must be able to end it."""

    async def _stop_lines(self) -> None:
        await workflow.sleep(5)
        await super()._stop_lines()


@in_place_of_invoice
class CancelsWhatIsUnderWay(InvoiceWorkflow):
    """Abandons every line at once when it is cancelled, even if payments are under way."""

    async def _pay_line(self, order: PaymentOrder) -> None:
        paying = asyncio.create_task(super()._pay_line(order))
        await workflow.wait_condition(lambda: paying.done() or self._is_cancelling())
        if not paying.done():
            paying.cancel()
            self._update_line(order.line, status=LineStatus.CANCELLED)

    async def _stop_lines(self) -> None:
        """No line is left to stop."""


@in_place_of_invoice
class HangsOnABadLine(InvoiceWorkflow):
    """Waits for a line whose payment was refused until it is cancelled."""

    async def _pay_line(self, order: PaymentOrder) -> None:
        await super()._pay_line(order)
        if self._lines[order.line - 1].status is LineStatus.FAILED:
            await workflow.wait_condition(self._is_cancelling)


@in_place_of_invoice
class AbandonsItsLines(InvoiceWorkflow):
    """Ends as CANCELLED at once, and leaves the workflows of its lines running."""

    async def _pay_line(self, order: PaymentOrder) -> None:
        child = await workflow.start_child_workflow(
            PayLineItem.run,
            order,
            id=line_workflow_id(workflow.info().workflow_id, order.line),
            parent_close_policy=workflow.ParentClosePolicy.ABANDON,
        )
        self._update_line(order.line, status=LineStatus.SCHEDULED)
        await workflow.wait_condition(lambda: child.done() or self._is_cancelling())
        changes = child.result().model_dump() if child.done() else {"status": LineStatus.CANCELLED}
        self._update_line(order.line, **changes)

    async def _stop_line(self, number: int) -> None:
        pass


@in_place_of_invoice
class OtherwiseOnReplay(InvoiceWorkflow):
    """Starts its lines in an order that differs on replay, since a variable outside of the workflow decides it."""

    def _initialize(self, request: InvoiceRequest) -> None:
        super()._initialize(request)
        if next(_runs) % 2:
            self._orders.reverse()
