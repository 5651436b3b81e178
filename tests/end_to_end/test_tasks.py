"""Tasks across processes: servers are killed, replicated or replaced; a task is followed by its id alone."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client, ClientSession, MCPError, StdioServerParameters

from invoice_mcp.adapters.ledger import PaymentLedger
from invoice_mcp.adapters.settings import ledger_path
from invoice_mcp.cli.demo import sample_invoice, wait_until_ready
from invoice_mcp.domain.report import InvoiceReport
from mcp_temporal_tasks import CreateTaskResult, DetailedTask, TasksClient, cancel_task, get_task, update_task
from tests.end_to_end.cluster import Cluster, client_without_keep_alive, load_balancer
from tests.end_to_end.host import environment, wait_until_gone
from tests.nightly import at_night
from tests.requirements import requirement
from tests.tasks_client import ScriptedUser, form_response, start_task, tasks_client
from tests.tool_client import PAST_DUE, ToolClient, an_invoice

TIMEOUT = 90.0


def victims(each_time: str) -> list[Any]:
    """Return the processes to kill: `each_time` in every run, the others at night."""
    every = ("server", "worker", "temporal")
    return [who if who == each_time else at_night(who) for who in every]


async def until(url: str, task_id: str, reached: Callable[[DetailedTask], object]) -> DetailedTask:
    """Follow a task with a new client, and retry while a process is down."""
    with anyio.fail_after(TIMEOUT):
        async with tasks_client(url) as client:
            while True:
                try:
                    task = await get_task(client.session, task_id)
                except MCPError as error:
                    if error.code != -32603:
                        raise
                else:
                    if reached(task):
                        return task
                await anyio.sleep(0.1)


async def submitted(url: str, invoice: dict[str, Any]) -> str:
    """Submit until there is a task; a refused call may be repeated."""
    with anyio.fail_after(TIMEOUT):
        async with tasks_client(url) as client:
            while True:
                answer: Any = await client.session.call_tool("trigger", {"invoice": invoice}, allow_claimed=True)
                if isinstance(answer, CreateTaskResult):
                    return answer.task_id
                assert answer.content[0].text.startswith(("NO_WORKER", "NO_ANSWER", "TEMPORAL_UNAVAILABLE")), answer
                await anyio.sleep(0.1)


async def answered(url: str, task_id: str, responses: dict[str, Any]) -> None:
    await patiently(url, lambda session: update_task(session, task_id, responses))


async def until_asked(url: str, task_id: str, but: str = "") -> str:
    """Wait for a form with another key than `but`, and return its key."""
    asking = await until(url, task_id, lambda task: set(task.input_requests or {}) - {but})
    [key] = asking.input_requests or {}
    return key


async def patiently(url: str, call: Callable[[ClientSession], Awaitable[None]]) -> None:
    """Repeat a call with a new client until it is acknowledged."""
    with anyio.fail_after(TIMEOUT):
        async with tasks_client(url) as client:
            while True:
                try:
                    await call(client.session)
                except MCPError as error:
                    if error.code != -32603:
                        raise
                    await anyio.sleep(0.1)
                else:
                    return


def approved(key: str) -> dict[str, Any]:
    return form_response(key, decision="approve", name="Ann")


def dismissed(key: str) -> dict[str, Any]:
    return {key: {"action": "cancel"}}


async def paid_by(home: Path, invoice_id: str) -> list[int]:
    entries = await PaymentLedger(ledger_path(home)).entries()
    return sorted(entry.line for entry in entries if entry.invoice_id == invoice_id)


@requirement("TASK-KILLED", "PAY-ONCE")
@pytest.mark.nightly
@pytest.mark.parametrize("victim", ["server", "worker", "temporal"])
async def test_killed_between_every_two_steps_nothing_is_lost_or_paid_twice(tmp_path: Path, victim: str) -> None:
    async with Cluster(tmp_path / "cluster") as cluster:
        for gap in range(6):

            async def now(step: int, gap: int = gap) -> None:
                if step == gap:
                    await cluster.named(victim).restart()

            due = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
            invoice = an_invoice(f"{victim}-{gap}", ("1", PAST_DUE), ("2", due))
            task_id = await submitted(cluster.url, invoice)
            await now(0)
            key = await until_asked(cluster.url, task_id)
            await now(1)
            await answered(cluster.url, task_id, dismissed(key))
            await now(2)
            key = await until_asked(cluster.url, task_id, but=key)
            await answered(cluster.url, task_id, approved(key))
            await now(3)
            await until(cluster.url, task_id, lambda task: task.status != "input_required")
            await now(4)
            with anyio.fail_after(TIMEOUT):
                while not await paid_by(cluster.home, invoice["invoice_id"]):
                    await anyio.sleep(0.05)
            await now(5)
            ended = await until(cluster.url, task_id, lambda task: task.is_terminal)
            assert ended.result
            report = InvoiceReport.model_validate(ended.result["structuredContent"])
            assert (report.status, report.decision and report.decision.by) == ("PAID", "Ann")
            assert await paid_by(cluster.home, invoice["invoice_id"]) == [1, 2]


@requirement("TASK-KILLED", "PAY-ONCE")
@pytest.mark.thorough
@pytest.mark.parametrize("victim", victims("server"))
async def test_killed_during_a_request_nothing_is_lost_or_paid_twice(tmp_path: Path, victim: str) -> None:
    async with Cluster(tmp_path / "cluster") as cluster:
        invoice = an_invoice(f"{victim}", ("1", PAST_DUE), ("2", PAST_DUE))

        async def disturbed(tool: Callable[[Client], Any], after: float) -> None:
            """Call a tool while the victim is killed; ignore the result."""
            try:
                async with tasks_client(cluster.url) as client, anyio.create_task_group() as group:
                    group.start_soon(_ignore_errors, tool, client)
                    await anyio.sleep(after)
                    cluster.named(victim).kill()
                    group.cancel_scope.cancel()
            except* (MCPError, OSError, httpx2.TransportError):
                pass
            await cluster.named(victim).start()

        for after in (0.002, 0.01, 0.03):
            await disturbed(lambda client: start_task(client, "trigger", invoice=invoice), after)
        task_id = await submitted(cluster.url, invoice)
        key = await until_asked(cluster.url, task_id)
        for after in (0.002, 0.01, 0.03):
            await disturbed(lambda client: update_task(client.session, task_id, approved(key)), after)
        await answered(cluster.url, task_id, approved(key))
        ended = await until(cluster.url, task_id, lambda task: task.is_terminal)
        assert ended.result
        assert ended.result["structuredContent"]["status"] == "PAID"
        assert await paid_by(cluster.home, invoice["invoice_id"]) == [1, 2]


@requirement("TASK-KILLED", "TASK-CANCEL")
@pytest.mark.thorough
@pytest.mark.parametrize("victim", victims("temporal"))
async def test_a_cancellation_survives_kills(tmp_path: Path, victim: str) -> None:
    async with Cluster(tmp_path / "cluster") as cluster:
        invoice = an_invoice(f"{victim}", ("1", PAST_DUE), ("2", PAST_DUE))
        task_id = await submitted(cluster.url, invoice)
        await until_asked(cluster.url, task_id)
        await cluster.named(victim).restart()
        await patiently(cluster.url, lambda session: cancel_task(session, task_id))
        await cluster.named(victim).restart()
        # The cancellation is reported without a worker; the payments only with one.
        ended = await until(cluster.url, task_id, lambda task: "nothing was paid" in str(task.status_message))
        assert ended.status == "cancelled"
        assert await paid_by(cluster.home, invoice["invoice_id"]) == []


@requirement("TASK-CLIENT", "TASK-KILLED")
@pytest.mark.thorough
async def test_after_the_server_of_a_call_is_killed_another_client_follows_the_task(tmp_path: Path) -> None:
    waiting, task_ids = anyio.Event(), set[str]()

    async def on_task(task: Any) -> None:
        task_ids.add(task.task_id)
        if task.status == "input_required":
            waiting.set()

    async with Cluster(tmp_path / "cluster") as cluster:

        async def call() -> None:
            async with tasks_client(cluster.url, tasks=TasksClient(on_task=on_task)) as client:
                await client.call_tool("trigger", {"invoice": an_invoice("lost")})

        async def call_and_kill() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(call)
                await waiting.wait()
                cluster.named("server").kill()

        with anyio.fail_after(TIMEOUT), pytest.raises(ExceptionGroup):
            await call_and_kill()
        await cluster.named("server").start()
        [task_id] = task_ids
        person = ScriptedUser(decision="approve", name="Ann")
        async with tasks_client(cluster.url, person) as another:
            answer = await TasksClient().follow(another.session, task_id)
    assert answer.structured_content
    assert answer.structured_content["status"] == "PAID"
    assert len(person.questions) == 1


async def _ignore_errors(tool: Callable[[Client], Any], client: Client) -> None:
    with suppress(MCPError, OSError):
        await tool(client)


@requirement("TASK-REPLICAS", "TASK-STORE", "CONFIRM-RUN", "TOOL-PROTOCOLS")
@pytest.mark.thorough
async def test_two_servers_behind_a_random_load_balancer(tmp_path: Path) -> None:
    answering_servers: list[int] = []
    async with (
        Cluster(tmp_path / "cluster", servers=2) as cluster,
        load_balancer(cluster, answering_servers, seed=7) as url,
    ):
        for number in range(3):
            person = ScriptedUser(decision="approve", name="Ann")
            async with client_without_keep_alive(
                url, extensions=[TasksClient()], elicitation_callback=person
            ) as client:
                answer = await client.call_tool("trigger", {"invoice": an_invoice(f"task-{number}")})
                assert answer.structured_content
                assert answer.structured_content["status"] == "PAID"
            assert len(person.questions) == 1
        # Also with plain tools, where another server may have asked for the confirmation.
        for number, mode in enumerate(("auto", "auto", "legacy")):
            person = ScriptedUser(approve=True)
            chosen_mode: Any = mode
            async with client_without_keep_alive(url, mode=chosen_mode, elicitation_callback=person) as client:
                tools = ToolClient(client)
                workflow_id = await tools.submit(an_invoice(f"plain-{number}"))
                if mode == "legacy":
                    # Servers without sessions can't ask a client of the older protocol.
                    refused = await tools.refused("approve", workflow_id=workflow_id)
                    assert refused.code == "NOT_CONFIRMED"
                    assert "--no-sessions" in str(refused)
                else:
                    await tools.call("approve", workflow_id=workflow_id)
                    await tools.until(workflow_id, "PAID")
            assert len(person.questions) == (0 if mode == "legacy" else 1)
    assert set(answering_servers) == {0, 1}


@requirement("TASK-REPLICAS", "CONFIRM-ASK")
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_over_stdio_a_task_outlives_its_server_and_approvals_are_confirmed(tmp_path: Path, mode: Any) -> None:
    home = tmp_path / "home"
    server = StdioServerParameters(command=sys.executable, args=["-m", "invoice_mcp", "serve"], env=environment(home))
    if mode == "auto":
        async with tasks_client(server) as client:
            await wait_until_ready(client)
            task_id = (await start_task(client, "trigger", invoice=sample_invoice())).task_id
        await wait_until_gone(home)
        person = ScriptedUser(decision="approve", name="Ann")
        async with tasks_client(server, person) as later:
            await wait_until_ready(later)
            answer = await TasksClient().follow(later.session, task_id)
        assert answer.structured_content
        assert answer.structured_content["status"] == "PAID"
        assert len(person.questions) == 1
    else:
        person = ScriptedUser(approve=True)
        async with Client(server, mode=mode, elicitation_callback=person) as client:
            await wait_until_ready(client)
            tools = ToolClient(client)
            workflow_id = await tools.submit(sample_invoice())
            await tools.call("approve", workflow_id=workflow_id)
            await tools.until(workflow_id, "PAID")
        assert len(person.questions) == 1
    await wait_until_gone(home)
