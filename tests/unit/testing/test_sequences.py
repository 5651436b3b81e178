"""Action sequences: only redundant ones are left out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.report import DEFAULT_APPROVAL_TIMEOUT
from invoice_mcp.testing import Action, Scenario, Verb
from invoice_mcp.testing.model.actions import ACTION_ALPHABET
from invoice_mcp.testing.model.model import Model
from invoice_mcp.testing.model.sequences import action_sequences, distinct_sequences
from invoice_mcp.testing.model.state import Span, State

Word = tuple[Action, ...]
FAULT = Action(verb=Verb.PAYMENT_REFUSED)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def led_to(sequence: Word) -> frozenset[State]:
    """The states of the model after a sequence, for all allowed answers."""
    drafts = Scenario().invoices("INV-1", NOW)
    model = Model(tuple(Invoice.model_validate(draft) for draft in drafts), DEFAULT_APPROVAL_TIMEOUT)
    now = NOW
    for action in (Action(verb=Verb.TRIGGER), *sequence):
        passes = timedelta(hours=action.hours) if action.verb is Verb.ADVANCE else timedelta()
        answers = model.allowed_answers(action, Span(now, now + passes))
        model.possible = frozenset(state for states in answers.values() for state in states)
        now += passes
    return model.possible


def test_every_sequence_of_two_actions_is_played_unless_it_is_redundant() -> None:
    played = {sequence[:2] for sequence in action_sequences(3)}
    for sequence in product(ACTION_ALPHABET, repeat=2):
        has_ended = all(state.status.is_terminal for state in led_to(sequence[:1]))
        changes_nothing = has_ended and led_to(sequence) == led_to(sequence[:1])
        fault_as_well_before = sequence[1] == FAULT and led_to(sequence) == led_to((FAULT, sequence[0]))
        assert sequence in played or changes_nothing or fault_as_well_before, " ".join(map(str, sequence))


def test_actions_that_change_nothing_are_played_after_every_prefix() -> None:
    played = set(action_sequences(3))
    for prefix in distinct_sequences(2):
        idle = tuple(action for action in ACTION_ALPHABET if led_to((*prefix, action)) == led_to(prefix))
        assert not idle or (*prefix, *idle) in played, " ".join(map(str, prefix))


def test_what_leads_somewhere_is_done_after_every_prefix() -> None:
    played = set(action_sequences(3))
    for prefix in distinct_sequences(2):
        for action in ACTION_ALPHABET:
            leads_on = action != FAULT and led_to((*prefix, action)) != led_to(prefix)
            assert not leads_on or (*prefix, action) in played, " ".join(map(str, (*prefix, action)))


def test_no_sequence_is_played_twice() -> None:
    every = list(action_sequences(3))
    assert len(set(every)) == len(every) == 355


def test_no_sequence_is_left_out_if_none_is_redundant() -> None:
    alphabet = (Action(verb=Verb.APPROVE), Action(verb=Verb.CRASH))
    assert set(distinct_sequences(2, alphabet)) == set(product(alphabet, repeat=2))
