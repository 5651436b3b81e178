"""The product over stdio on a real Temporal, including what the original sample gets wrong."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from fcntl import LOCK_EX
from fcntl import flock as lock_file
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest

from invoice_mcp.adapters.ledger import PaymentLedger
from invoice_mcp.adapters.settings import ledger_path
from invoice_mcp.cli.demo import sample_invoice
from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.report import AcceptedInvoice, PaymentOrder
from tests.end_to_end.host import PROGRAM, embedded_client, environment, host, read_until, run, wait_until_gone
from tests.nightly import at_night
from tests.processes import running_process
from tests.requirements import requirement
from tests.tool_client import PAST_DUE, an_invoice


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@requirement("PAY-ALL-FAILED", "CLI-FAIL")
async def test_all_lines_refused_for_lack_of_funds(home: Path) -> None:
    async with host(home, "--fail-payment") as tools:
        workflow_id = await tools.submit(sample_invoice())
        await tools.call("approve", workflow_id=workflow_id)
        report = await tools.until(workflow_id, "FAILED", "PAID")
        assert report["status"] == "FAILED"
        assert [line["error"] for line in report["lines"]] == ["INSUFFICIENT_FUNDS"] * 2
        assert "line 1 (INSUFFICIENT_FUNDS), line 2 (INSUFFICIENT_FUNDS)" in report["summary"]
    assert await PaymentLedger(ledger_path(home)).entries() == ()


@requirement("VALID-MISMATCH", "CLI-FAIL")
async def test_an_erp_that_refuses_fails_the_invoice(home: Path) -> None:
    async with host(home, "--fail-validate") as tools:
        workflow_id = await tools.submit(sample_invoice(), until="FAILED")
        assert "MISMATCH" in (await tools.call("status", workflow_id=workflow_id))["reason"]


@requirement("WAIT-EXPIRES", "DECIDE-LATE")
async def test_without_a_decision_the_invoice_expires(home: Path) -> None:
    async with host(home, "--approval-timeout", "1s") as tools:
        workflow_id = await tools.submit(sample_invoice(), until="EXPIRED")
        assert (await tools.refused("approve", workflow_id=workflow_id)).code == "ALREADY_CLOSED"
    assert await PaymentLedger(ledger_path(home)).entries() == ()


@requirement("DECIDE-FIRST", "START-INVALID", "START-REPEATED", "START-CONFLICT", "LIST-STATUS", "LIST-INDEX")
async def test_decisions_submissions_and_lists(home: Path) -> None:
    async with host(home) as tools:
        # Approve, then reject: a line due in years keeps the invoice open.
        approved = await tools.submit(an_invoice("A", ("1", PAST_DUE), ("2", "2090-01-01T00:00:00Z")))
        await tools.call("approve", workflow_id=approved, approver="Ann")
        refused = await tools.refused("reject", workflow_id=approved, approver="Bob")
        assert refused.code == "ALREADY_DECIDED"
        assert 'approved in the name of "Ann"' in str(refused)

        # Reject, then approve.
        rejected = await tools.submit(an_invoice("R"))
        await tools.call("reject", workflow_id=rejected, approver="Bob")
        await tools.until(rejected, "REJECTED")
        assert (await tools.refused("approve", workflow_id=rejected)).code == "ALREADY_CLOSED"
        assert (await tools.call("status", workflow_id=rejected))["decision"]["by"] == "Bob"

        # Garbage and a line without due date.
        for content, expected in (
            ({"invoice_id": "G", "customer": "c", "lines": "garbage"}, "lines: must be a list"),
            ({"invoice_id": "G", "lines": [{"description": "d", "amount": 1}]}, "lines[0].due_date: is required"),
        ):
            refused = await tools.refused("trigger", invoice=content)
            assert refused.code == "INVOICE_INVALID"
            assert expected in str(refused)
        assert (await tools.refused("status", workflow_id="invoice-G")).code == "NOT_FOUND"

        # Fifty at once, then other content.
        many = await asyncio.gather(*(tools.call("trigger", invoice=sample_invoice()) for _ in range(50)))
        assert sum(answer["created"] for answer in many) == 1
        assert len({answer["run_id"] for answer in many}) == 1
        await tools.until("invoice-INV-100", "PENDING-APPROVAL")
        other = sample_invoice() | {"customer": "Somebody else"}
        assert (await tools.refused("trigger", invoice=other)).code == "INVOICE_CONFLICT"

        # Lists, by status: visibility may lag by a moment.
        async def listed(**arguments: object) -> list[str]:
            return [entry["workflow_id"] for entry in (await tools.call("list", **arguments))["invoices"]]

        for status, workflow_id in {
            "PENDING-APPROVAL": "invoice-INV-100",
            "PAYING": approved,
            "REJECTED": rejected,
        }.items():
            deadline = time.monotonic() + 10
            while await listed(status=status) != [workflow_id]:
                assert time.monotonic() < deadline
        assert set(await listed()) == {"invoice-INV-100", approved, rejected}
        assert len(await listed(limit=2)) == 2
        assert (await tools.call("list", status="PAID"))["summary"] == "No PAID invoices."

        await tools.call("approve", workflow_id="invoice-INV-100")
        await tools.until("invoice-INV-100", "PAID")
        assert not (await tools.call("trigger", invoice=sample_invoice()))["created"]
        assert (await tools.refused("trigger", invoice=other)).code == "INVOICE_CONFLICT"
        cancelled = await tools.call("cancel", workflow_id=approved, reason="Enough")
        assert [line["status"] for line in cancelled["lines"]] == ["PAID", "CANCELLED"]
    paid = [(entry.invoice_id, entry.line) for entry in await PaymentLedger(ledger_path(home)).entries()]
    assert sorted(paid) == [("A", 1), ("INV-100", 1), ("INV-100", 2)]
    await wait_until_gone(home)


@requirement("SIGNAL-POLICY")
@pytest.mark.parametrize(("approval", "ends_as"), [("ask-or-refuse", "EXPIRED"), ("trust", "PAID")])
async def test_a_signal_approves_only_under_the_policy_trust(home: Path, approval: str, ends_as: str) -> None:
    async with (
        host(home, "--approval", approval, "--approval-timeout", "3s") as tools,
        embedded_client(home) as temporal,
    ):
        workflow_id = await tools.submit(an_invoice("INV-1"))
        await temporal.get_workflow_handle(workflow_id).signal("ApproveInvoice")
        report = await tools.until(workflow_id, "PAID", "EXPIRED")
        assert report["status"] == ends_as
    assert len(await PaymentLedger(ledger_path(home)).entries()) == (ends_as == "PAID")


@requirement("TEMPORAL-RETENTION")
async def test_closed_executions_are_kept_for_ninety_days_at_least(home: Path) -> None:
    async with embedded_client(home) as temporal:
        described = await temporal.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="default"))
        assert described.config.workflow_execution_retention_ttl.ToTimedelta() >= timedelta(days=90)


@requirement("TEMPORAL-DELETED", "STATE-LOST")
async def test_an_invoice_whose_execution_is_deleted_is_not_paid_twice(home: Path) -> None:
    async def pay(*arguments: str) -> list[str]:
        async with host(home, *arguments) as tools:
            assert (await tools.call("trigger", invoice=sample_invoice()))["created"]
            await tools.until("invoice-INV-100", "PENDING-APPROVAL")
            await tools.call("approve", workflow_id="invoice-INV-100")
            return [line["payment_id"] for line in (await tools.until("invoice-INV-100", "PAID"))["lines"]]

    first = await pay()
    await wait_until_gone(home)
    for file in home.glob("temporal.db*"):
        file.unlink()
    for command in (["worker"], ["serve", "--no-worker"]):
        ended = run(home, *command)
        assert ended.returncode == 1
        assert "temporal.db is missing, or another one" in " ".join(ended.stderr.split())
        assert "Traceback" not in ended.stderr
    assert not list(home.glob("temporal.db*"))
    assert await pay("--accept-lost-state") == first
    assert len(await PaymentLedger(ledger_path(home)).entries()) == 2


@requirement("STATE-LOST", "STATE-LINE")
async def test_a_deleted_invoice_that_is_resubmitted_changed_is_not_paid_twice(home: Path) -> None:
    ledger = PaymentLedger(ledger_path(home))
    order = PaymentOrder.for_line(AcceptedInvoice.of(Invoice.model_validate(an_invoice("A", ("1", PAST_DUE)))), 1)
    paid = (await ledger.pay(order)).payment_id
    assert "temporal.db is missing, or another one" in " ".join(run(home, "worker").stderr.split())
    async with host(home, "--accept-lost-state") as tools:
        workflow_id = await tools.submit(an_invoice("A", ("1.50", PAST_DUE), ("2", PAST_DUE)))
        await tools.call("approve", workflow_id=workflow_id)
        report = await tools.until(workflow_id, "FAILED")
    first, second = report["lines"]
    assert (first["status"], first["error"], first["unconfirmed"]) == ("FAILED", "LINE_ALREADY_PAID", False)
    assert paid in first["reason"]
    assert second["status"] == "PAID"
    assert "line 1 (LINE_ALREADY_PAID)" in report["summary"]
    assert [entry.line for entry in await ledger.entries()] == [1, 2]


@requirement("STATE-LOST", "STATE-BACKUP")
async def test_a_backup_of_an_open_invoice_continues_in_another_home(home: Path, tmp_path: Path) -> None:
    async with host(home) as tools:
        paying = await tools.submit(an_invoice("A", ("1", PAST_DUE), ("2", "2090-01-01T00:00:00Z")))
        await tools.call("approve", workflow_id=paying)
        waiting = await tools.submit(an_invoice("B", ("3", PAST_DUE)))
        async with asyncio.timeout(30):
            while (await tools.call("status", workflow_id=paying))["lines"][0]["status"] != "PAID":
                await asyncio.sleep(0.05)
        copied = run(home, "backup", str(tmp_path / "copy"))
        assert copied.returncode == 0, copied.stderr
        await tools.call("approve", workflow_id=waiting)
        await tools.until(waiting, "PAID")
    await wait_until_gone(home)
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "copy", other)
    async with host(other) as tools:
        report = await tools.until(paying, "PAYING", patient=True)
        assert [line["status"] for line in report["lines"]] == ["PAID", "SCHEDULED"]
        assert (await tools.call("status", workflow_id=waiting))["status"] == "PENDING-APPROVAL"
        await tools.call("approve", workflow_id=waiting)
        await tools.until(waiting, "PAID")
    entries = await PaymentLedger(ledger_path(other)).entries()
    assert [(entry.invoice_id, entry.line) for entry in entries] == [("A", 1), ("B", 1)]
    await wait_until_gone(other)


def message(method: str, number: int | None = None, **params: object) -> str:
    """Return a message as a line; without a number, a notification."""
    content: dict[str, object] = {"jsonrpc": "2.0", "method": method}
    content |= {} if number is None else {"id": number}
    return json.dumps(content | ({"params": params} if params else {})) + "\n"


HELLO = message(
    "initialize", 1, protocolVersion="2025-06-18", capabilities={}, clientInfo={"name": "t", "version": "0"}
) + message("notifications/initialized")
# The import of Temporal's client never ends.
WITHOUT_TEMPORALS_CLIENT = """
import sys, threading

class Never:
    def find_spec(self, name, path=None, target=None):
        if name == "temporalio":
            threading.Event().wait()

sys.meta_path.insert(0, Never())
from invoice_mcp.cli.main import main
main(["serve"])
"""


@requirement("STARTUP-HANDSHAKE", "CLI-STDIO", "CLI-LOG-LEVEL")
async def test_a_host_is_answered_before_temporals_client_is_loaded_and_may_close_stdout(home: Path) -> None:
    ours, terminal = pty.openpty()
    with (
        os.fdopen(ours, "wb", buffering=0) as keyboard,
        running_process(
            [sys.executable, "-c", WITHOUT_TEMPORALS_CLIENT],
            env=environment(home),
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as served,
    ):
        assert served.stdout
        assert served.stderr
        os.close(terminal)
        [line] = await read_until(served.stderr, "Waiting for an MCP host")
        assert "INFO" in line
        keyboard.write((HELLO + message("tools/list", 2)).encode())
        first, second = [json.loads(line)["result"] for line in await read_until(served.stdout, '"id":2')]
        assert first["serverInfo"]["name"] == "invoice-mcp"
        assert len(second["tools"]) == 6
        served.stdout.close()
        assert served.wait(timeout=30) == 0
        log = " ".join(line.strip() for line in served.stderr)
        assert log.count("The host closed stdout") == 1
        assert "Traceback" not in log
        assert "Error" not in log


@requirement("STARTUP-HANDSHAKE", "STARTUP-WAITS")
async def test_a_host_is_answered_while_temporal_hangs_and_served_once_it_starts(home: Path) -> None:
    home.mkdir(mode=0o700)
    # Another process holds the lock for starting Temporal, and does not start it.
    with (home / "embedded.lock").open("w") as lock:
        lock_file(lock, LOCK_EX)
        with running_process(
            [*PROGRAM, "serve", "--no-worker"],
            env=environment(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as served:
            assert served.stdin
            assert served.stdout
            served.stdin.write(HELLO + message("tools/list", 2))
            served.stdin.flush()
            assert len(await read_until(served.stdout, '"id":2')) == 2
            began = time.monotonic()
            served.stdin.write(message("tools/call", 3, name="list", arguments={}))
            served.stdin.flush()
            assert (
                "TEMPORAL_UNAVAILABLE: Temporal is still being started"
                in (await read_until(served.stdout, '"id":3'))[-1]
            )
            assert time.monotonic() - began < 10
            lock.close()
            number = 4
            answer: dict[str, Any] = {"isError": True}
            while answer.get("isError"):
                assert number < 10, answer
                served.stdin.write(message("tools/call", number, name="list", arguments={}))
                served.stdin.flush()
                answer = json.loads((await read_until(served.stdout, f'"id":{number}'))[-1])["result"]
                number += 1
            assert answer["structuredContent"]["invoices"] == []
            served.stdin.close()
            assert served.wait(timeout=30) == 0
    await wait_until_gone(home)


CALLS_A_DEAD_SERVER = """
import asyncio, os, sys
from pathlib import Path
from temporalio.client import Client
from temporalio.service import RPCError
from invoice_mcp.temporal.embedded import EmbeddedTemporal
from invoice_mcp.temporal.connection import log_through_python

async def main(home):
    async with EmbeddedTemporal(home) as embedded:
        client = await Client.connect(embedded.endpoint.address)
    try:
        await client.get_workflow_handle("x").describe()
    except RPCError:
        pass

if sys.argv[2] == "forwarded":
    log_through_python()
asyncio.run(main(Path(sys.argv[1])))
sys.stdout.flush()
os._exit(0)  # an SDK thread that logs while Python shuts down would abort the process
"""


@requirement("CLI-STDOUT")
@pytest.mark.parametrize("log", ["forwarded", at_night("as it is")])
def test_the_sdks_own_log_is_kept_from_stdout(home: Path, log: str) -> None:
    """Without forwarding, the SDK core writes to stdout when Temporal is down: the control shows that this can fail."""
    ended = subprocess.run(
        [sys.executable, "-c", CALLS_A_DEAD_SERVER, str(home), log],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (ended.stdout == "") == (log == "forwarded")


@requirement("CLI-STDOUT", "TOOL-TEXT", "RPC-ERRORS")
async def test_nothing_but_protocol_goes_to_stdout_whatever_comes_in(home: Path) -> None:
    def call(number: int, tool: str, arguments: str) -> str:
        params = f'{{"name":"{tool}","arguments":{arguments}}}'
        return f'{{"jsonrpc":"2.0","id":{number},"method":"tools/call","params":{params}}}'

    deep = "[" * 50_000 + "]" * 50_000
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}},
    }
    lines = [
        json.dumps(hello),
        json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        "garbage",
        deep,
        '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"trigger","arguments":{"invoice":'
        + deep
        + "}}}",
        '{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"status","arguments":{"workflow_id":"\\ud800"}}}',
        json.dumps({"jsonrpc": "2.0", "id": 4, "method": "tools/call", "params": {"name": "list", "arguments": {}}}),
    ]
    with running_process(
        [*PROGRAM, "serve", "-v"],
        env=environment(home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        errors="surrogateescape",
    ) as served:
        assert served.stdin
        assert served.stdout
        served.stdin.write("\n".join(lines) + "\n")
        served.stdin.flush()
        answers = [json.loads(line) for line in await read_until(served.stdout, '"id":4')]
        rest, errors = served.communicate(timeout=30)
    assert served.returncode == 0
    assert rest == ""
    assert all(answer["jsonrpc"] == "2.0" for answer in answers)
    codes = sorted((str(answer["id"]), answer.get("error", {}).get("code", 0)) for answer in answers)
    assert codes == [("1", 0), ("2", -32700), ("3", -32700), ("4", 0), ("None", -32700), ("None", -32700)]
    assert "Traceback" not in json.dumps(answers)
    assert "Temporal: embedded at" in errors.replace("\n", " ")
