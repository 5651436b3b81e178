"""Commands that cancel, address other workflows or continue as new: a change of each is found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType

from temporal_replay import Fault, Recording
from temporal_replay.commands.command import LOCAL_ACTIVITIES
from temporal_replay.commands.recorded import recorded_commands
from tests.replay import courier_workflows
from tests.replay.recorder import SHIFTS, edited, replay
from tests.requirements import requirement

# Events that the recordings must contain, so that the changes below have an effect.
REQUIRED_EVENTS = {
    "first": {
        "TIMER_CANCELED",
        "ACTIVITY_TASK_CANCEL_REQUESTED",
        "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED",
        "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED",
        "WORKFLOW_EXECUTION_CONTINUED_AS_NEW",
    },
    "detour": {"WORKFLOW_EXECUTION_CANCELED"},
    "border": {"NEXUS_OPERATION_SCHEDULED"},
}

# Edit of the code (old, new), and the expected drift: command, field, old, new.
DRIFTS = {
    "a signal's input": (
        ('bring, "a book"', 'bring, "two books"'),
        ("SignalExternalWorkflow bring", "input[0]", "a book", "two books"),
    ),
    "a child's signal's input": (
        ("hurry, 2)", "hurry, 3)"),
        ("SignalExternalWorkflow hurry", "input[0]", "2", "3"),
    ),
    "the run that a signal addresses": (
        ("for(Depot.run, depot)", 'for(Depot.run, depot, run_id="the first")'),
        ("SignalExternalWorkflow bring", "run_id", "", "the first"),
    ),
    "the reason for cancelling another workflow": (
        ('cancel(reason="we close")', 'cancel(reason="we move")'),
        ("RequestCancelExternalWorkflow", "reason", "we close", "we move"),
    ),
    "the reason for cancelling a child": (
        ("detour.cancel()", 'detour.cancel("too far")'),
        ("CancelChildWorkflow", "reason", "", "too far"),
    ),
    "an input of continue-as-new": (
        ("round_number + 1, depot]", "round_number + 2, depot]"),
        ("ContinueAsNewWorkflow Courier", "input[0]", "2", "3"),
    ),
    "another input of continue-as-new": (
        ("round_number + 1, depot]", 'round_number + 1, "elsewhere"]'),
        ("ContinueAsNewWorkflow Courier", "input[1]", "", "elsewhere"),
    ),
    "the run timeout of continue-as-new": (
        ("depot])\n", "depot], run_timeout=timedelta(days=1))\n"),
        ("ContinueAsNewWorkflow Courier", "workflow_run_timeout", "0s", "1d"),
    ),
    "the task timeout of continue-as-new": (
        ("depot])\n", "depot], task_timeout=timedelta(seconds=20))\n"),
        ("ContinueAsNewWorkflow Courier", "workflow_task_timeout", "10s", "20s"),
    ),
    "the backoff of continue-as-new": (
        ("depot])\n", "depot], backoff_start_interval=timedelta(minutes=1))\n"),
        ("ContinueAsNewWorkflow Courier", "backoff_start_interval", "0s", "1m"),
    ),
    "the task queue of continue-as-new": (
        ("depot])\n", 'depot], task_queue="elsewhere")\n'),
        ("ContinueAsNewWorkflow Courier", "task_queue", "couriers-", "elsewhere"),
    ),
    "the memo of continue-as-new": (
        ("depot])\n", 'depot], memo={"round": 2})\n'),
        ("ContinueAsNewWorkflow Courier", "memo.round", "(none)", "2"),
    ),
}

NEXUS_DRIFTS = {
    "a Nexus operation's input": (
        ('declare, "a lamp"', 'declare, "two lamps"'),
        ("ScheduleNexusOperation Customs.declare", "input[0]", "a lamp", "two lamps"),
    ),
    "a Nexus operation's time-out": (
        ("schedule_to_close_timeout=timedelta(minutes=1)", "schedule_to_close_timeout=timedelta(minutes=2)"),
        ("ScheduleNexusOperation Customs.declare", "schedule_to_close_timeout", "1m", "2m"),
    ),
    "another time-out of a Nexus operation": (
        ('declare, "a lamp"', 'declare, "a lamp", start_to_close_timeout=timedelta(minutes=2)'),
        ("ScheduleNexusOperation Customs.declare", "start_to_close_timeout", "0s", "2m"),
    ),
    "a Nexus endpoint": (
        ("endpoint=endpoint)", 'endpoint="elsewhere")'),
        ("ScheduleNexusOperation Customs.declare", "endpoint", "couriers-", "elsewhere"),
    ),
}

# Edits that make another command.
OTHER_COMMANDS = {
    "a timer that is not cancelled": ("        lunch.cancel()\n", ""),
    "an activity that is not cancelled": ("        parking.cancel()\n", ""),
    "a child that is not cancelled": ("        detour.cancel()\n", ""),
    "cancelled in another order": (
        "        lunch.cancel()\n        parking.cancel()\n",
        "        parking.cancel()\n        lunch.cancel()\n",
    ),
    "a child that is not signalled": ("        await detour.signal(Detour.hurry, 2)\n", ""),
    "another signal": ("Depot.bring,", '"take",'),
    "no signal": ('        await office.signal(Depot.bring, "a book")\n', ""),
    "a signal to another workflow": ("for(Depot.run, depot)", 'for(Depot.run, depot + "-2")'),
    "another workflow that is not cancelled": ('        await office.cancel(reason="we close")\n', ""),
    "continue-as-new of another workflow": ("depot])\n", 'depot], workflow="Depot")\n'),
    "no continue-as-new": ("        workflow.continue_as_new(args=[round_number + 1, depot])\n", ""),
}

SAFE = {
    "nothing": ("Does two rounds.", "Does rounds."),
    "a default spelt out": ("depot])\n", "depot], task_queue=workflow.info().task_queue)\n"),
    "the time-out of tasks spelt out": ("depot])\n", "depot], task_timeout=timedelta(seconds=10))\n"),
}


def test_the_recordings_contain_each_command_kind(courier_recordings: Mapping[str, Recording]) -> None:
    for name, kinds in REQUIRED_EVENTS.items():
        seen = {EventType.Name(each.event_type) for each in courier_recordings[name].events}
        assert {f"EVENT_TYPE_{kind}" for kind in kinds} <= seen


@requirement("HISTORY-STRICT")
@pytest.mark.parametrize("change", [*DRIFTS, *NEXUS_DRIFTS])
async def test_a_changed_value_is_reported_with_field_old_and_new(
    change: str, courier_recordings: Mapping[str, Recording], modules: Path
) -> None:
    edit, expected = {**DRIFTS, **NEXUS_DRIFTS}[change]
    recording = "border" if change in NEXUS_DRIFTS else "first"
    outcomes = await replay(courier_recordings, edited(modules, edit, of=courier_workflows))
    assert outcomes[recording].problem is None, outcomes[recording].problem
    drift = outcomes[recording].drift[0]
    assert (drift.command, drift.field) == expected[:2]
    assert drift.old.startswith(expected[2])
    assert drift.new.startswith(expected[3])
    assert [name for name, outcome in outcomes.items() if outcome.drift or outcome.problem] == [recording]


@requirement("HISTORY-NONDETERMINISM")
@pytest.mark.parametrize("change", OTHER_COMMANDS)
async def test_another_command_is_reported_as_nondeterminism(
    change: str, courier_recordings: Mapping[str, Recording], modules: Path
) -> None:
    outcomes = await replay(courier_recordings, edited(modules, OTHER_COMMANDS[change], of=courier_workflows))
    problem = outcomes["first"].problem
    assert problem is not None
    assert problem.fault is Fault.NONDETERMINISM
    assert "recorded: " in problem.detail


def test_local_activities_complete_in_another_order_than_they_start(
    courier_recordings: Mapping[str, Recording],
) -> None:
    recorded = recorded_commands(courier_recordings["scales"].events)[LOCAL_ACTIVITIES]
    assert [command.key for command in recorded] == ["2", "1"]


_TO_TAX = (
    ('declare, "a book"', 'tax, "a book"'),
    ('declare, "a lamp"', 'tax, "a lamp"'),
    ("    async def declare", "    async def tax"),
)


@requirement("HISTORY-NONDETERMINISM")
async def test_another_nexus_operation_is_reported(courier_recordings: Mapping[str, Recording], modules: Path) -> None:
    renamed = edited(modules, ("    declare: nexusrpc.Op", "    tax: nexusrpc.Op"), *_TO_TAX, of=courier_workflows)
    problem = (await replay(courier_recordings, renamed))["border"].problem
    assert problem is not None
    assert problem.fault is Fault.NONDETERMINISM


@requirement("HISTORY-NONDETERMINISM")
@pytest.mark.parametrize(
    "edit",
    [
        ('("a heavy one", "a light one")', '("a heavy one",)'),
        ('("a heavy one", "a light one")', '("a heavy one", "a light one", "one more")'),
        ("start_local_activity(weigh,", 'start_local_activity("measure",'),
    ],
    ids=["one less", "one more", "another type"],
)
async def test_other_concurrent_local_activities_are_reported(
    edit: tuple[str, str], courier_recordings: Mapping[str, Recording], modules: Path
) -> None:
    problem = (await replay(courier_recordings, edited(modules, edit, of=courier_workflows)))["scales"].problem
    assert problem is not None
    assert problem.fault is Fault.NONDETERMINISM


@requirement("HISTORY-STRICT")
@pytest.mark.parametrize("change", SAFE)
@pytest.mark.parametrize("strict", [True, False])
async def test_an_equivalent_change_is_not_reported(
    change: str, strict: bool, courier_recordings: Mapping[str, Recording], modules: Path
) -> None:
    outcomes = await replay(courier_recordings, edited(modules, SAFE[change], of=courier_workflows), strict=strict)
    assert {name: (outcome.problem, outcome.drift) for name, outcome in outcomes.items()} == dict.fromkeys(
        courier_recordings, (None, ())
    )


@requirement("HISTORY-STRICT")
async def test_values_inherited_by_continue_as_new_are_compared(
    courier_recordings: Mapping[str, Recording], modules: Path
) -> None:
    """The server records the run's memo and search attributes, although the code does not pass them."""
    shifts = {name: courier_recordings[name] for name in SHIFTS}
    assert {outcome.drift for outcome in (await replay(shifts, courier_workflows.WORKFLOWS)).values()} == {()}
    edit = ("args=[left - 1, area])", 'args=[left - 1, area], memo={"who": "Bob"})')
    outcomes = await replay(shifts, edited(modules, edit, of=courier_workflows))
    [changed] = outcomes["shift with a memo"].drift
    assert (changed.field, changed.old, changed.new) == ("memo.who", "Ann", "Bob")
    [added] = outcomes["shift with a search attribute"].drift
    assert (added.field, added.new) == ("memo.who", "Bob")
    edit = ("AREA.value_set(area)", 'AREA.value_set("west")')
    drift = (await replay(shifts, edited(modules, edit, of=courier_workflows)))["shift elsewhere"].drift
    assert [each.new for each in drift] == ["west"]
