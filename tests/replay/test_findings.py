"""Histories that chaos on real processes found and that the code does not replay yet: see docs/chaos.md.

Each fails today. Once it replays, its test fails as unexpectedly passed, and moves to the tests of what is mended.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from invoice_mcp.testing.recordings.target import TARGET
from temporal_replay import InProcessReplayer, Outcome, Recording, read_recording

FINDINGS = sorted((Path(__file__).parent / "findings").glob("*.json"))


@pytest.mark.xfail(
    raises=AssertionError,
    strict=True,
    reason="open: a cancellation and an update in one task, after a query before it (docs/chaos.md, seed 6001)",
)
@pytest.mark.parametrize("path", FINDINGS, ids=[path.stem for path in FINDINGS])
async def test_a_finding_of_chaos_replays(path: Path) -> None:
    async def one() -> AsyncIterator[tuple[str, Recording]]:
        yield path.stem, read_recording(path)

    outcomes: list[Outcome] = []
    await InProcessReplayer(TARGET.load(), strict=True).replay(one(), outcomes.append)
    assert [outcome.problem for outcome in outcomes] == [None]
