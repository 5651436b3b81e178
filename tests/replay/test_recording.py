"""Recording of a release: all of it, once, and only if it replays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from invoice_mcp.testing import EnvironmentPool, kinds
from invoice_mcp.testing.recordings import PATHS, TARGET, InvoicePath, record_path, record_release
from temporal_replay import CannotRunError, ReplayPool, check_histories, normalize, read_recording, write_recording
from tests.requirements import requirement

# One with child workflows, one with a timer; both take a few seconds.
SOME = [path for path in PATHS if path.name in {"approved-and-paid", "another-window"}]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def environment() -> AsyncIterator[EnvironmentPool]:
    async with EnvironmentPool(kinds()["real"]) as pool:
        yield pool


@requirement("HISTORY-RECORD")
async def test_a_release_is_recorded_completely_and_once(tmp_path: Path) -> None:
    played: list[InvoicePath] = []
    names = await record_release(tmp_path, "9.9.9", paths=SOME, on_path=played.append)
    assert played == SOME
    assert names == sorted(name for path in SOME for name in path.recordings())
    report = await check_histories(tmp_path, ReplayPool(TARGET))
    assert report.is_clean
    assert len(report.outcomes) == len(names)
    with pytest.raises(CannotRunError, match="recorded once"):
        await record_release(tmp_path, "9.9.9", paths=SOME, on_path=played.append)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["from_9.9.9", "paths.toml"]


@requirement("HISTORY-RECORD")
async def test_recordings_that_do_not_replay_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As if the code had changed after the recording: these workflows have no invoice.
    parcels = type(TARGET)("tests.replay.parcel_workflows:WORKFLOWS")
    monkeypatch.setattr("invoice_mcp.testing.recordings.recorder.TARGET", parcels)
    with pytest.raises(CannotRunError, match="nothing is kept"):
        await record_release(tmp_path, "9.9.9", paths=SOME[:1], on_path=lambda _: None)
    assert list(tmp_path.iterdir()) == []


@requirement("HISTORY-RECORD")
@pytest.mark.parametrize("text", ["[from_1\n", "from_1 = 3\n", '["from_1"]\na = 1\n'])
async def test_no_path_is_played_if_paths_toml_can_not_be_extended(tmp_path: Path, text: str) -> None:
    (tmp_path / "paths.toml").write_text(text)
    played: list[InvoicePath] = []
    with pytest.raises(CannotRunError, match=r"paths\.toml"):
        await record_release(tmp_path, "9.9.9", paths=SOME[:1], on_path=played.append)
    assert played == []
    assert (tmp_path / "paths.toml").read_text() == text


@requirement("HISTORY-RECORD")
@pytest.mark.parametrize("release", ["a/b", "../b", "", "1 0", "a\\b"])
async def test_a_release_that_can_not_name_a_folder_is_refused(tmp_path: Path, release: str) -> None:
    played: list[InvoicePath] = []
    with pytest.raises(CannotRunError, match="--release"):
        await record_release(tmp_path, release, paths=[], on_path=played.append)
    assert list(tmp_path.iterdir()) == []


async def test_a_path_has_the_same_data_in_each_recording(environment: EnvironmentPool) -> None:
    """Generated names and texts are the same; the server's ids and times are not."""
    path = next(path for path in PATHS if path.name == "rejected")
    first, second = [await record_path(environment, path, "1") for _ in range(2)]
    assert [e.event_type for e in first["rejected"].events] == [e.event_type for e in second["rejected"].events]
    given = [r["rejected"].events[0].workflow_execution_started_event_attributes.input for r in (first, second)]
    assert given[0] == given[1]


async def test_event_ids_have_no_gaps_after_the_events_of_the_test_clock_are_removed(
    environment: EnvironmentPool,
) -> None:
    path = next(path for path in PATHS if path.name == "another-window")
    events = (await record_path(environment, path, "1"))[path.name].events
    assert [event.event_id for event in events] == list(range(1, len(events) + 1))
    fired = next(
        event.timer_fired_event_attributes for event in events if event.HasField("timer_fired_event_attributes")
    )
    started = events[fired.started_event_id - 1]
    assert started.timer_started_event_attributes.timer_id == fired.timer_id
    assert normalize(events) == tuple(events)


def test_a_recording_is_never_overwritten(tmp_path: Path) -> None:
    corpus = Path(__file__).parents[2] / "histories" / "from_0.1.0" / "rejected.json"
    write_recording(read_recording(corpus), tmp_path / "a.json")
    with pytest.raises(FileExistsError):
        write_recording(read_recording(corpus), tmp_path / "a.json")
