"""A workflow that goes on as a new run before it asks."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from invoice_mcp.tasks.workflow import TaskWorkflow


@workflow.defn
class GoesOn(TaskWorkflow):
    @workflow.run
    async def run(self, left: int) -> str:
        if left > 0:
            workflow.continue_as_new(left - 1)
        answer = await self.inbox.elicit("Enough?", {"type": "object", "properties": {}})
        return str(answer["action"])
