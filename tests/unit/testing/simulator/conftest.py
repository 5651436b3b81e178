"""Fixtures: a place for toy workflows, on the simulator and on Temporal's real server in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.unit.testing.simulator import places, toys


@pytest.fixture(autouse=True)
def _fresh_gate() -> Iterator[None]:
    toys.Gate.reset()
    yield
    toys.Gate.reset()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _real() -> AsyncIterator[places.Place]:
    async with places.real() as place:
        yield place


@pytest_asyncio.fixture
async def _simulated() -> AsyncIterator[places.Place]:
    async with places.simulated() as place:
        yield place


@pytest.fixture(params=["_simulated", "_real"])
def place(request: pytest.FixtureRequest) -> places.Place:
    """Where a toy runs; the real server is started once."""
    found: places.Place = request.getfixturevalue(request.param)
    return found
