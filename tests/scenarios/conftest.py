"""Fixtures of the scenarios: runners for thousands of scenarios, and the length of action sequences."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from invoice_mcp.testing import ScenarioRunner, kinds


@pytest.fixture(scope="session")
def bulk(request: pytest.FixtureRequest) -> Iterator[ScenarioRunner]:
    """A runner for thousands of scenarios, on the engine of `--bulk`, with its own event loop.

    Without the SDK's sandbox: what that is for, that workflow code is deterministic, all other scenarios show with it.
    """
    with ScenarioRunner(kinds()[request.config.getoption("--bulk")], sandboxed=False) as runner:
        yield runner


@pytest.fixture(scope="session")
def real_bulk(request: pytest.FixtureRequest) -> Iterator[ScenarioRunner]:
    """As `bulk`, for eager scenarios: on the simulator in random order, otherwise on the real server."""
    name = "simulated" if request.config.getoption("--bulk") == "simulated" else "real"
    with ScenarioRunner(kinds()[name], sandboxed=False) as runner:
        yield runner


@pytest.fixture(scope="session")
def sequence_length(request: pytest.FixtureRequest) -> int:
    """The length of action sequences."""
    length: int = request.config.getoption("--sequence-length")
    return length
