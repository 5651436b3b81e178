"""Workflows that continue as new before asking, continue forever, ask in each run, or withdraw a question."""

import asyncio

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from mcp_temporal_tasks.workflow import TaskWorkflow

ANYTHING = {"type": "object", "properties": {}}


@workflow.defn
class ContinuesAsNew(TaskWorkflow):
    @workflow.run
    async def run(self, left: int) -> str:
        if left > 0:
            workflow.continue_as_new(left - 1)
        answer = await self.inbox.elicit("Enough?", ANYTHING)
        return str(answer["action"])


@workflow.defn
class ContinuesForever(TaskWorkflow):
    @workflow.run
    async def run(self, pause: float) -> None:
        await asyncio.sleep(pause)
        workflow.continue_as_new(pause)


@workflow.defn
class AsksInEachRun(TaskWorkflow):
    """Asks the same question once in each run."""

    @workflow.run
    async def run(self, left: int, answers: list[str]) -> list[str]:
        answer = await self.inbox.elicit("And now?", ANYTHING)
        answers = [*answers, str((answer.get("content") or {}).get("word"))]
        if left > 0:
            workflow.continue_as_new(args=[left - 1, answers])
        return answers


@workflow.defn
class SucceedsAtLast(TaskWorkflow):
    @workflow.run
    async def run(self, attempts: int) -> str:
        if workflow.info().attempt < attempts:
            raise ApplicationError("not yet")
        return f"done at attempt {attempts}"


@workflow.defn
class Persists(TaskWorkflow):
    """Repeats its question until it is answered."""

    @workflow.run
    async def run(self) -> None:
        while (await self.inbox.elicit("Please?", ANYTHING)).get("action") != "accept":
            pass


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
