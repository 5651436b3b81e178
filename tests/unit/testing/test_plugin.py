"""The pytest plugin in another project: a conftest with one line, and tests in the session's event loop."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from invoice_mcp.testing import EngineKind, kinds, register
from invoice_mcp.testing.engines.registry import ENTRY_POINTS
from tests.nightly import at_night
from tests.requirements import requirement

pytestmark = pytest.mark.thorough

CONFTEST = 'pytest_plugins = ["invoice_mcp.testing.plugin"]\n'
CONFIGURATION = """\
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = session
asyncio_default_test_loop_scope = session
filterwarnings = error
"""
GREEN = """
from invoice_mcp.testing import PAST_DUE

async def test_a_rejected_invoice_is_never_paid(new_world):
    async with new_world() as world:
        await world.submit(("100.00", PAST_DUE))
        await world.reject()
        await world.until("REJECTED")

async def test_the_next_world_is_empty(new_world):
    async with new_world() as world:
        assert world.workflow_ids == ()
        assert world.ledger == ()
"""
RED = """
async def test_paid_twice(new_world):
    async with new_world() as world:
        await world.submit()
        await world.approve()
        await world.until("PAID")
        world.payments.made.append(world.payments.made[0])

async def test_the_next_world_is_none_the_worse(new_world):
    async with new_world() as world:
        await world.submit()
"""
TWO_AT_ONCE = """
async def test_two_at_once(new_world):
    async with new_world(), new_world():
        pass
"""
REAL = """
async def test_it_can_list(real_world):
    async with real_world() as world:
        await world.submit()
        assert len(await world.list(status="PENDING-APPROVAL")) <= 1
        assert world.engine.can_list
"""

TOY = """
from contextlib import asynccontextmanager

from invoice_mcp.testing import EngineKind, kinds

@asynccontextmanager
async def start():
    async with kinds()["time-skipping"].start() as engine:
        engine.is_a_toy = True
        print("The toy starts.")
        yield engine

KIND = EngineKind("toy", "another project's", start)
"""
ON_THE_TOY = """
async def test_it_takes_place_there(new_world):
    async with new_world() as world:
        await world.submit()
        assert world.engine.is_a_toy
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Another project."""
    (tmp_path / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text(CONFIGURATION, encoding="utf-8")
    return tmp_path


def pytest_in(project: Path, source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (project / "test_it.py").write_text(source, encoding="utf-8")
    return run_in(project, "pytest", "-p", "no:cacheprovider", *arguments)


def run_in(project: Path, *module: str) -> subprocess.CompletedProcess[str]:
    """Run a module in that project, whose modules are importable, as after an editable install."""
    command = [sys.executable, "-m", *module]
    environment = {**os.environ, "PYTHONPATH": str(project)}
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=120, cwd=project, env=environment
    )


def install(project: Path, entry: str) -> None:
    """Give the project a toy engine, and an entry point."""
    (project / "toy.py").write_text(TOY, encoding="utf-8")
    info = project / "toys-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\n{entry}\n", encoding="utf-8")


@requirement("HARNESS-PLUGIN")
def test_scenarios_that_keep_the_promises_are_green(project: Path) -> None:
    told = pytest_in(project, GREEN)
    assert told.returncode == 0, told.stdout
    assert "2 passed" in told.stdout


def test_a_scenario_that_breaks_a_rule_fails_with_its_text_and_the_next_one_passes(project: Path) -> None:
    told = pytest_in(project, RED)
    assert told.returncode == 1
    assert "1 failed, 1 passed" in told.stdout
    assert "S2 (At most one payment per line" in told.stdout
    assert "line 1 was paid 2 times" in told.stdout


def test_two_worlds_at_once_are_refused(project: Path) -> None:
    told = pytest_in(project, TWO_AT_ONCE)
    assert told.returncode == 1
    assert "RuntimeError: Another world uses this environment" in told.stdout


@pytest.mark.parametrize("world", ["time-skipping", at_night("real")])
def test_a_scenario_for_the_real_server_takes_place_there_whatever_is_asked_for(project: Path, world: str) -> None:
    told = pytest_in(project, REAL, f"--world={world}")
    assert told.returncode == 0, told.stdout
    assert "1 passed" in told.stdout


def test_help_describes_the_engines(project: Path) -> None:
    told = pytest_in(project, GREEN, "--help")
    assert told.returncode == 0
    assert "--world={time-skipping,real," in told.stdout
    assert "(default: time-skipping)" in " ".join(told.stdout.split())


def test_an_engine_that_does_not_exist_is_refused(project: Path) -> None:
    told = pytest_in(project, GREEN, "--world=moon")
    assert told.returncode == pytest.ExitCode.USAGE_ERROR
    assert "'moon'" in told.stderr
    assert "Traceback" not in told.stderr


@requirement("HARNESS-PLUGIN")
def test_an_engine_that_a_conftest_registers_can_be_chosen(project: Path) -> None:
    (project / "toy.py").write_text(TOY, encoding="utf-8")
    registering = "from invoice_mcp.testing import register\nimport toy\nregister(toy.KIND)\nregister(toy.KIND)\n"
    (project / "conftest.py").write_text(CONFTEST + registering, encoding="utf-8")
    told = pytest_in(project, ON_THE_TOY, "--world=toy")
    assert told.returncode == 0, told.stdout + told.stderr
    told = pytest_in(project, ON_THE_TOY, "--help")
    assert ",toy}" in told.stdout
    assert "toy: another project's" in " ".join(told.stdout.split())


@requirement("HARNESS-PLUGIN")
def test_an_engine_of_an_installed_project_can_be_chosen_everywhere(project: Path) -> None:
    install(project, "toy = toy:KIND")
    told = pytest_in(project, ON_THE_TOY, "--world=toy")
    assert told.returncode == 0, told.stdout + told.stderr
    told = run_in(project, "invoice_mcp.testing", "--world=toy", '{"actions": [{"verb": "reject"}]}')
    assert told.returncode == 0, told.stderr
    assert told.stdout == "The toy starts.\nAll rules hold in 1 of 1 runs: trigger reject\n"


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("toy = toys:KIND", "names toys:KIND, which can't be loaded: No module named 'toys'"),
        ("toy = toy:SORT", "names toy:SORT, which can't be loaded: module 'toy' has no attribute 'SORT'"),
        ("toy = toy:start", "must give an EngineKind of that name"),
        ("car = toy:KIND", "must give an EngineKind of that name"),
    ],
)
def test_the_error_of_a_broken_entry_point_names_its_project(project: Path, entry: str, fault: str) -> None:
    install(project, entry)
    told = run_in(project, "invoice_mcp.testing", "--help")
    assert told.returncode != 0
    assert f"The entry point {entry[:3]!r} of toys {fault}" in told.stderr
    assert "Traceback" not in told.stderr


def test_pytest_reports_a_broken_entry_point(project: Path) -> None:
    install(project, "toy = toy:start")
    told = pytest_in(project, GREEN)
    assert told.returncode == pytest.ExitCode.USAGE_ERROR
    assert "The entry point 'toy' of toys must give an EngineKind of that name" in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize("name", ["real", "time-skipping"])
def test_an_engine_can_not_take_the_name_of_another(name: str) -> None:
    with pytest.raises(ValueError, match=f"There is an engine '{name}' already"):
        register(EngineKind(name, "another", kinds()[name].start))
    assert kinds()[name].about != "another"
