"""Another project's workflows: couriers cancel what they started, signal other workflows, and continue as new."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import nexusrpc
import nexusrpc.handler
from temporalio import activity, workflow
from temporalio.common import SearchAttributeKey

AREA = SearchAttributeKey.for_keyword("InvoiceStatus")
UNSERVED_QUEUE = "couriers-unserved"
"""A task queue without a worker: its activities stay scheduled until they are cancelled."""


@workflow.defn
class Depot:
    """Stays open until it is cancelled."""

    def __init__(self) -> None:
        self.brought: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        try:
            await workflow.wait_condition(lambda: False)
        except asyncio.CancelledError:
            return self.brought
        return []

    @workflow.signal
    def bring(self, what: str) -> None:
        self.brought.append(what)


@workflow.defn
class Detour:
    """Takes a day."""

    def __init__(self) -> None:
        self.speed = 1

    @workflow.run
    async def run(self, way: str) -> str:
        await workflow.sleep(timedelta(days=1))
        return f"came {way} at {self.speed}"

    @workflow.signal
    def hurry(self, speed: int) -> None:
        self.speed = speed


@workflow.defn
class Courier:
    """Does two rounds. Cancels what is not done in time."""

    @workflow.run
    async def run(self, round_number: int, depot: str) -> str:
        if round_number == 1:
            await self.go(round_number, depot)
        return "home"

    async def go(self, round_number: int, depot: str) -> None:
        lunch = asyncio.create_task(workflow.sleep(timedelta(hours=5)))
        parking = workflow.start_activity(
            "park", round_number, task_queue=UNSERVED_QUEUE, schedule_to_close_timeout=timedelta(hours=1)
        )
        detour = await workflow.start_child_workflow(
            Detour.run, "by the lake", id=f"{workflow.info().workflow_id}-detour"
        )
        await detour.signal(Detour.hurry, 2)
        lunch.cancel()
        parking.cancel()
        detour.cancel()
        await asyncio.gather(lunch, parking, detour, return_exceptions=True)
        office: workflow.ExternalWorkflowHandle[Depot] = workflow.get_external_workflow_handle_for(Depot.run, depot)
        await office.signal(Depot.bring, "a book")
        await office.cancel(reason="we close")
        workflow.continue_as_new(args=[round_number + 1, depot])


@activity.defn
async def weigh(parcel: str) -> int:
    """Takes longer for a heavy parcel."""
    await asyncio.sleep(0.3 if "heavy" in parcel else 0)
    return len(parcel)


@workflow.defn
class Scales:
    """Weighs two parcels concurrently; the first one takes longer."""

    @workflow.run
    async def run(self) -> list[int]:
        both = [
            workflow.start_local_activity(weigh, parcel, start_to_close_timeout=timedelta(seconds=5))
            for parcel in ("a heavy one", "a light one")
        ]
        weights = await asyncio.gather(*both)
        await workflow.sleep(timedelta(milliseconds=10))
        return weights


@nexusrpc.service
class Customs:
    """A Nexus service of another project."""

    declare: nexusrpc.Operation[str, str]


@nexusrpc.handler.service_handler(service=Customs)
class CustomsOffice:
    @nexusrpc.handler.sync_operation
    async def declare(self, _context: nexusrpc.handler.StartOperationContext, what: str) -> str:
        return f"{what}, declared"


@workflow.defn
class Border:
    """Declares two parcels, the second one without a timeout."""

    @workflow.run
    async def run(self, endpoint: str) -> list[str]:
        office = workflow.create_nexus_client(service=Customs, endpoint=endpoint)
        return [
            await office.execute_operation(Customs.declare, "a book", schedule_to_close_timeout=timedelta(minutes=1)),
            await office.execute_operation(Customs.declare, "a lamp"),
        ]


@workflow.defn
class Shift:
    """Continues as new, with inherited or with changed memo and search attributes."""

    @workflow.run
    async def run(self, left: int, area: str = "") -> str:
        if area:
            workflow.upsert_search_attributes([AREA.value_set(area)])
            workflow.upsert_memo({"left": left})
        if left:
            workflow.continue_as_new(args=[left - 1, area])
        return "done"


WORKFLOWS = [Border, Courier, Depot, Detour, Scales, Shift]
