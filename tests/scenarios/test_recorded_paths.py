"""Every recorded path played again, on the simulator: what it makes of a workflow is what a real server recorded."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType

from invoice_mcp.testing import ScenarioRunner, kinds
from invoice_mcp.testing.recordings import PATHS, InvoicePath, record_path
from temporal_replay import Recording, read_recording
from tests.requirements import requirement

LATEST = max((Path(__file__).parents[2] / "histories").glob("from_*"))


class Imports(logging.Handler):
    """Imports more when it first says something, as rich's does, which the command line and the MCP server install."""

    def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002
        import rich.layout  # noqa: F401, PLC0415 (that is what it is for)


@pytest.fixture
def simulator() -> Iterator[ScenarioRunner]:
    """A new one for each path: one of them takes a century, after which the SDK's clock tells no microseconds apart."""
    with ScenarioRunner(kinds()["simulated"]) as runner:
        yield runner


@requirement("ENGINES-AGREE")
@pytest.mark.parametrize("path", PATHS, ids=[path.name for path in PATHS])
def test_a_path_is_played_on_the_simulator_as_a_server_recorded_it(
    simulator: ScenarioRunner, path: InvoicePath
) -> None:
    played = simulator.run(lambda pool: record_path(pool, path, "again"))
    assert played.keys() == path.recordings().keys()
    for name, recording in played.items():
        assert events_of(recording) == events_of(read_recording(LATEST / f"{name}.json"))


def test_a_workflow_can_log_whatever_the_log_imports(simulator: ScenarioRunner) -> None:
    path = next(path for path in PATHS if path.name == "decided-too-late")  # the workflow warns that it is
    handler = Imports()
    logging.getLogger().addHandler(handler)
    try:
        assert simulator.run(lambda pool: record_path(pool, path, "again")).keys() == {path.name}
    finally:
        logging.getLogger().removeHandler(handler)


def events_of(recording: Recording) -> Counter[str]:
    """How often each thing happened. In how many tasks the workflow learned of it is a matter of speed.

    A wait that takes more than one timer counts as one: a server's clock is set, and so jumps over some. And a real
    server fires timers up to a second late, several at once: of those that nobody waits for any more, some fire.
    """
    kinds_of = [EventType.Name(event.event_type).removeprefix("EVENT_TYPE_") for event in recording.events]
    counts = Counter(kind for kind in kinds_of if not kind.startswith("WORKFLOW_TASK_"))
    for kind in counts.keys() & {"TIMER_STARTED", "TIMER_FIRED"} if "century" in recording.workflow_id.lower() else ():
        counts[kind] = 1
    if "too-late" in recording.workflow_id.lower():
        del counts["TIMER_FIRED"]
    return counts
