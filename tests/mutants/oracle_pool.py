"""`python -m tests.mutants.oracle_pool`: runs test oracles on packages, each in a process forked from this one.

Third-party modules are imported once, before the forks: that takes longer than many oracles.
Reads one line of JSON per package: `{"package": FOLDER, "tests": [FILE, ...], "oracles": [NAME, ...]}`, optionally with
`"within": SECONDS`. Answers with `{"oracle": NAME, "verdict": TEXT}` for each oracle until one fails, and then with a
line whose oracle is "", whose verdict says if the process did not end normally.
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

UNIT_TESTS, RANDOM_SCENARIOS, SCENARIOS = "unit tests", "random scenarios", "scenarios"

# Seconds for all oracles of one package. A timeout kills the mutant.
HARNESS_TIMEOUT = 240
_RANDOM_EPISODES = 100
_PRELOADED = (
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

# Imports are inside functions: the package is the mutant, which may not be importable.


class _FirstFailure:
    """A pytest plugin that keeps the first failure."""

    text = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keep the first failure."""
        if report.failed and not self.text:
            crash = getattr(report.longrepr, "reprcrash", None)
            why = str(crash.message).splitlines()[0] if crash and crash.message else report.when
            self.text = f"{report.nodeid.rpartition('/')[2]}: {why}"[:300]


def _pytest(*arguments: str) -> str:
    """Run tests until one fails. Return its error; "" if all pass."""
    import pytest

    first = _FirstFailure()
    # pytest warns that its plugins are imported already, which is the purpose of this process.
    options = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    options += ["--hypothesis-profile=second-opinion", "--world=simulated"]
    code = pytest.main([*options, *arguments], plugins=[first])
    return first.text or ("" if code in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED} else f"pytest: {code}")


def _run_random_scenarios() -> str:
    """Run the scenarios of the controls, then random ones, until one fails. Return its error; "" if all pass."""
    from invoice_mcp.testing.simulate.fuzz.episode import EpisodeRunner
    from invoice_mcp.testing.simulate.fuzz.generator import GeneratorOptions, generate_scenario
    from tests.mutants.oracle import run_scenarios

    logging.disable(logging.CRITICAL)
    if verdict := run_scenarios("simulated"):
        return verdict
    runner = EpisodeRunner()
    for run in range(_RANDOM_EPISODES):
        scenario = generate_scenario(1, run, GeneratorOptions())
        episode = runner.run(scenario, f"INV-{run}")
        if episode.failure is not None:
            seen = next(iter(episode.failure.detail.splitlines()), "")
            return f"run {run}: {', '.join(episode.failure.causes)}: {seen}"[:300]
    return ""


ORACLES: Mapping[str, Callable[[Sequence[str]], str]] = {
    UNIT_TESTS: lambda tests: _pytest("-m", "not thorough", *tests) if tests else "",
    RANDOM_SCENARIOS: lambda _: _run_random_scenarios(),
    SCENARIOS: lambda _: _pytest("tests/scenarios", "-m", "not thorough", "--world=simulated"),
}
"""Each oracle, the fastest first. Given the unit test files, returns what it found; "" if it passes."""


def _run_oracle(name: str, tests: Sequence[str]) -> str:
    try:
        return ORACLES[name](tests)
    except BaseException as error:  # noqa: BLE001 (a mutant may raise anything; that kills it)
        return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"[:300]


def _run_oracles(package: str, tests: Sequence[str], oracles: Sequence[str], answer: Callable[..., None]) -> None:
    sys.path.insert(0, package)
    os.environ["PYTHONPATH"] = os.pathsep.join([package, str(Path.cwd())])
    for name in oracles:
        verdict = _run_oracle(name, tests)
        answer(oracle=name, verdict=verdict)
        if verdict:
            return


def _in_a_fork(request: Mapping[str, Any], answer: Callable[..., None]) -> None:
    child = os.fork()
    if not child:
        os.setsid()
        with suppress(BaseException):
            _run_oracles(request["package"], request["tests"], request["oracles"], answer)
        os._exit(0)
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(child, signal.SIGKILL))
    signal.alarm(request.get("within", HARNESS_TIMEOUT))
    _, status = os.waitpid(child, 0)
    signal.alarm(0)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # also servers that it may have started
    answer(oracle="", verdict="" if status == 0 else "the process ended, or was too slow")


def _write(out: Any, **answer: str) -> None:
    out.write(json.dumps(answer) + "\n")
    out.flush()


def main() -> None:
    """Serve requests from stdin until it ends."""
    answer = partial(_write, os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    for name in _PRELOADED:
        with suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        _in_a_fork(json.loads(line), answer)


if __name__ == "__main__":
    main()
