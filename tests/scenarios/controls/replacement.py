"""Replaces a workflow of the worker by a broken subclass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from invoice_mcp.domain.report import InvoiceReport, LineOutcome, PaymentOrder
    from invoice_mcp.workflow.invoice_workflow import InvoiceWorkflow
    from invoice_mcp.workflow.line_workflow import PayLineItem

I = TypeVar("I", bound=InvoiceWorkflow)  # noqa: E741 (an invoice)
L = TypeVar("L", bound=PayLineItem)


def in_place_of_invoice(broken: type[I]) -> type[I]:
    """Register a subclass under the name of InvoiceWorkflow. It may override `run` by a method `_run`."""

    async def run(self: I, request: Any = None) -> InvoiceReport:
        life: Callable[[Any], Any] | None = getattr(self, "_run", None)
        report: InvoiceReport = await (life(request) if life else InvoiceWorkflow.run(self, request))
        return report

    _install(run, broken)
    return workflow.defn(name="InvoiceWorkflow")(broken)


def in_place_of_line(broken: type[L]) -> type[L]:
    """Register a subclass under the name of PayLineItem. It overrides `run` by a method `_run`."""

    async def run(self: Any, order: PaymentOrder) -> LineOutcome:
        outcome: LineOutcome = await self._run(order)
        return outcome

    _install(run, broken)
    return workflow.defn(name="PayLineItem")(broken)


def _install(run: Callable[..., Any], broken: type) -> None:
    """The SDK requires that the class itself defines `run`, with the signature of `__init__`."""
    del run.__annotations__["self"]
    run.__module__, run.__qualname__ = broken.__module__, f"{broken.__qualname__}.run"
    setattr(broken, run.__name__, workflow.run(run))
