"""Instances that recall: told the same they answer the same, and their code is not run for it."""

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
from tests.unit.testing.simulator.backends import QUEUE
from tests.unit.testing.simulator.test_fingerprint import Minds, payloads


async def history(runner: Any, *signals: tuple[Any, ...], crashes: bool = False) -> tuple[bytes | None, list[str]]:
    """What the code knows in the end, and everything that happened."""
    simulation = Simulation()

    def start_worker() -> None:
        simulation.start_worker(QUEUE, Worker([Minds], [], runner=runner))

    start_worker()
    run = simulation.start(Start("mind", "Minds", QUEUE))
    await simulation.run()
    for name, *given in signals:
        run.signal(name, payloads(*given), {})
        await simulation.run()
    if crashes:
        simulation.crash_worker(QUEUE)
        start_worker()
        run.signal("hold", payloads(7), {})
        await simulation.run()
    known = run.tasks.code.digest(is_thinking=False)
    await simulation.close()
    return known, [str(event) for event in run.history]


async def test_told_the_same_again_its_code_does_not_run() -> None:
    code = ActivationRecorder()
    runner = MemoizingRunner(code)
    first = await history(runner, ("hold", 1), ("count", 2))
    [(_, told)] = code.recorded
    assert told
    before = len(told)
    assert await history(runner, ("hold", 1), ("count", 2)) == first
    assert [len(told) for _, told in code.recorded] == [before]


@pytest.mark.parametrize("crashes", [False, True])
async def test_told_something_else_in_the_middle_it_goes_on_as_without_recalling(crashes: bool) -> None:
    runner = MemoizingRunner()
    await history(runner, ("hold", 1), ("count", 2), ("add", 1))
    for signals in ([("hold", 1), ("count", 3)], [("hold", 1), ("count", 2), ("draw",)], [("sleep", 1)], []):
        plainly = await history(UnsandboxedWorkflowRunner(), *signals, crashes=crashes)
        assert await history(runner, *signals, crashes=crashes) == plainly
        # And the second time, all recalled.
        assert await history(runner, *signals, crashes=crashes) == plainly


async def test_a_query_is_answered_as_it_was() -> None:
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


async def test_what_does_not_let_itself_be_put_out_of_memory_is_told_each_time() -> None:
    runner = MemoizingRunner()
    for _ in range(2):
        simulation = Simulation()
        simulation.start_worker(QUEUE, Worker([workflows.Stubborn], [], runner=runner))
        simulation.start(Start("stubborn", "Stubborn", QUEUE))
        await simulation.run()
        with pytest.raises(EvictionError):
            simulation.crash_worker(QUEUE)


@workflow.defn
class Moody:
    """Knows what it should not: how many there were before it."""

    before = 0

    @workflow.run
    async def run(self) -> None:
        Moody.before += 1
        await workflow.sleep(Moody.before)
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def wake(self) -> None: ...


async def test_code_that_is_not_deterministic_is_told() -> None:
    runner = MemoizingRunner()
    for signals in (["wake"], ["wake", "wake"]):
        simulation = Simulation()
        simulation.start_worker(QUEUE, Worker([Moody], [], runner=runner))
        run = simulation.start(Start("moody", "Moody", QUEUE))
        await simulation.run()
        told = pytest.raises(NondeterministicWorkflowError, match="moody") if len(signals) > 1 else nullcontext()
        with told:
            for signal in signals:
                run.signal(signal, payloads(), {})
                await simulation.run()
