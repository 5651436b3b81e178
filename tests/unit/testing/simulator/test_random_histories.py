"""Random schedules and faults: the SDK's replayer accepts every history, and no workflow task failed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payloads
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.update.v1 import Input, Meta, Request
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from temporal_simulator import Execution, RandomScheduler, Simulation, Start, Worker
from tests.unit.testing.simulator import workflows
from tests.unit.testing.simulator.backends import ACTIVITIES, QUEUE, WORKFLOWS, payloads

UNHANDLED = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND
SCENARIOS: list[tuple[str, list[Any], list[str]]] = [
    ("Activities", [], []),
    ("Canceller", [], ["give_up"]),
    ("ChildCanceller", [], []),
    ("ClosesAfterActivity", [], ["note"]),
    ("Inbox", [], ["note", "finish"]),
    ("ReadsHistoryLength", [], []),
    ("Parent", [], []),
    ("SignalsAnother", ["scenario"], []),
    ("Metadata", [], []),
    ("Timers", [], []),
    ("MayCancelChild", [], ["keep"]),
    *(("AbandonsActivity", [kind], ["go"]) for kind in ("ABANDON", "TRY_CANCEL", "WAIT_CANCELLATION_COMPLETED")),
    *(("AbandonsChild", [kind], ["go"]) for kind in ("ABANDON", "TRY_CANCEL", "WAIT_CANCELLATION_COMPLETED")),
]
"""Workflow type, arguments, and signals that the workflow handles."""

STEP_KINDS = ["cancel", "crash", "evict", "signal", "time", "update"]


async def run_scenario(seed: int, scenario: tuple[str, list[Any], list[str]], steps: list[str]) -> list[Execution]:
    """Run a workflow while these steps happen; returns all runs."""
    workflow, given_to_it, signals = scenario
    simulation = Simulation(scheduler=RandomScheduler(seed, loss_rate=0.2), search_attributes=(workflows.COLOUR.name,))
    simulation.start_worker(QUEUE, Worker(WORKFLOWS, ACTIVITIES))
    run = simulation.start(Start("scenario", workflow, QUEUE, input=payloads(*given_to_it)))
    for number, what in enumerate(steps):
        await simulation.run(simulation.scheduler.replies_early)
        match what:
            case "crash":
                simulation.crash_worker(QUEUE)
                simulation.start_worker(QUEUE, Worker(WORKFLOWS, ACTIVITIES))
            case "evict":
                simulation.evict(QUEUE)
            case "update":
                texts = ("fine", 0), ("slow", 1), ("bad", 1), ("", 0)
                about = Input(name="add", args=payloads(*texts[number % len(texts)]))
                run.tasks.request_update(Request(meta=Meta(update_id=str(number)), input=about))
            case "cancel":
                run.request_cancel("enough")
            case "signal" if signals:
                name = signals[number % len(signals)]
                run.signal(name, payloads("a note") if name == "note" else Payloads(), {})
            case _:
                await simulation.advance(timedelta(seconds=number**3))
    await simulation.advance(timedelta(days=2))
    runs = simulation.runs()
    await simulation.close()
    return runs


# Workflows may close during an update.
@pytest.mark.filterwarnings("ignore::temporalio.workflow.UnfinishedUpdateHandlersWarning")
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    seed=st.integers(0, 2**32),
    scenario=st.sampled_from(SCENARIOS),
    steps=st.lists(st.sampled_from(STEP_KINDS), max_size=10),
)
def test_random_histories_replay_in_the_sdk(
    seed: int, scenario: tuple[str, list[Any], list[str]], steps: list[str]
) -> None:
    async def take() -> None:
        workflows.ActivityLog.reset()
        replayer = Replayer(workflows=WORKFLOWS, workflow_runner=UnsandboxedWorkflowRunner())
        for run in await run_scenario(seed, scenario, steps):
            causes = [event.workflow_task_failed_event_attributes.cause for event in run.history if _is_failure(event)]
            assert set(causes) <= {UNHANDLED}, run.history
            history = WorkflowHistory(run.workflow_id, run.history)
            replayed = await asyncio.wait_for(replayer.replay_workflow(history, raise_on_replay_failure=False), 10)
            assert replayed.replay_failure is None, f"{replayed.replay_failure}\n{run.history}"

    asyncio.run(take())


def _is_failure(event: Any) -> bool:
    return bool(event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED)
