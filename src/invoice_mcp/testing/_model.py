"""The reference model: from what was done to an invoice, the set of what may be answered and become of it. Pure.

It says what was promised and knows nothing of how that is kept. Where two outcomes are right, because something
happens by itself at a time nobody controls, it follows both until an observation tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain

from invoice_mcp.errors import Code
from invoice_mcp.invoices import Invoice
from invoice_mcp.reports import InvoiceReport, LineStatus, Status, Verdict
from invoice_mcp.testing._actions import Action, Verb

OK = "OK"
Shown = tuple[Status, Verdict | None, tuple[LineStatus, ...]]
"""What a report shows of a state: status, decision, lines."""

_ERP_ATTEMPTS = 5
_PAYMENT_ATTEMPTS = 3
# Every retry has ended this long after it began; and clocks that are read one after another are this far apart.
_RETRIES_END = timedelta(minutes=5)
_APART = timedelta(minutes=1)


@dataclass(frozen=True)
class Span:
    """Two times between which something happened."""

    first: datetime
    last: datetime


@dataclass(frozen=True)
class State:
    """One invoice as it may be: its newest run, what is scripted at the ports, and what earlier runs have settled.

    Attributes:
        content: Which of the scenario's invoices the run is about; None before the first.
        tries: Of each line (0: of the validation) how many attempts were made without a verdict.
        settled: Line number -> which invoice it was settled with.
        faults: Of each line what its next payments meet.
    """

    content: int | None = None
    status: Status = Status.CANCELLED
    verdict: Verdict | None = None
    began: Span | None = None
    deadline: Span | None = None
    cancelling: bool = False
    lines: tuple[LineStatus, ...] = ()
    tries: tuple[int, ...] = ()
    unconfirmed: frozenset[int] = frozenset()
    settled: frozenset[tuple[int, int]] = frozenset()
    erp: tuple[Verb, ...] = ()
    faults: frozenset[tuple[int, tuple[Verb, ...]]] = frozenset()

    @property
    def shows(self) -> Shown:
        """What its report shows, once nothing happens any more without time passing."""
        return self.status, self.verdict, self.lines

    def tried(self, number: int) -> int:
        """How often line `number` (0: the validation) was tried without a verdict."""
        return self.tries[number]


def shown_by(report: InvoiceReport) -> Shown:
    """What a report shows."""
    return report.status, report.decision.verdict if report.decision else None, tuple(x.status for x in report.lines)


@dataclass
class Model:
    """Follows one invoice through its scenario.

    Args:
        invoices: What may be submitted under its id, by number.
        approval_timeout: How long it waits for a decision.
    """

    invoices: tuple[Invoice, ...]
    approval_timeout: timedelta
    possible: frozenset[State] = field(default_factory=lambda: frozenset({State()}))

    def act(self, action: Action, when: Span) -> dict[str, frozenset[State]]:
        """What may be answered, and how the invoice may stand then."""
        answers: dict[str, set[State]] = {}
        for state in self.possible:
            for now in self._waited(state, when, must=action.verb is Verb.ADVANCE):
                for answer, then in self._answers(now, action, when):
                    answers.setdefault(answer, set()).update(self._waited(then, when))
        return {answer: frozenset(states) for answer, states in answers.items()}

    # -- what happens by itself ----------------------------------------------------------------------------

    def _waited(self, state: State, when: Span, *, must: bool = False) -> Iterable[State]:
        """How a state may be after this span. `must`: enough time passes for every retry to end."""
        reached, new = {state}, [state]
        while new:
            state = new.pop()
            for then in self._happens(state, when, must=must):
                if then not in reached:
                    reached.add(then)
                    new.append(then)
        return [each for each in reached if not self._is_late(each, when, must=must)]

    def _is_late(self, state: State, when: Span, *, must: bool) -> bool:
        """Whether it can't be like this any more: something would have happened."""
        if state.status is Status.PENDING_APPROVAL and state.deadline and when.last >= state.deadline.last + _SURELY:
            return True
        waits = [
            n for n in self._open_lines(state) if not state.tried(n) and self._is_due(state, n, when.last - _APART)
        ]
        retries = [n for n in range(len(state.tries)) if self._retries(state, n)]
        return bool(waits) or (must and bool(retries))

    def _happens(self, state: State, when: Span, *, must: bool) -> Iterator[State]:
        if self._retries(state, 0):
            yield self._validated(state, when, within=_RETRIES_END if must else timedelta())
        if state.status is Status.PENDING_APPROVAL and state.deadline and when.last >= state.deadline.first:
            yield self._closed(state, Status.EXPIRED)
        for number in self._open_lines(state):
            if self._retries(state, number) or self._is_due(state, number, when.last + _APART):
                yield self._paid(state, number)

    def _open_lines(self, state: State) -> list[int]:
        if state.status is not Status.PAYING:
            return []
        return [number for number, line in enumerate(state.lines, 1) if line is LineStatus.SCHEDULED]

    def _retries(self, state: State, number: int) -> bool:
        if number == 0:
            return state.status is Status.PENDING_VALIDATION and state.tried(0) > 0
        return state.tried(number) > 0 and number in self._open_lines(state)

    def _is_due(self, state: State, number: int, now: datetime) -> bool:
        assert state.content is not None  # noqa: S101 (it has lines)
        return self.invoices[state.content].lines[number - 1].due_date <= now

    def _validated(self, state: State, when: Span, within: timedelta = timedelta()) -> State:
        """After one more attempt at the ERP."""
        fault, left = (state.erp[0], state.erp[1:]) if state.erp else (None, ())
        state = replace(state, erp=left)
        if fault is Verb.ERP_REFUSES:
            return self._closed(state, Status.FAILED)
        if fault is Verb.ERP_DOWN:
            state = _tried(state, 0)
            return self._closed(state, Status.FAILED) if state.tried(0) == _ERP_ATTEMPTS else state
        if state.verdict is Verdict.APPROVED:
            return self._paying(state)
        assert state.began is not None  # noqa: S101 (it runs)
        last = min(when.last, when.first + within) if within else when.last
        deadline = Span(state.began.first + self.approval_timeout, last + self.approval_timeout)
        return replace(state, status=Status.PENDING_APPROVAL, deadline=deadline)

    def _paying(self, state: State) -> State:
        return replace(state, status=Status.PAYING, lines=(LineStatus.SCHEDULED,) * len(state.lines))

    def _paid(self, state: State, number: int) -> State:
        """After one more attempt to pay a line."""
        queues = dict(state.faults)
        queue = queues.get(number, ())
        fault, queues[number] = (queue[0], queue[1:]) if queue else (None, ())
        state = replace(state, faults=frozenset((line, left) for line, left in queues.items() if left))
        if fault is None:
            return self._line(state, number, LineStatus.PAID)
        if fault is Verb.PAYMENT_REFUSED:
            return self._line(state, number, LineStatus.FAILED)
        state = _tried(state, number)
        if state.tried(number) < _PAYMENT_ATTEMPTS:
            return state
        state = replace(state, unconfirmed=state.unconfirmed | {number})
        return self._line(state, number, LineStatus.FAILED)

    def _line(self, state: State, number: int, status: LineStatus) -> State:
        lines = (*state.lines[: number - 1], status, *state.lines[number:])
        return self._maybe_ended(replace(state, lines=lines))

    def _maybe_ended(self, state: State) -> State:
        if LineStatus.SCHEDULED in state.lines:
            return state
        if set(state.lines) == {LineStatus.PAID}:
            return self._closed(state, Status.PAID)
        is_cancelled = state.cancelling and LineStatus.CANCELLED in state.lines
        return self._closed(state, Status.CANCELLED if is_cancelled else Status.FAILED)

    def _closed(self, state: State, status: Status) -> State:
        assert state.content is not None  # noqa: S101 (it runs)
        lines = tuple(LineStatus.NOT_PAID if line is LineStatus.PENDING else line for line in state.lines)
        paid = {n for n, line in enumerate(lines, 1) if line is LineStatus.PAID} | state.unconfirmed
        settled = state.settled | {(number, state.content) for number in paid}
        nothing_left = (0,) * len(state.tries)
        return replace(state, status=status, lines=lines, settled=settled, deadline=None, tries=nothing_left)

    # -- what is done to it --------------------------------------------------------------------------------

    def _answers(self, state: State, action: Action, when: Span) -> Iterator[tuple[str, State]]:
        match action.verb:
            case Verb.TRIGGER | Verb.TRIGGER_CHANGED:
                yield self._triggered(state, 1 if action.verb is Verb.TRIGGER_CHANGED else 0, when)
            case Verb.APPROVE | Verb.REJECT:
                verdict = Verdict.APPROVED if action.verb is Verb.APPROVE else Verdict.REJECTED
                yield self._decided(state, verdict)
            case Verb.SIGNAL_APPROVE | Verb.SIGNAL_REJECT:
                verdict = Verdict.APPROVED if action.verb is Verb.SIGNAL_APPROVE else Verdict.REJECTED
                if state.status.is_terminal:
                    yield Code.NOT_FOUND, state
                else:
                    # A refused signal is ignored, and its sender never knows.
                    yield OK, self._decided(state, verdict)[1]
            case Verb.CANCEL:
                yield self._cancelled(state)
            case Verb.ERP_DOWN | Verb.ERP_REFUSES:
                yield OK, replace(state, erp=(*state.erp, action.verb))
            case Verb.PAYMENT_DOWN | Verb.PAYMENT_REFUSED | Verb.ANSWER_LOST:
                queues = dict(state.faults)
                queues[action.line] = (*queues.get(action.line, ()), action.verb)
                yield OK, replace(state, faults=frozenset(queues.items()))
            case Verb.ADVANCE | Verb.CRASH:
                yield OK, state

    def _triggered(self, state: State, content: int, when: Span) -> tuple[str, State]:
        is_open = state.content is not None and not state.status.is_terminal
        if is_open or state.status is Status.PAID:
            return (OK if content == state.content else Code.INVOICE_CONFLICT), state
        if any(not self._same_line(number, content, before) for number, before in state.settled):
            return Code.INVOICE_CONFLICT, state
        lines = len(self.invoices[content].lines)
        fresh = State(
            content=content,
            status=Status.PENDING_VALIDATION,
            began=when,
            lines=(LineStatus.PENDING,) * lines,
            tries=(0,) * (lines + 1),
            settled=state.settled,
            erp=state.erp,
            faults=state.faults,
        )
        return OK, self._validated(fresh, when)

    def _same_line(self, number: int, one: int, other: int) -> bool:
        lines, others = self.invoices[one].lines, self.invoices[other].lines
        return number <= len(lines) and lines[number - 1] == others[number - 1]

    def _decided(self, state: State, verdict: Verdict) -> tuple[str, State]:
        if state.content is None:
            return Code.NOT_FOUND, state
        if state.status.is_terminal:
            return Code.ALREADY_CLOSED, state
        if state.verdict is not None:
            return (OK if state.verdict is verdict else Code.ALREADY_DECIDED), state
        state = replace(state, verdict=verdict)
        if verdict is Verdict.REJECTED:
            return OK, self._closed(state, Status.REJECTED)
        return OK, self._paying(state) if state.status is Status.PENDING_APPROVAL else state

    def _cancelled(self, state: State) -> tuple[str, State]:
        if state.content is None:
            return Code.NOT_FOUND, state
        if state.status.is_terminal:
            return (OK if state.status is Status.CANCELLED else Code.ALREADY_CLOSED), state
        if state.status is not Status.PAYING:
            return OK, self._closed(state, Status.CANCELLED)
        lines = tuple(
            LineStatus.CANCELLED if line is LineStatus.SCHEDULED and not self._retries(state, number) else line
            for number, line in enumerate(state.lines, 1)
        )
        return OK, self._maybe_ended(replace(state, cancelling=True, lines=lines))


# A deadline that lies this far back has surely been noticed; nearer to it, both are right.
_SURELY = timedelta(seconds=1)


def _tried(state: State, number: int) -> State:
    tries = chain(state.tries[:number], [state.tries[number] + 1], state.tries[number + 1 :])
    return replace(state, tries=tuple(tries))
