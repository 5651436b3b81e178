"""The change without a patch, as if no order were open."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

_A_MINUTE = timedelta(minutes=1)


@workflow.defn(name="Order")
class Unguarded:
    @workflow.run
    async def run(self, what: str) -> str:
        await workflow.execute_activity("tell_customer", what, start_to_close_timeout=_A_MINUTE)
        await workflow.execute_activity("reserve", what, start_to_close_timeout=_A_MINUTE)
        await workflow.wait_condition(lambda: self.is_paid)
        return f"{what} is on its way"

    def __init__(self) -> None:
        self.is_paid = False

    @workflow.signal
    def pay(self) -> None:
        self.is_paid = True
