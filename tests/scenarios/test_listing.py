"""`list` finds invoices by status, whoever submitted them. On the real server, which can list."""

from __future__ import annotations

import re
from functools import partial

from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.names import workflow_id_for
from invoice_mcp.domain.report import AcceptedInvoice, InvoiceRequest, Status
from invoice_mcp.testing import PAST_DUE, World
from invoice_mcp.testing.plugin import NewWorld
from invoice_mcp.testing.world.base import DAY
from tests.requirements import requirement


async def lists(world: World, status: Status, *workflow_ids: str) -> None:
    """Wait until these invoices are listed under this status: visibility may lag behind by a moment."""

    async def shows_them() -> bool:
        entries = await world.list(status=status, limit=100)
        assert {entry["status"] for entry in entries} <= {status}
        return {entry["workflow_id"] for entry in entries} >= set(workflow_ids)

    await world.when(shows_them)


async def lists_not(world: World, status: Status, *workflow_ids: str) -> None:
    async def shows_none() -> bool:
        entries = await world.list(status=status, limit=100)
        return not {entry["workflow_id"] for entry in entries} & set(workflow_ids)

    await world.when(shows_none)


@requirement("LIST-STATUS")
async def test_an_invoice_is_listed_under_each_status_it_comes_to_and_under_no_other(real_world: NewWorld) -> None:
    async with real_world() as world:
        workflow_id = await world.submit(("12.50", PAST_DUE), ("30", await world.due_in(30 * DAY)))
        await lists(world, Status.PENDING_APPROVAL, workflow_id)
        await world.approve()
        await lists(world, Status.PAYING, workflow_id)
        await lists_not(world, Status.PENDING_APPROVAL, workflow_id)
        await world.advance(31 * DAY)
        report = await world.until(Status.PAID)
        await lists(world, Status.PAID, workflow_id)
        await lists_not(world, Status.PAYING, workflow_id)

        (entry,) = [each for each in await world.list(limit=100) if each["workflow_id"] == workflow_id]
        assert entry["invoice_id"] == report.invoice_id
        assert (entry["customer"], entry["currency"], entry["total"]) == ("ACME Corp", "USD", "42.50")
        assert (entry["run_id"], entry["workflow_status"]) == (report.run_id, "COMPLETED")
        assert entry["submitted_at"] < entry["closed_at"]


@requirement("LIST-PAGES")
async def test_all_invoices_are_listed_page_by_page(real_world: NewWorld) -> None:
    async with real_world() as world:
        waiting = [await world.submit() for _ in range(3)]
        await lists(world, Status.PENDING_APPROVAL, *waiting)
        cursor, seen, since = None, [], ""
        while cursor or not since:
            page = await world.call("list", status="PENDING-APPROVAL", limit=2, cursor=cursor)
            seen += [entry["workflow_id"] for entry in page["invoices"]]
            assert ("call `list` with cursor" in page["summary"]) == (page["next_cursor"] is not None)
            if not since:
                since = await world.submit()
                await lists(world, Status.PENDING_APPROVAL, since)
            cursor = page["next_cursor"]
        assert [each for each in seen if each in waiting] == waiting[::-1]
        assert since not in seen
        assert len(set(seen)) == len(seen)


@requirement("LIST-STATUS")
async def test_invoices_of_others_are_listed_too(real_world: NewWorld) -> None:
    async with real_world() as world:
        paid = await world.submit()
        await world.approve()
        await world.until(Status.PAID)
        rejected = await world.submit()
        await world.reject()
        await world.until(Status.REJECTED)
    async with real_world(approval_timeout=DAY) as world:
        cancelled = await world.submit()
        await world.cancel()
        expired = await world.submit()
        await world.advance(2 * DAY)
        await world.until(Status.EXPIRED)
        waiting = await world.submit()

        by_status = {
            Status.PAID: paid,
            Status.REJECTED: rejected,
            Status.CANCELLED: cancelled,
            Status.EXPIRED: expired,
            Status.PENDING_APPROVAL: waiting,
        }
        for status, workflow_id in by_status.items():
            await lists(world, status, workflow_id)
            await lists_not(world, status, *set(by_status.values()) - {workflow_id})
        assert {entry["workflow_id"] for entry in await world.list(limit=100)} >= set(by_status.values())
        assert [entry["workflow_id"] for entry in await world.list(limit=1)] == [waiting]


@requirement("LIST-STATUS")
async def test_an_invoice_that_is_not_indexed_is_not_denied(real_world: NewWorld) -> None:
    async with real_world() as world:
        # As those that were submitted before the namespace had the attribute.
        invoice = world.invoice()
        request = InvoiceRequest(invoice=AcceptedInvoice.of(Invoice.model_validate(invoice)))
        workflow_id = workflow_id_for(invoice["invoice_id"])
        await world.client.start_workflow("InvoiceWorkflow", request, id=workflow_id, task_queue=world.task_queue)
        world.track(workflow_id)
        await world.until(Status.PENDING_APPROVAL)

        async def is_told(status: str = "PENDING-APPROVAL") -> bool:
            told: str = (await world.call("list", status=status))["summary"]
            return re.search(r"; [0-9]+ more .* not indexed .* `list` without status", told) is not None

        await world.when(is_told)
        assert "not indexed" not in (await world.call("list"))["summary"]
        await world.reject()
        await world.until(Status.REJECTED)
        await world.when(partial(is_told, "REJECTED"))
