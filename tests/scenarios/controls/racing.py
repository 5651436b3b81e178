"""Broken workflows that are only wrong when two things meet: a server hardly ever shows it, the simulator always."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from invoice_mcp.reports import DecisionRequest, Verdict
    from invoice_mcp.workflows import InvoiceWorkflow
    from tests.scenarios.controls._making import in_place_of_invoice


@in_place_of_invoice
class TakesLateSignals(InvoiceWorkflow):
    """Takes a decision by signal as long as it waits for one, also if the deadline has just passed."""

    async def _decide_by_signal(self, verdict: Verdict) -> None:
        if not self._status.is_terminal:
            self._decide(verdict, DecisionRequest(by="signal"))
