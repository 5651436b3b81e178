"""What Linux tells of processes: who is whose child, who belongs to an episode, who is stopped."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class Found:
    """A process. `state` is one letter as `ps` has it: T is stopped, Z a zombie."""

    pid: int
    parent: int
    state: str
    command: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.pid} ({self.state}) {' '.join(self.command)[:300]}"


def is_supported() -> bool:
    """Whether this system tells."""
    return sys.platform == "linux" and (_PROC / "self" / "stat").exists()


def process(pid: int) -> Found | None:
    """What is known of a process; None if there is none."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
        command = (_PROC / str(pid) / "cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    # The name in parentheses may have spaces and parentheses itself.
    state, parent, *_ = stat.rpartition(")")[2].split()
    words = tuple(each.decode(errors="replace") for each in command.split(b"\0") if each)
    return Found(pid, int(parent), state, words)


def is_alive(pid: int) -> bool:
    """Whether it runs, or is stopped; a zombie does neither."""
    found = process(pid)
    return found is not None and found.state not in {"Z", "X"}


def processes() -> Iterator[Found]:
    """All that there are."""
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (found := process(int(entry.name))) is not None:
            yield found


def processes_of(folder: Path) -> list[Found]:
    """Those that name a folder in their command or their environment, but for this process and zombies."""
    mark = str(folder).encode()
    found = []
    for each in processes():
        if each.pid == os.getpid() or each.state in {"Z", "X"}:
            continue
        environment = b""
        with suppress(OSError):
            environment = (_PROC / str(each.pid) / "environ").read_bytes()
        if mark in environment or str(folder) in " ".join(each.command):
            found.append(each)
    return found


def send(pid: int, number: signal.Signals) -> bool:
    """Send a signal; False if there is nobody."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
