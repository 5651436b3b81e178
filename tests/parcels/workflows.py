"""Workflows of another project, which has nothing to do with invoices: parcels wait to be collected, or go back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.exceptions import ApplicationError

WAITS = timedelta(days=7)


@dataclass(frozen=True)
class Parcel:
    """What is sent to whom."""

    number: str
    to: str


class Locker:
    """The activities: a locker that is full at times."""

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
        """Take it out again, for whomever."""
        self.held.remove(parcel.number)


@workflow.defn
class Return:
    """Sends a parcel back: takes two days."""

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
            await workflow.wait_condition(lambda: self._is_collected, timeout=WAITS)
        except TimeoutError:
            return await workflow.execute_child_workflow(Return.run, parcel, id=f"{workflow.info().workflow_id}-return")
        await workflow.execute_activity_method(Locker.take_out, parcel, start_to_close_timeout=minute)
        return f"{parcel.number} is with {parcel.to}"

    @workflow.signal
    def collect(self) -> None:
        """Whom it is for stands before the locker."""
        self._is_collected = True


@workflow.defn(name="Delivery")
class HastyDelivery(Delivery):
    """Forgets that a crash may come between, and counts parcels in memory that is not the workflow's."""

    delivered = 0

    @workflow.run
    async def run(self, parcel: Parcel) -> str:
        HastyDelivery.delivered += 1
        if HastyDelivery.delivered > 1:
            await asyncio.sleep(60)
        return await super().run(parcel)

    @workflow.signal
    def collect(self) -> None:
        """As it is inherited."""
        super().collect()
