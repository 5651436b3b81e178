"""The pytest plugin, as another project uses it: a conftest of one line, and tests in the session's event loop."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
from invoice_mcp.testing import PAST

async def test_a_rejected_invoice_is_never_paid(new_world):
    async with new_world() as world:
        await world.submit(("100.00", PAST))
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


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Another project."""
    (tmp_path / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text(CONFIGURATION, encoding="utf-8")
    return tmp_path


def pytest_in(project: Path, source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (project / "test_it.py").write_text(source, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, cwd=project)


@requirement("HARNESS-PLUGIN")
def test_scenarios_that_keep_the_promises_are_green(project: Path) -> None:
    told = pytest_in(project, GREEN)
    assert told.returncode == 0, told.stdout
    assert "2 passed" in told.stdout


def test_a_scenario_that_breaks_a_promise_is_red_with_its_words_and_the_next_is_green(project: Path) -> None:
    told = pytest_in(project, RED)
    assert told.returncode == 1
    assert "1 failed, 1 passed" in told.stdout
    assert "S2 (At most one payment per line" in told.stdout
    assert "line 1 was paid 2 times" in told.stdout


def test_two_worlds_at_once_are_refused(project: Path) -> None:
    told = pytest_in(project, TWO_AT_ONCE)
    assert told.returncode == 1
    assert "RuntimeError: A world takes place on this stage already" in told.stdout


@pytest.mark.parametrize("world", ["time-skipping", "real"])
def test_a_scenario_for_the_real_server_takes_place_there_whatever_is_asked_for(project: Path, world: str) -> None:
    told = pytest_in(project, REAL, f"--world={world}")
    assert told.returncode == 0, told.stdout
    assert "1 passed" in told.stdout


def test_help_tells_of_both_engines(project: Path) -> None:
    told = pytest_in(project, GREEN, "--help")
    assert told.returncode == 0
    assert "--world={time-skipping,real}" in told.stdout
    assert "(default: time-skipping)" in " ".join(told.stdout.split())


def test_an_engine_that_does_not_exist_is_refused(project: Path) -> None:
    told = pytest_in(project, GREEN, "--world=moon")
    assert told.returncode == pytest.ExitCode.USAGE_ERROR
    assert "'moon'" in told.stderr
    assert "Traceback" not in told.stderr
