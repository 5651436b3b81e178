"""Fixtures: a place for toy workflows, on the simulator and on Temporal's real server in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.unit.testing.simulator import backends, workflows


@pytest.fixture(autouse=True)
def _fresh_gate() -> Iterator[None]:
    workflows.Gate.reset()
    yield
    workflows.Gate.reset()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _real() -> AsyncIterator[backends.Place]:
    async with backends.real() as place:
        yield place


@pytest_asyncio.fixture
async def _simulated() -> AsyncIterator[backends.Place]:
    async with backends.simulated() as place:
        yield place


@pytest.fixture(params=["_simulated", "_real"])
def place(request: pytest.FixtureRequest) -> backends.Place:
    """Where a toy runs; the real server is started once."""
    found: backends.Place = request.getfixturevalue(request.param)
    return found
