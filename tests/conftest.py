"""Fixtures for all tests: where the Temporal binaries are, and one time-skipping server for the whole session."""

from __future__ import annotations

import itertools
import os
import shutil
import sysconfig
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from invoice_mcp.embedded import EmbeddedTemporal
from tests.desk import Stage, open_stage

pytest_plugins = ["invoice_mcp.testing.plugin"]

_numbers = itertools.count(1)


def binary(name: str) -> str:
    """A program of this environment, whether it is on PATH or not."""
    found = shutil.which(name, path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")]))
    assert found, f"{name} is missing: pip install the test group"
    return found


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reaches what the user has configured or stored."""
    for name in list(os.environ):
        if name.startswith("TEMPORAL_") or name in {"ERP_URL", "PAYMENTS_URL"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("INVOICE_MCP_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
async def stage() -> AsyncIterator[Stage]:
    """The time-skipping server and a worker: one clock for all, so one scenario at a time."""
    async with (
        await WorkflowEnvironment.start_time_skipping(
            data_converter=pydantic_data_converter, test_server_existing_path=binary("temporal-test-server")
        ) as environment,
        open_stage(environment) as stage,
    ):
        yield stage


@pytest.fixture(scope="session")
async def real_client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """A client of a real Temporal server, without any worker."""
    async with EmbeddedTemporal(tmp_path_factory.mktemp("real") / "home") as embedded:
        yield await Client.connect(embedded.endpoint.address, data_converter=pydantic_data_converter)


@pytest.fixture
def invoice_id() -> str:
    """An invoice id nobody has used on this server."""
    return f"INV-{os.getpid()}-{next(_numbers)}"
