"""The gate as a whole, over files and in processes of its own: what passes, and everything that fails."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from temporal_replay import (
    CannotRunError,
    Fault,
    GateReport,
    Problem,
    Recording,
    ReplayPool,
    Target,
    add_to_paths,
    check_histories,
    read_corpus,
    verdict,
    write_recording,
)
from temporal_replay.gate import corpus_notes
from tests.replay.recorder import edited
from tests.requirements import requirement

PARCELS = Target("tests.replay.parcel_workflows:WORKFLOWS")


@pytest.fixture
def corpus(parcel_recordings: Mapping[str, Recording], tmp_path: Path) -> Path:
    """A folder of recordings of parcels."""
    for name, recording in parcel_recordings.items():
        write_recording(recording, tmp_path / "corpus" / "from_1" / f"{name}.json")
    return tmp_path / "corpus"


async def check(path: Path, target: Target = PARCELS, **options: float) -> GateReport:
    return await check_histories(path, ReplayPool(target, **{"processes": 1, **options}))  # type: ignore[arg-type]


def problems_of(report: GateReport) -> dict[str, Problem]:
    return {outcome.recording: outcome.problem for outcome in report.outcomes if outcome.problem}


async def test_unchanged_code_replays_exactly(corpus: Path) -> None:
    report = await check(corpus)
    assert report.is_clean
    assert [outcome.recording for outcome in report.outcomes] == [
        f"from_1/{name}.json" for name in ("delivered", "label", "lost", "waiting")
    ]
    assert "4 recordings replayed" in verdict(report)


async def test_a_folder_or_a_file_of_a_corpus_can_be_checked_alone(corpus: Path) -> None:
    add_to_paths(corpus, "from_1", {"waiting": "waits", "gone": "is gone"})
    assert (await check(corpus / "from_1")).missing == ("from_1/gone.json",)
    alone = await check(corpus / "from_1" / "waiting.json")
    assert alone.is_clean
    assert [outcome.recording for outcome in alone.outcomes] == ["from_1/waiting.json"]


async def test_hidden_folders_are_not_part_of_a_corpus(corpus: Path) -> None:
    hidden = corpus / ".recording-abc" / "from_2"
    hidden.mkdir(parents=True)
    (hidden / "half.json").write_text("{")
    assert (await check(corpus)).is_clean
    assert set(problems_of(await check(hidden))) == {"half.json"}


@requirement("HISTORY-GATE")
async def test_an_empty_corpus_fails(tmp_path: Path) -> None:
    report = await check(tmp_path)
    assert not report.is_clean
    assert "the gate fails" in verdict(report)


@requirement("HISTORY-GATE")
async def test_a_missing_corpus_can_not_be_checked(tmp_path: Path) -> None:
    with pytest.raises(CannotRunError, match=r"nowhere does not exist"):
        await check(tmp_path / "nowhere")


UNREADABLE: dict[str, tuple[Callable[[str], str], str]] = {
    "truncated": (lambda text: text[: len(text) // 2], "truncated"),
    "empty": (lambda _: "", "not JSON"),
    "no JSON": (lambda _: "\x00\xff", "not JSON"),
    "nested too deep": (lambda _: "[" * 100_000, "not JSON"),
    "a list": (lambda text: f"[{text}]", "not a recording"),
    "no events": (lambda _: '{"workflow_id": "a", "events": []}', "does not begin with the start"),
    "no workflow id": (
        lambda text: text.replace('"workflow_id"', '"workflowid"').replace('"workflowId"', '"nothing"', 1),
        "does not say which workflow_id",
    ),
    "unknown event fields": (lambda _: '{"workflow_id": "a", "events": [{"a": 1}]}', "does not begin with the start"),
    "an invalid event id": (
        lambda text: text.replace('"eventId": "2"', '"eventId": "two"'),
        "events are not Temporal events",
    ),
    "without its beginning": (
        lambda text: json.dumps({**json.loads(text), "events": json.loads(text)["events"][1:]}),
        "does not begin with the start",
    ),
    "nothing has run yet": (
        lambda text: json.dumps({**json.loads(text), "events": json.loads(text)["events"][:1]}),
        "no workflow task has completed",
    ),
    "of another type than it says": (
        lambda text: text.replace('"workflow_type": "Parcel"', '"workflow_type": "Letter"'),
        "workflow_type is Letter",
    ),
}


@requirement("HISTORY-GATE")
async def test_invalid_files_are_reported_and_the_others_are_replayed(corpus: Path) -> None:
    text = (corpus / "from_1" / "waiting.json").read_text(encoding="utf-8")
    for name, (spoil, _) in UNREADABLE.items():
        (corpus / f"{name}.json").write_text(spoil(text), encoding="utf-8", errors="surrogateescape")
    (corpus / "a folder.json").mkdir()
    report = await check(corpus)
    found = problems_of(report)
    assert found.keys() == {f"{name}.json" for name in UNREADABLE} | {"a folder.json"}
    assert {problem.fault for problem in found.values()} == {Fault.UNREADABLE}
    for name, (_, expected) in UNREADABLE.items():
        assert expected in found[f"{name}.json"].message
    assert len(report.outcomes) == 4 + len(found)


@requirement("HISTORY-GATE")
async def test_a_missing_required_recording_is_reported(corpus: Path) -> None:
    add_to_paths(corpus, "from_1", {"waiting": "waits", "lost": "gets lost"})
    (corpus / "from_1" / "lost.json").unlink()
    report = await check(corpus)
    assert not report.is_clean
    assert report.missing == ("from_1/lost.json",)


@requirement("HISTORY-GATE")
@pytest.mark.parametrize("path", [".", "waiting.json"])
async def test_the_lists_of_a_corpus_apply_to_a_part_of_it(
    corpus: Path, four_days: Target, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_to_paths(corpus, "from_1", {"lost": "gets lost"})
    (corpus / "accepted-drift.toml").write_text(ACCEPTED.format(recording="*", new="4d"))
    (corpus / "from_1" / "lost.json").unlink()
    monkeypatch.chdir(corpus / "from_1")
    report = await check(Path(path), four_days)
    assert report.missing == (("from_1/lost.json",) if path == "." else ())
    assert report.accepted
    assert not report.broken


@requirement("HISTORY-GATE")
async def test_workflow_types_without_code_are_reported(corpus: Path, modules: Path) -> None:
    (modules / "labels_only.py").write_text("from tests.replay.parcel_workflows import Label\nWORKFLOWS = [Label]\n")
    report = await check(corpus, Target("labels_only:WORKFLOWS"))
    assert {problem.fault for problem in problems_of(report).values()} == {Fault.NO_CODE}
    assert len(problems_of(report)) == 3


@requirement("HISTORY-GATE")
@pytest.mark.parametrize(
    ("workflows", "expected"),
    [
        ("no_colon", "must read module:attribute"),
        ("no.such.module:WORKFLOWS", "can't be imported"),
        ("tests.replay.parcel_workflows:NOTHING", "can't be imported"),
        ("tests.replay.parcel_workflows:weigh", "must be a list of workflow classes|can't be imported|takes|missing"),
        ("tests.replay.parcel_workflows:CITY", "must be a list of workflow classes"),
    ],
)
async def test_missing_code_can_not_be_checked(corpus: Path, workflows: str, expected: str) -> None:
    with pytest.raises(CannotRunError, match=expected):
        await check(corpus, Target(workflows))


FOR_EVER = "        while True:\n            pass\n"
BLOCKS = "        with workflow.unsafe.sandbox_unrestricted():\n            __import__('time').sleep(600)\n"
EXIT = "        with workflow.unsafe.sandbox_unrestricted():\n            __import__('os')._exit(3)\n"
START = "        workflow.upsert_search_attributes([CITY"


# Inserted code, time limit in seconds, expected fault and message.
HANGING_CODE = {
    # The SDK interrupts Python loops after two seconds.
    "never gives control back": (FOR_EVER, 60, Fault.FAILS, "Potential deadlock detected"),
    "waits outside of Temporal": (BLOCKS, 3, Fault.TIMED_OUT, "its replay did not end within 3 s"),
    "ends the process": (EXIT, 60, Fault.CRASHED, "the replay process ended"),
}


@requirement("HISTORY-HANGS")
@pytest.mark.parametrize("case", HANGING_CODE)
async def test_code_that_hangs_or_exits_fails_and_the_others_are_replayed(
    corpus: Path, modules: Path, case: str
) -> None:
    code, time_limit, fault, expected = HANGING_CODE[case]
    (corpus / "from_1" / "delivered.json").unlink()  # two hanging replays are enough
    module = edited(modules, (START, code + START))[0].__module__
    report = await check(corpus, Target(f"{module}:WORKFLOWS"), time_limit=time_limit)
    found = problems_of(report)
    assert found.keys() == {f"from_1/{name}.json" for name in ("lost", "waiting")}
    assert {problem.fault for problem in found.values()} == {fault}, found
    assert all(expected in problem.message for problem in found.values()), found
    assert len(report.outcomes) == 3


@requirement("HISTORY-HANGS")
async def test_a_silent_process_is_killed(corpus: Path) -> None:
    report = await check(corpus, time_limit=0.0001)
    assert {problem.fault for problem in problems_of(report).values()} <= {Fault.TIMED_OUT}
    assert len(report.outcomes) == 4
    assert not report.is_clean


ACCEPTED = """
[[drift]]
recording = "from_1/{recording}.json"
command = "StartTimer"
field = "start_to_fire_timeout"
old = "3d"
new = "{new}"
reason = "customers asked for more time"
"""


@pytest.fixture
def four_days(modules: Path) -> Target:
    """Parcel workflows that wait a day longer than recorded."""
    changed = edited(modules, ("timeout=timedelta(days=3)", "timeout=timedelta(days=4)"))
    return Target(f"{changed[0].__module__}:WORKFLOWS")


@requirement("HISTORY-ACCEPTED")
async def test_accepted_drift_passes(corpus: Path, four_days: Target) -> None:
    assert len((await check(corpus, four_days)).broken) == 3
    (corpus / "accepted-drift.toml").write_text(ACCEPTED.format(recording="*", new="4d"))
    report = await check(corpus, four_days)
    assert report.is_clean
    assert {accepted.reason for accepted in report.accepted} == {"customers asked for more time"}
    assert len(report.accepted) == 3
    assert (await check(corpus / "from_1" / "label.json", four_days)).is_clean


@requirement("HISTORY-ACCEPTED")
@pytest.mark.parametrize(("recording", "new"), [("waiting", "4d"), ("*", "5d")])
async def test_other_drift_than_accepted_fails(corpus: Path, four_days: Target, recording: str, new: str) -> None:
    (corpus / "accepted-drift.toml").write_text(ACCEPTED.format(recording=recording, new=new))
    assert (await check(corpus, four_days)).broken


@requirement("HISTORY-ACCEPTED")
async def test_a_stale_acceptance_rule_fails(corpus: Path) -> None:
    (corpus / "accepted-drift.toml").write_text(ACCEPTED.format(recording="*", new="4d"))
    report = await check(corpus)
    assert [entry.new for entry in report.stale] == ["4d"]
    assert not report.is_clean


@requirement("HISTORY-ACCEPTED")
@pytest.mark.parametrize(
    "text",
    [
        ACCEPTED.format(recording="*", new="4d").replace('reason = "customers asked for more time"', ""),
        ACCEPTED.format(recording="*", new="4d").replace("customers asked for more time", ""),
        ACCEPTED.format(recording="*", new="4d").replace("customers asked for more time", " \\t "),
        "[[drift]\n",
        'surprise = "yes"',
        "drift = 3",
    ],
    ids=["no reason", "an empty reason", "a blank reason", "no TOML", "unknown key", "no entries"],
)
async def test_an_invalid_accepted_drift_file_stops_the_gate(corpus: Path, text: str) -> None:
    (corpus / "accepted-drift.toml").write_text(text)
    with pytest.raises(
        CannotRunError, match=r"^\S*accepted-drift\.toml (can't be read|is not a list of accepted drift): [^\n]+$"
    ):
        await check(corpus)


@requirement("HISTORY-ACCEPTED")
async def test_errors_in_accepted_drift_are_described_in_terms_of_the_file(corpus: Path) -> None:
    blank = ACCEPTED.format(recording="*", new="4d").replace("customers asked for more time", "  ")
    (corpus / "accepted-drift.toml").write_text(f'{blank}\n[[drift]]\nrecording = "*"\nwhy = 3')
    with pytest.raises(CannotRunError) as raised:
        await check(corpus)
    assert str(raised.value).endswith(
        "is not a list of accepted drift: [[drift]] number 1, reason is empty; [[drift]] number 2, command is missing; "
        "[[drift]] number 2, field is missing; [[drift]] number 2, reason is missing; "
        "[[drift]] number 2, why is not a known key"
    )


@requirement("HISTORY-GATE")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from_1 = 3", 'from_1 must be a [folder] with lines name = "what it shows"'),
        ("[[from_1]]\na = 'b'", 'from_1 must be a [folder] with lines name = "what it shows"'),
        ("[from_1]\nwaiting = 3", "waiting of [from_1] must be a string"),
        (
            '[from_1]\npaid.line-1 = "a line"',
            "paid of [from_1] must be a string; quote a name with a dot",
        ),
    ],
)
async def test_an_error_in_paths_toml_is_described_in_one_line(corpus: Path, text: str, expected: str) -> None:
    (corpus / "paths.toml").write_text(text)
    with pytest.raises(CannotRunError) as raised:
        await check(corpus)
    assert str(raised.value) == f"{corpus.resolve() / 'paths.toml'} is not a list of paths: {expected}"


@requirement("HISTORY-GATE")
async def test_without_paths_toml_a_note_says_that_missing_recordings_go_unnoticed(corpus: Path) -> None:
    report = await check(corpus)
    assert report.notes == ("no paths.toml: a missing recording can't be noticed",)
    assert report.is_clean
    assert corpus_notes(read_corpus(corpus / "from_1" / "waiting.json")) == []
    (corpus / "paths.toml").write_text("")
    assert corpus_notes(read_corpus(corpus)) == ["paths.toml lists nothing: a missing recording can't be noticed"]
    add_to_paths(corpus, "from_1", {"waiting": "waits"})
    assert corpus_notes(read_corpus(corpus)) == []


async def test_dependence_on_set_order_is_found_reproducibly(corpus: Path, modules: Path) -> None:
    # Each process has a hash seed of its own, the same one in each run.
    items = ", ".join(f'"{number}"' for number in range(30))
    result = 'f"{weight:.0f} kg on {self.day} with {label}"'
    changed = edited(modules, (result, f'" ".join({{{items}}})'))
    shutil.copy(corpus / "from_1" / "delivered.json", corpus / "from_1" / "delivered-again.json")
    target = Target(f"{changed[0].__module__}:WORKFLOWS")
    seen = []
    for _ in range(2):
        report = await check(corpus, target, processes=2)
        results = {drift.new for outcome in report.outcomes for drift in outcome.drift}
        assert len(results) == 2
        seen.append(results)
    assert seen[0] == seen[1]
