"""What is fetched from a live namespace: scrubbed, proved to replay, written; or told why not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import (
    Client,
    FetchWorkflowHistoryEventsInput,
    Interceptor,
    OutboundInterceptor,
    WorkflowHistoryEventAsyncIterator,
)

from invoice_mcp.testing.histories import (
    CannotRun,
    Code,
    Pulled,
    Puller,
    Recording,
    Unreadable,
    read,
    scrub_and_prove,
)
from invoice_mcp.testing.histories._scrubbing import Scrub
from invoice_mcp.testing.invoice_paths import KEEP, TARGET
from tests.replay import parcels
from tests.replay.playing import edited, record_parcels, replay
from tests.replay.strangers import texts_of
from tests.replay.test_corpus import CORPUS, RECORDINGS
from tests.requirements import requirement

# Parcels are never delivered on a Sunday: the day steers the code.
STEERS = {"deliver_on"}
CODE = Code({"workflows": parcels.WORKFLOWS})


@requirement("HISTORY-PULL")
async def test_what_people_wrote_is_gone_and_it_still_replays_to_the_letter(
    parcel_recordings: Mapping[str, Recording],
) -> None:
    for recording in parcel_recordings.values():
        scrubbed = await scrub_and_prove(recording, CODE, keep=STEERS)
        texts = [text for _, text in texts_of(json.loads(scrubbed.dump())["events"]) if text != "Parcel"]
        for private in ("Ann", "a book", recording.workflow_id):
            assert not [text for text in texts if private in text]
        (outcome,) = (await replay({"it": scrubbed}, CODE)).values()
        assert (outcome.problem, outcome.drift) == (None, ())
        assert [event.event_type for event in scrubbed.events] == [event.event_type for event in recording.events]
        assert scrubbed.workflow_id != recording.workflow_id


@requirement("HISTORY-PULL")
@pytest.mark.parametrize("name", RECORDINGS)
async def test_an_invoice_is_scrubbed_and_still_replays_to_the_letter(name: str) -> None:
    recording = read(CORPUS / name)
    scrubbed = await scrub_and_prove(recording, TARGET.load(), keep=KEEP)
    before, after = (
        " ".join(text for _, text in texts_of(json.loads(each.dump())["events"])) for each in (recording, scrubbed)
    )
    held = json.loads(recording.events[0].workflow_execution_started_event_attributes.input.payloads[0].data)
    invoice = held.get("invoice", held)
    private = [invoice.get("customer", ""), *(line["description"] for line in invoice.get("lines", ()))]
    for text in filter(None, [*private, recording.workflow_id]):
        assert text in before
        assert text not in after


async def test_the_same_text_becomes_another_one_each_time(parcel_recordings: Mapping[str, Recording]) -> None:
    first, second = [await scrub_and_prove(parcel_recordings["waiting"], CODE) for _ in range(2)]
    assert first.workflow_id != second.workflow_id


async def test_a_text_that_steers_the_code_has_to_be_kept(
    parcel_recordings: Mapping[str, Recording], modules: Path
) -> None:
    steered = edited(
        modules,
        (
            "        await workflow.sleep(timedelta(milliseconds=50))\n",
            '        if parcel["to"] == "Ann":\n            await workflow.sleep(timedelta(milliseconds=50))\n',
        ),
    )
    code = Code({"workflows": steered})
    with pytest.raises(Unreadable, match="--keep"):
        await scrub_and_prove(parcel_recordings["waiting"], code)
    kept = await scrub_and_prove(parcel_recordings["waiting"], code, keep={"to"})
    assert "Ann" in " ".join(text for _, text in texts_of(json.loads(kept.dump())))


async def test_what_does_not_replay_with_the_code_at_hand_is_not_scrubbed(
    parcel_recordings: Mapping[str, Recording], modules: Path
) -> None:
    code = Code({"workflows": edited(modules, ("timeout=timedelta(days=3)", "timeout=timedelta(days=4)"))})
    with pytest.raises(Unreadable, match="pull with the code it runs with"):
        await scrub_and_prove(parcel_recordings["waiting"], code)


@requirement("HISTORY-PULL")
async def test_workflows_are_pulled_from_a_namespace_and_never_written_over(
    real_client: Client, tmp_path: Path
) -> None:
    query = await visible_parcels(real_client)
    puller = Puller(CODE, tmp_path / "pulled", STEERS)
    pulled = await puller.pull(real_client, query, limit=100)
    assert not [each.why_not for each in pulled if each.why_not]
    recordings = {each.path.name: read(each.path) for each in pulled if each.path}
    assert len(recordings) == len(pulled) == 6
    assert all(not (o.problem or o.drift) for o in (await replay(recordings, CODE)).values())
    assert {recording.recorded_with["temporalio"] for recording in recordings.values()}


async def test_at_most_as_many_are_pulled_as_were_asked_for(real_client: Client, tmp_path: Path) -> None:
    query = await visible_parcels(real_client)
    assert len(await Puller(CODE, tmp_path).pull(real_client, query, limit=2)) == 2


class _AnotherId(Interceptor):
    """Asks for the history of one workflow by an id that nobody has: as if it had been deleted meanwhile."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:  # noqa: A002 (the SDK's name)
        class Asking(OutboundInterceptor):
            def fetch_workflow_history_events(
                self,
                input: FetchWorkflowHistoryEventsInput,  # noqa: A002
            ) -> WorkflowHistoryEventAsyncIterator:
                if input.id.endswith("-lost"):
                    input.id += "-and-gone"
                return super().fetch_workflow_history_events(input)

        return Asking(next)


@requirement("HISTORY-PULL")
async def test_a_workflow_that_temporal_does_not_give_is_told_and_the_others_are_written(
    real_client: Client, tmp_path: Path
) -> None:
    query = await visible_parcels(real_client)
    client = Client(real_client.service_client, namespace=real_client.namespace, interceptors=[_AnotherId()])
    pulled = await Puller(CODE, tmp_path, STEERS).pull(client, query, limit=100)
    (without,) = [each for each in pulled if each.why_not]
    assert without.workflow_id.endswith("-lost")
    assert without.why_not.startswith("Temporal refuses: ")
    assert len(list(tmp_path.glob("*.json"))) == 5


@requirement("HISTORY-PULL")
@pytest.mark.parametrize("folder", ["file", "file/below"])
async def test_a_folder_that_can_not_be_written_is_told(real_client: Client, tmp_path: Path, folder: str) -> None:
    query = await visible_parcels(real_client)
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotRun, match=r"file.* can't be written"):
        await Puller(CODE, tmp_path / folder, STEERS).pull(real_client, query, limit=1)


async def test_an_error_that_is_not_of_temporals_is_not_told_as_one(real_client: Client, tmp_path: Path) -> None:
    def told(_pulled: Pulled) -> None:
        raise RuntimeError("not of Temporal's")

    query = await visible_parcels(real_client)
    with pytest.raises(RuntimeError, match="not of Temporal's"):
        await Puller(CODE, tmp_path, STEERS).pull(real_client, query, limit=1, told=told)


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[" * 100_000])
def test_a_payload_that_is_not_the_json_it_says_it_is_can_not_be_scrubbed(data: bytes) -> None:
    with pytest.raises(Unreadable, match="no JSON"):
        Scrub(b"key").payload(Payload(metadata={"encoding": b"json/plain"}, data=data), "")


async def visible_parcels(client: Client) -> str:
    """A query for new parcels and their labels, six in all, that finds them: the server takes a moment to."""
    waiting = (await record_parcels(client))["waiting"].workflow_id
    query = f'WorkflowId STARTS_WITH "{waiting.removesuffix("waiting")}"'
    async with asyncio.timeout(20):
        while (await client.count_workflows(query)).count < 6:
            await asyncio.sleep(0.05)
    return query
