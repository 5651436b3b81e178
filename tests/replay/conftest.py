"""Fixtures of the tests of the replay gate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.client import Client

from temporal_replay import Recording
from tests.replay.order_recorder import record
from tests.replay.recorder import record_couriers, record_parcels, record_slip
from tests.replay.versioning.before import Before
from tests.replay.versioning.deprecated import Deprecated
from tests.replay.versioning.guarded import Guarded


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def parcel_recordings(real_client: Client) -> Mapping[str, Recording]:
    """Recordings of another project's workflows, by name."""
    return await record_parcels(real_client)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def courier_recordings(real_client: Client) -> Mapping[str, Recording]:
    """Recordings of workflows that cancel, signal other workflows, and continue as new."""
    return await record_couriers(real_client)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def slip_recording(real_client: Client) -> Recording:
    """A recording of a workflow that derives ids from the id of an update."""
    return await record_slip(real_client)


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def orders(real_client: Client) -> Mapping[str, Recording]:
    """Orders that wait for payment, by the version of the code that started them."""
    return {kind.__name__: await record(real_client, kind) for kind in (Before, Guarded, Deprecated)}
