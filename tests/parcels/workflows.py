"""Workflows of another project, without any invoices: parcels wait to be collected, or are returned."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.exceptions import ApplicationError

COLLECTION_PERIOD = timedelta(days=7)


@dataclass(frozen=True)
class Parcel:
    """A parcel and its recipient."""

    number: str
    to: str


class Locker:
    """The activities: a locker that may be full."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.full_for = 0

    @activity.defn
    async def put_in(self, parcel: Parcel) -> None:
        """Put a parcel into the locker."""
        if self.full_for:
            self.full_for -= 1
            raise ApplicationError("the locker is full")
        self.held.add(parcel.number)

    @activity.defn
    async def take_out(self, parcel: Parcel) -> None:
        """Take a parcel out of the locker."""
        self.held.remove(parcel.number)


@workflow.defn
class Return:
    """Returns a parcel within two days."""

    @workflow.run
    async def run(self, parcel: Parcel) -> str:
        await workflow.execute_activity_method(Locker.take_out, parcel, start_to_close_timeout=timedelta(minutes=1))
        await asyncio.sleep(timedelta(days=2).total_seconds())
        return f"{parcel.number} is back"


@workflow.defn
class Delivery:
    """Puts a parcel into a locker, where it waits a week to be collected."""

    def __init__(self) -> None:
        self._is_collected = False

    @workflow.run
    async def run(self, parcel: Parcel) -> str:
        minute = timedelta(minutes=1)
        await workflow.execute_activity_method(Locker.put_in, parcel, start_to_close_timeout=minute)
        try:
            await workflow.wait_condition(lambda: self._is_collected, timeout=COLLECTION_PERIOD)
        except TimeoutError:
            return await workflow.execute_child_workflow(Return.run, parcel, id=f"{workflow.info().workflow_id}-return")
        await workflow.execute_activity_method(Locker.take_out, parcel, start_to_close_timeout=minute)
        return f"{parcel.number} is with {parcel.to}"

    @workflow.signal
    def collect(self) -> None:
        """The recipient collects the parcel."""
        self._is_collected = True


@workflow.defn(name="Delivery")
class NondeterministicDelivery(Delivery):
    """Counts runs in memory outside of the workflow, and behaves differently on replay."""

    delivered = 0

    @workflow.run
    async def run(self, parcel: Parcel) -> str:
        NondeterministicDelivery.delivered += 1
        if NondeterministicDelivery.delivered > 1:
            await asyncio.sleep(60)
        return await super().run(parcel)

    @workflow.signal
    def collect(self) -> None:
        """See `Delivery.collect`."""
        super().collect()
