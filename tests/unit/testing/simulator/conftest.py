"""Fixtures: each backend in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.unit.testing.simulator import backends, workflows


@pytest.fixture(autouse=True)
def _fresh_activity_log() -> Iterator[None]:
    workflows.ActivityLog.reset()
    yield
    workflows.ActivityLog.reset()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _real() -> AsyncIterator[backends.Backend]:
    async with backends.real() as backend:
        yield backend


@pytest_asyncio.fixture
async def _simulated() -> AsyncIterator[backends.Backend]:
    async with backends.simulated() as backend:
        yield backend


@pytest.fixture(params=["_simulated", "_real"])
def backend(request: pytest.FixtureRequest) -> backends.Backend:
    """The simulator, then the real server, which is started once."""
    found: backends.Backend = request.getfixturevalue(request.param)
    return found
