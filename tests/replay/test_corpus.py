"""The recordings of our own releases: complete, replayable, and without personal data."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from invoice_mcp.domain.names import TASK_QUEUE
from invoice_mcp.testing.recordings import PATHS, TARGET
from temporal_replay import Drift, Recording, ReplayPool, check_histories, read_corpus, read_recording
from tests.replay.personal_data_scan import texts_of, unknown_texts
from tests.requirements import requirement

CORPUS = Path(__file__).parents[2] / "histories"
RELEASES = sorted(folder.name for folder in CORPUS.glob("from_*"))
RECORDINGS = sorted(path.relative_to(CORPUS).as_posix() for path in CORPUS.rglob("*.json"))


@requirement("HISTORY-CORPUS")
async def test_the_current_code_replays_every_recording_exactly() -> None:
    report = await check_histories(CORPUS, ReplayPool(TARGET))
    assert report.is_clean, report.broken or report.missing or report.stale
    assert report.notes == ()  # there is a list of what must be there
    assert [outcome.recording for outcome in report.outcomes] == RECORDINGS


@requirement("HISTORY-ACCEPTED", "TEXT-QUOTED")
async def test_only_the_summary_of_an_invoice_differs_from_the_recordings() -> None:
    report = await check_histories(CORPUS, ReplayPool(TARGET))
    assert {each.drift.field for each in report.accepted} == {"answer[0].summary", "result[0].summary"}
    for each in report.accepted:
        assert each.recording.startswith("from_0.1.0/")
        # The same facts, with what others wrote in quotation marks.
        assert set(re.findall(r"\d+", each.drift.new)) == set(re.findall(r"\d+", each.drift.old))
        assert re.match(r'Invoice [\w-]+ from "[^"]+" over ', each.drift.new)
    # Anything else in the same results is still drift.
    [of_update, of_result] = read_corpus(CORPUS).accepted
    status = Drift(command=of_result.command, field="result[0].status", old="PAID", new="FAILED", event_id=1)
    assert not of_update.matches("from_0.1.0/rejected.json", status)
    assert not of_result.matches("from_0.1.0/rejected.json", status)


@requirement("HISTORY-CORPUS")
def test_every_path_is_recorded() -> None:
    assert RELEASES
    required = read_corpus(CORPUS).required or {}
    every = {name: about for path in PATHS for name, about in path.recordings().items()}
    latest = {f"{RELEASES[-1]}/{name}.json": about for name, about in every.items()}
    assert latest.items() <= required.items()
    assert required.keys() == set(RECORDINGS)


@requirement("HISTORY-CORPUS")
@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_has_its_provenance_and_no_personal_or_machine_data(name: str) -> None:
    path = CORPUS / name
    recording = read_recording(path)
    assert Recording.parse(recording.dump()) == recording
    assert recording.dump() == path.read_text(encoding="utf-8")
    release, path_name = recording.recorded_with["release"], recording.recorded_with["path"]
    assert name.startswith(f"from_{release}/{path_name}.")
    assert recording.workflow_id.startswith(f"invoice-{path_name.upper()}")
    assert recording.recorded_with["temporalio"]
    events = json.loads(recording.dump())["events"]
    assert unknown_texts(events) == []
    assert TASK_QUEUE in [text for _, text in texts_of(events)]


@requirement("HISTORY-CORPUS")
@pytest.mark.parametrize("name", ["approved-and-paid", "payment-unconfirmed.line-1", "cancelled-while-waiting"])
def test_a_name_is_found_in_any_text_of_a_recording(name: str) -> None:
    events = json.loads(read_recording(CORPUS / RELEASES[-1] / f"{name}.json").dump())["events"]
    places = list(leaves_of(events))
    assert len(places) > 90
    for holder, key in places:
        before, holder[key] = holder[key], planted(key, holder, "Zbigniew")
        assert len(unknown_texts(events)) == 1, (key, before)
        holder[key] = before
    assert unknown_texts(events) == []


@requirement("HISTORY-CORPUS")
@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("identity", "1234@build-7"),
        ("identity", "invoice"),
        ("name", "world-17"),
        ("stackTrace", "in run"),
        ("message", "in /lib/python3/site-packages/invoice.py"),
        ("customer", "worker@example.com"),
    ],
)
def test_machine_data_is_found(key: str, text: str) -> None:
    assert unknown_texts([{"attributes": {key: text}}]) == [text]


def leaves_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value that holds a text: what holds it, and under which key."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in list(items):
        if isinstance(each, dict | list):
            yield from leaves_of(each)
        elif isinstance(each, str) and key != "eventType":
            yield value, key


def planted(key: str, holder: Any, name: str) -> str:
    """A text with that name in it, encoded as payloads are where it stands in one."""
    is_payload = key == "data" or (key in {"encoding", "type"} and "encoding" in holder)
    return base64.b64encode(f'{{"by": "{name}"}}'.encode()).decode() if is_payload else f"of {name}"
