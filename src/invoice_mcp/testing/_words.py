"""Every word of actions up to a length, without those that can't differ from another. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from invoice_mcp.invoices import Invoice
from invoice_mcp.reports import DEFAULT_APPROVAL_TIMEOUT
from invoice_mcp.testing._actions import LETTERS, Action, Verb
from invoice_mcp.testing._model import Model, Span, State
from invoice_mcp.testing._scenario import Scenario

Word = tuple[Action, ...]

_FAULTS = frozenset({Verb.PAYMENT_REFUSED, Verb.PAYMENT_DOWN, Verb.ANSWER_LOST, Verb.ERP_DOWN, Verb.ERP_REFUSES})


class _Walk:
    """The model, taken along a word; its clock is the word's."""

    def __init__(self, model: Model, now: datetime) -> None:
        self._model = model
        self._now = now

    def then(self, action: Action) -> _Walk:
        passes = timedelta(hours=action.hours) if action.verb is Verb.ADVANCE else timedelta()
        answers = self._model.act(action, Span(self._now, self._now + passes))
        states = frozenset(state for possible in answers.values() for state in possible)
        return _Walk(replace(self._model, possible=states), self._now + passes)

    @property
    def states(self) -> frozenset[State]:
        return self._model.possible

    @property
    def has_ended(self) -> bool:
        return all(state.status.is_terminal for state in self.states)


def _start(scenario: Scenario) -> _Walk:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    invoices = tuple(Invoice.model_validate(draft) for draft in scenario.invoices("INV-1", now))
    return _Walk(Model(invoices, DEFAULT_APPROVAL_TIMEOUT), now).then(Action(verb=Verb.TRIGGER))


def prefixes(length: int, letters: Word = LETTERS, scenario: Scenario | None = None) -> Iterator[Word]:
    """Words of this length that can go on to something new.

    Left out is what can't differ from a word that is there: those that go on after something was done to an invoice
    that has ended, whose execution is closed and can't change any more; and those that script a fault at a port one
    action later than another word does, where the port was not asked in between.
    """
    yield from (word for word, _ in _walks(_start(scenario or Scenario()), length, letters))


def _walks(walk: _Walk, length: int, letters: Word) -> Iterator[tuple[Word, _Walk]]:
    reached: list[tuple[Word, _Walk, _Walk | None]] = [((), walk, None)]
    for _ in range(length):
        reached = [
            ((*word, letter), here.then(letter), here)
            for word, here, before in reached
            for letter in letters
            if not (here.has_ended and here.then(letter).states == here.states)
            and not (letter.verb in _FAULTS and before is not None and _commute(before, word[-1], letter))
        ]
    yield from ((word, here) for word, here, _ in reached)


def _commute(before: _Walk, letter: Action, fault: Action) -> bool:
    return letter != fault and before.then(letter).then(fault).states == before.then(fault).then(letter).states


def words(length: int, begin: Word = (), letters: Word = LETTERS, scenario: Scenario | None = None) -> Iterator[Word]:
    """Words that together have every word of this length in them, each of which is worth playing.

    For each prefix: one word for every letter that leads somewhere, and one with all the letters that change nothing,
    one after another. A shorter word is a prefix of one of these.

    Args:
        begin: Only those that begin so.
    """
    for word, here in _walks(_start(scenario or Scenario()), length - 1, letters):
        if word[: len(begin)] != begin:
            continue
        idle = tuple(letter for letter in letters if here.then(letter).states == here.states)
        if idle:
            yield (*word, *idle)
        for letter in letters:
            # A fault at the end of a word meets nothing any more.
            if letter not in idle and letter.verb not in _FAULTS:
                yield (*word, letter)
