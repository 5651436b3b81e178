"""`python -m tests.mutants.judge_pool`: judges packages that it is named, each in a process forked from this one.

What the package needs of others is imported once, before anything is forked: that takes longer than many a verdict.
Reads a line of JSON for each package, `{"package": FOLDER, "tests": [FILE, ...], "judges": [NAME, ...]}`, and perhaps
`"within": SECONDS`. Answers with a line `{"judge": NAME, "said": TEXT}` for each judge until one notices something, and
with one of no judge, which tells if the process did not end well.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

UNIT, DRAWN, SCENARIOS = "unit tests", "drawn scenarios", "scenarios"

# Seconds for all judges together. Code that waits for ever is noticed by that.
HARNESS_TIMEOUT = 240
_DRAWN = 100
_OTHERS = (
    "httpx2",
    "mcp.server.mcpserver",
    "mcp.client",
    "pydantic",
    "rich.progress",
    "starlette",
    "temporalio.client",
    "temporalio.contrib.pydantic",
    "temporalio.testing",
    "temporalio.worker",
    "uvicorn",
)

# What is imported below is the mutant: it may not even be importable.
# ruff: noqa: PLC0415


class _First:
    """Remembers the first test that failed, and why."""

    said = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        """See pytest."""
        if report.failed and not self.said:
            crash = getattr(report.longrepr, "reprcrash", None)
            why = str(crash.message).splitlines()[0] if crash and crash.message else report.when
            self.said = f"{report.nodeid.rpartition('/')[2]}: {why}"[:300]


def _pytest(*arguments: str) -> str:
    """What the first test says that fails; "" if none does."""
    import pytest

    first = _First()
    # That the plugins of pytest are there already is what this process is for.
    options = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    options += ["--hypothesis-profile=second-opinion", "--world=simulated"]
    code = pytest.main([*options, *arguments], plugins=[first])
    return first.said or ("" if code in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED} else f"pytest: {code}")


def _drawn() -> str:
    """The failure of the first generated scenario that fails; the scenarios of the controls are played first."""
    from invoice_mcp.testing.simulate.fuzz.episode import EpisodeRunner
    from invoice_mcp.testing.simulate.fuzz.generator import GeneratorOptions, generate_scenario
    from tests.mutants.judge import played

    logging.disable(logging.CRITICAL)
    if said := played("simulated"):
        return said
    runner = EpisodeRunner()
    for run in range(_DRAWN):
        scenario = generate_scenario(1, run, GeneratorOptions())
        episode = runner.run(scenario, f"INV-{run}")
        if episode.failure is not None:
            seen = next(iter(episode.failure.detail.splitlines()), "")
            return f"run {run}: {', '.join(episode.failure.causes)}: {seen}"[:300]
    return ""


JUDGES: Mapping[str, Callable[[Sequence[str]], str]] = {
    UNIT: lambda tests: _pytest("-m", "not thorough", *tests) if tests else "",
    DRAWN: lambda _: _drawn(),
    SCENARIOS: lambda _: _pytest("tests/scenarios", "-m", "not thorough", "--world=simulated"),
}
"""Each judge, the cheapest first: given the files of the unit tests, what it notices; "" for nothing."""


def _judge(name: str, tests: Sequence[str]) -> str:
    try:
        return JUDGES[name](tests)
    except BaseException as error:  # noqa: BLE001 (a mutant may break in any way; that is noticed)
        return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"[:300]


def _judge_all(package: str, tests: Sequence[str], judges: Sequence[str], answer: Callable[..., None]) -> None:
    sys.path.insert(0, package)
    os.environ["PYTHONPATH"] = os.pathsep.join([package, str(Path.cwd())])
    for name in judges:
        said = _judge(name, tests)
        answer(judge=name, said=said)
        if said:
            return


def _in_a_fork(request: Mapping[str, Any], answer: Callable[..., None]) -> None:
    child = os.fork()
    if not child:
        os.setsid()
        with suppress(BaseException):
            _judge_all(request["package"], request["tests"], request["judges"], answer)
        os._exit(0)
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(child, signal.SIGKILL))
    signal.alarm(request.get("within", HARNESS_TIMEOUT))
    _, status = os.waitpid(child, 0)
    signal.alarm(0)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # and the servers it may have started
    answer(judge="", said="" if status == 0 else "the process ended, or was too slow")


def _write(out: Any, **told: str) -> None:
    out.write(json.dumps(told) + "\n")
    out.flush()


def main() -> None:
    """Judge what is asked for, until nothing more is."""
    answer = partial(_write, os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    for name in _OTHERS:
        with suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        _in_a_fork(json.loads(line), answer)


if __name__ == "__main__":
    main()
