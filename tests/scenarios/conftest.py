"""Fixtures of the scenarios: stages for thousands of them, and how long the words are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from invoice_mcp.testing import ScenarioRunner, kinds


@pytest.fixture(scope="session")
def bulk(request: pytest.FixtureRequest) -> Iterator[ScenarioRunner]:
    """Where scenarios are played by the thousand: `--bulk`, in an event loop of their own.

    Without the SDK's sandbox: what that is for, that workflow code is deterministic, all other scenarios show with it.
    """
    with ScenarioRunner(kinds()[request.config.getoption("--bulk")], sandboxed=False) as runner:
        yield runner


@pytest.fixture(scope="session")
def real_bulk(request: pytest.FixtureRequest) -> Iterator[ScenarioRunner]:
    """As `bulk`, for things that happen as they will: on the simulator by chance, else on the real server."""
    name = "simulated" if request.config.getoption("--bulk") == "simulated" else "real"
    with ScenarioRunner(kinds()[name], sandboxed=False) as runner:
        yield runner


@pytest.fixture(scope="session")
def sequence_length(request: pytest.FixtureRequest) -> int:
    """How many actions a word has."""
    length: int = request.config.getoption("--sequence-length")
    return length
