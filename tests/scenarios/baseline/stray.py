"""A workflow that nobody submitted an invoice to, and that has something paid all the same."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import workflow


@workflow.defn(name="Stray")
class Stray:
    @workflow.run
    async def run(self, line: dict[str, Any]) -> None:
        await workflow.execute_activity("payment_gateway", line, start_to_close_timeout=timedelta(seconds=30))
