"""Cost of the harness: scenarios per second on each engine, beside the same scenarios by Temporal's own client.

Both alternate on the same server and worker, so that load on the machine affects both. The raw client has no MCP, no
observations and no checker: it shows the cost of the server and the workflow. Nothing runs in the SDK's sandbox, as in
fuzzing. `python -m tests.bench.scale` measures many episodes.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import time
from datetime import timedelta

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table
from temporalio.client import WorkflowExecutionStatus
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import UnsandboxedWorkflowRunner

from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.names import INVOICE_STATUS
from invoice_mcp.domain.report import AcceptedInvoice, DecisionRequest, InvoiceRequest, Status
from invoice_mcp.testing import PAST_DUE, EnvironmentPool, World, kinds, open_world, run_and_exit
from invoice_mcp.testing.world.base import DAY
from invoice_mcp.testing.world.fakes import RecordingPayments, ScriptedErp
from invoice_mcp.workflow.activities import InvoiceActivities
from invoice_mcp.workflow.invoice_workflow import InvoiceWorkflow
from invoice_mcp.workflow.worker import WORKFLOWS
from temporal_simulator import Simulation, Worker, connect
from tests.bench.floor import ActivationRecorder, idle_client

_numbers = itertools.count(1)


async def play_in_world(pool: EnvironmentPool, ending: str) -> World:
    """One scenario: through MCP, observed and checked."""
    async with open_world(pool) as world:
        await world.submit(("100", PAST_DUE), ("200", PAST_DUE))
        if ending == Status.EXPIRED:
            await world.advance(6 * DAY)
        else:
            await (world.approve() if ending == Status.PAID else world.reject())
        await world.until(ending)
    return world


async def play_raw(pool: EnvironmentPool, ending: str) -> None:
    """The same scenario by the client of Temporal's SDK."""
    async with pool.take() as environment:
        client, number = environment.engine.client, next(_numbers)
        handle = await client.start_workflow(
            InvoiceWorkflow.run,
            InvoiceRequest(invoice=AcceptedInvoice.of(_invoice(f"RAW-{number}"))),
            id=f"invoice-RAW-{number}",
            task_queue=environment.task_queue,
        )
        async with asyncio.timeout(30):
            while await handle.query(InvoiceWorkflow.status) != Status.PENDING_APPROVAL:
                await asyncio.sleep(0.004)
            if ending == Status.EXPIRED:
                await environment.engine.advance(timedelta(days=6), [handle.id])
            else:
                decide = InvoiceWorkflow.approve if ending == Status.PAID else InvoiceWorkflow.reject
                await handle.execute_update(decide, DecisionRequest(by="Ann"))
            while (await handle.describe()).status is WorkflowExecutionStatus.RUNNING:
                await asyncio.sleep(0.004)
            if (report := await handle.result()).status != ending:
                raise AssertionError(report.summary)


def _invoice(invoice_id: str) -> Invoice:
    lines = [{"description": "Widget", "amount": amount, "due_date": PAST_DUE} for amount in ("100", "200")]
    return Invoice.model_validate({"invoice_id": invoice_id, "customer": "ACME Corp", "lines": lines})


async def measure(engine: str, rounds: int, console: Console) -> list[tuple[str, float, float]]:
    """Scenarios per second by ending: through the harness, and raw."""
    found = []
    async with EnvironmentPool(kinds()[engine], sandboxed=False) as pool:
        for ending in (Status.PAID, Status.REJECTED, Status.EXPIRED):
            spent = {play_in_world: 0.0, play_raw: 0.0}
            for turn in track(range(-2, rounds), f"{engine}: {ending}", console=console, transient=True):
                for play in spent:
                    began = time.perf_counter()
                    await play(pool, ending)
                    # Negative turns warm up.
                    spent[play] += time.perf_counter() - began if turn >= 0 else 0
            found.append((ending.value, rounds / spent[play_in_world], rounds / spent[play_raw]))
    return found


async def core(rounds: int) -> tuple[float, float]:
    """Executions per second of the simulator's core, and of the workflow code alone with the same activations.

    Started and approved by Temporal's own client, then paid; without MCP, observations and checker.
    """
    simulation = Simulation(search_attributes=(INVOICE_STATUS,))
    client = connect(simulation, data_converter=pydantic_data_converter)
    recorder = ActivationRecorder()
    spent = {"core": 0.0, "code": 0.0}
    # The first turn is recorded, the next ones warm up.
    for turn in range(-21, rounds):
        activities = InvoiceActivities(ScriptedErp(), RecordingPayments()).all()
        runner = recorder if turn == -21 else UnsandboxedWorkflowRunner()
        worker = Worker(WORKFLOWS, activities, runner=runner, converter=pydantic_data_converter)
        simulation.start_worker("core", worker)
        request = InvoiceRequest(invoice=AcceptedInvoice.of(_invoice("CORE")))
        began = time.perf_counter()
        handle = await client.start_workflow(InvoiceWorkflow.run, request, id="core", task_queue="core")
        await handle.execute_update(InvoiceWorkflow.approve, DecisionRequest(by="Ann"))
        if (report := await handle.result()).status != Status.PAID:
            raise AssertionError(report.summary)
        simulation.clear()
        played = time.perf_counter()
        recorder.replay()
        if turn >= 0:
            spent["core"] += played - began
            spent["code"] += time.perf_counter() - played
    return rounds / spent["core"], rounds / spent["code"]


async def session(rounds: int) -> tuple[float, float, int]:
    """Scenarios per second through MCP and the checker; of as many MCP calls alone; and the number of these calls.

    The calls alone are of a tool that does nothing, by the same client, in memory too.
    """
    spent = {"scenarios": 0.0, "calls": 0.0}
    async with EnvironmentPool(kinds()["simulated"], sandboxed=False) as pool, idle_client() as idle:
        calls = len((await (await play_in_world(pool, Status.PAID)).observe()).answers)
        for turn in range(-20, rounds):
            began = time.perf_counter()
            await play_in_world(pool, Status.PAID)
            played = time.perf_counter()
            for _ in range(calls):
                await idle.call_tool("nothing")
            # Negative turns warm up.
            if turn >= 0:
                spent["scenarios"] += played - began
                spent["calls"] += time.perf_counter() - played
    return rounds / spent["scenarios"], rounds / spent["calls"], calls


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=30, help="Scenarios of each kind.", show_default=True)
@click.option("--engine", "engines", multiple=True, help="Only these engines.  [default: all]")
def main(rounds: int, engines: tuple[str, ...]) -> None:
    """Print the scenarios per second of each engine, beside the same scenarios by Temporal's own client."""
    logging.disable(logging.WARNING)
    console = Console()
    load = os.getloadavg()
    console.print(f"load average {load[0]:.1f}, {load[1]:.1f}, {load[2]:.1f}")
    table = Table(title=f"An invoice of two lines, {rounds} scenarios of each kind, one after another")
    for column in ("engine", "ending", "scenarios/s", "raw SDK client/s", "ratio"):
        table.add_column(column, justify="left" if column in {"engine", "ending"} else "right")
    for engine in engines or kinds():
        with asyncio.Runner(loop_factory=kinds()[engine].loop_factory) as runner:
            for ending, ours, bare in runner.run(measure(engine, rounds, console)):
                table.add_row(engine, ending, f"{ours:.1f}", f"{bare:.1f}", f"{ours / bare:.2f}")
    console.print(table)
    ours, bare = asyncio.run(core(10 * rounds))
    console.print(f"The simulator's core alone, approved and paid: {ours:.0f} executions/s, ratio {ours / bare:.2f} to")
    console.print(f"the workflow code alone, with the same activations: {bare:.0f} executions/s")
    with asyncio.Runner(loop_factory=kinds()["simulated"].loop_factory) as runner:
        ours, bare, calls = runner.run(session(10 * rounds))
    console.print(f"Simulated, through MCP and the checker: {ours:.0f} scenarios/s, ratio {ours / bare:.2f} to")
    console.print(f"their {calls} calls alone, of a tool that does nothing: {bare:.0f} scenarios/s")
    run_and_exit(_nothing())


async def _nothing() -> None:
    """Nothing: `run_and_exit` is needed for its exit."""


if __name__ == "__main__":
    main()
