"""The command line as a child process."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.lowlevel
import click
import pytest
from click.testing import CliRunner
from mcp import Client

from invoice_mcp import __version__
from invoice_mcp.cli import options
from invoice_mcp.cli.demo import sample_invoice, wait_until_ready
from invoice_mcp.cli.main import main
from invoice_mcp.cli.options import duration
from invoice_mcp.domain import report
from tests.end_to_end.cluster import free_port
from tests.end_to_end.host import PROGRAM, environment, processes, processes_of, read_until, run, wait_until_gone
from tests.http_serving import INITIALIZE, MCP_HEADERS, status_of
from tests.nightly import at_night
from tests.processes import running_process
from tests.requirements import requirement
from tests.tool_client import ToolClient


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@requirement("CLI-HELP")
@pytest.mark.parametrize(
    ("arguments", "taught"),
    [
        ([], ["invoice-mcp demo", "claude mcp add", "serve", "worker", "TEMPORAL_ADDRESS"]),
        (
            ["serve"],
            [
                "--http",
                "--allowed-host NAME[:PORT]",
                "--no-sessions",
                "--approval [ask|trust|ask-or-refuse]",
                "[default: ask if",
                "--approval-timeout",
                "--no-worker",
                "--fail-payment",
                "ERP_URL",
                "INVOICE_MCP_HOME",
            ],
        ),
        (["worker"], ["--address", "PAYMENTS_URL", "SIGTERM"]),
        (["worker"], ["--accept-lost-state"]),
        (["backup"], ["DIRECTORY", "INVOICE_MCP_HOME", "Exit status: 0 everything is copied"]),
        (["demo"], ["--reject", "--expire", "Exit status: 0 the invoice ended as expected"]),
    ],
)
def test_help_names_the_main_options(arguments: list[str], taught: list[str]) -> None:
    shown = CliRunner().invoke(main, [*arguments, "--help"])
    assert shown.exit_code == 0
    for words in taught:
        assert words in shown.output


@requirement("CLI-HELP")
def test_version_and_python_m() -> None:
    shown = subprocess.run([*PROGRAM, "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout == f"invoice-mcp, version {__version__}\n"


def test_the_default_timeout_is_that_of_the_domain() -> None:
    assert duration(None, None, options.DEFAULT_APPROVAL_TIMEOUT) == report.DEFAULT_APPROVAL_TIMEOUT


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("3s", timedelta(seconds=3)),
        ("30m", timedelta(minutes=30)),
        ("12h", timedelta(hours=12)),
        ("5d", timedelta(days=5)),
        ("1d12h", timedelta(hours=36)),
        ("0.5s", timedelta(milliseconds=500)),
    ],
)
def test_a_duration_combines_numbers_with_units(written: str, meant: timedelta) -> None:
    assert duration(None, None, written) == meant


@pytest.mark.parametrize(
    "written",
    ["", "5", "d", "5 d", "5w", "-5d", "5d5", "0s", "4000d", "9" * 30 + "d", "nan", "\u0663s", "1\u0663s", "1.\u0663s"],
)
def test_an_invalid_duration_is_refused_with_an_example(written: str) -> None:
    with pytest.raises(click.BadParameter, match=r"5d|3650 days"):
        duration(None, None, written)


def test_simulated_failures_need_embedded_ports() -> None:
    shown = CliRunner().invoke(main, ["worker", "--fail-payment", "--payments-url", "http://localhost:1"])
    assert shown.exit_code == 2
    assert "embedded" in shown.output


@pytest.mark.parametrize("option", ["--erp-url", "--payments-url", "--address", "--namespace", "--profile"])
def test_an_empty_value_is_refused(option: str) -> None:
    # As from a script whose variable is not set.
    shown = CliRunner().invoke(main, ["worker", option, ""])
    assert shown.exit_code == 2
    assert f"Invalid value for '{option}'" in shown.output
    assert "is empty" in shown.output


@pytest.mark.parametrize("command", ["serve", "worker", "demo", "backup x"])
def test_a_home_of_an_unknown_user_is_reported(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVOICE_MCP_HOME", "~nobody-of-that-name/here")
    shown = CliRunner().invoke(main, command.split())
    assert shown.exit_code == 1
    assert "There is no ~nobody-of-that-name. Look at INVOICE_MCP_HOME" in shown.output


@pytest.mark.parametrize(
    "ignored",
    [
        ["serve", "--port", "8001"],
        ["serve", "--host", "0.0.0.0"],
        ["serve", "--allowed-host", "invoices.example.com"],
        ["serve", "--no-sessions"],
        ["serve", "--http", "--allowed-host", "https://invoices.example.com"],
        ["serve", "--no-worker", "--fail-payment"],
        ["serve", "--no-worker", "--embedded-ports"],
        ["demo", "--reject", "--expire"],
    ],
)
def test_options_without_effect_are_refused(ignored: list[str]) -> None:
    shown = CliRunner().invoke(main, ignored)
    assert shown.exit_code == 2
    assert ignored[-1] in shown.output or ignored[-2] in shown.output


@requirement("CLI-DEMO")
async def test_a_demo_whose_server_is_killed_reports_it_in_a_line(home: Path) -> None:
    command = [*PROGRAM, "demo", "--expire", "--approval-timeout", "1h"]
    with running_process(command, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as demo:
        assert demo.stdout
        assert demo.stderr
        await read_until(demo.stdout, "which may take days")
        listed = subprocess.run(["/bin/ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout
        [server] = [pid for pid, parent in map(str.split, listed.splitlines()[1:]) if parent == str(demo.pid)]
        os.kill(int(server), signal.SIGKILL)
        last = (await read_until(demo.stdout, "The server: "))[-1]
        assert "the connection was lost" in last
        assert demo.wait(timeout=30) == 1
        assert "Traceback" not in demo.stderr.read()
    await wait_until_gone(home)


@requirement("CLI-DEMO")
def test_a_demo_with_a_closed_stdout_runs_to_its_end(home: Path) -> None:
    command = f"{{ {shlex.join(PROGRAM)} demo; echo $? >&2; }} | true"
    ended = subprocess.run(
        ["/bin/sh", "-c", command], env=environment(home), capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stderr == "0\n"


@pytest.mark.parametrize(
    "arguments", [["worker"], ["serve", "-v", "--http", "--port", "0"]], ids=lambda given: given[0]
)
async def test_a_closed_stderr_stops_nothing(home: Path, arguments: list[str]) -> None:
    with running_process([*PROGRAM, *arguments], env=environment(home), stderr=subprocess.PIPE) as working:
        assert working.stderr
        await read_until(working.stderr, "Worker for" if "worker" in arguments else "Serving MCP")
        working.stderr.close()
        # The signal is logged, to a closed pipe.
        working.send_signal(signal.SIGTERM)
        assert working.wait(timeout=30) == 0
    await wait_until_gone(home)


async def test_a_worker_with_embedded_ports_on_another_temporal_warns(home: Path) -> None:
    command = [*PROGRAM, "worker", "--address", "127.0.0.1:9"]
    with running_process(command, env=environment(home), stderr=subprocess.PIPE) as worker:
        assert worker.stderr
        await read_until(worker.stderr, "ERP_URL and PAYMENTS_URL not set")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["worker", "--profile", "nope"], "TEMPORAL_PROFILE"),
        (
            ["worker", "--accept-embedded-risk", "--erp-url", "ftp://x"],
            "the URL of the ERP must look like https://host/path",
        ),
        (["serve", "--address", "%%garbage"], "must read host:port"),
        (["worker", "--address", "127.0.0.1:9", "--accept-lost-state"], "only for the embedded Temporal"),
        (["worker", "--address", "temporal.example:7233"], "ERP_URL and PAYMENTS_URL not set"),
        (["serve", "--address", "temporal.example:7233", "--ui"], "--ui is for the embedded Temporal"),
        (["serve", "--http", "--host", "300.1.1.1"], "Look at --host and --port"),
        (["serve", "--http", "--host", "0.0.0.0", "--port", "0"], "--allowed-host NAME[:PORT]"),
    ],
)
def test_a_configuration_error_is_reported_without_traceback(home: Path, arguments: list[str], expected: str) -> None:
    ended = run(home, *arguments)
    assert ended.returncode == 1
    assert expected in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr


@requirement("CLI-DEMO")
@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        ([], 0, ["Approve.", "PAY-INV-100-1", "USD 200.00", "Done: the invoice is PAID."]),
        at_night(["--reject"], 0, ["Reject.", "ledger is empty", "Done: the invoice is REJECTED."]),
        at_night(["--expire"], 0, ["nobody decides", "Done: the invoice is EXPIRED."]),
        at_night(["--fail-payment"], 1, ["INSUFFICIENT_FUNDS", "Unexpected end: the invoice is FAILED."]),
        at_night(["--fail-validate"], 1, ["MISMATCH", "Unexpected end: the invoice is FAILED."]),
    ],
)
async def test_the_demo_runs_to_its_end_and_leaves_no_data(
    home: Path, arguments: list[str], status: int, expected: list[str]
) -> None:
    ended = run(home, "demo", *arguments)
    assert ended.returncode == status, ended.stderr
    for words in expected:
        assert words in " ".join(ended.stdout.split())
    assert "\x1b" not in ended.stdout  # plain lines when piped
    assert list(home.iterdir()) == []
    with anyio.fail_after(15):
        while any(str(home) in line for line in processes()):
            await anyio.sleep(0.05)


@requirement("CONFIRM-DEFAULT")
def test_the_default_policy_is_logged_with_its_reason(home: Path) -> None:
    process = run(home, "serve", "--no-worker", "--address", "127.0.0.1:1")
    assert process.returncode == 0
    assert "--approval=ask-or-refuse, because this Temporal is a shared one" in " ".join(process.stderr.split())


@requirement("CLI-HTTP", "CONFIRM-DEFAULT")
async def test_the_same_tools_over_http_until_sigterm(home: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [*PROGRAM, "serve", "--http", "--port", str(port)]
    with running_process(command, env=environment(home), stderr=subprocess.PIPE) as process:
        with anyio.fail_after(30):
            while not await _listens(port):
                assert process.poll() is None
                await anyio.sleep(0.05)
        workflow_id = ""
        for mode in ("auto", "legacy"):
            async with Client(f"http://127.0.0.1:{port}/mcp", mode=mode) as client:
                await wait_until_ready(client)
                tools = ToolClient(client)
                workflow_id = await tools.submit(sample_invoice())
        # Stop while a client waits for the next change.
        async with Client(f"http://127.0.0.1:{port}/mcp") as client, anyio.create_task_group() as waiting:
            waiting.start_soon(_waits, ToolClient(client), workflow_id)
            await anyio.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            _, errors = await anyio.to_thread.run_sync(lambda: process.communicate(timeout=30))
            waiting.cancel_scope.cancel()
    assert "Traceback" not in errors
    assert "--approval=ask, because Temporal, ERP and payment gateway are the embedded ones" in " ".join(errors.split())
    assert process.returncode == 0
    await wait_until_gone(home)


@requirement("LOG-THREAD", "LOG-BOUNDED")
async def test_an_unread_log_blocks_neither_clients_nor_signals(home: Path) -> None:
    port = free_port()
    # No Temporal is needed for this.
    command = [*PROGRAM, "serve", "--http", "--port", str(port), "--no-worker", "--address", "127.0.0.1:9"]
    with running_process(command, env=environment(home), stderr=subprocess.PIPE) as process:
        with anyio.fail_after(30):
            while not await _listens(port):
                assert process.poll() is None
                await anyio.sleep(0.05)
        # Each is logged; together more than a pipe holds.
        for _ in range(150):
            assert await status_of(port, *MCP_HEADERS, host="x" * 10_000, body=INITIALIZE) == 421
        began = time.monotonic()
        assert await status_of(port, *MCP_HEADERS, host="x" * 60_000, body=INITIALIZE) == 431
        assert await status_of(port, *MCP_HEADERS, body=INITIALIZE) == 200
        assert time.monotonic() - began < 5
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0


async def _waits(tools: ToolClient, workflow_id: str) -> None:
    with suppress(Exception):
        await tools.call("status", workflow_id=workflow_id, wait_seconds=45)


async def _listens(port: int) -> bool:
    try:
        stream = await anyio.connect_tcp("127.0.0.1", port)
    except OSError:
        return False
    await stream.aclose()
    return True


# A file whose every write fails.
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


@requirement("CLI-STDIO")
@pytest.mark.parametrize(
    ("streams", "home", "expected"),
    [
        ("<&-", "home", "stdin is closed"),
        (">&-", "home", "stdout is closed"),
        pytest.param(">/dev/full", "home", "stdin or stdout can't be used: No space left on device", marks=FULL),
        pytest.param(">/dev/full", "file", "Not a directory", marks=FULL),
    ],
)
def test_an_unusable_stdin_or_stdout_ends_serve_with_a_line(
    tmp_path: Path, streams: str, home: str, expected: str
) -> None:
    (tmp_path / "file").touch()
    with running_process(
        ["/bin/sh", "-c", f'exec "$@" {streams}', "sh", *PROGRAM, "serve", "--no-worker"],
        env=environment(tmp_path / home),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stderr
        with suppress(BrokenPipeError):
            process.stdin.write(f"{INITIALIZE.decode()}\n")
            process.stdin.flush()
        # The host keeps stdin open while it waits for its answer.
        assert process.wait(timeout=60) == 1
        *_, last = process.stderr.read().splitlines()
        assert last.startswith("Error: ")
        assert expected in last


@requirement("CLI-STDIO")
def test_a_host_that_closes_its_sockets_with_unread_answers_ends_serve(tmp_path: Path) -> None:
    to_it, its_stdin = socket.socketpair()
    from_it, its_stdout = socket.socketpair()
    with (
        to_it,
        from_it,
        running_process(
            [*PROGRAM, "serve", "--no-worker"],
            env=environment(tmp_path / "home"),
            stdin=its_stdin.fileno(),
            stdout=its_stdout.fileno(),
            stderr=subprocess.PIPE,
        ) as process,
    ):
        its_stdin.close()
        its_stdout.close()
        assert process.stderr
        to_it.sendall(INITIALIZE + b"\n")
        from_it.settimeout(60)
        assert from_it.recv(65536)
        to_it.sendall(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
        # More answers than the socket holds: one is being written when the host closes it.
        for number in range(400):
            to_it.sendall(b'{"jsonrpc":"2.0","id":%d,"method":"tools/list"}\n' % (number + 2))
        from_it.close()
        assert process.wait(timeout=30) == 0
        log = " ".join(process.stderr.read().split())
        assert log.count("The host closed stdout") == 1
        assert "Traceback" not in log


def test_an_unusable_home_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for command in ("demo", "serve"):
        ended = run(file, command)
        assert ended.returncode == 1
        assert str(file) in "".join(ended.stderr.split())
        assert "Traceback" not in ended.stderr


@requirement("TEMPORAL-CLEAN")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_server_while_stdin_is_open(home: Path, number: int) -> None:
    with running_process(
        [*PROGRAM, "serve", "-v"],
        env=environment(home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr
        await read_until(process.stderr, "Worker polls")
        assert processes_of(home)
        process.send_signal(number)
        assert process.wait(timeout=30) == 0
    await wait_until_gone(home)
