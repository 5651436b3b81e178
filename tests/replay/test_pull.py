"""Histories pulled from a live namespace: scrubbed, proved to replay and written, or reported with the reason."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import (
    Client,
    FetchWorkflowHistoryEventsInput,
    Interceptor,
    OutboundInterceptor,
    WorkflowHistoryEventAsyncIterator,
)

from invoice_mcp.testing.recordings import KEPT_FIELDS, TARGET
from temporal_replay import (
    CannotRunError,
    LoadedTarget,
    Puller,
    PullResult,
    Recording,
    RecordingError,
    read_recording,
    scrub_and_prove,
)
from temporal_replay.commands.protobuf import walk
from temporal_replay.commands.recorded import attributes
from temporal_replay.scrub.scrubber import Scrubber, scrub_recording
from tests.replay import courier_workflows, parcel_workflows, update_id_workflows
from tests.replay.personal_data_scan import texts_of
from tests.replay.planted_events import NAME, every_event, left_in, planted
from tests.replay.recorder import edited, record_parcels, replay
from tests.replay.test_corpus import CORPUS, RECORDINGS, RELEASES
from tests.requirements import requirement

# Parcels are never delivered on a Sunday: the day controls the code.
CONTROL_FIELDS = {"deliver_on"}
CODE = LoadedTarget({"workflows": parcel_workflows.WORKFLOWS})


@requirement("HISTORY-PULL")
async def test_personal_texts_are_replaced_and_the_recording_still_replays_exactly(
    parcel_recordings: Mapping[str, Recording],
) -> None:
    for recording in parcel_recordings.values():
        bare = await scrub_and_prove(recording, CODE, keep=CONTROL_FIELDS)
        texts = [text for _, text in texts_of(json.loads(bare.dump())["events"]) if text != "Parcel"]
        for private in ("Ann", "a book", recording.workflow_id):
            assert not [text for text in texts if private in text]
        (outcome,) = (await replay({"it": bare}, CODE)).values()
        assert (outcome.problem, outcome.drift) == (None, ())
        assert [event.event_type for event in bare.events] == [event.event_type for event in recording.events]
        assert bare.workflow_id != recording.workflow_id


# Only recordings of the latest release replay exactly.
@requirement("HISTORY-PULL")
@pytest.mark.parametrize("name", [name for name in RECORDINGS if name.startswith(f"{RELEASES[-1]}/")])
async def test_an_invoice_is_scrubbed_and_still_replays_exactly(name: str) -> None:
    recording = read_recording(CORPUS / name)
    bare = await scrub_and_prove(recording, TARGET.load(), keep=KEPT_FIELDS)
    before, after = (
        " ".join(text for _, text in texts_of(json.loads(each.dump())["events"])) for each in (recording, bare)
    )
    held = json.loads(recording.events[0].workflow_execution_started_event_attributes.input.payloads[0].data)
    invoice = held.get("invoice", held)
    private = [invoice.get("customer", ""), *(line["description"] for line in invoice.get("lines", ()))]
    for text in filter(None, [*private, recording.workflow_id]):
        assert text in before
        assert text not in after


# Fields that keep their value: chosen by the code, or names of releases, runs and places.
KEPT_FIELD_NAMES = {
    *("activity_id", "cron_schedule", "fairness_key", "marker_name", "non_retryable_error_types", "operation"),
    *("service", "signal_name", "source", "timer_id", "type", "name"),
    *(
        "binary_checksum",
        "build_id",
        "deployment_name",
        "inherited_build_id",
        "parent_pinned_worker_deployment_version",
    ),
    *(
        "pinned_version",
        "sdk_name",
        "sdk_version",
        "series_name",
        "worker_deployment_name",
        "worker_deployment_version",
    ),
    *("base_run_id", "continued_execution_run_id", "first_execution_run_id", "new_execution_run_id", "new_run_id"),
    *("original_execution_run_id", "run_id"),
    *("endpoint", "endpoint_id", "namespace", "namespace_id", "new_task_queue", "normal_name"),
    *("parent_workflow_namespace", "parent_workflow_namespace_id"),
}


@requirement("HISTORY-PULL")
def test_a_name_is_replaced_in_every_text_field_that_the_code_does_not_choose() -> None:
    events = tuple(every_event())
    places = {place for event in events for place in left_in(event)}
    assert len(places) > 150
    bare = scrub_recording(Recording(f"parcel-of-{NAME}", "Parcel", events), Scrubber(b"key"))
    assert NAME not in bare.workflow_id
    left: dict[str, set[str]] = {}
    for event in bare.events:
        for _, field in left_in(event):
            left.setdefault(field, set()).add(str(event.WhichOneof("attributes")))
    # A workflow id that the code chose is kept: strict replay compares it.
    assert left.pop("workflow_id") == {
        "start_child_workflow_execution_initiated_event_attributes",
        "signal_external_workflow_execution_initiated_event_attributes",
        "request_cancel_external_workflow_execution_initiated_event_attributes",
    }
    assert left.keys() == KEPT_FIELD_NAMES


@requirement("HISTORY-PULL")
@pytest.mark.parametrize("name", ["delivered", "lost", "waiting", "label"])
async def test_external_metadata_is_replaced_and_the_recording_still_replays_exactly(
    parcel_recordings: Mapping[str, Recording], name: str
) -> None:
    recording = planted_around(parcel_recordings[name])
    assert sum(1 for event in recording.events for _ in left_in(event)) > 8
    bare = await scrub_and_prove(recording, CODE, keep=CONTROL_FIELDS)
    assert not [text for _, text in texts_of(json.loads(bare.dump())) if NAME in text]
    (outcome,) = (await replay({"it": bare}, CODE)).values()
    assert (outcome.problem, outcome.drift) == (None, ())
    ids = [held.protocol_instance_id for event in bare.events for held in [attributes(event)[1]] if is_accepted(event)]
    answered = [
        event.workflow_execution_update_completed_event_attributes.meta.update_id
        for event in bare.events
        if event.HasField("workflow_execution_update_completed_event_attributes")
    ]
    assert answered == ids
    assert len(ids) == {"delivered": 2}.get(name, 0)  # one update is refused after it was accepted


@requirement("HISTORY-PULL")
@pytest.mark.parametrize("name", ["first", "second", "detour", "depot", "border", "scales"])
async def test_external_metadata_of_a_courier_is_replaced(
    courier_recordings: Mapping[str, Recording], name: str
) -> None:
    code = LoadedTarget({"workflows": courier_workflows.WORKFLOWS})
    # The depot's id and the endpoint are inputs, which the code passes on in commands.
    bare = await scrub_and_prove(planted_around(courier_recordings[name]), code, keep={"Courier", "Border"})
    assert not [text for _, text in texts_of(json.loads(bare.dump())) if NAME in text]
    (outcome,) = (await replay({"it": bare}, code)).values()
    assert (outcome.problem, outcome.drift) == (None, ())


@requirement("HISTORY-PULL")
async def test_ids_derived_from_an_update_id_are_replaced_consistently(
    slip_recording: Recording,
) -> None:
    bare = await scrub_and_prove(slip_recording, LoadedTarget({"workflows": update_id_workflows.WORKFLOWS}))
    texts = " ".join(text for _, text in texts_of(json.loads(bare.dump())))
    assert "ann.smith" in slip_recording.dump()
    assert "ann.smith" not in texts
    assert "slip-" in texts


async def test_each_scrub_uses_new_pseudonyms(parcel_recordings: Mapping[str, Recording]) -> None:
    first, second = [await scrub_and_prove(parcel_recordings["waiting"], CODE) for _ in range(2)]
    assert first.workflow_id != second.workflow_id


async def test_a_text_that_controls_the_code_must_be_kept(
    parcel_recordings: Mapping[str, Recording], modules: Path
) -> None:
    steered = edited(
        modules,
        (
            "        await workflow.sleep(timedelta(milliseconds=50))\n",
            '        if parcel["to"] == "Ann":\n            await workflow.sleep(timedelta(milliseconds=50))\n',
        ),
    )
    code = LoadedTarget({"workflows": steered})
    with pytest.raises(RecordingError, match="--keep"):
        await scrub_and_prove(parcel_recordings["waiting"], code)
    kept = await scrub_and_prove(parcel_recordings["waiting"], code, keep={"to"})
    assert "Ann" in " ".join(text for _, text in texts_of(json.loads(kept.dump())))


async def test_a_recording_that_does_not_replay_is_not_scrubbed(
    parcel_recordings: Mapping[str, Recording], modules: Path
) -> None:
    code = LoadedTarget({"workflows": edited(modules, ("timeout=timedelta(days=3)", "timeout=timedelta(days=4)"))})
    with pytest.raises(RecordingError, match="pull with the code that the workflow runs with"):
        await scrub_and_prove(parcel_recordings["waiting"], code)


@requirement("HISTORY-PULL")
async def test_workflows_are_pulled_from_a_namespace(real_client: Client, tmp_path: Path) -> None:
    query = await visible_parcels(real_client)
    puller = Puller(CODE, tmp_path / "pulled", CONTROL_FIELDS)
    pulled = await puller.pull(real_client, query, limit=100)
    assert not [each.error for each in pulled if each.error]
    recordings = {each.path.name: read_recording(each.path) for each in pulled if each.path}
    assert len(recordings) == len(pulled) == 6
    assert all(not (o.problem or o.drift) for o in (await replay(recordings, CODE)).values())
    assert {recording.recorded_with["temporalio"] for recording in recordings.values()}


async def test_the_number_of_pulled_workflows_is_limited(real_client: Client, tmp_path: Path) -> None:
    query = await visible_parcels(real_client)
    assert len(await Puller(CODE, tmp_path).pull(real_client, query, limit=2)) == 2


class _AnotherId(Interceptor):
    """Requests one history by an unknown id, as if the workflow had been deleted meanwhile."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        class Asking(OutboundInterceptor):
            def fetch_workflow_history_events(
                self,
                input: FetchWorkflowHistoryEventsInput,
            ) -> WorkflowHistoryEventAsyncIterator:
                if input.id.endswith("-lost"):
                    input.id += "-and-gone"
                return super().fetch_workflow_history_events(input)

        return Asking(next)


@requirement("HISTORY-PULL")
async def test_a_workflow_that_can_not_be_fetched_is_reported_and_the_others_are_written(
    real_client: Client, tmp_path: Path
) -> None:
    query = await visible_parcels(real_client)
    client = Client(real_client.service_client, namespace=real_client.namespace, interceptors=[_AnotherId()])
    pulled = await Puller(CODE, tmp_path, CONTROL_FIELDS).pull(client, query, limit=100)
    (without,) = [each for each in pulled if each.error]
    assert without.workflow_id.endswith("-lost")
    assert without.error.startswith("Temporal rejects the request: ")
    assert len(list(tmp_path.glob("*.json"))) == 5


@requirement("HISTORY-PULL")
@pytest.mark.parametrize("folder", ["file", "file/below"])
async def test_a_folder_that_can_not_be_written_is_reported(real_client: Client, tmp_path: Path, folder: str) -> None:
    query = await visible_parcels(real_client)
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotRunError, match=r"file.* can't be written"):
        await Puller(CODE, tmp_path / folder, CONTROL_FIELDS).pull(real_client, query, limit=1)


async def test_an_error_of_a_callback_is_not_reported_as_temporals(real_client: Client, tmp_path: Path) -> None:
    def fail(_pulled: PullResult) -> None:
        raise RuntimeError("not of Temporal's")

    query = await visible_parcels(real_client)
    with pytest.raises(RuntimeError, match="not of Temporal's"):
        await Puller(CODE, tmp_path, CONTROL_FIELDS).pull(real_client, query, limit=1, on_result=fail)


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[" * 100_000])
def test_a_payload_with_invalid_json_can_not_be_scrubbed(data: bytes) -> None:
    with pytest.raises(RecordingError, match="not JSON"):
        Scrubber(b"key").payload(Payload(metadata={"encoding": b"json/plain"}, data=data), "")


def is_accepted(event: HistoryEvent) -> bool:
    return event.HasField("workflow_execution_update_accepted_event_attributes")


def planted_around(recording: Recording) -> Recording:
    """With a name in everything that clients, servers and other workflows add to it, and that code does not see."""
    events = []
    for event in recording.events:
        copy = HistoryEvent()
        copy.CopyFrom(event)
        for message in walk(copy):
            plant_ids(message)
        events.append(copy)
    started = events[0].workflow_execution_started_event_attributes
    nexus = started.completion_callbacks.add().nexus
    nexus.url, nexus.header["token"] = planted("http://there"), planted("secret")
    started.header.fields["by"].CopyFrom(Payload(metadata={"encoding": b"json/plain"}, data=f'"{NAME}"'.encode()))
    started.priority.fairness_key = NAME
    link = started.completion_callbacks[0].links.add().workflow_event
    link.workflow_id = link.namespace = planted("elsewhere")
    events[0].user_metadata.summary.CopyFrom(started.header.fields["by"])
    events[0].principal.name = NAME
    return replace(recording, events=tuple(events))


def plant_ids(message: Any) -> None:
    """In the ids that others gave."""
    for name in ("protocol_instance_id", "update_id", "request_id", "attached_request_id", "operation_token"):
        if name in message.DESCRIPTOR.fields_by_name:
            setattr(message, name, planted(getattr(message, name)))
    if "accepted_request_message_id" in message.DESCRIPTOR.fields_by_name:
        message.accepted_request_message_id = f"{message.protocol_instance_id}/request"
    if "external_workflow_execution" in message.DESCRIPTOR.fields_by_name:
        message.external_workflow_execution.workflow_id = planted("sender")


async def visible_parcels(client: Client) -> str:
    """A query for new parcels and their labels, six in all, that finds them: the server takes a moment to."""
    waiting = (await record_parcels(client))["waiting"].workflow_id
    query = f'WorkflowId STARTS_WITH "{waiting.removesuffix("waiting")}"'
    async with asyncio.timeout(20):
        while (await client.count_workflows(query)).count < 6:
            await asyncio.sleep(0.05)
    return query
