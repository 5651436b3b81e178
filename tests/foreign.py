"""A workflow that is not ours, for what must leave it alone."""

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
