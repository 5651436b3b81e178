"""What workflow code logs gets out of the sandbox, whatever handler takes it: a log line must never stop a workflow."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
from rich.console import Console
from rich.logging import RichHandler

from invoice_mcp.reports import Status
from invoice_mcp.testing import DAY
from invoice_mcp.testing.plugin import NewWorld
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


@requirement("SIGNAL-SEED")
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
