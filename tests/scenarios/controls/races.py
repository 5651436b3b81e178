"""Workflows with races. A server rarely shows them, the simulator always."""

from __future__ import annotations

import asyncio

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from invoice_mcp.domain.errors import RefusedError
    from invoice_mcp.domain.report import DecisionRequest, Verdict
    from invoice_mcp.workflow.invoice_workflow import InvoiceWorkflow
    from tests.scenarios.controls.replacement import in_place_of_invoice


@in_place_of_invoice
class TakesLateSignals(InvoiceWorkflow):
    """Accepts a decision by signal while it waits, even if the deadline has just passed."""

    async def _decide_by_signal(self, verdict: Verdict) -> None:
        if not self._status.is_terminal:
            self._decide(verdict, DecisionRequest(by="signal"))


@in_place_of_invoice
class StopsLinesByTheClock(InvoiceWorkflow):
    """Stops only the lines that are due later by a clock that may be behind, as release 0.1.0 did."""

    async def _stop_lines(self) -> None:
        await asyncio.gather(*(self._cancel_line(line.line) for line in self._lines))


@in_place_of_invoice
class TakesSignalsByTheClock(InvoiceWorkflow):
    """Compares a signal with the deadline by a clock that may be behind, as release 0.1.0 did."""

    async def _decide_by_signal(self, verdict: Verdict) -> None:
        try:
            self._require_open_for(verdict, deadline=self._deadline)
        except RefusedError:
            return
        self._decide(verdict, DecisionRequest(by="signal"))
