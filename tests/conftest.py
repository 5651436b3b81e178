"""Fixtures for all tests, in addition to those of our pytest plugin."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from invoice_mcp.temporal.embedded import EmbeddedTemporal
from invoice_mcp.testing import EnvironmentPool

pytest_plugins = ["invoice_mcp.testing.plugin"]

# The number of examples per property: --hypothesis-profile=ci. The gate is deterministic, so its examples are the same
# each time; the nightly run looks for new ones.
settings.register_profile("dev", max_examples=25, deadline=None)
settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True, database=None)
settings.register_profile("second-opinion", max_examples=25, deadline=None, derandomize=True, database=None)
settings.register_profile("nightly", max_examples=2000, deadline=None)
settings.load_profile("dev")

_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--agreement`, `--sequence-length` and `--bulk`."""
    group = parser.getgroup("invoice-mcp")
    group.addoption(
        "--bulk",
        choices=("simulated", "time-skipping", "real"),
        default="simulated",
        help="the engine of the exhaustive and the random scenarios (default: simulated)",
    )
    group.addoption(
        "--agreement",
        type=int,
        choices=range(1, 4),
        default=1,
        help="length of the action sequences on which all engines must agree (default: 1)",
    )
    group.addoption(
        "--sequence-length",
        type=int,
        choices=range(3, 7),
        default=3,
        help="length of the action sequences of the exhaustive scenarios (default: 3)",
    )


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the user's configuration and files from every test."""
    for name in list(os.environ):
        if name.startswith(("TEMPORAL_", "ERP_URL", "PAYMENTS_URL", "INVOICE_MCP_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("INVOICE_MCP_HOME", str(tmp_path / "home"))


@pytest.fixture
def server_without_list(invoice_environments: EnvironmentPool) -> None:
    """Skips a test that needs a Temporal server without `list` and search attributes."""
    if invoice_environments.kind.name != "time-skipping":
        pytest.skip("--world=time-skipping is the one that can't list.")


@pytest.fixture(scope="session")
async def real_client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """A client of a real Temporal server without workers."""
    async with EmbeddedTemporal(tmp_path_factory.mktemp("real") / "home") as embedded:
        yield await Client.connect(embedded.endpoint.address, data_converter=pydantic_data_converter)


@pytest.fixture
def invoice_id() -> str:
    """An invoice id that is unique on this server."""
    return f"INV-{os.getpid()}-{next(_numbers)}"
