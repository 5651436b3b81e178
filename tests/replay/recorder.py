"""Records test workflows on a real server, and replays recordings in this process."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from temporalio.api.nexus.v1 import EndpointSpec, EndpointTarget
from temporalio.api.operatorservice.v1 import CreateNexusEndpointRequest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.worker import Worker

from temporal_replay import InProcessReplayer, LoadedTarget, Outcome, Recording, normalize
from tests.replay import courier_workflows, parcel_workflows, update_id_workflows

_numbers = itertools.count(1)
_AREA = TypedSearchAttributes([SearchAttributePair(courier_workflows.AREA, "north")])
SHIFTS: Mapping[str, dict[str, Any]] = {
    "shift with a memo": {"args": [1], "memo": {"who": "Ann"}},
    "shift with a search attribute": {"args": [1], "search_attributes": _AREA},
    "shift elsewhere": {"args": [1, "south"], "memo": {"who": "Ann"}, "search_attributes": _AREA},
}
"""Start options of workflows that continue as new, by name."""


async def record_parcels(client: Client) -> dict[str, Recording]:
    """Record a delivered parcel, a lost one, one waiting for a delivery day, and the label of the first."""
    queue = f"parcels-{os.getpid()}-{next(_numbers)}"
    async with Worker(
        client,
        task_queue=queue,
        workflows=parcel_workflows.WORKFLOWS,
        activities=[parcel_workflows.weigh, parcel_workflows.stamp],
    ):
        handles: dict[str, WorkflowHandle[Any, Any]] = {}
        for name in ("delivered", "lost", "waiting"):
            parcel = {"to": "Ann", "content": "a book"}
            handles[name] = await client.start_workflow("Parcel", parcel, id=f"{queue}-{name}", task_queue=queue)
        for handle in handles.values():
            await wait_for_memo(handle)
        await request_refused_day(handles["delivered"], "Sunday")
        await handles["delivered"].execute_update("deliver_on", "Monday")
        await handles["lost"].signal("lose")
        for name in ("delivered", "lost"):
            with suppress(WorkflowFailureError):
                await handles[name].result()
        handles["label"] = client.get_workflow_handle(f"{queue}-delivered-label")
        found = {name: Recording.of(await handle.fetch_history()) for name, handle in handles.items()}
        await handles["waiting"].terminate()
    return {name: Recording(r.workflow_id, r.workflow_type, normalize(r.events)) for name, r in found.items()}


async def record_couriers(client: Client) -> dict[str, Recording]:
    """Record two rounds of a courier, the child and the depot that the courier cancels, scales, and a border."""
    queue = f"couriers-{os.getpid()}-{next(_numbers)}"
    await client.operator_service.create_nexus_endpoint(
        CreateNexusEndpointRequest(
            spec=EndpointSpec(
                name=queue, target=EndpointTarget(worker=EndpointTarget.Worker(namespace="default", task_queue=queue))
            )
        )
    )
    worker = Worker(
        client,
        task_queue=queue,
        workflows=courier_workflows.WORKFLOWS,
        activities=[courier_workflows.weigh],
        nexus_service_handlers=[courier_workflows.CustomsOffice()],
    )
    async with worker, asyncio.timeout(60):
        border = await client.start_workflow(
            courier_workflows.Border.run, queue, id=f"{queue}-border", task_queue=queue
        )
        assert await border.result() == ["a book, declared", "a lamp, declared"]
        depot = await client.start_workflow(courier_workflows.Depot.run, id=f"{queue}-depot", task_queue=queue)
        first = await client.start_workflow(
            courier_workflows.Courier.run, args=[1, depot.id], id=f"{queue}-courier", task_queue=queue
        )
        shifts: dict[str, WorkflowHandle[Any, Any]] = {}
        for name, given in SHIFTS.items():
            shift = await client.start_workflow(
                courier_workflows.Shift.run, id=f"{queue}-{name}", task_queue=queue, **given
            )
            assert await shift.result() == "done"
            shifts[name] = client.get_workflow_handle(shift.id, run_id=shift.first_execution_run_id)
        scales = await client.start_workflow(courier_workflows.Scales.run, id=f"{queue}-scales", task_queue=queue)
        await scales.result()
        assert await first.result() == "home"
        assert await depot.result() == ["a book"]
        handles = {
            "first": client.get_workflow_handle(first.id, run_id=first.first_execution_run_id),
            "second": client.get_workflow_handle(first.id),
            "detour": client.get_workflow_handle(f"{first.id}-detour"),
            "depot": client.get_workflow_handle(depot.id),
            "border": client.get_workflow_handle(border.id),
            "scales": client.get_workflow_handle(scales.id),
            **shifts,
        }
        found = {name: Recording.of(await handle.fetch_history()) for name, handle in handles.items()}
    return {name: Recording(r.workflow_id, r.workflow_type, normalize(r.events)) for name, r in found.items()}


async def record_slip(client: Client) -> Recording:
    """Record a slip that was approved by an update whose id names a person."""
    queue = f"slips-{os.getpid()}-{next(_numbers)}"
    async with (
        Worker(
            client, task_queue=queue, workflows=update_id_workflows.WORKFLOWS, activities=[update_id_workflows.sign]
        ),
        asyncio.timeout(60),
    ):
        handle = await client.start_workflow(update_id_workflows.Slip.run, id=f"{queue}-it", task_queue=queue)
        await handle.execute_update(update_id_workflows.Slip.approve, id="approve-by-ann.smith@example.com")
        await handle.result()
        found = Recording.of(await handle.fetch_history())
    return Recording(found.workflow_id, found.workflow_type, normalize(found.events))


async def wait_for_memo(handle: WorkflowHandle[Any, Any]) -> None:
    """Wait until a parcel has its label."""
    async with asyncio.timeout(20):
        while not await (await handle.describe()).memo():
            await asyncio.sleep(0.01)


async def request_refused_day(handle: WorkflowHandle[Any, Any], day: str) -> None:
    """Request a delivery day that the workflow refuses."""
    try:
        await handle.execute_update("deliver_on", day)
    except WorkflowUpdateFailedError:
        return
    raise AssertionError("it was accepted")


async def replay(
    recordings: Mapping[str, Recording], code: LoadedTarget | Sequence[type], *, strict: bool = True
) -> dict[str, Outcome]:
    """Replay recordings, and return their outcomes by name."""
    code = code if isinstance(code, LoadedTarget) else LoadedTarget({"workflows": list(code)})
    found: list[Outcome] = []

    async def each() -> AsyncIterator[tuple[str, Recording]]:
        for item in recordings.items():
            yield item

    async with asyncio.timeout(60):
        await InProcessReplayer(code, strict=strict).replay(each(), found.append)
    return {outcome.recording: outcome for outcome in found}


def edited(folder: Path, *edits: tuple[str, str], of: ModuleType = parcel_workflows) -> list[type]:
    """The workflows of a module after edits of its source, each replacing the only occurrence of old by new.

    Args:
        folder: A folder on the import path.
    """
    text = Path(str(of.__file__)).read_text(encoding="utf-8")
    for old, new in edits:
        assert text.count(old) == 1, f"it is there {text.count(old)} times: {old}"
        text = text.replace(old, new)
    name = f"{of.__name__.rpartition('.')[2]}_edited_{os.getpid()}_{next(_numbers)}"
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    workflows: list[type] = importlib.import_module(name).WORKFLOWS
    return workflows
