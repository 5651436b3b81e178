"""Fixtures of the scenarios: a stage for many of them, and how long the words are."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from invoice_mcp.testing import StageKeeper, kinds


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def fast_stage(request: pytest.FixtureRequest) -> AsyncIterator[StageKeeper]:
    """A stage whose worker runs workflows without the SDK's sandbox: twice as many words in the same time.

    What the sandbox is for, that workflow code is deterministic, all other scenarios show with it.
    """
    keeper = StageKeeper(kinds()[request.config.getoption("--world")], sandboxed=False)
    yield keeper
    await keeper.close()


@pytest.fixture(scope="session")
def word_length(request: pytest.FixtureRequest) -> int:
    """How many actions a word has."""
    length: int = request.config.getoption("--words")
    return length
