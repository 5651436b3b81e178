"""Strict replay: a change of any attribute of any command is reported, field by field; an equivalent change is not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.client import Client
from temporalio.converter import DataConverter, DefaultFailureConverter, PayloadCodec
from temporalio.exceptions import ApplicationError

from temporal_replay import Fault, LoadedTarget, Outcome, Recording
from temporal_replay.commands.values import failure
from temporal_replay.patches.usage import measure_patch_usage
from tests.replay import courier_workflows, parcel_workflows
from tests.replay.recorder import edited, record_couriers, record_parcels, replay
from tests.requirements import requirement

_REUSE = ("WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE", "WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE")
# What is changed in the code (old -> new), in which recording it shows, and as which drift: command, field, old, new.
DRIFTS = {
    "a timer's duration": (
        ("timeout=timedelta(days=3)", "timeout=timedelta(days=4)"),
        ("waiting", "StartTimer", "start_to_fire_timeout", "3d", "4d"),
    ),
    "an activity's input": (
        ("            parcel,\n", '            {**parcel, "content": "two books"},\n'),
        ("waiting", "ScheduleActivity weigh", "input[0].content", "a book", "two books"),
    ),
    "an activity's time-out": (
        ("timedelta(seconds=10)", "timedelta(minutes=1, seconds=30)"),
        ("waiting", "ScheduleActivity weigh", "start_to_close_timeout", "10s", "1m30s"),
    ),
    "a second time-out": (
        ("            parcel,\n", "            parcel,\n            heartbeat_timeout=timedelta(seconds=5),\n"),
        ("waiting", "ScheduleActivity weigh", "heartbeat_timeout", "0s", "5s"),
    ),
    "an activity's retry policy": (
        ("maximum_attempts=3", "maximum_attempts=30"),
        ("waiting", "ScheduleActivity weigh", "retry_policy.maximum_attempts", "3", "30"),
    ),
    "the longest interval of a retry policy": (
        ("maximum_attempts=3", "maximum_attempts=3, maximum_interval=timedelta(seconds=9)"),
        ("waiting", "ScheduleActivity weigh", "retry_policy.maximum_interval", "1m40s", "9s"),
    ),
    "the non-retryable errors of an activity": (
        ("maximum_attempts=3", 'maximum_attempts=3, non_retryable_error_types=["TOO_HEAVY"]'),
        ("waiting", "ScheduleActivity weigh", "retry_policy.non_retryable_error_types[0]", "(none)", "TOO_HEAVY"),
    ),
    "a retry policy that is gone": (
        ("            retry_policy=RetryPolicy(maximum_attempts=3),\n", ""),
        ("waiting", "ScheduleActivity weigh", "retry_policy.maximum_attempts", "3", "0"),
    ),
    "an activity's task queue": (
        ("            parcel,\n", '            parcel,\n            task_queue="scales",\n'),
        ("waiting", "ScheduleActivity weigh", "task_queue", "parcels-", "scales"),
    ),
    "a child's input": (
        ("Label.run, stamped,", "Label.run, stamped.upper(),"),
        ("waiting", "StartChildWorkflow Label", "input[0]", "stamp for Ann", "STAMP FOR ANN"),
    ),
    "a child's time-out": (
        ("Label.run, stamped,", "Label.run, stamped, run_timeout=timedelta(hours=1),"),
        ("waiting", "StartChildWorkflow Label", "workflow_run_timeout", "0s", "1h"),
    ),
    "a child's parent close policy": (
        ("Label.run, stamped,", "Label.run, stamped, parent_close_policy=workflow.ParentClosePolicy.ABANDON,"),
        ("waiting", "StartChildWorkflow Label", "parent_close_policy", "TERMINATE", "ABANDON"),
    ),
    "whether a child's id may be used again": (
        ("Label.run, stamped,", "Label.run, stamped, id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,"),
        ("waiting", "StartChildWorkflow Label", "workflow_id_reuse_policy", *_REUSE),
    ),
    "a child's retry policy": (
        ("Label.run, stamped,", "Label.run, stamped, retry_policy=RetryPolicy(),"),
        ("waiting", "StartChildWorkflow Label", "retry_policy", "null", "{"),
    ),
    "a search attribute": (
        ('CITY.value_set(parcel["to"])', 'CITY.value_set("Bob")'),
        ("waiting", "UpsertSearchAttributes", "search_attributes.InvoiceStatus", "Ann", "Bob"),
    ),
    "a memo": (
        ('{"label": label}', '{"label": label, "fragile": True}'),
        ("waiting", "ModifyProperties", "memo.fragile", "(none)", "true"),
    ),
    "an update's answer": (
        ('f"comes on {day}"', 'f"is there on {day}"'),
        ("delivered", "CompleteUpdate", "answer[0]", "comes on Monday", "is there on Monday"),
    ),
    "an update's refusal": (
        ('"never on a Sunday"', '"not on Sundays"'),
        ("delivered", "CompleteUpdate", "answer.failure.message", "never on a Sunday", "not on Sundays"),
    ),
    "the result": (
        ('f"{weight:.0f} kg on', 'f"{weight:.2f} kg on'),
        ("delivered", "CompleteWorkflow", "result[0]", "6 kg", "6.00 kg"),
    ),
    "how it fails": (
        ('type="LOST"', 'type="GONE"'),
        ("lost", "FailWorkflow", "failure.type", "LOST", "GONE"),
    ),
    "after which delay it is tried again": (
        ('type="LOST"', 'type="LOST", next_retry_delay=timedelta(minutes=1)'),
        ("lost", "FailWorkflow", "failure.next_retry_delay", "0s", "1m"),
    ),
    "whether its failure is one to look at": (
        ('type="LOST"', 'type="LOST", category=ApplicationErrorCategory.BENIGN'),
        ("lost", "FailWorkflow", "failure.category", "UNSPECIFIED", "BENIGN"),
    ),
    "with which details it fails": (
        ('"it is lost", parcel["to"]', '"it is lost"'),
        ("lost", "FailWorkflow", "failure.details[0]", "Ann", "(none)"),
    ),
}

_WEIGH = "activity(weigh, parcel, start_to_close_timeout=timedelta(seconds=1))"

# Other commands for Temporal's own replay, or commands after the end of the recording, which it does not see.
OTHER_COMMANDS = {
    "a child's id": (('-label")', '-sticker")'), "waiting"),
    "a child's type": (("Label.run, stamped,", '"Sticker", stamped,'), "waiting"),
    "an activity's type": (("            weigh,\n", '            "weigh_again",\n'), "waiting"),
    "a timer more": (("        weight = await", "        await workflow.sleep(1)\n        weight = await"), "waiting"),
    "a timer less": (("        await workflow.sleep(timedelta(milliseconds=50))\n", ""), "waiting"),
    "an activity while it waits": (
        ("        await workflow.wait_", f"        workflow.start_{_WEIGH}\n        await workflow.wait_"),
        "waiting",
    ),
    "no timer while it waits": ((", timeout=timedelta(days=3)", ""), "waiting"),
    "a local activity's type": (("execute_local_activity(stamp,", 'execute_local_activity("frank",'), "waiting"),
    "a local activity more": (
        ("        label = await", f"        workflow.start_local_{_WEIGH}\n        label = await"),
        "waiting",
    ),
    "a local activity while it waits": (
        ("        await workflow.wait_", f"        workflow.start_local_{_WEIGH}\n        await workflow.wait_"),
        "waiting",
    ),
    "a local activity more before the end": (
        ('        return f"{weight', f"        await workflow.execute_local_{_WEIGH}\n        return f\"{{weight"),
        "delivered",
    ),
    "another end": (('raise ApplicationError("it is lost", parcel["to"], type="LOST")', 'return "lost"'), "lost"),
}  # fmt: skip

# Equivalent changes.
SAFE = {
    "nothing": ('"""Prints a label."""', '"""Prints a label, or two."""'),
    "a log line": ("        weight = await", '        workflow.logger.info("weighing")\n        weight = await'),
    "another name for a local variable": ("        self.day = day\n", "        when = day\n        self.day = when\n"),
    "a timer's summary": (
        "timeout=timedelta(days=3)",
        'timeout=timedelta(days=3), timeout_summary="until it is known"',
    ),
    "an activity's task queue spelt out": (
        "            parcel,\n",
        "            parcel,\n            task_queue=workflow.info().task_queue,\n",
    ),
    "time-outs that the server takes for the same": ("timedelta(days=3)", "timedelta(hours=72)"),
    "a retry policy's default spelt out": (
        "RetryPolicy(maximum_attempts=3)",
        "RetryPolicy(maximum_attempts=3, initial_interval=timedelta(seconds=1), backoff_coefficient=2.0)",
    ),
    "a query": (
        "    @workflow.signal\n",
        "    @workflow.query\n    def where(self) -> str:\n        return self.day\n\n    @workflow.signal\n",
    ),
}

# Changes that no history records, and strict replay can't see. README and `histories check --help` list them.
NOT_SEEN = {
    "a local activity that the end does not wait for": (
        '        return f"{weight',
        f'        workflow.start_local_{_WEIGH}\n        return f"{{weight',
    ),
    "a local activity's input": (
        "execute_local_activity(stamp, parcel,",
        'execute_local_activity(stamp, {"to": "Bob"},',
    ),
    "a local activity's time-out": ("timedelta(seconds=5)", "timedelta(seconds=6)"),
    "how an activity is cancelled": (
        "            parcel,\n",
        "            parcel,\n            cancellation_type=workflow.ActivityCancellationType.ABANDON,\n",
    ),
    "how a child is cancelled": (
        "Label.run, stamped,",
        "Label.run, stamped, cancellation_type=workflow.ChildWorkflowCancellationType.ABANDON,",
    ),
    "whose updates are refused before they are accepted": (
        "    @workflow.signal\n",
        "    @deliver_on.validator\n    def check(self, day: str) -> None: ...\n\n    @workflow.signal\n",
    ),
}

Edit = tuple[str, str]
Expected = tuple[str, str, str, str, str]


def drift_of(outcome: Outcome) -> tuple[str, str, str, str, str]:
    assert outcome.problem is None, outcome.problem
    (drift,) = outcome.drift
    return outcome.recording, drift.command, drift.field, drift.old, drift.new


@requirement("HISTORY-STRICT")
@pytest.mark.parametrize("change", DRIFTS)
async def test_a_changed_value_is_reported_with_field_old_and_new(
    change: str, parcel_recordings: Mapping[str, Recording], modules: Path
) -> None:
    edit, (recording, *expected) = DRIFTS[change]
    outcomes = await replay(parcel_recordings, edited(modules, edit))
    _, *seen = drift_of(outcomes[recording])
    assert seen[:2] == expected[:2]
    assert seen[2].startswith(expected[2])
    assert seen[3].startswith(expected[3])


@requirement("HISTORY-NONDETERMINISM")
@pytest.mark.parametrize("change", OTHER_COMMANDS)
async def test_another_command_is_reported_as_nondeterminism(
    change: str, parcel_recordings: Mapping[str, Recording], modules: Path
) -> None:
    edit, recording = OTHER_COMMANDS[change]
    problem = (await replay(parcel_recordings, edited(modules, edit)))[recording].problem
    assert problem is not None
    assert problem.fault is Fault.NONDETERMINISM
    assert "recorded: " in problem.detail
    assert "now: " in problem.detail
    assert "workflow.patched" in problem.advice


@requirement("HISTORY-STRICT")
@pytest.mark.parametrize("change", [*SAFE, *NOT_SEEN])
async def test_equivalent_and_unrecorded_changes_are_not_reported(
    change: str, parcel_recordings: Mapping[str, Recording], modules: Path
) -> None:
    outcomes = await replay(parcel_recordings, edited(modules, {**SAFE, **NOT_SEEN}[change]))
    assert {name: (outcome.problem, outcome.drift) for name, outcome in outcomes.items()} == dict.fromkeys(
        parcel_recordings, (None, ())
    )


async def test_values_are_not_compared_without_strict_replay(
    parcel_recordings: Mapping[str, Recording], modules: Path
) -> None:
    edit, _ = DRIFTS["a timer's duration"]
    outcomes = await replay(parcel_recordings, edited(modules, edit), strict=False)
    assert [outcome.drift for outcome in outcomes.values()] == [()] * len(parcel_recordings)


async def test_another_command_is_explained_without_strict_replay(
    parcel_recordings: Mapping[str, Recording], modules: Path
) -> None:
    edit, recording = OTHER_COMMANDS["an activity's type"]
    problem = (await replay(parcel_recordings, edited(modules, edit), strict=False))[recording].problem
    assert problem is not None
    assert "recorded: event 6: ScheduleActivity weigh (1)\nnow:      ScheduleActivity weigh_again (1)" in problem.detail


async def test_code_that_raises_on_replay_is_reported_with_its_traceback(
    parcel_recordings: Mapping[str, Recording], modules: Path
) -> None:
    workflows = edited(modules, ('f"{weight:.0f} kg on', 'f"{weight.no_such} kg on'))
    problem = (await replay(parcel_recordings, workflows))["delivered"].problem
    assert problem is not None
    assert problem.fault is Fault.FAILS
    assert "no_such" in problem.message
    assert "in run" in problem.detail


async def test_a_workflow_type_without_code_is_reported(parcel_recordings: Mapping[str, Recording]) -> None:
    outcomes = await replay(parcel_recordings, [parcel_workflows.Label])
    problem = outcomes["waiting"].problem
    assert problem is not None
    assert problem.fault is Fault.NO_CODE
    assert "Parcel (types in the code: Label)" in problem.message
    assert outcomes["label"].problem is None


class KeylessCodec(PayloadCodec):
    """A codec without its key."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return list(payloads)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        if any(b"two books" in payload.data for payload in payloads):
            raise KeyError("no key")
        return list(payloads)


@requirement("HISTORY-GATE")
async def test_a_codec_that_raises_is_reported_and_the_others_are_replayed(
    parcel_recordings: Mapping[str, Recording],
) -> None:
    converter = replace(DataConverter.default, payload_codec=KeylessCodec())
    code = LoadedTarget({"workflows": parcel_workflows.WORKFLOWS, "data_converter": converter})
    spoilt = Recording.parse(parcel_recordings["waiting"].dump())
    started = spoilt.events[0].workflow_execution_started_event_attributes
    started.input.payloads[0].data = json.dumps({"to": "Ann", "content": "two books"}).encode()
    outcomes = await replay({"a": spoilt, **parcel_recordings}, code)
    assert [name for name, outcome in outcomes.items() if outcome.problem] == ["a"]
    assert outcomes["a"].problem is not None
    assert "the codec of the data converter can't decode it: KeyError: 'no key'" in outcomes["a"].problem.message
    needs = await measure_patch_usage([("a", spoilt), *parcel_recordings.items()], code)
    assert [each.name for each in needs if not each.replays] == ["a"]


class SealingCodec(PayloadCodec):
    """A codec that decodes only what it has encoded."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [Payload(metadata={"encoding": b"sealed"}, data=payload.SerializeToString()) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        for payload in payloads:
            if payload.metadata.get("encoding") != b"sealed":
                raise ValueError(f"this was never sealed: {payload}")
        return [Payload.FromString(payload.data) for payload in payloads]


@requirement("HISTORY-GATE", "HISTORY-STRICT")
async def test_a_codec_decodes_exactly_what_it_has_encoded(real_client: Client) -> None:
    converter = replace(DataConverter.default, payload_codec=SealingCodec())
    client = Client(real_client.service_client, data_converter=converter)
    recordings = {**await record_couriers(client), **await record_parcels(client)}
    # Its history has a failure that the server wrote itself, unencoded. A worker could not decode it either.
    del recordings["first"]
    outcomes = await replay(
        recordings,
        LoadedTarget(
            {"workflows": [*courier_workflows.WORKFLOWS, *parcel_workflows.WORKFLOWS], "data_converter": converter}
        ),
    )
    assert {name: (outcome.problem, outcome.drift) for name, outcome in outcomes.items()} == dict.fromkeys(
        recordings, (None, ())
    )


@requirement("HISTORY-STRICT")
async def test_an_encoded_message_is_compared_without_its_stack_trace() -> None:
    converter = DefaultFailureConverter(encode_common_attributes=True)

    def failed(message: str, *, deeper: bool = False) -> Failure:
        found = Failure()
        try:
            _raise(message) if deeper else _raise_at_once(message)
        except ApplicationError as error:
            converter.to_failure(error, DataConverter.default.payload_converter, found)
        return found

    assert failed("it is lost") != failed("it is lost", deeper=True)
    assert failure(failed("it is lost")) == failure(failed("it is lost", deeper=True))
    assert failure(failed("it is lost")) != failure(failed("it is gone"))


def _raise_at_once(message: str) -> None:
    raise ApplicationError(message)


def _raise(message: str) -> None:
    _raise_at_once(message)


def test_an_upgrade_of_pydantic_is_no_drift() -> None:
    def failed(version: str) -> Failure:
        link = f"    For further information visit https://errors.pydantic.dev/{version}/v/missing"
        return Failure(message=f"1 validation error for Order\nline\n  Field required [type=missing]\n{link}")

    assert failure(failed("2.12")) == failure(failed("2.14"))
    assert failure(failed("2.12")) != failure(Failure(message="1 validation error for Order\namount"))
