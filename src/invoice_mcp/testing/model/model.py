"""The reference model: for each action, the answers that are right and the states that may follow. Pure.

It is a nondeterministic specification for model-based testing: where several outcomes are right, because a timer or an
answer comes at a time that nobody controls, the model keeps all of them as a set of states until an observation rules
some out. It specifies what is promised, and knows nothing of the implementation. The rules about decisions and
resubmission are written here and in the workflow independently, on purpose: a mistake in one shows up in the other.

Attacks (`ATTACKS`) come through Temporal's API, which the product can't authenticate. An update `approve` or `reject`
sent this way is indistinguishable from one that the MCP server sends, and may do exactly what the tools do.

Resets (`RESETS`) go to the beginning of a run. The new run waits for its own decision, unless the signals and updates
are reapplied; a cancellation never is. It pays no line again. A line that the old run left waiting pays nothing on its
due date, and no other run can start that line before. Resets to a later event are not modelled. On the real server
(tests/scenarios/test_reset.py) a run that is reset after its lines started continues with them, and pays them once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta

from invoice_mcp.domain.errors import ErrorCode
from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.report import Status, Verdict
from invoice_mcp.testing.model.actions import ATTACKS, ERP_FAULTS, PAYMENT_FAULTS, RESETS, Action, Verb
from invoice_mcp.testing.model.state import ReportedState, Span, State
from invoice_mcp.testing.model.transitions import RETRY_PERIOD, Transitions

OK = "OK"


@dataclass
class Model:
    """Follows one invoice through a scenario. `play` does all of this for a `Scenario`.

    Attributes:
        invoices: The invoices that may be submitted under one id. States refer to them by index.
        approval_timeout: How long the invoice waits for a decision.
        eager: Whether actions may come before the effects of the action before are complete; see `reach_quiescence`.
        signals_approve: Whether the invoice's policy lets the signal ApproveInvoice approve.
        possible: The states that the invoice may be in.

    Example:
        answers = model.allowed_answers(Action(verb=Verb.APPROVE), Span(before, after))
        model.possible = answers["OK"]
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
        """The answers to an action that are right, as codes or `OK`, and the states that may follow each."""
        answers: dict[str, set[State]] = {}
        # Timers that are due when the action starts have fired; an ADVANCE also fires those that become due meanwhile.
        passes = action.verb is Verb.ADVANCE
        retries_end = passes and when.last - when.first >= RETRY_PERIOD
        due_by = when.last if passes else when.first
        for state in self.possible:
            for now in self._transitions.reachable(state, when, retries_end=retries_end, due_by=due_by):
                for answer, then in self._outcomes(now, action, when):
                    answers.setdefault(answer, set()).update(self._transitions.reachable(then, when))
        return {answer: frozenset(states) for answer, states in answers.items()}

    def reach_quiescence(self, when: Span) -> None:
        """Take all internal transitions that need no time. Only an eager model has any left.

        The states before quiescence are kept aside for `observe`.
        """
        prompt, states = replace(self._transitions, eager=False), self.possible
        # By then the server has ended the lines of terminated runs.
        states = frozenset(replace(state, closing_lines=frozenset()) for state in states)
        self.possible = frozenset(then for state in states for then in prompt.reachable(state, when))
        reached = frozenset(then for state in states for then in self._transitions.reachable(state, when))
        self._transient = reached - self.possible

    def observe(self, shown: ReportedState) -> None:
        """Keep the states that agree with an observed report, including those before quiescence."""
        self.possible = frozenset(state for state in self.possible | self._transient if state.reported == shown)
        self._transient = frozenset()

    # -- actions ------------------------------------------------------------------------------------------

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
                    # A signal that is refused is ignored. Its sender can't know.
                    yield OK, self._decide(state, verdict)[1]
            case Verb.CANCEL:
                yield from self._cancel(state, when)
            case verb if verb in {*ATTACKS, *RESETS}:
                yield from self._attack(state, verb, when)
            case verb if verb in ERP_FAULTS:
                yield from ((OK, each) for each in self._transitions.with_scripted_fault(state, 0, verb, when))
            case verb if verb in PAYMENT_FAULTS:
                yield from (
                    (OK, each) for each in self._transitions.with_scripted_fault(state, action.line, verb, when)
                )
            case Verb.CRASH:
                yield from ((OK, each) for each in self._transitions.after_crash(state, when))
            case Verb.ADVANCE:
                yield OK, state

    def _attack(self, state: State, verb: Verb, when: Span) -> Iterator[tuple[str, State]]:
        """The outcomes of an action by a raw client of Temporal."""
        if state.content is None:
            yield ErrorCode.NOT_FOUND, state
        elif verb is Verb.RAW_QUERY:
            yield OK, state
        elif verb in RESETS:
            reapplied = verb is Verb.RESET_REAPPLIED
            yield from ((OK, each) for each in self._transitions.after_reset(state, when, reapplied=reapplied))
        elif state.has_ended:
            yield (OK if verb is Verb.RAW_CANCEL else ErrorCode.NOT_FOUND), state
        elif verb is Verb.TERMINATE:
            yield from ((OK, each) for each in self._transitions.after_termination(state, when))
        elif verb is Verb.RAW_CANCEL and self.eager:
            # The request is acknowledged at once. The workflow handles it in a transition of its own.
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
