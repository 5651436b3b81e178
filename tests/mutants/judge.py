"""`python -m tests.mutants.judge JUDGE CORPUS`: one judge's verdict on the package that Python finds, as JSON."""

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

# What is imported below is the mutant: it may not even be importable.
# ruff: noqa: PLC0415


async def _gate(corpus: Path, *, strict: bool) -> str:
    """What the gate says of the first recording that does not pass, but for accepted drift; "" if all do."""
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

    def told(outcome: Outcome) -> None:
        name = listed.files[outcome.recording].stem
        drifted = [
            each
            for each in outcome.drift
            if not any(entry.matches(outcome.recording, each) for entry in listed.accepted)
        ]
        if outcome.problem:
            problem = outcome.problem
            differs = problem.detail.replace("\n", "; ").replace("now:      ", "now: ")
            # What the code fails with has a traceback: its first line says enough.
            what = differs if differs and problem.fault is Fault.NONDETERMINISM else problem.message
            wrong.append(f"{name}: {problem.fault}: {what}")
        elif drifted:
            drift = drifted[0]
            wrong.append(f"{name}: drift: {drift.command}, {drift.field}: {drift.old} -> {drift.new}")

    async def until_wrong() -> AsyncIterator[tuple[str, Recording]]:
        for recording, path in sorted(listed.files.items()):
            if wrong:
                return
            yield recording, read_recording(path)

    await InProcessReplayer(code, strict=strict).replay(until_wrong(), told)
    return wrong[0] if wrong else ""


def _plain(corpus: Path) -> str:
    return asyncio.run(_gate(corpus, strict=False))


def _strict(corpus: Path) -> str:
    return asyncio.run(_gate(corpus, strict=True))


def played(engine: str) -> str:
    """What the first scenario says that is broken; "" if none is."""
    from invoice_mcp.testing import ScenarioRunner, kinds
    from tests.mutants.stories import ORDERS, RARE, STORIES
    from tests.scenarios.controls.catalogue import COMMON
    from tests.scenarios.controls.control import first_broken

    with ScenarioRunner(kinds()[engine], sandboxed=False) as environment:
        orders = (*ORDERS, *RARE) if engine == "simulated" else ()
        broken = first_broken(environment, (*COMMON, *STORIES, *orders))
    return f"{broken.scenario}: {', '.join(sorted(broken.by))}" if broken else ""


def _simulated(_corpus: Path) -> str:
    return played("simulated")


def _on_a_server(_corpus: Path) -> str:
    """The same, and a life with a worker that forgets every workflow after each of its tasks."""
    return played("time-skipping") or asyncio.run(_forgetful())


async def _forgetful() -> str:
    from invoice_mcp.testing import EnvironmentPool, kinds, open_world
    from tests.scenarios.test_without_cache import test_an_invoice_is_paid_by_a_worker_that_forgets as live

    # As under pytest, a coroutine that nobody awaits counts: code went on in a workflow that was put out of memory.
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        async with EnvironmentPool(kinds()["real"]) as pool:
            await live(partial(open_world, pool))
        gc.collect()
    left = [str(each.message) for each in seen if "never awaited" in str(each.message)]
    return f"forgetful worker: {left[0]}" if left else ""


JUDGES: Mapping[str, Callable[[Path], str]] = {
    PLAIN: _plain,
    STRICT: _strict,
    SIMULATED: _simulated,
    SERVER: _on_a_server,
}
"""Every judge: what it is called, and what it says of the package; "" if it notices nothing."""


def _judge(name: str, corpus: Path) -> str:
    try:
        return JUDGES[name](corpus)
    except Exception as error:  # noqa: BLE001 (a mutant may break in any way; that is noticed)
        return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"[:200]


def main(*names: str) -> None:
    """Print the verdict of each judge named, a JSON text a line, and leave."""
    logging.disable(logging.CRITICAL)
    corpus = Path(names[-1])
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for name in names[:-1]:
        said = _judge(name, corpus)
        out.write(json.dumps({"judge": name, "said": said}) + "\n")
        out.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
