"""Cost of the first answers: processor time until `initialize` is answered, beside a bare server with one tool.

Both alternate in one run, so that load on the machine affects both. Each server is a new process that is killed after
its answer; its processor time includes its children. `tools/list` is measured in other processes. Ours has an empty
home, so it would have to start the embedded Temporal.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

BARE = """
from mcp.server import MCPServer

server = MCPServer("bare")

@server.tool()
def nothing() -> str:
    return ""

server.run()
"""
COMMANDS = {"bare": [sys.executable, "-c", BARE], "invoice-mcp": [sys.executable, "-m", "invoice_mcp", "serve"]}
_PARAMS = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "0"}}
INITIALIZE: list[Mapping[str, object]] = [{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": _PARAMS}]
TOOLS: list[Mapping[str, object]] = [
    *INITIALIZE,
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
    {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
]


class Cost(NamedTuple):
    """Seconds until the last answer: processor time, and elapsed time."""

    processor: float
    clock: float


def cost(command: Sequence[str], messages: Sequence[Mapping[str, object]], home: Path) -> Cost:
    """Start a server, send these messages, and kill it after its last answer."""
    began = time.perf_counter()
    server = subprocess.Popen(
        command,
        env={**os.environ, "INVOICE_MCP_HOME": str(home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    if server.stdin is None or server.stdout is None:
        raise AssertionError("no pipes")
    server.stdin.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages))
    server.stdin.flush()
    wanted = messages[-1]["id"]
    while (line := server.stdout.readline()) and json.loads(line).get("id") != wanted:
        """Skip earlier answers."""
    clock = time.perf_counter() - began
    server.kill()
    _, _, used = os.wait4(server.pid, 0)
    server.returncode = 0
    server.stdin.close()
    server.stdout.close()
    if not line:
        raise AssertionError(f"{command[:3]} ended without an answer")
    return Cost(used.ru_utime + used.ru_stime, clock)


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=15, help="Starts of each server.", show_default=True)
def main(rounds: int) -> None:
    """Print the cost of the answers to `initialize` and `tools/list`, ours beside a bare server's."""
    console = Console()
    table = Table(title=f"Processor time until answered, medians of {rounds} starts, one after another")
    for column in ("answer to", "bare, s", "invoice-mcp, s", "ratio", "bare, s of clock", "invoice-mcp, s of clock"):
        table.add_column(column, justify="left" if column == "answer to" else "right")
    with tempfile.TemporaryDirectory() as folder:
        for what, messages in {"initialize": INITIALIZE, "tools/list": TOOLS}.items():
            costs: dict[str, list[Cost]] = {name: [] for name in COMMANDS}
            for turn in track(range(-1, rounds), what, console=console, transient=True):
                for name, command in COMMANDS.items():
                    found = cost(command, messages, Path(folder) / f"{what[:5]}{turn}")
                    # The first turn fills the system's caches.
                    costs[name] += [found] if turn >= 0 else []
            bare, ours = ([statistics.median(each) for each in zip(*costs[name], strict=True)] for name in COMMANDS)
            table.add_row(
                what, f"{bare[0]:.2f}", f"{ours[0]:.2f}", f"{ours[0] / bare[0]:.2f}", f"{bare[1]:.2f}", f"{ours[1]:.2f}"
            )
    console.print(table)


if __name__ == "__main__":
    main()
