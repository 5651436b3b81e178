"""Broken workflows that are only wrong when two things meet: a server hardly ever shows it, the simulator always."""

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
    """Takes a decision by signal as long as it waits for one, also if the deadline has just passed."""

    async def _decide_by_signal(self, verdict: Verdict) -> None:
        if not self._status.is_terminal:
            self._decide(verdict, DecisionRequest(by="signal"))


@in_place_of_invoice
class StopsLinesByTheClock(InvoiceWorkflow):
    """Asks only those lines to stop that are due later, by a clock that may be behind. So did release 0.1.0."""

    async def _stop_lines(self) -> None:
        await asyncio.gather(*(self._cancel_line(line.line) for line in self._lines))


@in_place_of_invoice
class TakesSignalsByTheClock(InvoiceWorkflow):
    """Holds a signal against the deadline, by a clock that may be behind. So did release 0.1.0."""

    async def _decide_by_signal(self, verdict: Verdict) -> None:
        try:
            self._require_open_for(verdict, deadline=self._deadline)
        except RefusedError:
            return
        self._decide(verdict, DecisionRequest(by="signal"))
