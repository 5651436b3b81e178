"""The reference model: from what was done to an invoice, the set of what may be answered and become of it. Pure.

It says what was promised and knows nothing of how that is kept. Where two outcomes are right, because something
happens by itself at a time nobody controls, it follows both until an observation tells them apart.

Temporal's API is not authenticated by the product: an update `approve` or `reject` that comes by it is no different
from one that the MCP server sends, and may do exactly what the tools may. What else comes by it is among `ATTACKS`.

So are resets to the beginning of a run (`RESETS`). The new run waits for a decision of its own, unless signals and
updates come again; a cancellation never does. It pays no line again. A line that the old run left waiting pays nothing
on its due date, and until then no other run can begin it. Not modelled are resets to a later time. On the real server
(tests/scenarios/test_reset.py) a run that is reset after its lines began goes on with them, and pays them once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta

from invoice_mcp.domain.errors import ErrorCode
from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.report import Status, Verdict
from invoice_mcp.testing.model.actions import ATTACKS, PAYMENT_FAULTS, RESETS, Action, Verb
from invoice_mcp.testing.model.state import ReportedState, Span, State
from invoice_mcp.testing.model.transitions import RETRY_PERIOD, Transitions

OK = "OK"


@dataclass
class Model:
    """Follows one invoice through its scenario.

    Args:
        invoices: What may be submitted under its id, by number.
        approval_timeout: How long it waits for a decision.
        signals_approve: Whether the signal ApproveInvoice approves, by the invoice's policy.
        hasty: Things may be done to the invoice before it has got where the last one leads; see `reach_quiescence`.
    """

    invoices: tuple[Invoice, ...]
    approval_timeout: timedelta
    eager: bool = False
    signals_approve: bool = True
    possible: frozenset[State] = field(default_factory=lambda: frozenset({State()}))
    _transient: frozenset[State] = field(default=frozenset(), init=False, repr=False)

    @property
    def _transitions(self) -> Transitions:
        return Transitions(self.invoices, self.approval_timeout, self.eager)

    def allowed_answers(self, action: Action, when: Span) -> dict[str, frozenset[State]]:
        """What may be answered, and how the invoice may stand then."""
        answers: dict[str, set[State]] = {}
        # Before it is done, only what was due when it began must have happened; unless it is that time passes.
        passes = action.verb is Verb.ADVANCE
        must = passes and when.last - when.first >= RETRY_PERIOD
        for state in self.possible:
            for now in self._transitions.reachable(state, when, must=must, by=when.last if passes else when.first):
                for answer, then in self._outcomes(now, action, when):
                    answers.setdefault(answer, set()).update(self._transitions.reachable(then, when))
        return {answer: frozenset(states) for answer, states in answers.items()}

    def reach_quiescence(self, when: Span) -> None:
        """Let everything happen that needs no time. Only a hasty model has anything to catch up with.

        States in which not all of that has happened yet are kept aside, for `observe`.
        """
        prompt, states = replace(self._transitions, eager=False), self.possible
        # By then the lines of runs that were terminated have ended.
        states = frozenset(replace(state, left=frozenset()) for state in states)
        self.possible = frozenset(then for state in states for then in prompt.reachable(state, when))
        reached = frozenset(then for state in states for then in self._transitions.reachable(state, when))
        self._transient = reached - self.possible

    def observe(self, shown: ReportedState) -> None:
        """Follow only the states that show what was seen, with those that have not come to rest and show the same."""
        self.possible = frozenset(state for state in self.possible | self._transient if state.reported == shown)
        self._transient = frozenset()

    # -- what is done to it --------------------------------------------------------------------------------

    def _outcomes(self, state: State, action: Action, when: Span) -> Iterator[tuple[str, State]]:
        match action.verb:
            case Verb.TRIGGER | Verb.TRIGGER_CHANGED:
                yield self._trigger(state, 1 if action.verb is Verb.TRIGGER_CHANGED else 0, when)
            case Verb.APPROVE | Verb.REJECT:
                verdict = Verdict.APPROVED if action.verb is Verb.APPROVE else Verdict.REJECTED
                yield self._decide(state, verdict)
            case Verb.SIGNAL_APPROVE | Verb.SIGNAL_REJECT:
                verdict = Verdict.APPROVED if action.verb is Verb.SIGNAL_APPROVE else Verdict.REJECTED
                if state.has_ended:
                    yield ErrorCode.NOT_FOUND, state
                elif verdict is Verdict.APPROVED and not self.signals_approve:
                    yield OK, state
                else:
                    # A refused signal is ignored, and its sender never knows.
                    yield OK, self._decide(state, verdict)[1]
            case Verb.CANCEL:
                yield from self._cancel(state, when)
            case verb if verb in {*ATTACKS, *RESETS}:
                yield from self._attack(state, verb, when)
            case Verb.ERP_DOWN | Verb.ERP_REFUSES:
                yield from ((OK, each) for each in self._transitions.with_scripted_fault(state, 0, action.verb, when))
            case verb if verb in PAYMENT_FAULTS:
                yield from (
                    (OK, each) for each in self._transitions.with_scripted_fault(state, action.line, verb, when)
                )
            case Verb.CRASH:
                yield from ((OK, each) for each in self._transitions.after_crash(state, when))
            case Verb.ADVANCE:
                yield OK, state

    def _attack(self, state: State, verb: Verb, when: Span) -> Iterator[tuple[str, State]]:
        """What a raw client of Temporal is answered, and what comes of it."""
        if state.content is None:
            yield ErrorCode.NOT_FOUND, state
        elif verb is Verb.RAW_QUERY:
            yield OK, state
        elif verb in RESETS:
            reapplied = verb is Verb.RESET_REAPPLIED
            yield from ((OK, each) for each in self._transitions.reset(state, when, reapplied=reapplied))
        elif state.has_ended:
            yield (OK if verb is Verb.RAW_CANCEL else ErrorCode.NOT_FOUND), state
        elif verb is Verb.TERMINATE:
            yield from ((OK, each) for each in self._transitions.terminated(state, when))
        elif verb is Verb.RAW_CANCEL and self.eager:
            # It is answered when it is requested. Whether the workflow has taken it up by then is the course's choice.
            yield OK, replace(state, cancel_requested=True)
        elif verb is Verb.RAW_CANCEL:
            yield from self._cancel(state, when)
        else:
            yield self._decide(state, Verdict.APPROVED if verb is Verb.RAW_APPROVE else Verdict.REJECTED)

    def _trigger(self, state: State, content: int, when: Span) -> tuple[str, State]:
        is_open = state.content is not None and not state.has_ended
        if is_open or state.status is Status.PAID:
            return (OK if content == state.content else ErrorCode.INVOICE_CONFLICT), state
        if any(not self._transitions.is_same_line(number, content, before) for number, before in state.settled):
            return ErrorCode.INVOICE_CONFLICT, state
        return OK, self._transitions.new_run(state, content, when)

    def _decide(self, state: State, verdict: Verdict) -> tuple[str, State]:
        if state.content is None:
            return ErrorCode.NOT_FOUND, state
        if state.has_ended:
            return ErrorCode.ALREADY_CLOSED, state
        if state.verdict is not None:
            return (OK if state.verdict is verdict else ErrorCode.ALREADY_DECIDED), state
        return OK, replace(state, verdict=verdict)

    def _cancel(self, state: State, when: Span) -> Iterator[tuple[str, State]]:
        if state.content is None:
            yield ErrorCode.NOT_FOUND, state
        elif state.has_ended:
            is_cancelled = state.status is Status.CANCELLED and not state.terminated
            yield (OK if is_cancelled else ErrorCode.ALREADY_CLOSED), state
        else:
            yield from ((OK, each) for each in self._transitions.take_up_cancellation(state, when))
