"""Every interleaving of a small invoice's life: what is done to it, one crash and one payment fault, anywhere in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from temporalio.client import Client, WorkflowQueryFailedError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import WorkflowRunner

from invoice_mcp.domain.names import INVOICE_STATUS, WORKFLOW_TYPE
from invoice_mcp.domain.report import InvoiceReport
from invoice_mcp.testing.checker.checker import check
from invoice_mcp.testing.checker.observations import observe
from invoice_mcp.testing.checker.violations import Violation, Violations
from invoice_mcp.testing.records import activity_clock
from invoice_mcp.testing.simulate.explore.plan import ANY, ONE_OF, Plan, do, request
from invoice_mcp.testing.world.fakes import RecordingPayments, ScriptedErp
from invoice_mcp.workflow.activities import InvoiceActivities
from invoice_mcp.workflow.worker import WORKFLOWS
from temporal_simulator import (
    ChoiceSequence,
    Event,
    Execution,
    MemoizingRunner,
    Simulation,
    Start,
    TimelineEntry,
    Worker,
    connect,
)

_QUEUE = "exhaustive"
_WORKFLOW_ID = "invoice-INV-1"
# With these a worker takes something on: what it thought, or what an activity did, is told by another step.
_TAKEN_ON = frozenset({"workflow task", "activity starts"})
# With these the invoice reaches for one of its lines.
_REACHES = frozenset({"cancellation is delivered", "signal is delivered", "parent has ended"})

_Act = Callable[[], Awaitable[None]]


class UnsoundReductionError(AssertionError):
    """The invoice reached for a line otherwise than to cancel it when it is cancelled itself.

    What that leads to depends on an order of things which was taken not to matter.
    """


def executions_of(plan: Plan, workflows: tuple[type, ...] = WORKFLOWS) -> Callable[[ChoiceSequence], Awaitable[None]]:
    """What `simulator.explore` explores. It raises `Violations` where a promise is broken."""
    runner = MemoizingRunner()

    async def live(branches: ChoiceSequence) -> None:
        await ControlledExecution(plan, workflows, runner).live(branches)

    return live


@dataclass
class ControlledExecution:
    """One life of an invoice. What is in it is planned, and what happens when is up to the branches.

    Attributes:
        ends: How lives have ended that were looked at; in all lives of an exploration the same ones.
        simulation: Where it happens; what happened can be seen there afterwards.
        moments: What was done to it from outside, and what went wrong.
    """

    plan: Plan
    workflows: tuple[type, ...] = WORKFLOWS
    runner: WorkflowRunner = field(default_factory=MemoizingRunner)
    ends: set[Hashable] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.scheduler = _Split()
        self.simulation = Simulation(scheduler=self.scheduler, search_attributes=(INVOICE_STATUS,), manual=True)
        self.erp, self.payments = ScriptedErp(), RecordingPayments(activity_clock)
        self.done = 0
        self.moments: list[TimelineEntry] = []
        self.faults, self.can_crash = self.plan.faults, self.plan.crashes
        self.can_be_queried = self.plan.queries
        # Lines that do nothing until they are reached by something, and whether they were cancelled then.
        self.held: dict[str, bool] = {}
        self._start_worker()
        self.run = self.simulation.start(Start(_WORKFLOW_ID, WORKFLOW_TYPE, _QUEUE, input=request(self.plan.lines)))

    def _start_worker(self) -> None:
        activities = InvoiceActivities(self.erp, self.payments).all()
        worker = Worker(self.workflows, activities, runner=self.runner, converter=pydantic_data_converter)
        self.simulation.start_worker(_QUEUE, worker)

    async def live(self, branches: ChoiceSequence) -> None:
        """Live it to its end.

        Raises:
            Violations: It broke a promise.
        """
        try:
            while options := self._options():
                await branches.choose(options, self._state)()
            if self.held:
                # Nothing has reached them: who does not wait in vain comes to the same.
                branches.is_pruned = True
            else:
                await self._check()
        finally:
            await self.simulation.close()

    def _line(self, run_id: str) -> Execution:
        return next(run for run in self.simulation.runs() if run.run_id == run_id)

    def _state(self) -> Hashable:
        made = tuple((paid.order.line, paid.at, paid.run_id) for paid in self.payments.made)
        left = self.plan.events[self.done :]
        may_still = self.faults, self.payments.refused_keys, self.can_crash, self.can_be_queried
        return self.simulation.digest(), made, left, may_still, frozenset(self.held)

    # -- what could happen next ----------------------------------------------------------------------------

    def _options(self) -> list[_Act]:
        self._release()
        possible = self.simulation.enabled_events()
        steps = [step for step in possible if step.run_id not in self.held]
        if goes_on := self._of_a_line(steps):
            run_id = goes_on[0].run_id
            return [*self._ways(goes_on), *([self._holds(run_id)] if self._can_be_reached(run_id) else [])]
        options = [*self._ways(steps), *(self._is_done(event) for event in self._left() if self._is_worth_it(event))]
        if not possible and any(run.is_open for run in self.simulation.runs()):
            options += [self._time_passes] if self.simulation.event_queue.next_time() is not None else []
        return options

    def _of_a_line(self, steps: list[Event]) -> list[Event]:
        """All that one line can do now, if any can do something.

        Whatever a line does concerns the invoice only once that is told of it, by a step of its own. So a line does at
        once what it can, or it is held until something reaches it: its cancellation, or the crash. The other orders
        lead to the same.
        """
        line = next((step.run_id for step in steps if step.run_id != self.run.run_id), "")
        return [step for step in steps if step.run_id == line]

    def _can_be_reached(self, run_id: str) -> bool:
        """Whether something may yet happen to a line that makes a difference to it."""
        is_cancelled_already = self._line(run_id).is_cancel_requested
        return self.can_crash or (not is_cancelled_already and self._may_be_cancelled(self.done))

    def _may_be_cancelled(self, done: int) -> bool:
        """Whether the invoice still may be, after so many events, or is already."""
        return self.run.is_cancel_requested or bool({"cancel", ANY} & {*self.plan.events[done:]})

    def _is_worth_it(self, event: str) -> bool:
        """Whether an event can still be followed by what the lines that are held wait for."""
        return not self.held or self.can_crash or event == "cancel" or self._may_be_cancelled(self.done + 1)

    def _holds(self, run_id: str) -> _Act:
        async def hold() -> None:
            self.held[run_id] = self._line(run_id).is_cancel_requested

        return hold

    def _release(self) -> None:
        """The lines that were reached."""
        for run_id, was_cancelling in [*self.held.items()]:
            if self._line(run_id).is_cancel_requested is not was_cancelling:
                del self.held[run_id]

    def _left(self) -> tuple[str, ...]:
        """What may be done to it next. After it has ended nothing more: all is refused then, and changes nothing."""
        if self.done == len(self.plan.events) or not self.run.is_open:
            return ()
        following = self.plan.events[self.done]
        return ONE_OF.get(following, (following,))

    def _ways(self, steps: list[Event]) -> list[_Act]:
        """Every way in which one of the steps can happen.

        A crash takes away what the worker has under way. So it happens right after something was taken on: later on
        only the steps of others would lie between, which might as well have come before, or events, which might as well
        come after it.
        """
        every = [(step, fault) for step in steps for fault in (("", *self.faults) if self._is_payment(step) else ("",))]
        found = [self._happens(step, fault) for step, fault in every]
        found += [self._after_a_query(step) for step in steps if self._may_be_queried_first(step)]
        if self.can_crash:
            found += [self._happens(step, fault, then=self._crash) for step, fault in every if step.label in _TAKEN_ON]
        return found

    def _is_payment(self, step: Event) -> bool:
        return step.label == "activity starts" and step.run_id != self.run.run_id

    def _require_foreseen(self, step: Event) -> None:
        """Raises UnsoundReductionError."""
        is_cancelling = step.label == "cancellation is delivered" and self.run.is_cancel_requested
        if step.label in _REACHES and not is_cancelling:
            raise UnsoundReductionError(
                f"The invoice reaches for one of its lines, without having been cancelled: {step.label}"
            )

    def _happens(self, step: Event, fault: str = "", then: _Act | None = None) -> _Act:
        async def happen() -> None:
            if fault:
                self._goes_wrong(fault)
            self._require_foreseen(step)
            await self.simulation.process(step)
            if then is not None:
                await then()

        return happen

    def _may_be_queried_first(self, step: Event) -> bool:
        # Of the invoice alone: what a line does, it does at once, and is not explored in every order.
        is_invoices_task = step.label == "workflow task" and step.run_id == self.run.run_id
        return self.can_be_queried and is_invoices_task and self.run.tasks.may_follow_query

    def _after_a_query(self, step: Event) -> _Act:
        async def happen() -> None:
            self._note("client", "asks: the answer comes from a replay, before the workflow task")
            self.can_be_queried, self.scheduler.is_queried = False, True
            await self.simulation.process(step)

        return happen

    def _goes_wrong(self, fault: str) -> None:
        """With the next payment."""
        self._note("gateway", f"the next payment meets {fault}")
        match fault:
            case "payment-refused":
                self.payments.refuses()
            case "payment-down":
                self.payments.is_down()
            case "refused-again":
                self.payments.refuses_again()
            case "stale-answer":
                # From a gateway that does not tell the key: else it is as if there was no answer.
                self.payments.echoes = False
                self.payments.repeats_an_answer()
            case _:
                self.payments.loses_the_answer()
        self.faults = ()

    def _is_done(self, event: str) -> _Act:
        async def is_done() -> None:
            self._note("client", event)
            do(self.run, event)
            self.done += 1

        return is_done

    async def _crash(self) -> None:
        self._note("worker", "crash")
        self.can_crash = False
        self.held.clear()
        self.simulation.crash_worker(_QUEUE)
        self._start_worker()

    def _note(self, who: str, what: str) -> None:
        self.moments.append(TimelineEntry(self.simulation.event_count, self.simulation.now, who, what))

    async def _time_passes(self) -> None:
        due = self.simulation.event_queue.next_time()
        assert due is not None  # noqa: S101 (else it is no option)
        self.simulation.event_queue.advance_to(due)

    # -- how it ended --------------------------------------------------------------------------------------

    async def _check(self) -> None:
        found = [
            Violation("L1", run.workflow_id, "does not end: nothing can happen any more")
            for run in self.simulation.runs()
            if run.is_open
        ]
        if not found and (end := self._end()) not in self.ends:
            self.ends.add(end)
            found = check(await self._observed())
        if found:
            raise Violations(found)

    def _end(self) -> Hashable:
        """All of which observations are made. It takes much less time than they do."""
        pasts = tuple(run.history_digest() for run in self.simulation.runs())
        return str((self.payments.made, self.payments.answered)), pasts

    async def _observed(self) -> Any:
        client: Client = connect(self.simulation, data_converter=pydantic_data_converter)

        async def report(workflow_id: str, run_id: str | None = None) -> InvoiceReport:
            handle = client.get_workflow_handle(workflow_id, run_id=run_id)
            try:
                answer: InvoiceReport = await handle.query("GetInvoiceReport", result_type=InvoiceReport)
            except WorkflowQueryFailedError as error:
                # It does something else when it is replayed.
                raise Violations([Violation("S9", workflow_id, f"can't be asked any more: {error}")]) from None
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

    interleaves_tasks = True
    is_queried = False

    def choose(self, options: Any) -> Event:
        step: Event = options[0]
        return step

    def replies_early(self) -> bool:
        return True

    def loses_report(self) -> bool:
        return False

    def queries_before_task(self) -> bool:
        is_queried, self.is_queried = self.is_queried, False
        return is_queried
