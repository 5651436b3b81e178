"""All checks of this project, each in its own environment: `nox -l` lists them, `nox` runs the default ones."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)
THIS_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHER_PYTHONS = [version for version in PYTHONS if version != THIS_PYTHON]
nox.options.sessions = ["lint", "types", "tests", "conformance", "lowest"]
COVERAGE_FLOOR = 95
# More processes than cores, because the end-to-end tests mostly wait. Each process has its own engines.
QUICK, THOROUGH = "not thorough and not nightly", "thorough and not nightly"
IN_PARALLEL = ["--numprocesses=4", "--dist=worksteal", "--quiet", "--hypothesis-profile=ci"]
# For other versions of Python and of the dependencies: unit tests without killed processes, some scenarios, the replay
# of recorded histories, and few random examples.
EPISODES = [
    f"tests/scenarios/test_{part}.py"
    for part in ("decisions_by_people", "payments_on_due_dates", "cancellation", "without_cache")
]
REPLAYS = [f"tests/replay/test_{part}.py" for part in ("corpus", "strict", "command_kinds", "versioning")]
WITHOUT_KILLS = [
    f"--ignore=tests/unit/test_{part}.py" for part in ("embedded", "embedded_reach", "backup", "state_binding")
]
ON_OTHER_VERSIONS = ["tests/unit", *WITHOUT_KILLS, *EPISODES, *REPLAYS, "-m", QUICK]
ON_OTHER_VERSIONS += [*IN_PARALLEL, "--hypothesis-profile=second-opinion"]
# Thousands of scenarios run on the simulator. The Temporal servers run the handwritten ones each time, the others at
# night.
BULK = ["-m", THOROUGH, *IN_PARALLEL]
ON_A_SERVER = [*IN_PARALLEL, "--bulk=time-skipping", "--hypothesis-profile=second-opinion"]
SECOND_OPINION = [
    f"tests/scenarios/test_{part}.py" for part in ("action_sequences", "random_scenarios", "controls", "bad_input")
]
SECOND_OPINION += ON_A_SERVER


def _group(name: str) -> list[str]:
    return nox.project.dependency_groups(PYPROJECT, name)


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests, on this Python; arguments go to pytest: nox -s tests -- -k expired."""
    session.install(".", *_group("test"))
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    session.run("pytest", "-m", QUICK, *IN_PARALLEL)
    session.run("pytest", *BULK)


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure the statement coverage of the quick tests.

    Not a default session: it takes half as long again. Whether tests check what a statement does, `mutants` shows.
    """
    session.install(".", *_group("test"))
    session.env["COVERAGE_FILE"] = str(Path(session.virtualenv.location).absolute() / ".coverage")
    # Python's own monitoring counts statements at little cost.
    core = {} if THIS_PYTHON == "3.11" else {"COVERAGE_CORE": "sysmon"}
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "-m", QUICK, *IN_PARALLEL, env=core)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report", f"--fail-under={COVERAGE_FLOOR}")


@nox.session(python=OTHER_PYTHONS)
def compatibility(session: nox.Session) -> None:
    """Run the unit tests and some scenarios on other Python versions, where installed. Not a default session."""
    session.install(".", *_group("test"))
    session.run("pytest", *(session.posargs or ON_OTHER_VERSIONS))


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the unit tests, some scenarios and the replay gate with the lowest versions that pyproject.toml allows.

    The scenarios run on the real server; `nightly` runs all of them there. The session `tests` replays the same
    recordings with the newest versions.
    """
    bounds = [
        re.split(r"[;\s]", requirement)[0].replace(">=", "==") for requirement in PYPROJECT["project"]["dependencies"]
    ]
    session.install(".", *bounds, *_group("test"))
    session.run("pytest", *(session.posargs or [*ON_OTHER_VERSIONS, "--world=real"]))


@nox.session
def replay(session: nox.Session) -> None:
    """Run the replay gate on the recorded histories, then its own tests."""
    session.install(".", *_group("test"))
    session.run("invoice-mcp", "histories", "check", *session.posargs)
    session.run("pytest", "tests/replay", *IN_PARALLEL)


@nox.session
def mutants(session: nox.Session) -> None:
    """Run mutation testing and write docs/mutants*.md. Takes hours.

    Arguments are for the mutants of the workflows; for the others see `python -m tests.mutants.code_mutants --help`.
    """
    session.install(".", *_group("test"))
    session.run("python", "-m", "tests.mutants", *session.posargs)
    if not session.posargs:
        session.run("python", "-m", "tests.mutants.code_mutants")


@nox.session
def scenarios(session: nox.Session) -> None:
    """Run the scenarios alone, as CI does: nox -s scenarios -- --world=real."""
    session.install(".", *_group("test"))
    session.run("pytest", "tests/scenarios", "-m", QUICK, *IN_PARALLEL, *session.posargs)
    session.run("pytest", "tests/scenarios", *BULK, *session.posargs)
    session.run("pytest", *SECOND_OPINION, *session.posargs)


@nox.session
def conformance(session: nox.Session) -> None:
    """Run the official MCP conformance suite on the tasks extension and on the server, in both revisions."""
    session.install(".", *_group("conformance"))
    cache = Path(session.virtualenv.location).absolute() / "conformance"
    session.run("python", "-m", "tests.conformance", "--cache", str(cache), *session.posargs)


@nox.session
def chaos(session: nox.Session) -> None:
    """Kill and stop real processes in ten episodes, or what of them begins in 90 seconds, and judge them.

    Arguments go to invoice-mcp chaos.
    """
    session.install(".")
    session.run(
        "invoice-mcp", "chaos", *(session.posargs or ["--seed=1", "--runs=10", "--for=90s", "--jobs=3", "--keep-going"])
    )


@nox.session
def nightly(session: nox.Session) -> None:
    """Run all sequences of five actions (four on servers), ten times as many random scenarios, all on servers."""
    session.install(".", *_group("test"))
    session.run("pytest", "tests", "-m", "nightly", *IN_PARALLEL)
    thorough = ["tests/scenarios", "-m", "thorough", "--numprocesses=4", "--hypothesis-profile=nightly"]
    session.run("pytest", *thorough, "--sequence-length=5", *session.posargs)
    session.run("pytest", *SECOND_OPINION, "--sequence-length=4", *session.posargs)
    agreement = ["tests/scenarios/test_agreement.py", "--agreement=3", "--hypothesis-profile=nightly"]
    session.run("pytest", *agreement, "--numprocesses=4", *session.posargs)
    session.run("pytest", "tests/scenarios", "-m", QUICK, "--world=real", *IN_PARALLEL)
    session.run("invoice-mcp", "chaos", "--for=1h", "--jobs=2", "--keep-going")


@nox.session
def bench(session: nox.Session) -> None:
    """Benchmark scenarios, gate and handshake against Temporal's own servers, its Replayer and a bare MCP server."""
    session.install(".", *_group("test"))
    session.run("python", "-m", "tests.bench", *session.posargs)
    session.run("python", "-m", "tests.bench.replays")
    session.run("python", "-m", "tests.bench.handshake")


@nox.session
def controls(session: nox.Session) -> None:
    """Run the scenarios on every deliberately broken workflow and print which rule catches it."""
    session.install(".", *_group("test"))
    session.run("python", "-m", "tests.scenarios.controls", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and import contracts; `nox -s lint -- --fix` fixes what it can."""
    session.install(*_group("lint"))
    session.run("ruff", "format", *([] if session.posargs else ["--check"]), ".")
    session.run("ruff", "check", ".", *session.posargs)
    session.run("lint-imports", "--no-cache", env={"PYTHONPATH": "src"})


@nox.session
def types(session: nox.Session) -> None:
    """Check types strictly, and that every import is a declared dependency."""
    session.install(".", *_group("types"))
    session.run("mypy", *session.posargs)
    session.run("deptry", "src")
    # The product alone must not need the extra `testing`.
    harness = "src/(invoice_mcp/testing|temporal_replay|temporal_simulator)"
    session.run("deptry", "src", "--extend-exclude", harness, "--optional-dependencies-dev-groups", "testing")
