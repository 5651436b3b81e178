"""Log records of workflow code leave the sandbox with any handler, and never stop a workflow."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
from rich.console import Console
from rich.logging import RichHandler
from temporalio.exceptions import ApplicationError

from invoice_mcp.domain.report import Status
from invoice_mcp.testing.plugin import NewWorld
from invoice_mcp.testing.world.base import DAY
from tests.requirements import requirement


@pytest.fixture
def rich_logging() -> Iterator[io.StringIO]:
    """Logging as our command line sets it up; Rich imports more of itself when it first prints something."""
    out = io.StringIO()
    handler = RichHandler(console=Console(file=out), rich_tracebacks=True)
    root = logging.getLogger()
    root.addHandler(handler)
    yield out
    root.removeHandler(handler)


@requirement("SIGNAL-BASELINE")
async def test_an_ignored_signal_that_is_logged_by_rich_does_not_stop_the_invoice(
    real_world: NewWorld, rich_logging: io.StringIO
) -> None:
    async with real_world() as world:
        await world.submit(("1", await world.due_in(DAY)))
        await world.approve()
        await world.signal("RejectInvoice")
        await world.advance(2 * DAY)
        await world.until(Status.PAID)
    assert "Signal ignored" in rich_logging.getvalue()


@requirement("LOG-RETRIES")
async def test_what_is_tried_again_is_one_line_in_the_log_and_a_fault_of_ours_has_its_traceback(
    new_world: NewWorld, caplog: pytest.LogCaptureFixture
) -> None:
    async with new_world() as world:
        world.erp.is_down()
        world.payments.loses_the_answer()
        workflow_id = await world.submit()
        await world.approve()
        await world.until(Status.PAID)
        told = [record for record in caplog.records if record.name == "temporalio.activity"]
        assert [(record.levelname, record.exc_info) for record in told] == [("WARNING", None)] * 2
        erp, payment = (record.getMessage() for record in told)
        assert erp.startswith(
            f"validate_against_erp of {workflow_id}, attempt 1: ERP_UNAVAILABLE: the ERP can't be reached"
        )
        assert payment.startswith(f"payment_gateway of {workflow_id}-line-1, attempt 1: PAYMENT_GATEWAY_ERROR: ")
    assert _filtered("validate_against_erp", ApplicationError("down")).exc_info is None
    assert _filtered("validate_against_erp", KeyError(1)).exc_info
    # Of another worker in this process, whose log is not ours to shorten.
    theirs = _filtered("somebody_elses", ApplicationError("down"))
    assert theirs.exc_info
    assert theirs.getMessage() == "as it was"


def _filtered(activity: str, error: Exception) -> logging.LogRecord:
    """What becomes of a message of the SDK about an attempt that failed."""
    about = {"temporal_activity": {"activity_type": activity, "workflow_id": "w", "attempt": 1}}
    record = logging.makeLogRecord({"msg": "as it was", "exc_info": (type(error), error, None), **about})
    assert logging.getLogger("temporalio.activity").filter(record)
    return record
