"""A host as users have it: the real program as a child process, spoken to over stdio by a real MCP client."""

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
# Says its pid and becomes the program: a test that kills must know whom.
_WRITE_PID_AND_EXEC = 'echo $$ > "$0"; exec "$@"'


@dataclass
class Host(ToolClient):
    """A desk whose server is a process of its own."""

    home: Path = field(kw_only=True)
    pid_file: Path = field(kw_only=True)

    @property
    def pid(self) -> int:
        return int(self.pid_file.read_text())

    def kill(self) -> None:
        """End the server as a crash would."""
        os.kill(self.pid, signal.SIGKILL)


def environment(home: Path) -> dict[str, str]:
    return os.environ | {"INVOICE_MCP_HOME": str(home)}


@asynccontextmanager
async def host(home: Path, *arguments: str) -> AsyncIterator[Host]:
    """`invoice-mcp serve`, as a host starts it, on the embedded Temporal under `home`."""
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
    """Run the program to its end."""
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
    """The lines a process says up to the one with these words, which it has to say in time."""
    lines: list[str] = []
    with anyio.fail_after(within):
        while not lines or words not in lines[-1]:
            # Abandoned when the time is over: its thread goes on reading until whoever started the process ends it.
            lines.append(await anyio.to_thread.run_sync(stream.readline, abandon_on_cancel=True))
            assert lines[-1], f"it ended and never said {words!r}: {lines}"
    return lines


def processes() -> list[str]:
    """Command lines of all processes."""
    # -ww: else the lines are cut, and what stands at their end is never found.
    listed = subprocess.run(["/bin/ps", "-ww", "-eo", "pid,args"], capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


def processes_of(home: Path) -> list[str]:
    """Those of the Temporal server and the guardian of this home."""
    return [line for line in processes() if str(home / "temporal.db") in line]


async def wait_until_gone(home: Path, within: float = 15) -> None:
    """Wait until no process of this home is left."""
    with anyio.fail_after(within):
        while processes_of(home):
            await anyio.sleep(0.05)


@asynccontextmanager
async def embedded_client(home: Path) -> AsyncIterator[TemporalClient]:
    """A client of the embedded Temporal under `home`, for what only Temporal can tell."""
    async with EmbeddedTemporal(home) as embedded:
        yield await TemporalClient.connect(embedded.endpoint.address, data_converter=pydantic_data_converter)
