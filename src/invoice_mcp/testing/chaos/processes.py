"""The processes of an episode: their commands, starting, killing, stopping, and what they leave behind."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from invoice_mcp.testing.chaos import procfs
from invoice_mcp.testing.chaos.journal import Journal
from invoice_mcp.testing.chaos.schedule import Schedule, Temporal, Transport

PROGRAM = (sys.executable, "-m", "invoice_mcp")
GUARDIAN, TEMPORAL = "guardian", "temporal"
RESTART_AFTER = 0.3
"""Seconds until who runs a process starts it again."""

# Says its pid and becomes the program.
_SAYS_ITS_PID = 'echo $$ > "$0"; exec "$@"'
# All that the processes need of this one's environment: no password, no key, nothing of Temporal's own.
_ENVIRONMENT = ("LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "VIRTUAL_ENV")
# Below the ports that systems give to outgoing connections.
_PORTS = range(14000, 20000)
_MOST_PORTS = 8
_EPISODES = itertools.count()
_LISTENS_WITHIN = 60.0
_ENDS_WITHIN = 20.0
_POLL = 0.05
# What a worker logs with -v.
_POLLS = b"Worker polls"
# What the product keeps in its home.
_KEPT = ("embedded.json", "embedded.lock", "members.lock", "temporal.", "payments.")


@dataclass
class Daemon:
    """A process that is started again whenever it ends: an HTTP server, a worker, or an external Temporal."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    journal: Journal
    port: int | None = None
    restart_after: float = RESTART_AFTER
    pid: int | None = None
    _keeper: asyncio.Task[None] | None = None
    _running: asyncio.subprocess.Process | None = None

    def begin(self) -> None:
        """Start it, and have it started again whenever it ends."""
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    async def _keep(self) -> None:
        while True:
            with self.log.open("ab") as log:
                self._running = await asyncio.create_subprocess_exec(
                    *self.command,
                    env=self.environment,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    # Ctrl-C in a terminal is for the campaign.
                    start_new_session=True,
                )
            self.pid = self._running.pid
            await self.journal.event("start", self.name, f"starts as {self.pid}")
            status = await self._running.wait()
            self.journal.note(self.name, f"has ended with {status}")
            await asyncio.sleep(self.restart_after)

    async def listens(self) -> None:
        """Wait until it listens at its port.

        Raises:
            TimeoutError: It does not within a minute.
        """
        async with asyncio.timeout(_LISTENS_WITHIN):
            while self.port is not None and not await is_listening(self.port):
                await asyncio.sleep(_POLL)

    async def end(self) -> str:
        """Have it end by SIGTERM; what was wrong about how it did, "" for nothing."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        running = self._running
        if running is None or running.returncode is not None:
            return ""
        running.terminate()
        try:
            async with asyncio.timeout(_ENDS_WITHIN):
                status = await running.wait()
        except TimeoutError:
            running.kill()
            await running.wait()
            return f"{self.name} did not end within {_ENDS_WITHIN:g} s of SIGTERM"
        return "" if status in {0, -signal.SIGTERM} else f"{self.name} ended with {status}"


@dataclass
class Cluster:
    """All processes of an episode, below a folder of their own.

    Attributes:
        hosts: Names of the servers on stdio, which clients start by `stdio_command`.
        daemons: The other processes, by name.
        clock: What processes need in their environment for a clock that jumps.
    """

    folder: Path
    schedule: Schedule
    journal: Journal
    erp_url: str
    payments_url: str
    clock: Mapping[str, str] = field(default_factory=dict)
    daemons: dict[str, Daemon] = field(init=False, default_factory=dict)
    hosts: list[str] = field(init=False, default_factory=list)
    restart_after: dict[str, float] = field(init=False, default_factory=dict)
    address: str = field(init=False, default="")

    def __post_init__(self) -> None:
        for each in (self.home, self.folder / "user", self.temporary):
            each.mkdir(parents=True, exist_ok=True, mode=0o700)
        taken = iter(free_ports(1 + len(self.schedule.servers)))
        if self.schedule.temporal is Temporal.EXTERNAL:
            port = next(taken)
            self.address = f"127.0.0.1:{port}"
            self._add(TEMPORAL, _dev_server(self.folder / "dev-server.db", port), port)
        for number in range(self.schedule.workers):
            self._add(f"worker-{number}", [*PROGRAM, "worker", "-v", *self._reach()], None)
        for number, server in enumerate(self.schedule.servers):
            name = f"serve-{number}"
            if server.transport is Transport.STDIO:
                self.hosts.append(name)
            else:
                port = next(taken)
                self._add(name, [*self._serve(), "--http", "--port", str(port)], port)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def temporary(self) -> Path:
        """Where they put what is temporary."""
        return self.folder / "tmp"

    @property
    def environment(self) -> dict[str, str]:
        """Of every process."""
        return {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | {
            "HOME": str(self.folder / "user"),
            "TMPDIR": str(self.temporary),
            "INVOICE_MCP_HOME": str(self.home),
            "INVOICE_MCP_ACCEPT_EMBEDDED_RISK": "1",
            "ERP_URL": self.erp_url,
            "PAYMENTS_URL": self.payments_url,
            **self.clock,
        }

    def _reach(self) -> list[str]:
        return ["--address", self.address] if self.address else []

    def _serve(self) -> list[str]:
        window = f"{self.schedule.window:g}s"
        # A client without forms is taken at its word: else most approvals would be refused.
        serve = [*PROGRAM, "serve", "-v", "--approval", "ask", "--approval-timeout", window, *self._reach()]
        return [*serve, "--no-worker"] if self.schedule.workers else serve

    def _add(self, name: str, command: Sequence[str], port: int | None) -> None:
        self.daemons[name] = Daemon(name, command, self.environment, self.folder / f"{name}.log", self.journal, port)

    def pid_file(self, name: str) -> Path:
        """Where a server on stdio says its pid."""
        return self.folder / f"{name}.pid"

    def stdio_command(self, name: str) -> list[str]:
        """What a client starts as its server."""
        return ["/bin/sh", "-c", _SAYS_ITS_PID, str(self.pid_file(name)), *self._serve()]

    @property
    def names(self) -> list[str]:
        """Of every process that faults can be aimed at."""
        embedded = [GUARDIAN, TEMPORAL] if self.schedule.temporal is Temporal.EMBEDDED else []
        return [*self.hosts, *self.daemons, *embedded]

    def pid(self, name: str) -> int | None:
        """Of a process that runs, or is stopped, now; None if there is none."""
        pid = self._pid(name)
        return pid if pid is not None and procfs.is_alive(pid) else None

    def _pid(self, name: str) -> int | None:
        if name in self.daemons:
            return self.daemons[name].pid
        if name in self.hosts:
            with suppress(OSError, ValueError):
                return int(self.pid_file(name).read_text())
            return None
        guardian = self._embedded("pid")
        if name == GUARDIAN or not isinstance(guardian, int):
            return guardian if isinstance(guardian, int) else None
        found = (each.pid for each in dev_servers(self.home) if each.parent == guardian)
        return next(found, None)

    def _embedded(self, name: str) -> object:
        with suppress(OSError, ValueError, AttributeError):
            return json.loads((self.home / "embedded.json").read_text()).get(name)
        return None

    @property
    def temporal_address(self) -> str | None:
        """Where Temporal listens, or did last."""
        if self.address:
            return self.address
        address = self._embedded("address")
        return address if isinstance(address, str) else None

    def signal(self, name: str, number: signal.Signals) -> bool:
        """Send a signal to a process; False if there is none of that name now."""
        pid = self.pid(name)
        return pid is not None and procfs.send(pid, number)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Have the daemons run for the length of the block. At its end nothing of the episode runs any more."""
        try:
            for daemon in self.daemons.values():
                daemon.begin()
            yield
        finally:
            for daemon in self.daemons.values():
                if daemon._keeper is not None:  # noqa: SLF001 (of this module)
                    daemon._keeper.cancel()  # noqa: SLF001
            for each in procfs.processes_of(self.folder):
                procfs.send(each.pid, signal.SIGKILL)

    async def until_working(self, within: float) -> None:
        """Wait until each worker of its own has polled once, but not longer than that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                for number in range(self.schedule.workers):
                    while _POLLS not in self.daemons[f"worker-{number}"].log.read_bytes():
                        await asyncio.sleep(_POLL)

    async def end(self) -> list[str]:
        """End all daemons as a user would, servers before workers before Temporal; what was wrong about that."""
        ordered = sorted(self.daemons.values(), key=lambda each: (each.name == TEMPORAL, each.name.startswith("work")))
        return [wrong for daemon in ordered if (wrong := await daemon.end())]

    async def left_behind(self) -> list[str]:
        """What is left when all has ended: processes, ports, files. Waits a while for processes that still end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_ENDS_WITHIN):
                while procfs.processes_of(self.folder):
                    await asyncio.sleep(_POLL)
        left = [f"process {each}" for each in procfs.processes_of(self.folder)]
        ports = {daemon.port for daemon in self.daemons.values()}
        ports.add(int((self.temporal_address or ":0").rpartition(":")[2]) or None)
        left += [f"port {port} is open" for port in ports if port is not None and await is_listening(port)]
        kept = [each for each in self.home.iterdir() if not each.name.startswith(_KEPT)]
        return left + [f"file {each.relative_to(self.folder)}" for each in (*kept, *self.temporary.iterdir())]


def dev_servers(home: Path) -> list[procfs.Found]:
    """Temporal servers that write the database of a home, without their guardians."""
    database = str(home / "temporal.db")
    return [
        each
        for each in procfs.processes()
        if database in each.command and "start-dev" in each.command[:4] and each.state not in {"Z", "X"}
    ]


def _dev_server(database: Path, port: int) -> list[str]:
    # What takes long to import is imported by who needs it.
    from invoice_mcp.temporal.embedded import temporal_binary  # noqa: PLC0415

    command = [str(temporal_binary()), "server", "start-dev", "--headless", "--log-level", "warn"]
    command += ["--ip", "127.0.0.1", "--port", str(port), "--db-filename", str(database)]
    return [*command, "--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=full"]


async def is_listening(port: int) -> bool:
    """Whether somebody accepts connections at a port of this machine."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens at."""
    found: list[int] = []
    # Two campaigns at once begin elsewhere, and so do two episodes of one.
    first = _PORTS.start + (os.getpid() * 50 + next(_EPISODES) * _MOST_PORTS) % (len(_PORTS) - 50)
    for port in (*range(first, _PORTS.stop), *range(_PORTS.start, first)):
        if len(found) == count:
            break
        with socket.socket() as candidate, suppress(OSError):
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            candidate.bind(("127.0.0.1", port))
            found.append(port)
    return found
