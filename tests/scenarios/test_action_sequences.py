"""Every action sequence up to a length (`--sequence-length`): the model checks each answer and outcome."""

from __future__ import annotations

from functools import cache
from itertools import groupby

import pytest

from invoice_mcp.testing import Action, Scenario, ScenarioRunner
from invoice_mcp.testing.model.actions import CLIENT_INTERFACES, ClientInterface
from invoice_mcp.testing.model.sequences import action_sequences, distinct_sequences
from tests.requirements import requirement

Word = tuple[Action, ...]

pytestmark = pytest.mark.thorough

BEGINNINGS = list(distinct_sequences(2))


@cache
def by_beginning(length: int) -> dict[Word, list[Word]]:
    return {begin: list(found) for begin, found in groupby(action_sequences(length), key=lambda word: word[:2])}


@requirement("SEQUENCES-ALL", "TASK-FIRST-DECISION")
@pytest.mark.parametrize("client_interface", CLIENT_INTERFACES)
@pytest.mark.parametrize("begin", BEGINNINGS, ids=lambda word: "-then-".join(str(action) for action in word))
def test_every_sequence_with_this_prefix_conforms_to_the_model(
    bulk: ScenarioRunner, sequence_length: int, begin: Word, client_interface: ClientInterface
) -> None:
    # The other client interface has the same outcomes, so shorter sequences suffice.
    length = sequence_length if client_interface == CLIENT_INTERFACES[0] else min(sequence_length, 3)
    assert by_beginning(length)[begin]
    for word in by_beginning(length)[begin]:
        bulk.play(Scenario(actions=word, client_interface=client_interface))
