"""Which recordings take which path, and which patches may go."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.worker import Worker

from invoice_mcp.testing.histories import CannotRun, Code, Coverage, Recording, coverage_of, read_corpus, write
from tests.replay import parcels
from tests.replay.ordering import reserve, tell_customer
from tests.replay.versioning.before import Before
from tests.replay.versioning.deprecated import Deprecated
from tests.replay.versioning.guarded import Guarded
from tests.replay.versioning.removed import Removed
from tests.requirements import requirement

PATCH = "tell-the-customer"


async def covered(
    folder: Path, recordings: Mapping[str, Recording], *workflows: type, client: Client | None = None
) -> Coverage:
    for name, recording in recordings.items():
        write(recording, folder / f"{name}.json")
    return await coverage_of(read_corpus(folder), Code({"workflows": workflows}), client)


@requirement("HISTORY-COVERAGE")
async def test_recordings_are_told_by_the_path_of_commands_that_they_take(
    parcel_recordings: Mapping[str, Recording], tmp_path: Path
) -> None:
    again = {**parcel_recordings, "again": parcel_recordings["waiting"]}
    coverage = await covered(tmp_path, again, *parcels.WORKFLOWS)
    paths = {path.recordings: path for path in coverage.paths}
    assert paths.keys() == {("again.json", "waiting.json"), ("delivered.json",), ("label.json",), ("lost.json",)}
    assert paths["again.json", "waiting.json"].commands[-2:] == ("ModifyProperties", "StartTimer")
    assert paths["lost.json",].commands[-1] == "FailWorkflow"
    assert coverage.patches == ()


VERDICTS = {
    # The recordings there are, the code as it is: what may be done with the patch.
    "old orders need the old way": ({"Before", "Guarded"}, Guarded, "keep both ways"),
    "only new orders": ({"Guarded"}, Guarded, "the old way can go"),
    "orders with the marker": ({"Guarded", "Deprecated"}, Deprecated, "keep deprecate_patch"),
    "only orders with the deprecated marker": ({"Deprecated"}, Deprecated, "can go"),
    "removed too early": ({"Guarded"}, Removed, "put deprecate_patch back"),
}


@requirement("HISTORY-COVERAGE")
@pytest.mark.parametrize("case", VERDICTS)
async def test_it_is_told_what_may_be_done_with_a_patch(
    case: str, orders: Mapping[str, Recording], tmp_path: Path
) -> None:
    names, workflow, verdict = VERDICTS[case]
    coverage = await covered(tmp_path, {name: orders[name] for name in names}, workflow)
    (patch,) = [patch for patch in coverage.patches if patch.name == PATCH]
    assert patch.verdict.startswith(verdict)
    assert len(patch.old) == len(names & {"Before"})
    assert patch.open_old is None


@requirement("HISTORY-COVERAGE")
async def test_an_open_workflow_may_need_what_no_recording_does(
    real_client: Client, orders: Mapping[str, Recording], tmp_path: Path
) -> None:
    guarded = {"Guarded": orders["Guarded"]}
    nobody = await covered(tmp_path / "a", guarded, Guarded, client=real_client)
    assert (nobody.patches[0].open_old, nobody.patches[0].verdict) == (
        0,
        "the old way can go (deprecate_patch): nothing needs it",
    )
    queue = f"open-{os.getpid()}"
    async with Worker(real_client, task_queue=queue, workflows=[Before], activities=[reserve, tell_customer]):
        handle = await real_client.start_workflow("Order", "a lamp", id=queue, task_queue=queue)
        async with asyncio.timeout(20):
            while (await handle.describe()).history_length < 8:
                await asyncio.sleep(0.02)
            while not (asked := await covered(tmp_path / "b", guarded, Guarded, client=real_client)).asked:
                (tmp_path / "b" / "Guarded.json").unlink()
                await asyncio.sleep(0.1)
    await handle.terminate()
    assert (asked.asked, asked.patches[0].open_old, asked.patches[0].verdict) == (1, 1, "keep both ways")


async def test_a_recording_that_can_not_be_read_stops_it(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(CannotRun, match=r"a\.json"):
        await covered(tmp_path, {}, Guarded)


async def test_what_does_not_replay_is_told_as_unknown(orders: Mapping[str, Recording], tmp_path: Path) -> None:
    coverage = await covered(tmp_path, {"Before": orders["Before"]}, Removed)
    assert coverage.unknown == ("Before.json",)
