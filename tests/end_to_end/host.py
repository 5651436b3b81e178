"""The program as a child process of an MCP client over stdio, as in a host."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import anyio
import anyio.to_thread
from mcp import Client, StdioServerParameters
from temporalio.client import Client as TemporalClient
from temporalio.contrib.pydantic import pydantic_data_converter

from invoice_mcp.cli.demo import wait_until_ready
from invoice_mcp.temporal.embedded import EmbeddedTemporal
from tests.tool_client import ToolClient

PROGRAM = (sys.executable, "-m", "invoice_mcp")
# Writes its pid to a file and becomes the program, so that a test can kill it.
_WRITE_PID_AND_EXEC = 'echo $$ > "$0"; exec "$@"'


@dataclass
class Host(ToolClient):
    """A tool client whose server is a child process."""

    home: Path = field(kw_only=True)
    pid_file: Path = field(kw_only=True)

    @property
    def pid(self) -> int:
        return int(self.pid_file.read_text())

    def kill(self) -> None:
        """End the server with SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)


def environment(home: Path) -> dict[str, str]:
    return os.environ | {"INVOICE_MCP_HOME": str(home)}


@asynccontextmanager
async def host(home: Path, *arguments: str) -> AsyncIterator[Host]:
    """Start `invoice-mcp serve` as a host does, with the embedded Temporal under `home`."""
    home.parent.mkdir(parents=True, exist_ok=True)
    pid_file = home.parent / f"serve-{len(list(home.parent.glob('serve-*.pid')))}.pid"
    command = ["-c", _WRITE_PID_AND_EXEC, str(pid_file), *PROGRAM, "serve", *arguments]
    errors = (home.parent / f"{pid_file.stem}.log").open("w")
    with errors:
        server = StdioServerParameters(command="/bin/sh", args=command, env=environment(home))
        async with Client(server) as client:
            await wait_until_ready(client)
            yield Host(client, home=home, pid_file=pid_file)


def run(home: Path, *arguments: str, within: float = 60) -> subprocess.CompletedProcess[str]:
    """Run the program until it ends."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
        stdin=subprocess.DEVNULL,
    )


async def read_until(stream: IO[str], words: str, within: float = 60) -> list[str]:
    """Read lines up to the first that contains `words`, and return them."""
    lines: list[str] = []
    with anyio.fail_after(within):
        while not lines or words not in lines[-1]:
            # Abandoned on timeout: the thread reads until the process ends.
            lines.append(await anyio.to_thread.run_sync(stream.readline, abandon_on_cancel=True))
            assert lines[-1], f"the stream ended without {words!r}: {lines}"
    return lines


def processes() -> list[str]:
    """Return the command lines of all processes."""
    # -ww: otherwise ps truncates the lines.
    listed = subprocess.run(["/bin/ps", "-ww", "-eo", "pid,args"], capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


def processes_of(home: Path) -> list[str]:
    """Return those of the Temporal server and the guardian of this home."""
    return [line for line in processes() if str(home / "temporal.db") in line]


async def wait_until_gone(home: Path, within: float = 15) -> None:
    """Wait until no process of this home is left."""
    with anyio.fail_after(within):
        while processes_of(home):
            await anyio.sleep(0.05)


@asynccontextmanager
async def embedded_client(home: Path) -> AsyncIterator[TemporalClient]:
    """Yield a Temporal client of the embedded server under `home`."""
    async with EmbeddedTemporal(home) as embedded:
        yield await TemporalClient.connect(embedded.endpoint.address, data_converter=pydantic_data_converter)
