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
    assert by_beginning(word_length)[begin]
    for word in by_beginning(word_length)[begin]:
        bulk.play(Scenario(actions=word, door=door))
