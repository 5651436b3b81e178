"""Every interleaving of a small invoice's life: what is done to it, one crash and one payment fault, anywhere in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.api.common.v1 import Payloads
from temporalio.api.update.v1 import Input, Meta, Request
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from invoice_mcp.activities import InvoiceActivities
from invoice_mcp.invoices import Invoice
from invoice_mcp.reports import AcceptedInvoice, DecisionRequest, InvoiceReport, InvoiceRequest
from invoice_mcp.testing._checker import check
from invoice_mcp.testing._observations import observe
from invoice_mcp.testing._ports import RecordingPayments, ScriptedErp, activity_clock
from invoice_mcp.testing._violations import Violation, Violations
from invoice_mcp.testing.simulator import BEGINS, Branches, Execution, Simulation, Start, Step, Worker, connect
from invoice_mcp.worker import WORKFLOWS
from invoice_mcp.workflows import INVOICE_STATUS

EVENTS = ("approve", "reject", "cancel", "signal-approve", "signal-reject")
"""What may be done to the invoice from outside."""

FAULTS = ("payment-refused", "payment-down", "answer-lost")
"""What may go wrong with one payment."""

ANY = "any"
"""In a plan: any of these events."""

_QUEUE = "exhaustive"
_WORKFLOW_ID = "invoice-INV-1"
# With these a worker takes something on: what it thought, or what an activity did, is told by another step.
_TAKEN_ON = frozenset({"workflow task", "activity starts"})
_SIGNALS = {"signal-approve": "ApproveInvoice", "signal-reject": "RejectInvoice"}
# The first line is due already, the second one before the time to decide is over.
_DUE = (timedelta(hours=-1), timedelta(hours=60))

_Act = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Plan:
    """What may be in a life. Where in it is explored.

    Attributes:
        lines: How many lines the invoice has, 1 or 2.
        events: What may be done to it, in this order; or only the first of them, or nothing, before it ends. The last
            ones may be `ANY`.
        faults: Of these one may happen to one payment.
        crashes: Whether the worker may crash once.
    """

    lines: int = 1
    events: tuple[str, ...] = ()
    faults: tuple[str, ...] = FAULTS
    crashes: bool = True

    def __str__(self) -> str:
        lines = f"{self.lines} line{'s' if self.lines > 1 else ''}"
        may = [*(["a payment fault"] if self.faults else []), *(["a crash"] if self.crashes else [])]
        perhaps = f" (and perhaps {' and '.join(may)})" if may else ""
        named = [event for event in self.events if event != ANY]
        if anything := len(self.events) - len(named):
            named.append(f"{anything} of anything")
        return ", ".join([lines, ", then ".join(named)] if named else [lines]) + perhaps


def plans(events: int, lines: int = 2) -> Iterator[Plan]:
    """Plans that together have in them every life with at most so many events, lines, one crash and one fault."""
    for count in range(1, lines + 1):
        for first in EVENTS if events else [None]:
            yield Plan(count, (first, *[ANY] * (events - 1)) if first else ())


def lives_of(plan: Plan, workflows: tuple[type, ...] = WORKFLOWS) -> Callable[[Branches], Awaitable[None]]:
    """What `simulator.explore` explores. It raises `Violations` where a promise is broken."""

    async def live(branches: Branches) -> None:
        await Life(plan, workflows).live(branches)

    return live


@dataclass
class Life:
    """One life of an invoice. What is in it is planned, and what happens when is up to the branches.

    Attributes:
        simulation: Where it happens; what happened can be seen there afterwards.
    """

    plan: Plan
    workflows: tuple[type, ...] = WORKFLOWS

    def __post_init__(self) -> None:
        self.simulation = Simulation(chooser=_Split(), search_attributes=(INVOICE_STATUS.name,), by_hand=True)
        self.erp, self.payments = ScriptedErp(), RecordingPayments(activity_clock)
        self.done = 0
        self.faults, self.can_crash = self.plan.faults, self.plan.crashes
        # Runs with something under way at a worker that is going to crash before it is told.
        self.doomed: set[str] = set()
        self._start_worker()
        self.run = self.simulation.start(
            Start(_WORKFLOW_ID, "InvoiceWorkflow", _QUEUE, input=_payloads(_request(self.plan.lines)))
        )

    def _start_worker(self) -> None:
        activities = InvoiceActivities(self.erp, self.payments).all()
        self.simulation.start_worker(_QUEUE, Worker(self.workflows, activities, converter=pydantic_data_converter))

    async def live(self, branches: Branches) -> None:
        """Live it to its end.

        Raises:
            Violations: It broke a promise.
        """
        try:
            while options := self._options():
                await branches.pick(options, self._state)()
            await self._check()
        finally:
            await self.simulation.close()

    def _state(self) -> Hashable:
        made = tuple((paid.order.line, paid.at, paid.run_id) for paid in self.payments.made)
        left = self.plan.events[self.done :]
        return self.simulation.digest(), made, left, self.faults, self.can_crash, frozenset(self.doomed)

    # -- what could happen next ----------------------------------------------------------------------------

    def _options(self) -> list[_Act]:
        possible = self.simulation.possible()
        steps = [step for step in possible if step.run_id not in self.doomed]
        left = self._left()
        if (alone := self._concerns_nothing_else(steps, left)) is not None:
            return self._ways([alone], is_alone=True)
        options = self._ways(steps)
        options += [self._is_done(event) for event in left]
        if self.doomed and not options:
            return [self._crash]
        if not possible and any(run.is_open for run in self.simulation.every()):
            options += [self._time_passes] if self.simulation.agenda.next_time() is not None else []
        return options

    def _left(self) -> tuple[str, ...]:
        """What may be done to it next. After it has ended nothing more: all is refused then, and changes nothing."""
        if self.done == len(self.plan.events) or not self.run.is_open:
            return ()
        following = self.plan.events[self.done]
        return EVENTS if following == ANY else (following,)

    def _concerns_nothing_else(self, steps: list[Step], left: tuple[str, ...]) -> Step | None:
        """A step of which it does not matter when it happens: of a line, where nothing more can happen to that line
        from outside. Then it happens next, and the other orders need not be seen."""
        if left or self.run.is_cancelling:
            return None
        return next((step for step in steps if step.run_id != self.run.run_id), None)

    def _ways(self, steps: list[Step], *, is_alone: bool = False) -> list[_Act]:
        """Every way in which one of the steps can happen.

        A crash takes away what the worker has under way. So it happens right after something was taken on: later on
        only the steps of others would lie between, which might as well have come before, or events, which might as well
        come after it. A step that concerns nothing else has to leave room for others to be taken on, though, which the
        same crash takes away: it may also be doomed.
        """
        every = [(step, fault) for step in steps for fault in (("", *self.faults) if self._is_payment(step) else ("",))]
        found = [self._happens(step, fault) for step, fault in every]
        if self.can_crash:
            taken_on = [(step, fault) for step, fault in every if step.label in _TAKEN_ON]
            found += [self._happens(step, fault, then=self._crash) for step, fault in taken_on]
            found += [self._happens(step, fault, dooms=step.run_id) for step, fault in taken_on if is_alone]
        return found

    def _is_payment(self, step: Step) -> bool:
        return step.label == "activity starts" and step.run_id != self.run.run_id

    def _happens(self, step: Step, fault: str = "", then: _Act | None = None, dooms: str = "") -> _Act:
        async def happen() -> None:
            if fault:
                self._goes_wrong(fault)
            await self.simulation.happen(step)
            if dooms:
                self.doomed.add(dooms)
            if then is not None:
                await then()

        return happen

    def _goes_wrong(self, fault: str) -> None:
        """With the next payment."""
        match fault:
            case "payment-refused":
                self.payments.refuses()
            case "payment-down":
                self.payments.is_down()
            case _:
                self.payments.loses_the_answer()
        self.faults = ()

    def _is_done(self, event: str) -> _Act:
        async def do() -> None:
            _do(self.run, event, self.done)
            self.done += 1

        return do

    async def _crash(self) -> None:
        self.can_crash = False
        self.doomed.clear()
        self.simulation.crash_worker(_QUEUE)
        self._start_worker()

    async def _time_passes(self) -> None:
        due = self.simulation.agenda.next_time()
        assert due is not None  # noqa: S101 (else it is no option)
        self.simulation.agenda.move_to(due)

    # -- how it ended --------------------------------------------------------------------------------------

    async def _check(self) -> None:
        found = [
            Violation("L1", run.workflow_id, "does not end: nothing can happen any more")
            for run in self.simulation.every()
            if run.is_open
        ]
        if not found:
            found = check(await self._observed())
        if found:
            raise Violations(found)

    async def _observed(self) -> Any:
        client: Client = connect(self.simulation, data_converter=pydantic_data_converter)

        async def report(workflow_id: str, run_id: str | None = None) -> InvoiceReport:
            answer: InvoiceReport = await client.get_workflow_handle(workflow_id, run_id=run_id).query(
                "GetInvoiceReport", result_type=InvoiceReport
            )
            return answer

        return await observe(
            client,
            {_WORKFLOW_ID: []},
            ledger=tuple(self.payments.made),
            attempts=tuple(self.payments.answered),
            report=report,
        )


class _Split:
    """Nobody is asked: the branches decide. But whatever can come in between may."""

    splits_tasks = True

    def choose(self, options: Any) -> Step:
        step: Step = options[0]
        return step

    def pauses(self) -> bool:
        return True


def _request(lines: int) -> InvoiceRequest:
    invoice = Invoice.model_validate(
        {
            "invoice_id": "INV-1",
            "customer": "ACME Corp",
            "lines": [
                {"description": f"Widget {number}", "amount": str(100 * number), "due_date": (BEGINS + due).isoformat()}
                for number, due in enumerate(_DUE[:lines], 1)
            ],
        }
    )
    return InvoiceRequest(invoice=AcceptedInvoice.of(invoice))


def _payloads(*values: object) -> Payloads:
    return Payloads(payloads=pydantic_data_converter.payload_converter.to_payloads(values))


def _do(run: Execution, event: str, number: int) -> None:
    match event:
        case "approve" | "reject":
            decision = _payloads(DecisionRequest(by=f"person {number}"))
            run.tasks.ask(Request(meta=Meta(update_id=f"{event}-{number}"), input=Input(name=event, args=decision)))
        case "cancel":
            run.request_cancel("enough")
        case _:
            run.signal(_SIGNALS[event], Payloads(), {})
