"""Memoized instances give the same completions for the same activations, without running code."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
from temporalio import workflow
from temporalio.worker import UnsandboxedWorkflowRunner

from temporal_simulator import EvictionError, MemoizingRunner, Simulation, Start, Worker, connect
from temporal_simulator.worker.memoize import NondeterministicWorkflowError
from tests.bench.floor import ActivationRecorder
from tests.unit.testing.simulator import workflows
from tests.unit.testing.simulator.backends import QUEUE, payloads
from tests.unit.testing.simulator.test_fingerprint import Stateful


async def history(runner: Any, *signals: tuple[Any, ...], crashes: bool = False) -> tuple[bytes | None, list[str]]:
    """The final fingerprint, and the history."""
    simulation = Simulation()

    def start_worker() -> None:
        simulation.start_worker(QUEUE, Worker([Stateful], [], runner=runner))

    start_worker()
    run = simulation.start(Start("mind", "Stateful", QUEUE))
    await simulation.run()
    for name, *given in signals:
        run.signal(name, payloads(*given), {})
        await simulation.run()
    if crashes:
        simulation.crash_worker(QUEUE)
        start_worker()
        run.signal("hold", payloads(7), {})
        await simulation.run()
    final_fingerprint = run.tasks.replay.digest(has_running_task=False)
    await simulation.close()
    return final_fingerprint, [str(event) for event in run.history]


async def test_code_does_not_run_for_activations_seen_before() -> None:
    code = ActivationRecorder()
    runner = MemoizingRunner(code)
    first = await history(runner, ("hold", 1), ("count", 2))
    [(_, activations)] = code.recorded
    assert activations
    before = len(activations)
    assert await history(runner, ("hold", 1), ("count", 2)) == first
    assert [len(activations) for _, activations in code.recorded] == [before]


@pytest.mark.parametrize("crashes", [False, True])
async def test_other_activations_give_the_same_results_as_without_memoization(crashes: bool) -> None:
    runner = MemoizingRunner()
    await history(runner, ("hold", 1), ("count", 2), ("add", 1))
    for signals in ([("hold", 1), ("count", 3)], [("hold", 1), ("count", 2), ("use_random",)], [("sleep", 1)], []):
        unmemoized = await history(UnsandboxedWorkflowRunner(), *signals, crashes=crashes)
        assert await history(runner, *signals, crashes=crashes) == unmemoized
        # The second time, everything is memoized.
        assert await history(runner, *signals, crashes=crashes) == unmemoized


async def test_a_repeated_query_gets_the_same_answer() -> None:
    runner = MemoizingRunner()
    answers = []
    for _ in range(2):
        simulation = Simulation()
        simulation.start_worker(QUEUE, Worker([workflows.Inbox], [], runner=runner))
        client = connect(simulation)
        handle = await client.start_workflow("Inbox", id="inbox", task_queue=QUEUE)
        answers.append([await handle.query("__temporal_workflow_metadata") for _ in range(2)])
        await simulation.close()
    assert answers[0] == answers[1]
    assert answers[0][0]


async def test_an_eviction_error_is_raised_each_time() -> None:
    runner = MemoizingRunner()
    for _ in range(2):
        simulation = Simulation()
        simulation.start_worker(QUEUE, Worker([workflows.SuppressesCancellation], [], runner=runner))
        simulation.start(Start("stubborn", "SuppressesCancellation", QUEUE))
        await simulation.run()
        with pytest.raises(EvictionError):
            simulation.crash_worker(QUEUE)


@workflow.defn
class CountsInstances:
    """Nondeterministic: its commands depend on the number of instances before it."""

    before = 0

    @workflow.run
    async def run(self) -> None:
        CountsInstances.before += 1
        await workflow.sleep(CountsInstances.before)
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def wake(self) -> None: ...


async def test_nondeterministic_code_raises_an_error() -> None:
    runner = MemoizingRunner()
    for signals in (["wake"], ["wake", "wake"]):
        simulation = Simulation()
        simulation.start_worker(QUEUE, Worker([CountsInstances], [], runner=runner))
        run = simulation.start(Start("moody", "CountsInstances", QUEUE))
        await simulation.run()
        expectation = pytest.raises(NondeterministicWorkflowError, match="moody") if len(signals) > 1 else nullcontext()
        with expectation:
            for signal in signals:
                run.signal(signal, payloads(), {})
                await simulation.run()
