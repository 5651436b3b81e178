"""What becomes of an invoice by itself: time passes, ports answer or fail, and what has to follow does. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain, combinations

from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.report import LineStatus, Status, Verdict
from invoice_mcp.testing.model.actions import Verb
from invoice_mcp.testing.model.state import Span, State

RETRY_PERIOD = timedelta(minutes=5)
"""Every retry has ended this long after it began."""
CLOCK_SKEW = timedelta(minutes=1)
"""So far apart are clocks that are read one after another."""

_ERP_ATTEMPTS = 5
_PAYMENT_ATTEMPTS = 3
# A deadline that lies this far back has surely been noticed; nearer to it, both are right.
_TIMER_DELAY = timedelta(seconds=1)


def _subsets(numbers: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Every choice of some of the numbers, none and all among them."""
    return chain.from_iterable(combinations(numbers, size) for size in range(len(numbers) + 1))


@dataclass(frozen=True)
class Transitions:
    """The course of things for one invoice; the arguments are those of `Model`."""

    invoices: tuple[Invoice, ...]
    approval_timeout: timedelta
    eager: bool

    def reachable(self, state: State, when: Span, *, must: bool = False, by: datetime | None = None) -> Iterable[State]:
        """How a state may be after this span. `must`: enough time passes for every retry to end.

        What was due `by` then has happened; by default, when the span ended.
        """
        reached, new = {state}, [state]
        while new:
            state = new.pop()
            for then in self._successors(state, when, must=must):
                if then not in reached:
                    reached.add(then)
                    new.append(then)
        now = by or when.last
        return {
            self._without_closed_lines(each, now, must=must)
            for each in reached
            if (self.eager and not must) or not self._is_overdue(each, now, must=must)
        }

    def _is_overdue(self, state: State, now: datetime, *, must: bool) -> bool:
        """Whether it can't be like this any more: something would have happened."""
        if state.terminated:
            return False
        if state.status is Status.PENDING_APPROVAL and state.deadline and now >= state.deadline.last + _TIMER_DELAY:
            return True
        if state.undelivered or state.cancel_requested or self._has_pending_decision(state):
            return True
        if state.status is Status.PENDING_VALIDATION and not state.attempts_of(0):
            return True
        waits = [n for n in state.untried if self.is_due(state, n, now - CLOCK_SKEW)]
        retries = [n for n in range(len(state.attempts)) if self._is_retrying(state, n)]
        return bool(waits) or (must and bool(retries))

    def _successors(self, state: State, when: Span, *, must: bool) -> Iterator[State]:
        if state.terminated:
            return
        if state.cancel_requested:
            yield from self.take_up_cancellation(state, when)
        if self._has_pending_decision(state):
            if state.verdict is Verdict.REJECTED:
                yield from (self.close(each, Status.REJECTED) for each in self.after_possible_erp_call(state))
            else:
                yield from self._start_lines(state, when)
            return
        if state.status is Status.PENDING_VALIDATION:
            yield self._attempt_validation(state, when, within=RETRY_PERIOD if must else timedelta())
        if state.status is Status.PENDING_APPROVAL and state.deadline and when.last >= state.deadline.first:
            yield self.close(state, Status.EXPIRED)
        for number in self._payable_lines(state, when):
            yield self._attempt_payment(state, number)

    def _payable_lines(self, state: State, when: Span) -> list[int]:
        """The lines that may be paid now, or have had their last attempt."""
        return [
            n for n in state.scheduled if self._is_retrying(state, n) or self.is_due(state, n, when.last + CLOCK_SKEW)
        ]

    def _possible_calls(self, state: State, when: Span) -> list[int]:
        """The lines for which the gateway may be asked now; 0 if it is the ERP that may be."""
        if state.terminated:
            return []
        if state.status is Status.PENDING_VALIDATION:
            return [0] if state.attempts_of(0) < _ERP_ATTEMPTS else []
        return [number for number in self._payable_lines(state, when) if state.attempts_of(number) < _PAYMENT_ATTEMPTS]

    def with_scripted_fault(self, state: State, number: int, fault: Verb, when: Span) -> Iterator[State]:
        """How it may be after a fault was scripted for payments of a line, or (0) for the ERP.

        In haste that may have been asked just before, without any fault, and the answer be on its way: this fault is
        for the next time.
        """
        yield state.with_fault(number, fault)
        if self.eager and not state.faults_of(number) and number in self._possible_calls(state, when):
            _, asked = self._call_port(state, number)
            yield replace(asked.with_fault(number, fault), undelivered=state.undelivered | {number})

    def after_possible_erp_call(self, state: State) -> Iterator[State]:
        """The same; in haste also as it is if the ERP has just been asked, and its answer comes too late."""
        yield state
        if self.eager and state.status is Status.PENDING_VALIDATION:
            yield self._call_port(state, 0)[1]

    def after_crash(self, state: State, when: Span) -> Iterable[State]:
        """How it may be after the worker crashed: in haste, answers of the ports may have been on their way.

        What was asked then has had its effect, and is asked again once its time is over. Or a worker had taken that on,
        and not come to ask: then it is asked for the first time.
        """
        if not self.eager:
            return {state}
        every = {state}
        for number in self._possible_calls(state, when):
            asked = {self._call_port(each, number)[1] for each in every}
            every |= {each.after_attempt(number) for each in every | asked}
        return every

    def _has_pending_decision(self, state: State) -> bool:
        """Whether a decision is taken, but nothing has come of it yet."""
        if state.status is Status.PENDING_VALIDATION:
            return state.verdict is Verdict.REJECTED
        return state.status is Status.PENDING_APPROVAL and state.verdict is not None

    def _is_retrying(self, state: State, number: int) -> bool:
        if number == 0:
            return state.status is Status.PENDING_VALIDATION and state.attempts_of(0) > 0
        return state.attempts_of(number) > 0 and number in state.scheduled

    def is_due(self, state: State, number: int, now: datetime) -> bool:
        """Whether a line of its is to be paid by now."""
        assert state.content is not None
        return self._due_date(state.content, number) <= now

    def _is_surely_open(self, number: int, content: int, when: Span) -> bool:
        """Whether what a reset has left of a line surely waits for its due date yet."""
        return self._due_date(content, number) > when.last + CLOCK_SKEW

    def _without_closed_lines(self, state: State, now: datetime, *, must: bool) -> State:
        """The same without those lines that resets left behind, and that have surely ended."""
        if not state.abandoned or (self.eager and not must):
            return state
        kept = {
            (number, content, may_be_gone)
            for number, content, may_be_gone in state.abandoned
            if self._due_date(content, number) > now - CLOCK_SKEW or (may_be_gone and not must)
        }
        return replace(state, abandoned=frozenset(kept))

    def _due_date(self, content: int, number: int) -> datetime:
        return self.invoices[content].lines[number - 1].due_date

    def _attempt_validation(self, state: State, when: Span, within: timedelta = timedelta()) -> State:
        """After one more attempt at the ERP."""
        if state.attempts_of(0) == _ERP_ATTEMPTS:
            return self.close(state, Status.FAILED)
        fault, state = self._call_port(state, 0)
        if fault is Verb.ERP_REFUSES:
            return self.close(state, Status.FAILED)
        if fault is Verb.ERP_DOWN:
            state = state.after_attempt(0)
            return self.close(state, Status.FAILED) if state.attempts_of(0) == _ERP_ATTEMPTS else state
        assert state.began is not None
        last = min(when.last, when.first + within) if within else when.last
        deadline = Span(state.began.first + self.approval_timeout, last + self.approval_timeout)
        return replace(state, status=Status.PENDING_APPROVAL, deadline=deadline, undelivered=frozenset())

    def _start_lines(self, state: State, when: Span) -> Iterator[State]:
        """After its lines have begun; except those whose ids may still be taken, which then are not confirmed."""
        assert state.content is not None
        lines = range(1, len(state.lines) + 1)
        taken = {
            n
            for n, content, may_be_gone in state.abandoned
            if not may_be_gone and self._is_surely_open(n, content, when)
        }
        left = state.left | {number for number, _, _ in state.abandoned}
        for choice in _subsets([number for number in lines if number in left - taken]):
            some = {*choice, *taken}
            new_run = tuple(LineStatus.FAILED if number in some else LineStatus.SCHEDULED for number in lines)
            paying = replace(state, status=Status.PAYING, lines=new_run, unconfirmed=state.unconfirmed | {*some})
            yield self.close_if_done(paying)

    def _attempt_payment(self, state: State, number: int) -> State:
        """After one more attempt to pay a line."""
        if state.attempts_of(number) < _PAYMENT_ATTEMPTS:
            fault, state = self._call_port(state, number)
            if fault is None:
                return self._with_line_status(state, number, LineStatus.PAID)
            if fault is Verb.PAYMENT_REFUSED and not state.attempts_of(number):
                return self._with_line_status(state, number, LineStatus.FAILED)
            if fault is not Verb.PAYMENT_REFUSED:
                state = state.after_attempt(number)
                if state.attempts_of(number) < _PAYMENT_ATTEMPTS:
                    return state
        # Some attempt was left without a verdict: it may have paid, whatever the last one was answered.
        state = replace(state, unconfirmed=state.unconfirmed | {number})
        return self._with_line_status(state, number, LineStatus.FAILED)

    def _call_port(self, state: State, number: int) -> tuple[Verb | None, State]:
        """The gateway was asked to pay a line, or (0) the ERP: the fault that was met, and what became of the rest."""
        fault: Verb | None = None
        if number not in state.undelivered:
            fault, state = state.without_fault(number)
        if fault is Verb.REFUSED_AGAIN:
            state = replace(state, refused_keys=state.refused_keys | {number})
        if fault is None and number in state.refused_keys:
            fault = Verb.PAYMENT_REFUSED
        return fault, state

    def _with_line_status(self, state: State, number: int, status: LineStatus) -> State:
        lines = (*state.lines[: number - 1], status, *state.lines[number:])
        return self.close_if_done(replace(state, lines=lines, undelivered=state.undelivered - {number}))

    def close_if_done(self, state: State) -> State:
        """The same, unless no line waits any more: then it has ended."""
        if LineStatus.SCHEDULED in state.lines:
            return state
        if set(state.lines) == {LineStatus.PAID}:
            return self.close(state, Status.PAID)
        is_cancelled = state.cancelling and LineStatus.CANCELLED in state.lines
        return self.close(state, Status.CANCELLED if is_cancelled else Status.FAILED)

    def close(self, state: State, status: Status) -> State:
        """After it has ended."""
        assert state.content is not None
        lines = tuple(LineStatus.NOT_PAID if line is LineStatus.PENDING else line for line in state.lines)
        paid = {n for n, line in enumerate(lines, 1) if line is LineStatus.PAID} | state.unconfirmed
        settled = state.settled | {(number, state.content) for number in paid}
        nothing_left = (0,) * len(state.attempts)
        return replace(
            state,
            status=status,
            lines=lines,
            settled=settled,
            deadline=None,
            attempts=nothing_left,
            undelivered=frozenset(),
            cancel_requested=False,
        )

    def take_up_cancellation(self, state: State, when: Span) -> Iterator[State]:
        """After it has taken up its cancellation: what waits is not paid, a payment under way finishes."""
        if state.status is not Status.PAYING:
            is_rejected = state.verdict is Verdict.REJECTED
            for each in self.after_possible_erp_call(state):
                yield self.close(each, Status.REJECTED if is_rejected else Status.CANCELLED)
            return
        waiting = [number for number in state.untried if not self.is_due(state, number, when.last + CLOCK_SKEW)]
        # Of a line that falls due about now the payment may be under way, or it may still be waiting.
        about = [
            number
            for number in state.untried
            if number not in waiting and (self.eager or not self.is_due(state, number, when.first - CLOCK_SKEW))
        ]
        for some in _subsets(about):
            lines = tuple(
                LineStatus.CANCELLED if number in {*waiting, *some} else line
                for number, line in enumerate(state.lines, 1)
            )
            yield self.close_if_done(replace(state, cancelling=True, cancel_requested=False, lines=lines))

    def terminated(self, state: State, when: Span) -> Iterable[State]:
        """How it may be after somebody has terminated it: of one that was paying, any line may have been paid.

        In haste, what has happened may not have been told to the workflow: the decision, that a line has begun, and
        what a port was asked, which has had its effect. Or it is told by the replay that answers for the workflow from
        then on, which may go on to any status; nothing else comes of that.
        """
        assert state.content is not None
        may_be_paid = range(1, len(state.lines) + 1) if state.status is Status.PAYING else ()
        settled = state.settled | {(number, state.content) for number in may_be_paid}
        if not self.eager:
            return {replace(state, terminated=True, settled=settled)}
        left = state.left | {*state.scheduled}
        every = {replace(state, terminated=True, cancel_requested=False, settled=settled, left=left)}
        for number in self._possible_calls(state, when):
            every |= {self._call_port(each, number)[1] for each in every}
        if state.status in {Status.PENDING_VALIDATION, Status.PENDING_APPROVAL}:
            every |= {replace(each, verdict=None) for each in every}
        for number in state.scheduled:
            new_run = {(*each.lines[: number - 1], LineStatus.PENDING, *each.lines[number:]) for each in every}
            every |= {replace(each, lines=lines) for each in every for lines in new_run}
        return every | {
            replace(then, terminated=True, left=left) for then in self.reachable(state, when) if then.has_ended
        }

    def reset(self, state: State, when: Span, *, reapplied: bool) -> Iterable[State]:
        """How it may be after its newest run was reset to its beginning: another one has begun in its place.

        A decision of the old run is none of the new one's, unless it comes again. What the old run paid, or may have
        paid, stays settled. The lines that it left waiting stay: until they end, their ids are taken.

        In haste, what a port was asked may not have been told to the old run, as when it is terminated.
        """
        assert state.content is not None
        is_paying = state.status is Status.PAYING and not state.has_ended
        settled = state.settled | {(number, state.content) for number in range(1, len(state.lines) + 1) if is_paying}
        # One that tries again is refused when it does. In haste one may not have begun, or be about to end.
        left = {(number, state.content, self.eager or state.attempts_of(number) > 0) for number in state.scheduled}
        every = {replace(state, settled=settled, abandoned=state.abandoned | left)}
        if self.eager:
            for number in self._possible_calls(state, when):
                every |= {self._call_port(each, number)[1] for each in every}
        verdict = state.verdict if reapplied else None
        return {self.new_run(each, state.content, when, verdict=verdict) for each in every}

    def new_run(self, state: State, content: int, when: Span, *, verdict: Verdict | None = None) -> State:
        """After another run has begun: nothing has happened to that yet, unless it was told a decision first."""
        lines = len(self.invoices[content].lines)
        return State(
            content=content,
            status=Status.PENDING_VALIDATION,
            verdict=verdict,
            began=when,
            lines=(LineStatus.PENDING,) * lines,
            attempts=(0,) * (lines + 1),
            settled=state.settled,
            faults=state.faults,
            refused_keys=state.refused_keys,
            left=state.left,
            abandoned=state.abandoned,
        )

    def is_same_line(self, number: int, one: int, other: int) -> bool:
        """Whether a line is the same in two of the invoices, and for the same customer."""
        lines, others = self.invoices[one].lines, self.invoices[other].lines
        is_same_customer = self.invoices[one].customer == self.invoices[other].customer
        return is_same_customer and number <= len(lines) and lines[number - 1] == others[number - 1]
