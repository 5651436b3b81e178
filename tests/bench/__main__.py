"""What the harness costs: scenarios per second on each engine, beside the same lives by Temporal's own client.

Both take turns on the same server and worker in one run, so that a noisy machine is noisy for both. The raw client goes
without MCP, observations and checker: what remains is what the server and the workflow cost anyway.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table
from temporalio.client import WorkflowExecutionStatus

from invoice_mcp.invoices import Invoice
from invoice_mcp.reports import AcceptedInvoice, DecisionRequest, InvoiceRequest, Status
from invoice_mcp.testing import DAY, PAST, StageKeeper, kinds, open_world, run_and_leave
from invoice_mcp.workflows import InvoiceWorkflow

Life = Callable[[StageKeeper, str], Awaitable[None]]
_numbers = itertools.count(1)


async def in_a_world(keeper: StageKeeper, ending: str) -> None:
    """One life as a scenario: through MCP, observed and checked."""
    async with open_world(keeper) as world:
        await world.submit(("100", PAST), ("200", PAST))
        if ending == Status.EXPIRED:
            await world.advance(6 * DAY)
        else:
            await (world.approve() if ending == Status.PAID else world.reject())
        await world.until(ending)


async def raw(keeper: StageKeeper, ending: str) -> None:
    """The same life by the client of Temporal's SDK."""
    async with keeper.take() as stage:
        client, number = stage.engine.client, next(_numbers)
        lines = [{"description": "Widget", "amount": amount, "due_date": PAST} for amount in ("100", "200")]
        invoice = Invoice.model_validate({"invoice_id": f"RAW-{number}", "customer": "ACME Corp", "lines": lines})
        handle = await client.start_workflow(
            InvoiceWorkflow.run,
            InvoiceRequest(invoice=AcceptedInvoice.of(invoice)),
            id=f"invoice-RAW-{number}",
            task_queue=stage.task_queue,
        )
        async with asyncio.timeout(30):
            while await handle.query(InvoiceWorkflow.status) != Status.PENDING_APPROVAL:
                await asyncio.sleep(0.004)
            if ending == Status.EXPIRED:
                await stage.engine.advance(timedelta(days=6), [handle.id])
            else:
                decide = InvoiceWorkflow.approve if ending == Status.PAID else InvoiceWorkflow.reject
                await handle.execute_update(decide, DecisionRequest(by="Ann"))
            while (await handle.describe()).status is WorkflowExecutionStatus.RUNNING:
                await asyncio.sleep(0.004)
            if (report := await handle.result()).status != ending:
                raise AssertionError(report.summary)


async def measure(engine: str, rounds: int, console: Console) -> list[tuple[str, float, float]]:
    """Of each ending: scenarios per second in worlds, and raw."""
    keeper = StageKeeper(kinds()[engine])
    found = []
    try:
        for ending in (Status.PAID, Status.REJECTED, Status.EXPIRED):
            spent = {in_a_world: 0.0, raw: 0.0}
            for turn in track(range(-2, rounds), f"{engine}: {ending}", console=console, transient=True):
                for live in spent:
                    began = time.perf_counter()
                    await live(keeper, ending)
                    # The first ones warm up.
                    spent[live] += time.perf_counter() - began if turn >= 0 else 0
            found.append((ending.value, rounds / spent[in_a_world], rounds / spent[raw]))
    finally:
        await keeper.close()
    return found


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=30, help="So many lives of each kind.", show_default=True)
def main(rounds: int) -> None:
    """Print how many scenarios a second each engine plays, beside the same lives by Temporal's own client."""
    run_and_leave(_compare(rounds))


async def _compare(rounds: int) -> None:
    logging.disable(logging.WARNING)
    console = Console()
    table = Table(title=f"Lives of an invoice of two lines, one after another, {rounds} of each")
    for column in ("engine", "ending", "scenarios/s", "raw SDK client/s", "ratio"):
        table.add_column(column, justify="left" if column in {"engine", "ending"} else "right")
    for engine in kinds():
        for ending, ours, bare in await measure(engine, rounds, console):
            table.add_row(engine, ending, f"{ours:.1f}", f"{bare:.1f}", f"{ours / bare:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
