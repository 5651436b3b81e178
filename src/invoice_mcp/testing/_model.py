"""The reference model: from what was done to an invoice, the set of what may be answered and become of it. Pure.

It says what was promised and knows nothing of how that is kept. Where two outcomes are right, because something
happens by itself at a time nobody controls, it follows both until an observation tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain, combinations

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
        made: Line number and which invoice it was, of every payment that was made, whether its answer arrived or not.
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
    made: frozenset[tuple[int, int]] = frozenset()

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
        hasty: Things may be done to the invoice before it has got where the last one leads; see `catch_up`.
    """

    invoices: tuple[Invoice, ...]
    approval_timeout: timedelta
    hasty: bool = False
    possible: frozenset[State] = field(default_factory=lambda: frozenset({State()}))

    def act(self, action: Action, when: Span) -> dict[str, frozenset[State]]:
        """What may be answered, and how the invoice may stand then."""
        answers: dict[str, set[State]] = {}
        # Before it is done, only what was due when it began must have happened; unless it is that time passes.
        passes = action.verb is Verb.ADVANCE
        must = passes and when.last - when.first >= _RETRIES_END
        for state in self.possible:
            for now in self._waited(state, when, must=must, by=when.last if passes else when.first):
                for answer, then in self._answers(now, action, when):
                    answers.setdefault(answer, set()).update(self._waited(then, when))
        return {answer: frozenset(states) for answer, states in answers.items()}

    def catch_up(self, when: Span) -> None:
        """Let everything happen that needs no time. Only a hasty model has anything to catch up with."""
        prompt = replace(self, hasty=False)
        self.possible = frozenset(then for state in self.possible for then in prompt._waited(state, when))  # noqa: SLF001

    # -- what happens by itself ----------------------------------------------------------------------------

    def _waited(self, state: State, when: Span, *, must: bool = False, by: datetime | None = None) -> Iterable[State]:
        """How a state may be after this span. `must`: enough time passes for every retry to end.

        What was due `by` then has happened; by default, when the span ended.
        """
        reached, new = {state}, [state]
        while new:
            state = new.pop()
            for then in self._happens(state, when, must=must):
                if then not in reached:
                    reached.add(then)
                    new.append(then)
        return [
            each for each in reached if (self.hasty and not must) or not self._is_late(each, by or when.last, must=must)
        ]

    def _is_late(self, state: State, now: datetime, *, must: bool) -> bool:
        """Whether it can't be like this any more: something would have happened."""
        if state.status is Status.PENDING_APPROVAL and state.deadline and now >= state.deadline.last + _SURELY:
            return True
        if self._goes_on(state) or (state.status is Status.PENDING_VALIDATION and not state.tried(0)):
            return True
        waits = [n for n in self._open_lines(state) if not state.tried(n) and self._is_due(state, n, now - _APART)]
        retries = [n for n in range(len(state.tries)) if self._retries(state, n)]
        return bool(waits) or (must and bool(retries))

    def _happens(self, state: State, when: Span, *, must: bool) -> Iterator[State]:
        if self._goes_on(state):
            yield self._closed(state, Status.REJECTED) if state.verdict is Verdict.REJECTED else self._paying(state)
            return
        if state.status is Status.PENDING_VALIDATION:
            yield self._validated(state, when, within=_RETRIES_END if must else timedelta())
        if state.status is Status.PENDING_APPROVAL and state.deadline and when.last >= state.deadline.first:
            yield self._closed(state, Status.EXPIRED)
        for number in self._open_lines(state):
            if self._retries(state, number) or self._is_due(state, number, when.last + _APART):
                yield self._paid(state, number)

    def _goes_on(self, state: State) -> bool:
        """Whether a decision is taken, but nothing has come of it yet."""
        if state.status is Status.PENDING_VALIDATION:
            return state.verdict is Verdict.REJECTED
        return state.status is Status.PENDING_APPROVAL and state.verdict is not None

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
        assert state.content is not None  # noqa: S101 (it has lines)
        content = state.content
        if fault is Verb.PAYMENT_REFUSED and any(n == number and self._same_line(n, content, c) for n, c in state.made):
            # A payment that was made is never refused afterwards.
            fault = None
        if fault in {None, Verb.ANSWER_LOST}:
            state = replace(state, made=state.made | {(number, content)})
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
                yield from self._cancelled(state, when)
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
            made=state.made,
        )
        return OK, fresh

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
        return OK, replace(state, verdict=verdict)

    def _cancelled(self, state: State, when: Span) -> Iterator[tuple[str, State]]:
        if state.content is None:
            yield Code.NOT_FOUND, state
        elif state.status.is_terminal:
            yield (OK if state.status is Status.CANCELLED else Code.ALREADY_CLOSED), state
        elif state.status is not Status.PAYING:
            is_rejected = state.verdict is Verdict.REJECTED
            yield OK, self._closed(state, Status.REJECTED if is_rejected else Status.CANCELLED)
        else:
            untried = [number for number in self._open_lines(state) if not state.tried(number)]
            waiting = [number for number in untried if not self._is_due(state, number, when.last + _APART)]
            # Of a line that falls due about now the payment may be under way, or it may still be waiting.
            about = [
                number
                for number in untried
                if number not in waiting and (self.hasty or not self._is_due(state, number, when.first - _APART))
            ]
            for some in chain.from_iterable(combinations(about, size) for size in range(len(about) + 1)):
                lines = tuple(
                    LineStatus.CANCELLED if number in {*waiting, *some} else line
                    for number, line in enumerate(state.lines, 1)
                )
                yield OK, self._maybe_ended(replace(state, cancelling=True, lines=lines))


# A deadline that lies this far back has surely been noticed; nearer to it, both are right.
_SURELY = timedelta(seconds=1)


def _tried(state: State, number: int) -> State:
    tries = chain(state.tries[:number], [state.tries[number] + 1], state.tries[number + 1 :])
    return replace(state, tries=tuple(tries))
