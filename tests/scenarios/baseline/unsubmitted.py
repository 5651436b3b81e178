"""A workflow without an invoice that requests a payment."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import workflow


@workflow.defn(name="Stray")
class Stray:
    @workflow.run
    async def run(self, line: dict[str, Any]) -> None:
        await workflow.execute_activity("payment_gateway", line, start_to_close_timeout=timedelta(seconds=30))
