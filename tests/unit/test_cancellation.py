"""What is given up ends without an error in the log."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any, cast

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter

from invoice_mcp.domain.names import INVOICE_STATUS
from invoice_mcp.testing.simulate.explore.plan import start_input
from invoice_mcp.testing.world.fakes import RecordingPayments, ScriptedErp
from invoice_mcp.workflow.activities import InvoiceActivities
from invoice_mcp.workflow.cancellation import retrieve_exception
from invoice_mcp.workflow.worker import WORKFLOWS
from temporal_simulator import Simulation, Start, Worker
from tests.requirements import requirement


@requirement("DECIDE-REJECT")
@pytest.mark.parametrize("fails", [True, False])
async def test_how_it_ends_is_no_news(fails: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def activity() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            # As the handle of an activity that is cancelled does.
            if fails:
                raise RuntimeError("Activity cancelled") from None
            raise

    task = asyncio.create_task(activity())
    await asyncio.sleep(0)
    retrieve_exception(cast(Any, task))
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() is not fails
    del task
    # asyncio tells of what nobody looked at when it is thrown away.
    gc.collect()
    assert caplog.records == []


@requirement("DECIDE-REJECT")
async def test_a_workflow_that_ends_together_with_its_activity_is_no_news_either(
    caplog: pytest.LogCaptureFixture,
) -> None:
    erp = ScriptedErp()
    erp.refuses()
    simulation = Simulation(search_attributes=(INVOICE_STATUS,), manual=True)
    activities = InvoiceActivities(erp, RecordingPayments()).all()
    simulation.start_worker("given-up", Worker(WORKFLOWS, activities, converter=pydantic_data_converter))
    run = simulation.start(Start("invoice-INV-1", "InvoiceWorkflow", "given-up", input=start_input(1)))
    # The ERP refuses it, and before the workflow learns that, it is cancelled.
    for _ in range(2):
        await simulation.process(simulation.enabled_events()[0])
    run.request_cancel("enough")
    await simulation.run()
    assert not run.is_open
    # Whoever asks it now has it back in memory, where what is thrown away is told of.
    run.tasks.replay.query("GetInvoiceReport", [], {})
    gc.collect()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    await simulation.close()
