"""`python -m tests.mutants.oracle ORACLE... CORPUS`: run test oracles on the package that Python finds.

Prints a line of JSON with the verdict of each: "" if it passes, else what it found.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path

PLAIN, STRICT = "plain replay", "strict replay"
SIMULATED, SERVER = "scenarios, simulated", "scenarios, on servers"

# Imports are inside functions: the package is the mutant, which may not be importable.


async def _gate(corpus: Path, *, strict: bool) -> str:
    """Replay recordings until one fails, except for accepted drift. Return its error; "" if all pass."""
    from temporal_replay import (
        CannotRunError,
        Fault,
        InProcessReplayer,
        Outcome,
        Recording,
        Target,
        read_corpus,
        read_recording,
    )

    try:
        code = Target("invoice_mcp.workflow.worker:REPLAY").load()
    except CannotRunError as why:
        return str(why)
    listed = read_corpus(corpus)
    wrong: list[str] = []

    def on_outcome(outcome: Outcome) -> None:
        name = listed.files[outcome.recording].stem
        drifted = [
            each
            for each in outcome.drift
            if not any(entry.matches(outcome.recording, each) for entry in listed.accepted)
        ]
        if outcome.problem:
            problem = outcome.problem
            differs = problem.detail.replace("\n", "; ").replace("now:      ", "now: ")
            # Not the detail of other faults, which contains a traceback.
            what = differs if differs and problem.fault is Fault.NONDETERMINISM else problem.message
            wrong.append(f"{name}: {problem.fault}: {what}")
        elif drifted:
            drift = drifted[0]
            wrong.append(f"{name}: drift: {drift.command}, {drift.field}: {drift.old} -> {drift.new}")

    async def recordings() -> AsyncIterator[tuple[str, Recording]]:
        for recording, path in sorted(listed.files.items()):
            if wrong:
                return
            yield recording, read_recording(path)

    await InProcessReplayer(code, strict=strict).replay(recordings(), on_outcome)
    return wrong[0] if wrong else ""


def _plain(corpus: Path) -> str:
    return asyncio.run(_gate(corpus, strict=False))


def _strict(corpus: Path) -> str:
    return asyncio.run(_gate(corpus, strict=True))


def run_scenarios(engine: str) -> str:
    """Run scenarios until one fails. Return its violations; "" if all pass."""
    from invoice_mcp.testing import ScenarioRunner, kinds
    from tests.mutants.extra_stories import EXTRA_STORIES, RACE_SCENARIOS, RARE_SCENARIOS
    from tests.scenarios.controls.catalogue import COMMON
    from tests.scenarios.controls.control import first_broken

    with ScenarioRunner(kinds()[engine], sandboxed=False) as environment:
        orders = (*RACE_SCENARIOS, *RARE_SCENARIOS) if engine == "simulated" else ()
        broken = first_broken(environment, (*COMMON, *EXTRA_STORIES, *orders))
    return f"{broken.scenario}: {', '.join(sorted(broken.by))}" if broken else ""


def _simulated(_corpus: Path) -> str:
    return run_scenarios("simulated")


def _on_a_server(_corpus: Path) -> str:
    """Also run one episode on the real server, with a worker that evicts each workflow after every task."""
    return run_scenarios("time-skipping") or asyncio.run(_run_without_cache())


async def _run_without_cache() -> str:
    from invoice_mcp.testing import EnvironmentPool, kinds, open_world
    from tests.scenarios.test_without_cache import test_an_invoice_is_paid_by_a_worker_without_a_cache as live

    # As under pytest, an unawaited coroutine is an error: code ran on in an evicted workflow.
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        async with EnvironmentPool(kinds()["real"]) as pool:
            await live(partial(open_world, pool))
        gc.collect()
    left = [str(each.message) for each in seen if "never awaited" in str(each.message)]
    return f"worker without cache: {left[0]}" if left else ""


ORACLES: Mapping[str, Callable[[Path], str]] = {
    PLAIN: _plain,
    STRICT: _strict,
    SIMULATED: _simulated,
    SERVER: _on_a_server,
}
"""Each oracle by its name. Returns what it found in the package; "" if it passes."""


def _run_oracle(name: str, corpus: Path) -> str:
    try:
        return ORACLES[name](corpus)
    except Exception as error:  # noqa: BLE001 (a mutant may raise anything; that kills it)
        return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"[:200]


def main(*names: str) -> None:
    """Print the verdict of each named oracle, one line of JSON each, and end the process."""
    logging.disable(logging.CRITICAL)
    corpus = Path(names[-1])
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for name in names[:-1]:
        verdict = _run_oracle(name, corpus)
        out.write(json.dumps({"oracle": name, "verdict": verdict}) + "\n")
        out.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
