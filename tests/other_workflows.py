"""Workflows that are not ours, for what must leave them alone."""

from typing import Any

from temporalio import workflow


@workflow.defn(name="SomebodyElses")
class SomebodyElses:
    def __init__(self) -> None:
        self.done = False

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: self.done)

    @workflow.signal
    def finish(self) -> None:
        self.done = True


@workflow.defn(name="InvoiceWorkflow")
class GoesOnAsNew:
    """Does what the simulator does not know."""

    @workflow.run
    async def run(self, request: Any) -> None:
        workflow.continue_as_new(request)
