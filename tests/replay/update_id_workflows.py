"""Another project's workflows: slips, whose code derives ids from the id of an update."""

from __future__ import annotations

from datetime import timedelta

from temporalio import activity, workflow


@activity.defn
async def sign(slip: str) -> str:
    return f"signed {slip}"


@workflow.defn
class Copy:
    """A copy of a slip."""

    @workflow.run
    async def run(self, slip: str) -> str:
        return f"copy of {slip}"


@workflow.defn
class Slip:
    """Is signed and copied once."""

    def __init__(self) -> None:
        self.is_done = False

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: self.is_done)

    @workflow.update
    async def approve(self) -> str:
        asked = workflow.current_update_info()
        assert asked is not None
        signed = await workflow.execute_activity(
            sign, asked.id, activity_id=f"sign-{asked.id}", start_to_close_timeout=timedelta(seconds=5)
        )
        copy = await workflow.execute_child_workflow(
            Copy.run, signed, id=f"{workflow.info().workflow_id}-slip-{asked.id}"
        )
        self.is_done = True
        return copy


WORKFLOWS = [Slip, Copy]
