"""The recordings of our own releases: whole, replayable, and free of anybody's name."""

from __future__ import annotations

import base64
import getpass
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from invoice_mcp.testing.histories import Pool, Recording, check_histories, read, read_corpus
from invoice_mcp.testing.invoice_paths import PATHS, TARGET
from invoice_mcp.workflows import TASK_QUEUE
from tests.requirements import requirement

CORPUS = Path(__file__).parents[2] / "histories"
RELEASES = sorted(folder.name for folder in CORPUS.glob("from_*"))
RECORDINGS = sorted(path.relative_to(CORPUS).as_posix() for path in CORPUS.rglob("*.json"))


@requirement("HISTORY-CORPUS")
async def test_the_code_as_it_is_replays_every_recording_to_the_letter() -> None:
    report = await check_histories(CORPUS, Pool(TARGET))
    assert report.is_clean, report.broken or report.missing or report.stale
    assert report.notes == ()  # there is a list of what must be there
    assert [outcome.recording for outcome in report.outcomes] == RECORDINGS


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
def test_a_recording_says_what_it_is_and_names_no_person_or_machine(name: str) -> None:
    path = CORPUS / name
    recording = read(path)
    assert Recording.parse(recording.dump()) == recording
    assert recording.dump() == path.read_text(encoding="utf-8")
    release, path_name = recording.recorded_with["release"], recording.recorded_with["path"]
    assert name.startswith(f"from_{release}/{path_name}.")
    assert recording.workflow_id.startswith(f"invoice-{path_name.upper()}")
    assert recording.recorded_with["temporalio"]
    texts = list(texts_of(json.loads(recording.dump())["events"]))
    machine = [socket.gethostname(), f"/{getpass.getuser()}/", "site-packages", "@"]
    assert not [text for text in texts for word in machine if word in text]
    assert not [text for text in texts if re.fullmatch(r"world-\d+", text)]
    assert TASK_QUEUE in texts


def texts_of(value: Any) -> Iterator[str]:
    """Every text in a JSON value, payloads decoded."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from texts_of(each)
            if key == "data" and isinstance(each, str):
                yield base64.b64decode(each).decode()
    elif isinstance(value, list):
        for each in value:
            yield from texts_of(each)
    elif isinstance(value, str):
        yield value
