"""The transition relation of the reference model: what an invoice does by itself, and how faults and attacks change it.

Pure. A state may have several successors, since timers, answers and workers have no fixed order (a nondeterministic
specification, as in model-based testing). The limits of attempts are written here, in the workflows, and in the tests
on purpose: an independent oracle must not read them from the code under test.
"""

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
"""The longest time that all retries of one call take."""
CLOCK_SKEW = timedelta(minutes=1)
"""The largest difference between clocks that are read one after another."""

# Independent of the workflow's retry policies on purpose; see the module's docstring.
_ERP_ATTEMPTS = 5
_PAYMENT_ATTEMPTS = 3
# The server fires a timer at most this long after its time. Until then, both outcomes are right.
_TIMER_DELAY = timedelta(seconds=1)


def _subsets(numbers: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All subsets."""
    return chain.from_iterable(combinations(numbers, size) for size in range(len(numbers) + 1))


@dataclass(frozen=True)
class Transitions:
    """The transitions of one invoice. The fields are those of `Model`.

    A method that returns or yields states gives every state that is right after its event.
    """

    invoices: tuple[Invoice, ...]
    approval_timeout: timedelta
    eager: bool

    def reachable(
        self, state: State, when: Span, *, retries_end: bool = False, due_by: datetime | None = None
    ) -> Iterable[State]:
        """The states that are right at the end of an interval: the closure under internal transitions.

        Args:
            retries_end: The interval is long enough for every retry to end.
            due_by: Timers that are due by then have fired; by default, by the end of the interval.
        """
        reached, new = {state}, [state]
        while new:
            state = new.pop()
            for then in self._successors(state, when, retries_end=retries_end):
                if then not in reached:
                    reached.add(then)
                    new.append(then)
        now = due_by or when.last
        return {
            self._without_closed_lines(each, now, retries_end=retries_end)
            for each in reached
            if (self.eager and not retries_end) or not self._is_overdue(each, now, retries_end=retries_end)
        }

    def _is_overdue(self, state: State, now: datetime, *, retries_end: bool) -> bool:
        """Whether some transition must have happened by now, so that the state is no longer possible."""
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
        return bool(waits) or (retries_end and bool(retries))

    def _successors(self, state: State, when: Span, *, retries_end: bool) -> Iterator[State]:
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
            yield self._attempt_validation(state, when, within=RETRY_PERIOD if retries_end else timedelta())
        if state.status is Status.PENDING_APPROVAL and state.deadline and when.last >= state.deadline.first:
            yield self.close(state, Status.EXPIRED)
        for number in self._payable_lines(state, when):
            yield self._attempt_payment(state, number)

    def _payable_lines(self, state: State, when: Span) -> list[int]:
        """Numbers of the lines that may be paid now, or that are being retried."""
        return [
            n for n in state.scheduled if self._is_retrying(state, n) or self.is_due(state, n, when.last + CLOCK_SKEW)
        ]

    def _possible_calls(self, state: State, when: Span) -> list[int]:
        """Numbers of the lines for which the gateway may be called now; 0 if the ERP may be called."""
        if state.terminated:
            return []
        if state.status is Status.PENDING_VALIDATION:
            return [0] if state.attempts_of(0) < _ERP_ATTEMPTS else []
        return [number for number in self._payable_lines(state, when) if state.attempts_of(number) < _PAYMENT_ATTEMPTS]

    def with_scripted_fault(self, state: State, number: int, fault: Verb, when: Span) -> Iterator[State]:
        """The states after a fault is scripted for payments of a line, or (0) for the ERP.

        In eager scenarios the call may already be in flight; the fault then applies to the next call.
        """
        yield state.with_fault(number, fault)
        if self.eager and not state.faults_of(number) and number in self._possible_calls(state, when):
            _, asked = self._call_port(state, number)
            yield replace(asked.with_fault(number, fault), undelivered=state.undelivered | {number})

    def after_possible_erp_call(self, state: State) -> Iterator[State]:
        """The state itself. In eager scenarios also the state in which the ERP was called, and answers too late."""
        yield state
        if self.eager and state.status is Status.PENDING_VALIDATION:
            yield self._call_port(state, 0)[1]

    def after_crash(self, state: State, when: Span) -> Iterable[State]:
        """The states after the worker crashes.

        In eager scenarios, activities may be running. Either the port was called: the call has its effect, and is
        repeated after the activity's timeout. Or the activity had started without calling the port yet.
        """
        if not self.eager:
            return {state}
        every = {state}
        for number in self._possible_calls(state, when):
            asked = {self._call_port(each, number)[1] for each in every}
            every |= {each.after_attempt(number) for each in every | asked}
        return every

    def _has_pending_decision(self, state: State) -> bool:
        """Whether the run has a decision that it has not acted on yet."""
        if state.status is Status.PENDING_VALIDATION:
            return state.verdict is Verdict.REJECTED
        return state.status is Status.PENDING_APPROVAL and state.verdict is not None

    def _is_retrying(self, state: State, number: int) -> bool:
        if number == 0:
            return state.status is Status.PENDING_VALIDATION and state.attempts_of(0) > 0
        return state.attempts_of(number) > 0 and number in state.scheduled

    def is_due(self, state: State, number: int, now: datetime) -> bool:
        """Whether a line of the run's invoice is due."""
        assert state.content is not None
        return self._due_date(state.content, number) <= now

    def _is_surely_open(self, number: int, content: int, when: Span) -> bool:
        """Whether the workflow of an abandoned line certainly still waits for its due date."""
        return self._due_date(content, number) > when.last + CLOCK_SKEW

    def _without_closed_lines(self, state: State, now: datetime, *, retries_end: bool) -> State:
        """The state without the abandoned lines that are certainly closed."""
        if not state.abandoned_lines or (self.eager and not retries_end):
            return state
        kept = {
            (number, content, may_be_gone)
            for number, content, may_be_gone in state.abandoned_lines
            if self._due_date(content, number) > now - CLOCK_SKEW or (may_be_gone and not retries_end)
        }
        return replace(state, abandoned_lines=frozenset(kept))

    def _due_date(self, content: int, number: int) -> datetime:
        return self.invoices[content].lines[number - 1].due_date

    def _attempt_validation(self, state: State, when: Span, within: timedelta = timedelta()) -> State:
        """The state after one more attempt to validate."""
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
        """The states after the lines started. A line whose workflow id is still in use fails, and is unconfirmed."""
        assert state.content is not None
        lines = range(1, len(state.lines) + 1)
        taken = {
            n
            for n, content, may_be_gone in state.abandoned_lines
            if not may_be_gone and self._is_surely_open(n, content, when)
        }
        left = state.closing_lines | {number for number, _, _ in state.abandoned_lines}
        for choice in _subsets([number for number in lines if number in left - taken]):
            some = {*choice, *taken}
            new_run = tuple(LineStatus.FAILED if number in some else LineStatus.SCHEDULED for number in lines)
            paying = replace(state, status=Status.PAYING, lines=new_run, unconfirmed=state.unconfirmed | {*some})
            yield self.close_if_done(paying)

    def _attempt_payment(self, state: State, number: int) -> State:
        """The state after one more attempt to pay a line."""
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
        # An earlier attempt ended without a verdict. It may have paid, whatever the answer to the last one is.
        state = replace(state, unconfirmed=state.unconfirmed | {number})
        return self._with_line_status(state, number, LineStatus.FAILED)

    def _call_port(self, state: State, number: int) -> tuple[Verb | None, State]:
        """Calls the gateway for a line, or (0) the ERP. Returns the fault that the call meets, and the next state."""
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
        """Closes the run if no line is scheduled any more."""
        if LineStatus.SCHEDULED in state.lines:
            return state
        if set(state.lines) == {LineStatus.PAID}:
            return self.close(state, Status.PAID)
        is_cancelled = state.cancelling and LineStatus.CANCELLED in state.lines
        return self.close(state, Status.CANCELLED if is_cancelled else Status.FAILED)

    def close(self, state: State, status: Status) -> State:
        """The state after the run closes with a status."""
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
        """The states after the workflow handles a cancellation: lines that wait are not paid, payments finish."""
        if state.status is not Status.PAYING:
            is_rejected = state.verdict is Verdict.REJECTED
            for each in self.after_possible_erp_call(state):
                yield self.close(each, Status.REJECTED if is_rejected else Status.CANCELLED)
            return
        waiting = [number for number in state.untried if not self.is_due(state, number, when.last + CLOCK_SKEW)]
        # A line that is due about now may be waiting still, or its payment may be under way.
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

    def after_termination(self, state: State, when: Span) -> Iterable[State]:
        """The states after the run is terminated. If it was paying, any line may have been paid.

        In eager scenarios the workflow may not have processed what happened just before: a decision, the start of a
        line, or a port's answer, whose effect stays. Or the replay that answers queries of the closed run processes
        it, and may show any later status; this has no further effect.
        """
        assert state.content is not None
        may_be_paid = range(1, len(state.lines) + 1) if state.status is Status.PAYING else ()
        settled = state.settled | {(number, state.content) for number in may_be_paid}
        if not self.eager:
            return {replace(state, terminated=True, settled=settled)}
        left = state.closing_lines | {*state.scheduled}
        every = {replace(state, terminated=True, cancel_requested=False, settled=settled, closing_lines=left)}
        for number in self._possible_calls(state, when):
            every |= {self._call_port(each, number)[1] for each in every}
        if state.status in {Status.PENDING_VALIDATION, Status.PENDING_APPROVAL}:
            every |= {replace(each, verdict=None) for each in every}
        for number in state.scheduled:
            new_run = {(*each.lines[: number - 1], LineStatus.PENDING, *each.lines[number:]) for each in every}
            every |= {replace(each, lines=lines) for each in every for lines in new_run}
        return every | {
            replace(then, terminated=True, closing_lines=left) for then in self.reachable(state, when) if then.has_ended
        }

    def after_reset(self, state: State, when: Span, *, reapplied: bool) -> Iterable[State]:
        """The states after the newest run is reset to its beginning, so that another run replaces it.

        The decision of the old run is lost unless it is reapplied. Lines that the old run paid, or may have paid, stay
        settled. Its waiting lines stay open, and their workflow ids stay in use until they close.

        In eager scenarios the old run may not have received a port's answer, as with a termination.
        """
        assert state.content is not None
        is_paying = state.status is Status.PAYING and not state.has_ended
        settled = state.settled | {(number, state.content) for number in range(1, len(state.lines) + 1) if is_paying}
        # A line that retries is refused at its next attempt. In eager scenarios a line may not have started, or may be
        # about to close.
        left = {(number, state.content, self.eager or state.attempts_of(number) > 0) for number in state.scheduled}
        every = {replace(state, settled=settled, abandoned_lines=state.abandoned_lines | left)}
        if self.eager:
            for number in self._possible_calls(state, when):
                every |= {self._call_port(each, number)[1] for each in every}
        verdict = state.verdict if reapplied else None
        return {self.new_run(each, state.content, when, verdict=verdict) for each in every}

    def new_run(self, state: State, content: int, when: Span, *, verdict: Verdict | None = None) -> State:
        """The state after another run starts.

        Args:
            verdict: The decision that a reset reapplies, if any.
        """
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
            closing_lines=state.closing_lines,
            abandoned_lines=state.abandoned_lines,
        )

    def is_same_line(self, number: int, one: int, other: int) -> bool:
        """Whether a line and the customer are the same in two of the invoices.

        The resubmission rule, written independently of `invoice_mcp.domain.resubmission` on purpose.
        """
        lines, others = self.invoices[one].lines, self.invoices[other].lines
        is_same_customer = self.invoices[one].customer == self.invoices[other].customer
        return is_same_customer and number <= len(lines) and lines[number - 1] == others[number - 1]
