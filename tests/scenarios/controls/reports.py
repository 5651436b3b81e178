"""Invoice workflows with faults in reports and results."""

from __future__ import annotations

import asyncio
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from invoice_mcp.domain.report import InvoiceReport, InvoiceRequest, Status
    from invoice_mcp.workflow.cancellation import reraise_unless_cancelled
    from invoice_mcp.workflow.invoice_workflow import InvoiceWorkflow
    from tests.scenarios.controls.replacement import in_place_of_invoice


@in_place_of_invoice
class ResultOutOfStep(InvoiceWorkflow):
    """Is PAID by its queries, but FAILED by its result."""

    async def _run(self, request: Any) -> InvoiceReport:
        report = await InvoiceWorkflow.run(self, request)
        return report.model_copy(update={"status": Status.FAILED}) if report.status is Status.PAID else report


@in_place_of_invoice
class DropsMetadata(InvoiceWorkflow):
    """Does not send the metadata of the invoice to the ERP."""

    def _initialize(self, request: InvoiceRequest) -> None:
        InvoiceWorkflow._initialize(self, request)
        self._invoice = request.invoice.model_copy(update={"metadata": {}})


@in_place_of_invoice
class BaselineQueryOutOfStep(InvoiceWorkflow):
    """Is PAID by its report, but PAYING by the original sample's query."""

    @workflow.query(name="GetInvoiceStatus")
    def status(self) -> str:
        """The status, but never PAID."""
        return Status.PAYING if self._status is Status.PAID else self._status


@in_place_of_invoice
class CompletesThoughCancelled(InvoiceWorkflow):
    """Is CANCELLED, but its execution completes."""

    async def _run(self, request: Any) -> InvoiceReport:
        try:
            return await InvoiceWorkflow.run(self, request)
        except asyncio.CancelledError:
            reraise_unless_cancelled()
            return self.report()
