"""A Temporal server, a worker and MCP servers in separate processes, each of which can be killed and restarted."""

from __future__ import annotations

import asyncio
import random
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from invoice_mcp.temporal.embedded import _free_port, temporal_binary
from tests.end_to_end.host import PROGRAM, environment

STARTS_WITHIN = 60.0


def free_port() -> int:
    """Return a port outside the ephemeral range: a client that reconnects to a killed server might take such a port."""
    return _free_port(None)


@dataclass
class Process:
    """A command, optionally with the port that it listens on, which can be killed."""

    command: list[str]
    home: Path
    log: Path
    port: int | None = None
    running: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it and wait until it listens."""
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                self.command, env=environment(self.home), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        with anyio.fail_after(STARTS_WITHIN):
            while self.port is not None and not await listens(self.port):
                assert self.running.poll() is None, self.log.read_text()
                await anyio.sleep(0.05)

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self.running is not None:
            self.running.kill()
            self.running.wait(timeout=10)

    async def restart(self) -> None:
        self.kill()
        await self.start()


async def listens(port: int) -> bool:
    with suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return False


@dataclass
class Cluster:
    """The processes, with their data below a folder."""

    folder: Path
    servers: int = 1
    temporal: Process = field(init=False)
    worker: Process = field(init=False)
    mcp: list[Process] = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        address = f"127.0.0.1:{port}"
        start = [str(temporal_binary()), "server", "start-dev", "--headless", "--port", str(port)]
        database = ["--db-filename", str(self.folder / "temporal.db")]
        pragmas = ["--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=full"]
        self.temporal = self._process("temporal", [*start, *database, *pragmas], port)
        self.worker = self._process("worker", [*PROGRAM, "worker", "-v", "--address", address])
        # The default policy for a configured Temporal refuses clients without forms, as some of these tests use.
        serve = [*PROGRAM, "serve", "--no-worker", "--approval", "ask", "--address", address, "--http"]
        serve += [*(["--no-sessions"] if self.servers > 1 else []), "--port"]
        ports = [free_port() for _ in range(self.servers)]
        self.mcp = [self._process(f"serve-{n}", [*serve, str(port)], port) for n, port in enumerate(ports)]

    def _process(self, name: str, command: list[str], port: int | None = None) -> Process:
        return Process(command, self.home, self.folder / f"{name}.log", port)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.mcp[0].port}/mcp"

    def named(self, name: str) -> Process:
        """Return the process of this name: server, worker or temporal."""
        return {"server": self.mcp[0], "worker": self.worker, "temporal": self.temporal}[name]

    async def __aenter__(self) -> Self:
        try:
            for process in (self.temporal, self.worker, *self.mcp):
                await process.start()
            with anyio.fail_after(STARTS_WITHIN):
                while "Worker polls" not in self.worker.log.read_text():
                    await anyio.sleep(0.05)
        except BaseException:
            self._kill()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()

    def _kill(self) -> None:
        for process in (*self.mcp, self.worker, self.temporal):
            process.kill()


@asynccontextmanager
async def load_balancer(cluster: Cluster, answering: list[int], seed: int) -> AsyncIterator[str]:
    """Yield the URL of a balancer that sends each connection to a random server; `answering` gets its index."""
    generator = random.Random(seed)

    async def balance(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        which = generator.randrange(len(cluster.mcp))
        answering.append(which)
        with suppress(OSError):
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", cluster.mcp[which].port)
            await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))

    async with await asyncio.start_server(balance, "127.0.0.1", 0) as balancer:
        yield f"http://127.0.0.1:{balancer.sockets[0].getsockname()[1]}/mcp"


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with suppress(OSError, RuntimeError):
        writer.close()


@asynccontextmanager
async def client_without_keep_alive(url: str, **options: Any) -> AsyncIterator[Client]:
    """Yield a client that opens a connection for every request, so that each may reach another server."""
    async with AsyncExitStack() as stack:
        limits = httpx2.Limits(max_keepalive_connections=0)
        http = await stack.enter_async_context(httpx2.AsyncClient(limits=limits, timeout=30))
        transport = streamable_http_client(url, http_client=http)
        yield await stack.enter_async_context(Client(transport, **options))
