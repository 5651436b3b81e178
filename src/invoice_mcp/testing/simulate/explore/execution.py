"""One controlled execution: the events of a plan, one crash, one payment fault and one query, at chosen points.

Stateless model checking (Godefroid, "Model Checking for Programming Languages using VeriSoft", POPL 1997): an execution
can't be copied in the middle, so each one runs from the beginning, along a `ChoiceSequence`. Two additions keep the
number of executions small. States are hashed, and nothing is explored after a state that was seen before (`_state`).
Independent events are not reordered (`explore/partial_order_reduction.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from temporalio.client import Client, WorkflowQueryFailedError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import WorkflowRunner

from invoice_mcp.domain.names import INVOICE_STATUS, WORKFLOW_TYPE
from invoice_mcp.domain.report import InvoiceReport
from invoice_mcp.testing.checker.checker import check
from invoice_mcp.testing.checker.observations import Observations, observe
from invoice_mcp.testing.checker.violations import Violation, Violations
from invoice_mcp.testing.records import activity_context
from invoice_mcp.testing.simulate.explore.partial_order_reduction import LineReduction, Remaining
from invoice_mcp.testing.simulate.explore.plan import ONE_OF, Plan, apply_event, start_input
from invoice_mcp.testing.world.fakes import RecordingPayments, ScriptedErp
from invoice_mcp.workflow.activities import InvoiceActivities
from invoice_mcp.workflow.worker import WORKFLOWS
from temporal_simulator import ChoiceSequence, Event, MemoizingRunner, Simulation, Start, TimelineEntry, Worker, connect

_QUEUE = "exhaustive"
_WORKFLOW_ID = "invoice-INV-1"
# Events after which the worker has work under way. The result of the work is reported by a later event.
_STARTS_WORK = frozenset({"workflow task", "activity starts"})

_Step = Callable[[], Awaitable[None]]


def executions_of(plan: Plan, workflows: tuple[type, ...] = WORKFLOWS) -> Callable[[ChoiceSequence], Awaitable[None]]:
    """The function that `temporal_simulator.explore` explores. It raises `Violations` if a rule is violated."""
    runner = MemoizingRunner()

    async def run(choices: ChoiceSequence) -> None:
        await ControlledExecution(plan, workflows, runner).run(choices)

    return run


@dataclass
class ControlledExecution:
    """One execution of a plan. The choice sequence decides what happens when.

    Attributes:
        checked_ends: Ends that were checked already; shared by all executions of an exploration.
        simulation: Where it runs; its events can be read afterwards.
        actions: What was done to the invoice from outside, and which faults occurred.
        invoice: The run of the invoice's workflow.
    """

    plan: Plan
    workflows: tuple[type, ...] = WORKFLOWS
    runner: WorkflowRunner = field(default_factory=MemoizingRunner)
    checked_ends: set[Hashable] = field(default_factory=set)

    reduction_type: ClassVar[type[LineReduction]] = LineReduction

    def __post_init__(self) -> None:
        self.scheduler = _ExplorationScheduler()
        self.simulation = Simulation(scheduler=self.scheduler, search_attributes=(INVOICE_STATUS,), manual=True)
        self.erp, self.payments = ScriptedErp(), RecordingPayments(activity_context)
        self.done = 0
        self.actions: list[TimelineEntry] = []
        self.faults, self.can_crash = self.plan.faults, self.plan.crashes
        self.can_query = self.plan.queries
        self._start_worker()
        start = Start(_WORKFLOW_ID, WORKFLOW_TYPE, _QUEUE, input=start_input(self.plan.lines))
        self.invoice = self.simulation.start(start)
        self.reduction = self.reduction_type(self.simulation, self.invoice)

    def _start_worker(self) -> None:
        activities = InvoiceActivities(self.erp, self.payments).all()
        worker = Worker(self.workflows, activities, runner=self.runner, converter=pydantic_data_converter)
        self.simulation.start_worker(_QUEUE, worker)

    async def run(self, choices: ChoiceSequence) -> None:
        """Run to the end, and check it.

        Raises:
            Violations: A rule is violated.
        """
        try:
            while options := self._options():
                await choices.choose(options, self._state)()
            if self.reduction.parked:
                # Nothing affected the parked lines: the execution in which they were not parked shows the same.
                choices.is_pruned = True
            else:
                await self._check()
        finally:
            await self.simulation.close()

    def _state(self) -> Hashable:
        """Everything that the future depends on."""
        payments = tuple((paid.order.line, paid.at, paid.run_id) for paid in self.payments.made)
        possible = self.faults, self.payments.refused_keys, self.can_crash, self.can_query
        return self.simulation.digest(), payments, self._remaining.events, possible, frozenset(self.reduction.parked)

    @property
    def _remaining(self) -> Remaining:
        return Remaining(self.plan.events[self.done :], self.can_crash)

    # -- what can happen next ------------------------------------------------------------------------------

    def _options(self) -> list[_Step]:
        self.reduction.unpark_cancelled()
        possible = self.simulation.enabled_events()
        events = [event for event in possible if event.run_id not in self.reduction.parked]
        if line_events := self.reduction.persistent_set(events):
            run_id = line_events[0].run_id
            may_park = self.reduction.may_be_affected(run_id, self._remaining)
            return [*self._variants(line_events), *([self._park(run_id)] if may_park else [])]
        outside = [event for event in self._next_events() if self.reduction.is_relevant(event, self._remaining)]
        options = [*self._variants(events), *map(self._from_outside, outside)]
        if not possible and any(run.is_open for run in self.simulation.runs()):
            options += [self._advance_clock] if self.simulation.event_queue.next_time() is not None else []
        return options

    def _park(self, run_id: str) -> _Step:
        async def park() -> None:
            self.reduction.park(run_id)

        return park

    def _next_events(self) -> tuple[str, ...]:
        """The events that the plan allows next; none after the invoice has ended, when all are refused."""
        if self.done == len(self.plan.events) or not self.invoice.is_open:
            return ()
        following = self.plan.events[self.done]
        return ONE_OF.get(following, (following,))

    def _variants(self, events: list[Event]) -> list[_Step]:
        """Every way in which one of the events can happen: as it is, with a fault, after a query, before a crash.

        A crash loses what the worker has under way. So it is enough to let it happen right after the worker has started
        work: events between that and a later crash are other runs' events, which could as well come before the start,
        or events from outside, which could as well come after the crash.
        """
        with_faults = [
            (event, fault) for event in events for fault in (("", *self.faults) if self._is_payment(event) else ("",))
        ]
        steps = [self._step(event, fault) for event, fault in with_faults]
        steps += [self._after_query(event) for event in events if self._may_query_before(event)]
        if self.can_crash:
            steps += [
                self._step(event, fault, then=self._crash)
                for event, fault in with_faults
                if event.label in _STARTS_WORK
            ]
        return steps

    def _is_payment(self, event: Event) -> bool:
        return event.label == "activity starts" and event.run_id != self.invoice.run_id

    def _step(self, event: Event, fault: str = "", then: _Step | None = None) -> _Step:
        async def step() -> None:
            if fault:
                self._script_fault(fault)
            self.reduction.check(event)
            await self.simulation.process(event)
            if then is not None:
                await then()

        return step

    def _may_query_before(self, event: Event) -> bool:
        # Of the invoice only: the events of a line are not explored in every order.
        is_invoice_task = event.label == "workflow task" and event.run_id == self.invoice.run_id
        return self.can_query and is_invoice_task and self.invoice.tasks.may_follow_query

    def _after_query(self, event: Event) -> _Step:
        async def step() -> None:
            self._note("client", "queries: the answer comes from a replay, before the workflow task")
            self.can_query, self.scheduler.is_queried = False, True
            await self.simulation.process(event)

        return step

    def _script_fault(self, fault: str) -> None:
        """Let the next payment meet a fault, and later payments none."""
        self._note("gateway", f"the next payment meets {fault}")
        match fault:
            case "payment-refused":
                self.payments.refuses()
            case "payment-down":
                self.payments.is_down()
            case "refused-again":
                self.payments.refuses_again()
            case "stale-answer":
                # Of a gateway that does not echo the key: a wrong key is handled as a lost answer.
                self.payments.echoes = False
                self.payments.repeats_an_answer()
            case _:
                self.payments.loses_the_answer()
        self.faults = ()

    def _from_outside(self, event: str) -> _Step:
        async def step() -> None:
            self._note("client", event)
            apply_event(self.invoice, event)
            self.done += 1

        return step

    async def _crash(self) -> None:
        self._note("worker", "crash")
        self.can_crash = False
        self.reduction.parked.clear()
        self.simulation.crash_worker(_QUEUE)
        self._start_worker()

    def _note(self, who: str, what: str) -> None:
        self.actions.append(TimelineEntry(self.simulation.event_count, self.simulation.now, who, what))

    async def _advance_clock(self) -> None:
        due = self.simulation.event_queue.next_time()
        assert due is not None
        self.simulation.event_queue.advance_to(due)

    # -- the check at the end ------------------------------------------------------------------------------

    async def _check(self) -> None:
        found = [
            Violation("L1", run.workflow_id, "does not end: nothing can happen any more")
            for run in self.simulation.runs()
            if run.is_open
        ]
        if not found and (end := self._end()) not in self.checked_ends:
            self.checked_ends.add(end)
            found = check(await self._observe())
        if found:
            raise Violations(found)

    def _end(self) -> Hashable:
        """Everything that the observations are made from. It is much cheaper to compute than they are."""
        pasts = tuple(run.history_digest() for run in self.simulation.runs())
        return str((self.payments.made, self.payments.answered)), pasts

    async def _observe(self) -> Observations:
        client: Client = connect(self.simulation, data_converter=pydantic_data_converter)

        async def report(workflow_id: str, run_id: str | None = None) -> InvoiceReport:
            handle = client.get_workflow_handle(workflow_id, run_id=run_id)
            try:
                answer: InvoiceReport = await handle.query("GetInvoiceReport", result_type=InvoiceReport)
            except WorkflowQueryFailedError as error:
                # The workflow behaves differently on replay.
                raise Violations([Violation("S9", workflow_id, f"can't be queried any more: {error}")]) from None
            return answer

        return await observe(
            client,
            {_WORKFLOW_ID: []},
            ledger=tuple(self.payments.made),
            attempts=tuple(self.payments.answered),
            report=report,
        )


class _ExplorationScheduler:
    """Leaves every choice to the choice sequence; lets events come between a task and its completion."""

    interleaves_tasks = True
    is_queried = False

    def choose(self, options: Any) -> Event:
        event: Event = options[0]
        return event

    def replies_early(self) -> bool:
        return True

    def loses_report(self) -> bool:
        return False

    def queries_before_task(self) -> bool:
        is_queried, self.is_queried = self.is_queried, False
        return is_queried
