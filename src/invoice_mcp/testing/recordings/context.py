"""What the script of a recorded path works with: a world, and generated names and texts."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from faker import Faker
from temporalio.service import RPCError

from invoice_mcp.domain.names import line_workflow_id
from invoice_mcp.domain.report import DecisionRequest, Status
from invoice_mcp.testing import PAST_DUE, World


@dataclass(frozen=True)
class PathContext:
    """A world, and the data of one path.

    Attributes:
        name: The name of the path; the id of its invoice is made from it.
        faker: Generates names and texts. It is seeded by the path, so they are the same in each recording.
    """

    world: World
    name: str
    faker: Faker

    def invoice(self, *dues: str) -> dict[str, Any]:
        """An invoice whose lines have these due dates."""
        amounts = (self.faker.pydecimal(left_digits=3, right_digits=2, positive=True) for _ in dues)
        return {
            "invoice_id": self.name.upper(),
            "customer": self.faker.company(),
            "currency": "EUR",
            "lines": [
                {"description": self.faker.bs().capitalize(), "amount": str(amount + Decimal(1)), "due_date": due}
                for due, amount in zip(dues, amounts, strict=True)
            ],
            "metadata": {"purchase_order": self.faker.bothify("PO-####")},
        }

    async def submit(self, *dues: str, until: Status = Status.PENDING_APPROVAL) -> None:
        """Submit an invoice whose lines have these due dates, and wait until it has a status."""
        await self.world.trigger(self.invoice(*dues or (PAST_DUE, PAST_DUE)))
        await self.world.until(until)

    async def approve(self) -> None:
        """Approve by the tool."""
        await self.world.approve(by=self.faker.name(), comment=self.faker.sentence())

    async def reject(self) -> None:
        """Reject by the tool."""
        await self.world.reject(by=self.faker.name(), reason=self.faker.sentence())

    def decision(self) -> DecisionRequest:
        """A decision for an update that is sent past the MCP server."""
        return DecisionRequest(by=self.faker.name(), comment=self.faker.sentence())

    async def until_line_scheduled(self, number: int) -> None:
        """Wait until a line has started the timer for its due date."""
        handle = self.world.handle(line_workflow_id(self.world.workflow_id, number))

        async def has_timer() -> bool:
            with suppress(RPCError):  # the line has not been started yet
                events = (await handle.fetch_history()).events
                return any(event.HasField("timer_started_event_attributes") for event in events)
            return False

        await self.world.when(has_timer)

    async def until_closed(self, workflow_id: str) -> None:
        """Wait until a workflow has ended, with any result."""
        handle = self.world.handle(workflow_id)

        async def is_closed() -> bool:
            return (await handle.describe()).close_time is not None

        await self.world.when(is_closed)

    def order(self, due: str) -> dict[str, Any]:
        """A payment order as a person who pays a line by hand would write it."""
        return {
            "idempotency_key": "by-hand",
            "invoice_id": "BY-HAND",
            "customer": self.faker.company(),
            "line": 1,
            "description": self.faker.bs(),
            "amount": "1.00",
            "currency": "EUR",
            "due_date": due,
        }

    async def start(self, workflow: str, given: object, workflow_id: str) -> None:
        """Start a workflow past the MCP server."""
        await self.world.client.start_workflow(workflow, given, id=workflow_id, task_queue=self.world.task_queue)
