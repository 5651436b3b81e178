"""What is given up ends without an error in the log."""

from __future__ import annotations

import asyncio
import gc
from typing import Any, cast

import pytest

from invoice_mcp.giving_up import give_up
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
    give_up(cast(Any, task))
    await asyncio.wait([task])
    assert task.cancelled() is not fails
    del task
    # asyncio tells of what nobody looked at when it is thrown away.
    gc.collect()
    assert caplog.records == []
