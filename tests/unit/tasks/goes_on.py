"""Workflows that go on: as a new run before they ask, as ever new runs, and after they gave up asking."""

import asyncio

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from invoice_mcp.tasks.workflow import TaskWorkflow

ANYTHING = {"type": "object", "properties": {}}


@workflow.defn
class GoesOn(TaskWorkflow):
    @workflow.run
    async def run(self, left: int) -> str:
        if left > 0:
            workflow.continue_as_new(left - 1)
        answer = await self.inbox.elicit("Enough?", ANYTHING)
        return str(answer["action"])


@workflow.defn
class Restless(TaskWorkflow):
    @workflow.run
    async def run(self, pause: float) -> None:
        await asyncio.sleep(pause)
        workflow.continue_as_new(pause)


@workflow.defn
class GivesUp(TaskWorkflow):
    @workflow.run
    async def run(self, seconds: float) -> str:
        try:
            async with asyncio.timeout(seconds):
                await self.inbox.elicit("Quick?", ANYTHING)
        except TimeoutError:
            await workflow.wait_condition(lambda: False)
        return "quick"
