"""Exhaustive: every word of actions up to a length (`--words`), each answer and outcome held against the model."""

from __future__ import annotations

from functools import cache
from itertools import groupby

import pytest

from invoice_mcp.testing import DOORS, Action, Door, Scenario, StageRunner, prefixes, words
from tests.requirements import requirement

Word = tuple[Action, ...]

pytestmark = pytest.mark.thorough

BEGINNINGS = list(prefixes(2))


@cache
def by_beginning(length: int) -> dict[Word, list[Word]]:
    return {begin: list(found) for begin, found in groupby(words(length), key=lambda word: word[:2])}


@requirement("WORDS-ALL", "TASK-DOORS")
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("begin", BEGINNINGS, ids=lambda word: "-then-".join(str(action) for action in word))
def test_every_word_that_begins_so_goes_as_the_model_says(
    bulk: StageRunner, word_length: int, begin: Word, door: Door
) -> None:
    # The other door is another way to say the same: that shows in shorter words.
    length = word_length if door == DOORS[0] else min(word_length, 3)
    assert by_beginning(length)[begin]
    for word in by_beginning(length)[begin]:
        bulk.play(Scenario(actions=word, door=door))
