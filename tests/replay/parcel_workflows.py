"""Another project's workflows: parcels. Tests replay their recordings with edited versions of this module."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.common import RetryPolicy, SearchAttributeKey, WorkflowIDReusePolicy  # noqa: F401 (for edits)
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

CITY = SearchAttributeKey.for_keyword("InvoiceStatus")  # an attribute that the test server has registered


@activity.defn
async def weigh(parcel: dict[str, Any]) -> float:
    return float(len(parcel["content"]))


@activity.defn
async def stamp(parcel: dict[str, Any]) -> str:
    return f"stamp for {parcel['to']}"


@workflow.defn
class Label:
    """Prints a label."""

    @workflow.run
    async def run(self, text: str) -> str:
        await workflow.sleep(timedelta(milliseconds=10))
        return f"[{text}]"


@workflow.defn
class Parcel:
    """Delivers a parcel on a day that an update names."""

    def __init__(self) -> None:
        self.day = ""
        self.is_lost = False

    @workflow.run
    async def run(self, parcel: dict[str, Any]) -> str:
        workflow.upsert_search_attributes([CITY.value_set(parcel["to"])])
        weight = await workflow.execute_activity(
            weigh,
            parcel,
            start_to_close_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(maximum_attempts=3),
        )
        stamped = await workflow.execute_local_activity(stamp, parcel, start_to_close_timeout=timedelta(seconds=5))
        await workflow.sleep(timedelta(milliseconds=50))
        label = await workflow.execute_child_workflow(Label.run, stamped, id=f"{workflow.info().workflow_id}-label")
        workflow.upsert_memo({"label": label})
        await workflow.wait_condition(lambda: bool(self.day) or self.is_lost, timeout=timedelta(days=3))
        if self.is_lost:
            raise ApplicationError("it is lost", parcel["to"], type="LOST")
        return f"{weight:.0f} kg on {self.day} with {label}"

    @workflow.update
    def deliver_on(self, day: str) -> str:
        if day == "Sunday":
            raise ApplicationError("never on a Sunday", type="NEVER", category=ApplicationErrorCategory.BENIGN)
        self.day = day
        return f"comes on {day}"

    @workflow.signal
    def lose(self) -> None:
        self.is_lost = True


WORKFLOWS = [Parcel, Label]
