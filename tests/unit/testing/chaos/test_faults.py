"""Faults, on processes that do nothing: killed, stopped and let go on, at moments and at events."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from invoice_mcp.testing.chaos import procfs
from invoice_mcp.testing.chaos.clock import Clock
from invoice_mcp.testing.chaos.faults import Injector
from invoice_mcp.testing.chaos.journal import Journal
from invoice_mcp.testing.chaos.pipes import stderr_of
from invoice_mcp.testing.chaos.processes import Cluster, free_ports, is_listening
from invoice_mcp.testing.chaos.schedule import Schedule, Step, When
from invoice_mcp.testing.chaos.storage import Storage
from tests.requirements import requirement

pytestmark = pytest.mark.skipif(not procfs.is_supported(), reason="needs /proc")


@dataclass
class Idle:
    """Stands in for a cluster: processes that sleep."""

    schedule: Schedule
    running: dict[str, subprocess.Popen[bytes]]
    daemons: dict[str, object] = field(default_factory=dict)
    restart_after: dict[str, float] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return list(self.running)

    def pid(self, name: str) -> int | None:
        process = self.running.get(name)
        return process.pid if process is not None and procfs.is_alive(process.pid) else None


@pytest.fixture
def sleeping() -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    running = {name: subprocess.Popen(["/bin/sleep", "30"]) for name in ("serve-0", "serve-1", "worker-0")}
    yield running
    for process in running.values():
        process.kill()
        process.wait()


def an_injector(running: dict[str, subprocess.Popen[bytes]], folder: Path, *steps: Step) -> tuple[Injector, Journal]:
    journal = Journal()
    cluster = cast("Cluster", Idle(Schedule(1, steps=steps), running))
    storage = Storage(folder, is_mounted=False)
    return Injector(cluster, journal, storage, Clock(folder / "clock", can_jump=False)), journal


def state(process: subprocess.Popen[bytes]) -> str:
    found = procfs.process(process.pid)
    return found.state if found else ""


@requirement("CHAOS-EPISODE")
async def test_what_is_aimed_at_an_event_is_killed_before_the_event_is_over(
    sleeping: dict[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    kill = Step(When(event="paid", number=2), "fault", "kill", {"process": "serve-0,worker-0"})
    injector, journal = an_injector(sleeping, tmp_path, kill)
    injector.aim()
    await journal.event("paid", "gateway", "has paid")
    assert injector.done == {}
    await journal.event("paid", "gateway", "has paid")
    assert injector.done == {"kill": 2}
    assert sleeping["serve-0"].wait(5) == sleeping["worker-0"].wait(5) == -signal.SIGKILL
    assert sleeping["serve-1"].poll() is None
    await injector.heal()
    assert injector.missed == 0


@requirement("CHAOS-EPISODE")
async def test_what_is_stopped_goes_on_at_its_time_or_when_all_is_healed(
    sleeping: dict[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    steps = [
        Step(When(0), "fault", "stop", {"process": "serve-0", "seconds": "0.1"}),
        Step(When(0), "fault", "stop", {"process": "workers", "seconds": "60"}),
        Step(When(0), "fault", "kill", {"process": "worker-7"}),
        Step(When(60), "fault", "kill", {"process": "serve-1"}),
        Step(When(event="paid", number=1), "fault", "kill", {"process": "serve-1"}),
        Step(When(0), "fault", "fill-disk", {"seconds": "1"}),
        Step(When(0), "fault", "jump-clock", {"by": "5"}),
    ]
    injector, _ = an_injector(sleeping, tmp_path, *steps)
    injector.aim()
    injector.begin()
    async with asyncio.timeout(10):
        while injector.done["stop"] < 2 or injector.stops[0].to == float("inf"):
            await asyncio.sleep(0.01)
        assert state(sleeping["worker-0"]) == "T"
        await injector.heal()
        assert injector.stops[1].to < float("inf")
        while "T" in {state(process) for process in sleeping.values()}:
            await asyncio.sleep(0.01)
    assert sleeping["serve-1"].poll() is None
    assert injector.done == {"stop": 2}
    assert injector.missed == 4  # nobody of that name, no such storage, no such clock, and an event that never came


@requirement("CHAOS-EPISODE")
def test_who_names_a_folder_in_command_or_environment_is_found(tmp_path: Path) -> None:
    environment = os.environ | {"SOMETHING": str(tmp_path / "home")}
    with (
        subprocess.Popen(["/bin/sleep", "30"], env=environment) as by_environment,
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)", str(tmp_path)]) as by_command,
    ):
        until = time.monotonic() + 5
        while {by_environment.pid, by_command.pid} - {each.pid for each in procfs.processes_of(tmp_path)}:
            assert time.monotonic() < until
        for each in (by_command, by_environment):
            each.kill()
    assert procfs.processes_of(tmp_path) == []
    assert not procfs.send(by_environment.pid, signal.SIGKILL)


async def test_free_ports_are_free_and_differ() -> None:
    ports = free_ports(4)
    assert len(set(ports)) == 4
    assert not any([await is_listening(port) for port in ports])


@requirement("CHAOS-EPISODE")
def test_a_full_pipe_takes_no_byte(tmp_path: Path) -> None:
    with stderr_of(tmp_path / "log", is_full=True) as stderr:
        os.set_blocking(stderr.fileno(), False)
        with pytest.raises(BlockingIOError):
            os.write(stderr.fileno(), b"x")
    with stderr_of(tmp_path / "log", is_full=False) as stderr:
        stderr.write("told")
    assert (tmp_path / "log").read_text() == "told"


@requirement("CHAOS-EPISODE")
def test_a_clock_jumps_by_the_file_that_libfaketime_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "libfaketimeMT.so.1").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    clock = Clock(tmp_path / "clock", can_jump=True)
    assert clock.environment["LD_PRELOAD"] == str(tmp_path / "libfaketimeMT.so.1")
    assert clock.jump(-3600)
    assert (tmp_path / "clock").read_text() == "-3600s\n"
    clock.heal()
    assert (tmp_path / "clock").read_text() == "+0s\n"
