"""Every recorded path, played on the simulator: its histories have the events that a real server recorded."""

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
    """Imports a module when it emits its first record, as rich's handler does, which the CLI and the server use."""

    def emit(self, record: logging.LogRecord) -> None:
        import rich.layout  # noqa: F401, PLC0415 (the import is the point)


@pytest.fixture
def simulator() -> Iterator[ScenarioRunner]:
    """A new one for each path: one takes a century, after which the SDK's clock does not resolve microseconds."""
    with ScenarioRunner(kinds()["simulated"]) as runner:
        yield runner


@requirement("ENGINES-AGREE")
@pytest.mark.parametrize("path", PATHS, ids=[path.name for path in PATHS])
def test_a_path_has_the_events_on_the_simulator_that_a_server_recorded(
    simulator: ScenarioRunner, path: InvoicePath
) -> None:
    played = simulator.run(lambda pool: record_path(pool, path, "again"))
    assert played.keys() == path.recordings().keys()
    for name, recording in played.items():
        assert events_of(recording) == events_of(read_recording(LATEST / f"{name}.json"))


def test_a_workflow_can_log_to_a_handler_that_imports(simulator: ScenarioRunner) -> None:
    path = next(path for path in PATHS if path.name == "decided-too-late")  # the workflow logs a warning
    handler = Imports()
    logging.getLogger().addHandler(handler)
    try:
        assert simulator.run(lambda pool: record_path(pool, path, "again")).keys() == {path.name}
    finally:
        logging.getLogger().removeHandler(handler)


def events_of(recording: Recording) -> Counter[str]:
    """How often each event occurred, without workflow tasks, whose number depends on timing.

    A wait of more than one timer counts as one, as setting a server's clock skips some of its timers. A real server
    fires timers up to a second late and several at once, so timers that are not needed any more may fire.
    """
    kinds_of = [EventType.Name(event.event_type).removeprefix("EVENT_TYPE_") for event in recording.events]
    counts = Counter(kind for kind in kinds_of if not kind.startswith("WORKFLOW_TASK_"))
    for kind in counts.keys() & {"TIMER_STARTED", "TIMER_FIRED"} if "century" in recording.workflow_id.lower() else ():
        counts[kind] = 1
    if "too-late" in recording.workflow_id.lower():
        del counts["TIMER_FIRED"]
    return counts
