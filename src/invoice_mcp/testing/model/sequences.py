"""Bounded-exhaustive action sequences, without those that the model proves redundant. Pure.

Bounded-exhaustive testing (Boyapati, Khurshid and Marinov, "Korat", ISSTA 2002) tests all inputs up to a size. A
sequence is redundant if it leads to the same states of the reference model as another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.report import DEFAULT_APPROVAL_TIMEOUT
from invoice_mcp.testing.model.actions import ACTION_ALPHABET, ERP_FAULTS, PAYMENT_FAULTS, Action, Verb
from invoice_mcp.testing.model.model import Model
from invoice_mcp.testing.model.scenario import Scenario
from invoice_mcp.testing.model.state import Span, State

ActionSequence = tuple[Action, ...]

_PORT_FAULTS = frozenset({*ERP_FAULTS, *PAYMENT_FAULTS})


class _ModelRun:
    """The model after some actions, on its own clock."""

    def __init__(self, model: Model, now: datetime) -> None:
        self._model = model
        self._now = now

    def then(self, action: Action) -> _ModelRun:
        passes = timedelta(hours=action.hours) if action.verb is Verb.ADVANCE else timedelta()
        answers = self._model.allowed_answers(action, Span(self._now, self._now + passes))
        states = frozenset(state for possible in answers.values() for state in possible)
        return _ModelRun(replace(self._model, possible=states), self._now + passes)

    @property
    def states(self) -> frozenset[State]:
        return self._model.possible

    @property
    def has_ended(self) -> bool:
        return all(state.status.is_terminal for state in self.states)


def _start(scenario: Scenario) -> _ModelRun:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    invoices = tuple(Invoice.model_validate(draft) for draft in scenario.invoices("INV-1", now))
    return _ModelRun(Model(invoices, DEFAULT_APPROVAL_TIMEOUT), now).then(Action(verb=Verb.TRIGGER))


@dataclass(frozen=True)
class _Node:
    """A sequence, the model after it, and the model before its last action."""

    sequence: ActionSequence
    here: _ModelRun
    before: _ModelRun | None = None

    def next(self, alphabet: ActionSequence) -> Iterator[_Node]:
        """The sequences that are one action longer, without the redundant ones."""
        for action in alphabet:
            then = self.here.then(action)
            if self.here.has_ended and then.states == self.here.states:
                continue
            if action.verb in _PORT_FAULTS and self._commutes_with(action):
                continue
            yield _Node((*self.sequence, action), then, self.here)

    def _commutes_with(self, fault: Action) -> bool:
        """Whether scripting the fault before the last action leads to the same states."""
        if self.before is None or self.sequence[-1] == fault:
            return False
        return self.here.then(fault).states == self.before.then(fault).then(self.sequence[-1]).states

    def final(self, alphabet: ActionSequence) -> Iterator[ActionSequence]:
        """The sequence with each action that changes the states, and once with all the actions that change nothing."""
        idle = tuple(action for action in alphabet if self.here.then(action).states == self.here.states)
        if idle:
            yield (*self.sequence, *idle)
        for action in alphabet:
            # No call meets a fault that is scripted last.
            if action not in idle and action.verb not in _PORT_FAULTS:
                yield (*self.sequence, action)


def _nodes_at(length: int, alphabet: ActionSequence, scenario: Scenario | None) -> list[_Node]:
    level = [_Node((), _start(scenario or Scenario()))]
    for _ in range(length):
        level = [longer for node in level for longer in node.next(alphabet)]
    return level


def distinct_sequences(
    length: int, alphabet: ActionSequence = ACTION_ALPHABET, scenario: Scenario | None = None
) -> Iterator[ActionSequence]:
    """All sequences of this length that can differ in their outcome.

    Two kinds of redundant sequences are left out: those that continue after an action on a closed invoice, which can't
    change any more; and those that script a fault one action later than another sequence does, without a call of that
    port in between.
    """
    yield from (node.sequence for node in _nodes_at(length, alphabet, scenario))


def action_sequences(
    length: int, alphabet: ActionSequence = ACTION_ALPHABET, scenario: Scenario | None = None
) -> Iterator[ActionSequence]:
    """Sequences that together contain every sequence up to this length, ordered by their prefixes.

    For each prefix that is one action shorter, or that nothing can follow: one sequence for every action that changes
    the states, and one with all the actions that change nothing, one after another.
    """
    yield from _covering_sequences(_Node((), _start(scenario or Scenario())), length, alphabet)


def _covering_sequences(node: _Node, length: int, alphabet: ActionSequence) -> Iterator[ActionSequence]:
    longer = list(node.next(alphabet)) if len(node.sequence) < length - 1 else []
    if not longer:
        yield from node.final(alphabet)
    for each in longer:
        yield from _covering_sequences(each, length, alphabet)
