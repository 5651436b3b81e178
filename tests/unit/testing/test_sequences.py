"""What the exhaustive scenarios leave out: only what can't differ from what they play."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.report import DEFAULT_APPROVAL_TIMEOUT
from invoice_mcp.testing import ACTION_ALPHABET, Action, Scenario, Verb, action_sequences, prefixes
from invoice_mcp.testing.model.model import Model
from invoice_mcp.testing.model.state import Span, State

Word = tuple[Action, ...]
FAULT = Action(verb=Verb.PAYMENT_REFUSED)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def led_to(word: Word) -> frozenset[State]:
    """Where the model is after a word, whichever way it is answered."""
    drafts = Scenario().invoices("INV-1", NOW)
    model = Model(tuple(Invoice.model_validate(draft) for draft in drafts), DEFAULT_APPROVAL_TIMEOUT)
    now = NOW
    for action in (Action(verb=Verb.TRIGGER), *word):
        passes = timedelta(hours=action.hours) if action.verb is Verb.ADVANCE else timedelta()
        answers = model.act(action, Span(now, now + passes))
        model.possible = frozenset(state for states in answers.values() for state in states)
        now += passes
    return model.possible


def test_every_word_of_two_actions_is_played_but_for_those_that_can_not_differ() -> None:
    played = {word[:2] for word in action_sequences(3)}
    for word in product(ACTION_ALPHABET, repeat=2):
        has_ended = all(state.status.is_terminal for state in led_to(word[:1]))
        changes_nothing = has_ended and led_to(word) == led_to(word[:1])
        fault_as_well_before = word[1] == FAULT and led_to(word) == led_to((FAULT, word[0]))
        assert word in played or changes_nothing or fault_as_well_before, " ".join(map(str, word))


def test_what_changes_nothing_is_done_after_every_prefix() -> None:
    played = set(action_sequences(3))
    for prefix in prefixes(2):
        idle = tuple(letter for letter in ACTION_ALPHABET if led_to((*prefix, letter)) == led_to(prefix))
        assert not idle or (*prefix, *idle) in played, " ".join(map(str, prefix))


def test_what_leads_somewhere_is_done_after_every_prefix() -> None:
    played = set(action_sequences(3))
    for prefix in prefixes(2):
        for letter in ACTION_ALPHABET:
            leads_on = letter != FAULT and led_to((*prefix, letter)) != led_to(prefix)
            assert not leads_on or (*prefix, letter) in played, " ".join(map(str, (*prefix, letter)))


def test_no_word_is_played_twice() -> None:
    every = list(action_sequences(3))
    assert len(set(every)) == len(every) == 355


def test_nothing_is_left_out_where_nothing_can_be() -> None:
    letters = (Action(verb=Verb.APPROVE), Action(verb=Verb.CRASH))
    assert set(prefixes(2, letters)) == set(product(letters, repeat=2))
