"""Which recordings follow which path, and which patches may be removed."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.common import RawValue
from temporalio.worker import Worker

from temporal_replay import (
    CannotRunError,
    Coverage,
    LoadedTarget,
    Recording,
    measure_coverage,
    read_corpus,
    render_coverage_json,
    write_recording,
)
from temporal_replay.patches.removal import Patch
from temporal_replay.patches.source import find_patches
from tests.replay import parcel_workflows
from tests.replay.order_recorder import reserve, tell_customer
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
        write_recording(recording, folder / f"{name}.json")
    return await measure_coverage(read_corpus(folder), LoadedTarget({"workflows": workflows}), client)


@requirement("HISTORY-COVERAGE")
async def test_recordings_are_grouped_by_command_path(
    parcel_recordings: Mapping[str, Recording], tmp_path: Path
) -> None:
    again = {**parcel_recordings, "again": parcel_recordings["waiting"]}
    coverage = await covered(tmp_path, again, *parcel_workflows.WORKFLOWS)
    paths = {path.recordings: path for path in coverage.paths}
    assert paths.keys() == {("again.json", "waiting.json"), ("delivered.json",), ("label.json",), ("lost.json",)}
    assert paths["again.json", "waiting.json"].commands[-2:] == ("ModifyProperties", "StartTimer")
    assert paths["lost.json",].commands[-1] == "FailWorkflow"
    assert coverage.patches == ()


VERDICTS = {
    # Recordings, code, and expected verdict.
    "old orders need the old way": ({"Before", "Guarded"}, Guarded, "keep both branches"),
    "only new orders": ({"Guarded"}, Guarded, "the old branch can be removed"),
    "orders with the marker": ({"Guarded", "Deprecated"}, Deprecated, "keep deprecate_patch"),
    "only orders with the deprecated marker": ({"Deprecated"}, Deprecated, "can be removed"),
    "removed too early": ({"Guarded"}, Removed, "restore deprecate_patch"),
}


@requirement("HISTORY-COVERAGE")
@pytest.mark.parametrize("case", VERDICTS)
async def test_the_verdict_on_a_patch_follows_from_the_histories(
    case: str, orders: Mapping[str, Recording], tmp_path: Path
) -> None:
    names, workflow, verdict = VERDICTS[case]
    coverage = await covered(tmp_path, {name: orders[name] for name in names}, workflow)
    (patch,) = [patch for patch in coverage.patches if patch.name == PATCH]
    assert patch.verdict.startswith(verdict)
    assert len(patch.old) == len(names & {"Before"})
    assert patch.open_old is None


@requirement("HISTORY-COVERAGE")
async def test_an_open_workflow_can_need_a_branch_that_no_recording_takes(
    real_client: Client, orders: Mapping[str, Recording], tmp_path: Path
) -> None:
    guarded = {"Guarded": orders["Guarded"]}
    without_open = await covered(tmp_path / "a", guarded, Guarded, client=real_client)
    assert (without_open.patches[0].open_old, without_open.patches[0].verdict) == (
        0,
        "the old branch can be removed (keep deprecate_patch): no history needs it",
    )
    queue = f"open-{os.getpid()}"
    async with Worker(real_client, task_queue=queue, workflows=[Before], activities=[reserve, tell_customer]):
        handle = await real_client.start_workflow("Order", "a lamp", id=queue, task_queue=queue)
        async with asyncio.timeout(20):
            while (await handle.describe()).history_length < 8:
                await asyncio.sleep(0.02)
            while not (asked := await covered(tmp_path / "b", guarded, Guarded, client=real_client)).open_workflows:
                (tmp_path / "b" / "Guarded.json").unlink()
                await asyncio.sleep(0.1)
    await handle.terminate()
    assert (asked.open_workflows, asked.patches[0].open_old, asked.patches[0].verdict) == (1, 1, "keep both branches")


# Patch calls in an imported module, with each spelling of the import and the id.
FLOW = """
from datetime import timedelta
from temporalio import workflow
{imported}

@workflow.defn(name="Order")
class Order:
    NAME = "tell-the-customer"

    @workflow.run
    async def run(self, what: str) -> str:
        name = self.NAME
        if {asked}:
            await workflow.execute_activity("tell_customer", what, start_to_close_timeout=timedelta(minutes=1))
        await workflow.execute_activity("reserve", what, start_to_close_timeout=timedelta(minutes=1))
        await workflow.wait_condition(lambda: False)
        return ""

    @workflow.signal
    def pay(self) -> None: ...
"""
STEPS = "from temporalio import workflow\ndef is_told():\n    return workflow.patched('tell-the-customer')\n"
IDS = "import enum\nP = 'tell-the-customer'\nclass E(str, enum.Enum):\n    TELL = P\n"
ASKED = {
    "a relative import": ("from .steps import is_told", "is_told()"),
    "a relative import of a module": ("from . import steps", "steps.is_told()"),
    "an attribute of a module": ("from . import ids", "workflow.patched(ids.P)"),
    "an attribute of an enum": ("from .ids import E", "workflow.patched(E.TELL)"),
    "by its keyword": ("from .ids import P", "workflow.patched(id=P)"),
}
ONLY_AT_REPLAY = {
    "an attribute of the workflow": ("", "workflow.patched(self.NAME)"),
    "a variable": ("", "workflow.patched(name)"),
}


def order(folder: Path, imported: str, asked: str) -> type:
    """An order whose code asks for the patch in its own way."""
    package = folder / f"asks_{uuid4().hex}"
    package.mkdir()
    flow = FLOW.format(imported=imported, asked=asked)
    for name, text in {"__init__": "", "flow": flow, "steps": STEPS, "ids": IDS}.items():
        (package / f"{name}.py").write_text(text, encoding="utf-8")
    found: type = importlib.import_module(f"{package.name}.flow").Order
    return found


@requirement("HISTORY-COVERAGE")
@pytest.mark.parametrize("way", ASKED)
def test_a_patch_is_found_in_the_source_in_any_spelling(way: str, modules: Path) -> None:
    assert find_patches([order(modules, *ASKED[way])]) == ({PATCH: "patched"}, 0)


@requirement("HISTORY-COVERAGE")
@pytest.mark.parametrize("way", ONLY_AT_REPLAY)
async def test_a_patch_without_a_constant_id_is_found_by_replay(
    way: str, orders: Mapping[str, Recording], modules: Path, tmp_path: Path
) -> None:
    workflow = order(modules, *ONLY_AT_REPLAY[way])
    assert find_patches([workflow]) == ({}, 1)
    coverage = await covered(tmp_path / "c", {name: orders[name] for name in ("Before", "Guarded")}, workflow)
    (patch,) = coverage.patches
    assert (patch.in_code, patch.verdict) == ("patched", "keep both branches")


@requirement("HISTORY-COVERAGE")
async def test_no_patch_can_be_removed_while_a_history_does_not_replay(
    orders: Mapping[str, Recording], parcel_recordings: Mapping[str, Recording], tmp_path: Path
) -> None:
    recordings = {"Guarded": orders["Guarded"], "waiting": parcel_recordings["waiting"]}
    coverage = await covered(tmp_path, recordings, Guarded)
    assert coverage.patches[0].verdict == "unknown: 1 history does not replay"
    assert json.loads(render_coverage_json(coverage))["patches"][0]["verdict"] == "unknown: 1 history does not replay"


@requirement("HISTORY-COVERAGE")
async def test_no_patch_can_be_removed_while_open_workflows_are_unexamined(
    real_client: Client, orders: Mapping[str, Recording], tmp_path: Path
) -> None:
    write_recording(orders["Guarded"], tmp_path / "Guarded.json")
    query = 'WorkflowType = "Order" AND ExecutionStatus = "Running"'
    queue = f"left-{os.getpid()}"
    async with asyncio.timeout(30):
        while (before := await real_client.count_workflows(query)).count:
            await asyncio.sleep(0.1)
        handles = [
            await real_client.start_workflow("Order", "a lamp", id=f"{queue}-{n}", task_queue=queue) for n in range(3)
        ]
        while (await real_client.count_workflows(query)).count < before.count + 3:
            await asyncio.sleep(0.1)
    asked = await measure_coverage(read_corpus(tmp_path), LoadedTarget({"workflows": [Guarded]}), real_client, limit=2)
    for handle in handles:
        await handle.terminate()
    assert asked.open_workflows_skipped == 1
    assert asked.patches[0].verdict == "unknown: 1 open workflow was not examined"
    assert json.loads(render_coverage_json(asked))["patches"][0]["verdict"] == asked.patches[0].verdict


@pytest.mark.parametrize("open_old", [None, 0, 1])
def test_a_patch_whose_old_branch_is_taken_is_kept(open_old: int | None) -> None:
    old = () if open_old else ("a.json",)
    patch = Patch(name=PATCH, in_code="", old=old, markers=(), open_old=open_old, open_markers=open_old)
    assert patch.verdict == "keep both branches"


def test_the_verdict_is_unknown_if_calls_have_unreadable_ids() -> None:
    patch = Patch(name=PATCH, in_code="", old=(), markers=("a.json",), unresolved_calls=2)
    assert patch.verdict == "unknown: 2 patch calls in the code have an id that can't be read"


@workflow.defn(dynamic=True)
class AnyType:
    """Answers to every workflow type."""

    @workflow.run
    async def run(self, _given: Sequence[RawValue]) -> None: ...


@requirement("HISTORY-COVERAGE")
async def test_a_dynamic_workflow_covers_open_workflows_of_any_type(real_client: Client, tmp_path: Path) -> None:
    queue = f"any-{os.getpid()}"
    handle = await real_client.start_workflow("NobodyKnowsIt", id=queue, task_queue=queue)
    named, every = [LoadedTarget({"workflows": [kind]}) for kind in (Guarded, AnyType)]
    tmp_path.mkdir(exist_ok=True)
    async with asyncio.timeout(30):
        while (await measure_coverage(read_corpus(tmp_path), every, real_client, limit=0)).open_workflows_skipped == 0:
            await asyncio.sleep(0.1)
    await handle.terminate()
    assert named.workflow_types == ["Order"]


@requirement("HISTORY-COVERAGE")
async def test_a_missing_namespace_is_reported(
    real_client: Client, orders: Mapping[str, Recording], tmp_path: Path
) -> None:
    nowhere = await Client.connect(real_client.service_client.config.target_host, namespace="nowhere")
    with pytest.raises(CannotRunError, match=r"Temporal rejects the query: .*Check --address and --namespace"):
        await covered(tmp_path, {"Guarded": orders["Guarded"]}, Guarded, client=nowhere)


async def test_an_unreadable_recording_stops_coverage(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(CannotRunError, match=r"a\.json"):
        await covered(tmp_path, {}, Guarded)


async def test_a_recording_that_does_not_replay_is_reported_as_unknown(
    orders: Mapping[str, Recording], tmp_path: Path
) -> None:
    coverage = await covered(tmp_path, {"Before": orders["Before"]}, Removed)
    assert coverage.unknown == ("Before.json",)
