"""A workflow with many open operations, to be reset."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError

from tests.unit.testing.simulator.workflows import Inbox, waits


@workflow.defn
class Household:
    """Starts two children one after the other, then an activity and a timer. Records random ids."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.random_ids: list[str] = []

    @workflow.run
    async def run(self) -> list[str]:
        me, children = workflow.info().workflow_id, []
        for name in "ab":
            self.random_ids.append(str(workflow.uuid4()))
            try:
                children.append(await workflow.start_child_workflow(Inbox.run, id=f"{me}-{name}"))
            except WorkflowAlreadyStartedError:
                self.seen.append(f"{name} is taken")
        for child in children:
            self.seen += await child
        rest = asyncio.create_task(workflow.sleep(timedelta(hours=3)))
        self.seen.append(await workflow.execute_activity(waits, "done", start_to_close_timeout=timedelta(hours=1)))
        await rest
        return self.seen

    @workflow.signal
    def note(self, text: str) -> None:
        self.seen.append(text)

    @workflow.query
    def all(self) -> tuple[list[str], list[str]]:
        return self.seen, self.random_ids


WORKFLOWS = (Household,)
