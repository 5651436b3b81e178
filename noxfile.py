"""Every check of this project, each in an environment of its own: `nox -l` lists them, `nox` runs the default ones."""

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
# More processes than cores: the end-to-end tests mostly wait for servers and clocks. Each has engines of its own.
QUICK, THOROUGH = "not thorough and not nightly", "thorough and not nightly"
IN_PARALLEL = ["--numprocesses=4", "--dist=worksteal", "--quiet", "--hypothesis-profile=ci"]
# What other versions may do otherwise: everything pure, whole lives, replays among them, and the recorded histories.
# For that a few random examples are enough, and no processes that are killed.
LIVES = [f"tests/scenarios/test_{part}.py" for part in ("deciding", "paying", "cancelling", "without_cache")]
REPLAYS = [f"tests/replay/test_{part}.py" for part in ("corpus", "strict", "shapes", "versioning")]
KILLED = [f"--ignore=tests/unit/test_{part}.py" for part in ("embedded", "embedded_reach", "backup", "state")]
ELSEWHERE = ["tests/unit", *KILLED, *LIVES, *REPLAYS, "-m", QUICK]
ELSEWHERE += [*IN_PARALLEL, "--hypothesis-profile=second-opinion"]
# Scenarios by the thousand are simulated. Servers of Temporal play those that are written by hand each time, and give a
# second opinion on the others at night.
BULK = ["-m", THOROUGH, *IN_PARALLEL]
ON_A_SERVER = [*IN_PARALLEL, "--bulk=time-skipping", "--hypothesis-profile=second-opinion"]
SECOND_OPINION = [f"tests/scenarios/test_{part}.py" for part in ("every_word", "random_lives", "controls", "bad_input")]
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
    """Measure which statements those tests reach that say what each part does; the thorough ones say it once more.

    Not each time: it takes half as long again. What a statement does, and whether that is looked at, the mutants tell.
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
    """Run the unit tests and some lives on another Python, if it is there. Not each time, for the time it takes."""
    session.install(".", *_group("test"))
    session.run("pytest", *(session.posargs or ELSEWHERE))


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the unit tests, some lives and the replay gate with the lowest versions that pyproject.toml allows.

    On the real server: that these lives end alike there is a second opinion. `nightly` has one on every scenario. The
    newest versions, of temporalio too, are what `tests` installs: it replays the same recordings. As long as the lowest
    temporalio that is supported is the newest there is, both are the same.
    """
    bounds = [
        re.split(r"[;\s]", requirement)[0].replace(">=", "==") for requirement in PYPROJECT["project"]["dependencies"]
    ]
    session.install(".", *bounds, *_group("test"))
    session.run("pytest", *(session.posargs or [*ELSEWHERE, "--world=real"]))


@nox.session
def replay(session: nox.Session) -> None:
    """Run the replay gate over the recorded histories, then its own tests, negative controls among them."""
    session.install(".", *_group("test"))
    session.run("invoice-mcp", "histories", "check", *session.posargs)
    session.run("pytest", "tests/replay", *IN_PARALLEL)


@nox.session
def mutants(session: nox.Session) -> None:
    """Edit the workflows in every way, other code in some: who notices, in docs/mutants*.md. Takes a while.

    Arguments go to the first: for the other `python -m tests.mutants.elsewhere --help`.
    """
    session.install(".", *_group("test"))
    session.run("python", "-m", "tests.mutants", *session.posargs)
    if not session.posargs:
        session.run("python", "-m", "tests.mutants.elsewhere")


@nox.session
def scenarios(session: nox.Session) -> None:
    """Run the scenarios alone, as CI does: nox -s scenarios -- --world=real."""
    session.install(".", *_group("test"))
    session.run("pytest", "tests/scenarios", "-m", QUICK, *IN_PARALLEL, *session.posargs)
    session.run("pytest", "tests/scenarios", *BULK, *session.posargs)
    session.run("pytest", *SECOND_OPINION, *session.posargs)


@nox.session
def conformance(session: nox.Session) -> None:
    """Let the official MCP conformance suite judge the tasks extension, and the server itself in both revisions."""
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
    """Play all words of five actions, of four on a server, ten times as many random lives, all on the real server."""
    session.install(".", *_group("test"))
    session.run("pytest", "tests", "-m", "nightly", *IN_PARALLEL)
    thorough = ["tests/scenarios", "-m", "thorough", "--numprocesses=4", "--hypothesis-profile=nightly"]
    session.run("pytest", *thorough, "--words=5", *session.posargs)
    session.run("pytest", *SECOND_OPINION, "--words=4", *session.posargs)
    agreement = ["tests/scenarios/test_agreement.py", "--agreement=3", "--hypothesis-profile=nightly"]
    session.run("pytest", *agreement, "--numprocesses=4", *session.posargs)
    session.run("pytest", "tests/scenarios", "-m", QUICK, "--world=real", *IN_PARALLEL)
    session.run("invoice-mcp", "chaos", "--for=1h", "--jobs=2", "--keep-going")


@nox.session
def bench(session: nox.Session) -> None:
    """Print how fast scenarios, the gate and the handshake are, beside Temporal's own and a bare MCP server."""
    session.install(".", *_group("test"))
    session.run("python", "-m", "tests.bench", *session.posargs)
    session.run("python", "-m", "tests.bench.replays")
    session.run("python", "-m", "tests.bench.handshake")


@nox.session
def controls(session: nox.Session) -> None:
    """Show that the scenarios catch every deliberately broken workflow, as a table."""
    session.install(".", *_group("test"))
    session.run("python", "-m", "tests.scenarios.controls", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting, and which package imports which; `nox -s lint -- --fix` mends what it can."""
    session.install(*_group("lint"))
    session.run("ruff", "format", *([] if session.posargs else ["--check"]), ".")
    session.run("ruff", "check", ".", *session.posargs)
    session.run("lint-imports", "--no-cache", env={"PYTHONPATH": "src"})


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    session.install(".", *_group("types"))
    session.run("mypy", *session.posargs)
