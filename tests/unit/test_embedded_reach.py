"""Who can reach the embedded Temporal, on real servers: what listens and answers, what files and processes hold."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from temporalio.client import Client

from invoice_mcp.temporal import embedded
from invoice_mcp.temporal.connection import TemporalSettings, open_connection
from invoice_mcp.temporal.embedded import EmbeddedTemporal, EmbeddedUnavailableError, temporal_binary
from tests.requirements import requirement

SIGNAL = "/api/v1/namespaces/default/workflows/invoice-X/signal/ApproveInvoice"
SECRETS = {
    "PAYMENTS_URL": "https://acme:hunter2@bank.example",
    "ERP_URL": "https://acme:hunter2@erp.example",
    "TEMPORAL_API_KEY": "hunter2",
    "SOMEBODYS_TOKEN": "hunter2",
}
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@dataclass(frozen=True)
class Running:
    """An embedded server, started with secrets in the environment of its starter."""

    home: Path
    address: str
    client: Client

    @property
    def guardian(self) -> int:
        return int(json.loads((self.home / "embedded.json").read_text())["pid"])

    @property
    def server(self) -> int:
        found = subprocess.run(["pgrep", "-P", str(self.guardian)], capture_output=True, text=True, check=True)
        return int(found.stdout)


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    home = tmp_path_factory.mktemp("reach") / "home"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        async with EmbeddedTemporal(home) as one:
            address = one.endpoint.address
            yield Running(home, address, await Client.connect(address))


def listening(pid: int) -> dict[int, str]:
    """The TCP ports a process listens on, with the address, as the kernel writes it."""
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        links.append(os.readlink(entry))  # noqa: PERF401, PTH115
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and f"socket:[{columns[9]}]" in links:
                address, port = columns[1].split(":")
                found[int(port, 16)] = address
    return found


def answer(port: int, *head: str, body: str = "{}") -> bytes:
    """The first line a port answers to one HTTP request; empty where it is none, or closes."""
    lines = [*head, f"Content-Length: {len(body)}", "Connection: close", "", body]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plug:
        plug.sendall("\r\n".join(lines).encode())
        try:
            # An HTTP/2 server greets, and then waits for what never comes.
            said = plug.recv(300)
        except OSError:
            return b""
    return said.split(b"\r\n")[0] if said.startswith(b"HTTP/") else b""


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def signals(client: Client) -> list[str]:
    """Those that the workflow has got."""
    history = await client.get_workflow_handle("invoice-X").fetch_history()
    attributes = (event.workflow_execution_signaled_event_attributes for event in history.events)
    return [each.signal_name for each in attributes if each.signal_name]


@LINUX
@requirement("EMBEDDED-CLOSED")
async def test_no_web_page_can_signal_at_any_port_and_our_own_client_can(running: Running) -> None:
    handle = await running.client.start_workflow("Nobody", id="invoice-X", task_queue="nobody")
    # gRPC of frontend, history, matching and worker; the HTTP API; metrics. No Web UI.
    async with asyncio.timeout(30):
        while len(listening(running.server)) < 6:
            await asyncio.sleep(0.02)
    ports = listening(running.server)
    assert len(ports) == 6
    assert set(ports.values()) == {"0100007F"}, "on loopback only"
    assert listening(running.guardian) == {}
    refused = set()
    for port in ports:
        hosts = (
            f"127.0.0.1:{port}",
            f"localhost:{port}",
            "127.0.0.1",
            "localhost",
            "evil.example",
            "never.invalid",
            "",
        )
        for host in hosts:
            head = [f"Host: {host}", "Origin: http://evil.example", "Content-Type: text/plain"]
            said = await asyncio.to_thread(answer, port, f"POST {SIGNAL} HTTP/1.1", *head)
            assert b" 2" not in said[:12], (port, host, said)
            if said.endswith(b"403 Forbidden"):
                refused.add(port)
        # Without any Host, as the older protocol allows.
        said = await asyncio.to_thread(answer, port, f"POST {SIGNAL} HTTP/1.0", "Origin: http://evil.example")
        assert b" 2" not in said[:12], (port, said)
    assert len(refused) == 1, "the HTTP API is there, and refuses"
    assert await signals(running.client) == []
    await handle.signal("ApproveInvoice")
    assert await signals(running.client) == ["ApproveInvoice"]


@LINUX
@requirement("EMBEDDED-SECRETS")
def test_guardian_and_server_have_no_secret(running: Running) -> None:
    for pid in (running.guardian, running.server):
        environment = Path(f"/proc/{pid}/environ").read_text()
        names = {pair.partition("=")[0] for pair in environment.split("\0") if pair}
        assert "PATH" in names
        assert names <= set(embedded._ENVIRONMENT)
        assert "hunter2" not in environment
        assert "hunter2" not in Path(f"/proc/{pid}/cmdline").read_text()


@requirement("EMBEDDED-SECRETS")
def test_no_file_of_the_home_holds_a_secret(running: Running) -> None:
    assert not [path.name for path in running.home.iterdir() if b"hunter2" in path.read_bytes()]


@requirement("EMBEDDED-PRIVATE")
def test_every_file_of_a_running_server_is_its_users_only(running: Running) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in running.home.iterdir()}
    assert {"temporal.db", "temporal.db-wal", "temporal.log", "embedded.json", "members.lock"} <= set(modes)
    assert set(modes.values()) == {0o600}, modes
    assert stat.S_IMODE(running.home.stat().st_mode) == 0o700


@requirement("EMBEDDED-CLOSED")
async def test_who_wants_a_web_ui_of_a_server_without_is_told(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_connection(TemporalSettings(home=running.home, ui=True)) as reached:
        assert reached.ui_url is None
    (told,) = caplog.messages
    assert "runs without" in told
    assert "--ui first" in told


@requirement("EMBEDDED-CLOSED")
async def test_a_web_ui_is_there_when_asked_for_its_risk_told_and_joiners_see_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = tmp_path / "home"
    async with open_connection(TemporalSettings(home=home, ui=True)) as reached:
        assert reached.ui_url is not None
        port = int(reached.ui_url.rpartition(":")[2])
        async with asyncio.timeout(30):  # the server does not wait for it
            while not is_open(port):
                await asyncio.sleep(0.02)
        assert answer(port, "GET / HTTP/1.1", f"Host: 127.0.0.1:{port}", body="").endswith(b"200 OK")
        # What is told is so: should the Web UI ever look at the Host, the line can go.
        foreign = answer(port, "GET /api/v1/settings HTTP/1.1", "Host: evil.example", body="")
        assert foreign.endswith(b"200 OK")
        (told,) = caplog.messages
        assert reached.ui_url in told
        assert "web page that you visit may read and approve" in told
        async with EmbeddedTemporal(home) as joiner:
            assert joiner.endpoint.ui_url == reached.ui_url


@requirement("EMBEDDED-FAULTS")
async def test_a_stopped_guardian_disturbs_nobody_and_ends_the_server_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(embedded, "_STOP_TIMEOUT", 0.5)
    home = tmp_path / "home"
    async with EmbeddedTemporal(home) as one:
        client = await Client.connect(one.endpoint.address)
        this = Running(home, one.endpoint.address, client)
        guardian, server = this.guardian, this.server
        os.kill(guardian, signal.SIGSTOP)
        try:
            await client.start_workflow("Nobody", id="w", task_queue="nobody")
            async with EmbeddedTemporal(home) as joiner:
                assert joiner.endpoint == one.endpoint
            assert this.guardian == guardian, "nothing is started anew"
        except BaseException:
            os.kill(guardian, signal.SIGCONT)
            raise
    assert "left before it has ended" in caplog.text
    assert is_alive(server), "nobody else ends it"
    os.kill(guardian, signal.SIGCONT)
    async with asyncio.timeout(30):
        while is_alive(server) or is_alive(guardian):
            await asyncio.sleep(0.02)


def is_alive(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(state.stdout.strip()) and not state.stdout.startswith("Z")


@requirement("EMBEDDED-FAULTS")
@pytest.mark.parametrize(
    ("pragma", "told"),
    [("max_page_count=20", "database or disk is full"), ("query_only=1", "attempt to write a readonly database")],
    ids=["full", "read-only"],
)
async def test_a_disk_that_can_not_be_written_is_told_in_the_servers_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pragma: str, told: str
) -> None:
    """SQLite itself says so, in the real server: a bound on the file, or on writing, is what a disk would be."""
    server = tmp_path / "temporal"
    server.write_text(f'#!/bin/sh\nexec "{temporal_binary()}" "$@" --sqlite-pragma {pragma}\n')
    server.chmod(0o700)
    monkeypatch.setattr(embedded, "temporal_binary", lambda: server)
    with pytest.raises(EmbeddedUnavailableError, match=rf"(?s)INVOICE_MCP_HOME.*{told}"):
        await EmbeddedTemporal(tmp_path / "home").__aenter__()
    monkeypatch.undo()
    async with EmbeddedTemporal(tmp_path / "home") as one:  # what it left half made keeps nothing from starting
        await Client.connect(one.endpoint.address)


@requirement("EMBEDDED-FAULTS")
async def test_a_database_that_holds_a_namespace_is_never_set_aside(running: Running, tmp_path: Path) -> None:
    embedded._rename_incomplete_database(running.home / "temporal.db")
    embedded._rename_incomplete_database(tmp_path / "not-there.db")
    assert (running.home / "temporal.db").exists()
    assert not list(running.home.glob("*.broken*"))
    assert list(tmp_path.iterdir()) == []
