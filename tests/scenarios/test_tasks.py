"""The invoice as an MCP task, for clients that declare tasks."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.client.extension import advertise
from mcp.client.session import ClientRequestContext
from mcp_types import (
    CallToolResult,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    ElicitResult,
    TextContent,
)

from invoice_mcp.domain.report import InvoiceReport, LineStatus, Status
from invoice_mcp.testing import ToolRefused, World
from invoice_mcp.testing.plugin import NewWorld
from invoice_mcp.workflow.invoice_decisions import MOST_DISMISSALS
from mcp_temporal_tasks import (
    EXTENSION_ID,
    DetailedTask,
    TasksClient,
    WorkflowRun,
    cancel_task,
    get_task,
    task_id_of,
    update_task,
)
from tests.requirements import requirement
from tests.tasks_client import (
    ScriptedUser,
    build_server_for,
    decision_response,
    expect_error,
    form_response,
    open_form_key,
    start_task,
    tasks_client,
)
from tests.tool_client import lines_of

DAY = timedelta(days=1)


async def begun(world: World, client: Client, invoice: dict[str, Any] | None = None) -> str:
    """Trigger an invoice as a task, wait until it asks for its decision, and return the task's id."""
    created = await start_task(client, "trigger", invoice=invoice or world.invoice())
    assert created.status in {"working", "input_required"}
    workflow_id, _, run_id = created.task_id.partition(":")
    world.track(workflow_id, run_id)
    await world.until(Status.PENDING_APPROVAL)
    return created.task_id


def report_in(task: DetailedTask) -> InvoiceReport:
    assert task.status == "completed"
    assert task.result
    assert "isError" not in task.result or task.result["isError"] is False
    return InvoiceReport.model_validate(task.result["structuredContent"])


@requirement("TASK-INVOICE", "TASK-CLIENT")
async def test_a_task_asks_the_person_and_ends_with_the_report(new_world: NewWorld) -> None:
    person = ScriptedUser(decision="approve", comment="Checked", name="Ann")
    seen: list[str] = []

    async def on_task(task: Any) -> None:
        seen.append(task.status)
        workflow_id, _, run_id = task.task_id.partition(":")
        world.track(workflow_id, run_id)

    async with (
        new_world() as world,
        tasks_client(build_server_for(world), person, TasksClient(on_task=on_task)) as client,
    ):
        invoice = world.invoice(("100.00", "2024-06-30T00:00:00Z"), ("20.50", "2024-07-30T00:00:00Z"))
        answer = await client.call_tool("trigger", {"invoice": invoice})
        assert answer.structured_content == (await world.call("status", workflow_id=world.workflow_id))
        report = InvoiceReport.model_validate(answer.structured_content)
        assert report.status is Status.PAID
        assert report.decision
        assert (report.decision.by, report.decision.comment) == ("Ann", "Checked")
        [question] = person.questions
        for told in (
            invoice["invoice_id"],
            "USD 120.50",
            'to "ACME Corp"',
            '1. "Widget 1": USD 100.00',
            '2. "Widget 2"',
        ):
            assert told in question
        assert set(seen) <= {"working", "input_required", "completed"}
        assert seen[-1] == "completed"
        # The same text as the plain tool's.
        plain = await world.tools.client.call_tool("status", {"workflow_id": world.workflow_id})
        assert isinstance(plain, CallToolResult)
        assert plain.content == answer.content


@requirement("TASK-INVOICE")
async def test_a_rejection_in_the_form_rejects(new_world: NewWorld) -> None:
    async with new_world() as world, tasks_client(build_server_for(world)) as client:
        task_id = await begun(world, client)
        await update_task(
            client.session,
            task_id,
            await decision_response(client, task_id, decision="reject", comment="Never ordered"),
        )
        await world.until(Status.REJECTED)
        report = report_in(await get_task(client.session, task_id))
        assert report.decision
        assert report.decision.comment == "Never ordered"
        assert report.decision.by == "the client mcp"


@requirement("TASK-INVOICE", "TASK-UPDATE")
@pytest.mark.parametrize(
    "response",
    [
        {"action": "cancel"},
        {"action": "decline"},
        {"action": "decline", "content": {"decision": "approve"}},
        {"action": "cancel", "content": {"decision": "reject"}},
    ],
)
async def test_a_form_that_is_dismissed_decides_nothing_and_another_one_asks_again(
    new_world: NewWorld, response: dict[str, Any]
) -> None:
    async with new_world() as world, tasks_client(build_server_for(world)) as client:
        task_id = await begun(world, client)
        [(key, first)] = ((await get_task(client.session, task_id)).input_requests or {}).items()
        await update_task(client.session, task_id, {key: response})
        task = await get_task(client.session, task_id)
        assert task.status == "input_required"
        [(other, second)] = (task.input_requests or {}).items()
        assert other != key
        # It says first what came of the last one, and how to reject.
        happened, _, asks = second["params"]["message"].partition("\n\n")
        assert "decides nothing" in happened
        assert "choose reject" in happened
        assert asks == first["params"]["message"]
        assert (await world.status()).decision is None
        # Its key is never used again.
        await update_task(client.session, task_id, form_response(key, decision="reject"))
        assert (await world.status()).decision is None
        assert (await get_task(client.session, task_id)).last_updated_at == task.last_updated_at
        await update_task(client.session, task_id, form_response(other, decision="approve"))
        await world.until(Status.PAID)


@requirement("TASK-UPDATE")
async def test_dismissed_forms_do_not_fill_the_history(new_world: NewWorld) -> None:
    async with new_world() as world, tasks_client(build_server_for(world)) as client:
        task_id = await begun(world, client)
        keys = []
        for _ in range(MOST_DISMISSALS + 3):
            key = await open_form_key(client, task_id)
            keys.append(key)
            # By two at once: one of them is too late.
            dismissal = {key: {"action": "cancel"}}
            await asyncio.gather(*(update_task(client.session, task_id, dismissal) for _ in range(2)))
        assert await open_form_key(client, task_id) == keys[-1]
        assert len(set(keys)) == MOST_DISMISSALS + 1
        events = (await world.handle().fetch_history()).events
        kept = [event for event in events if event.HasField("workflow_execution_update_accepted_event_attributes")]
        assert len(kept) == MOST_DISMISSALS
        await update_task(client.session, task_id, form_response(keys[-1], decision="approve"))
        await world.until(Status.PAID)


@requirement("TASK-INVOICE", "TASK-WIRE")
async def test_submitting_again_is_answered_with_the_task_as_it_is(new_world: NewWorld) -> None:
    async with new_world() as world, tasks_client(build_server_for(world)) as client:
        invoice = world.invoice()
        task_id = await begun(world, client, invoice)
        await world.advance(timedelta(hours=1))
        await update_task(client.session, task_id, {await open_form_key(client, task_id): {"action": "cancel"}})
        task = await get_task(client.session, task_id)
        again = await start_task(client, "trigger", invoice=invoice)
        told = (again.task_id, again.status, again.status_message, again.created_at, again.last_updated_at)
        assert told == (task_id, "input_required", task.status_message, task.created_at, task.last_updated_at)
        assert again.last_updated_at > again.created_at


@requirement("TASK-INVOICE", "TASK-CLIENT")
async def test_a_dismissed_form_is_shown_again_after_a_while(new_world: NewWorld) -> None:
    peace = 0.3
    answers = [ElicitResult(action="cancel"), ElicitResult(action="accept", content={"decision": "approve"})]
    asked: list[float] = []

    async def changes_their_mind(
        context: ClientRequestContext,
        params: ElicitRequestFormParams | ElicitRequestURLParams,
    ) -> ElicitResult:
        asked.append(anyio.current_time())
        return answers[len(asked) - 1]

    async with new_world() as world:
        tasks = TasksClient(dismissal_backoff=timedelta(seconds=peace))
        async with Client(
            build_server_for(world), extensions=[tasks], elicitation_callback=changes_their_mind
        ) as client:
            task_id = await begun(world, client)
            answer = await tasks.follow(client.session, task_id)
        assert InvoiceReport.model_validate(answer.structured_content).status is Status.PAID
    assert len(asked) == 2
    assert asked[1] - asked[0] >= peace


@requirement("TASK-UPDATE")
async def test_an_answer_after_the_end_is_acknowledged_and_changes_nothing(new_world: NewWorld) -> None:
    async with new_world() as world, tasks_client(build_server_for(world)) as client:
        task_id = await begun(world, client)
        key = await open_form_key(client, task_id)
        await update_task(client.session, task_id, form_response(key, decision="reject"))
        await world.until(Status.REJECTED)
        ended = await get_task(client.session, task_id)
        for late in (form_response(key, decision="approve"), {key: {"action": "cancel"}}):
            await update_task(client.session, task_id, late)
        assert await get_task(client.session, task_id) == ended


@requirement("TASK-UPDATE")
async def test_a_field_that_is_null_is_left_out(new_world: NewWorld) -> None:
    async with new_world() as world, tasks_client(build_server_for(world)) as client:
        task_id = await begun(world, client)
        await update_task(
            client.session,
            task_id,
            await decision_response(client, task_id, decision="reject", comment=None, name=None),
        )
        await world.until(Status.REJECTED)
        report = report_in(await get_task(client.session, task_id))
        assert report.decision
        assert report.decision.comment == ""


@requirement("TASK-INVOICE")
async def test_declining_is_rejecting_only_where_the_person_says_so(new_world: NewWorld) -> None:
    async with new_world() as world, tasks_client(build_server_for(world)) as client:
        task_id = await begun(world, client)
        await update_task(
            client.session,
            task_id,
            {await open_form_key(client, task_id): {"action": "decline", "content": {"decision": "reject"}}},
        )
        await world.until(Status.REJECTED)


@requirement("TASK-UPDATE")
@pytest.mark.parametrize(
    ("response", "told"),
    [
        ({"action": "accept"}, "decision"),
        ({"action": "accept", "content": {}}, "decision"),
        ({"action": "accept", "content": {"decision": "maybe"}}, "decision"),
        ({"action": "accept", "content": {"decision": "approve", "comment": "x" * 3000}}, "comment"),
        ({"action": "perhaps"}, "elicitation"),
        ({"roots": []}, "elicitation"),
        ("approve", "object"),
        (None, "object"),
        ({"action": "accept", "content": {"decision": "approve", "comment": "x" * 300_000}}, "256 KiB"),
    ],
)
async def test_an_answer_that_can_not_be_read_is_an_error_and_changes_nothing(
    new_world: NewWorld, response: Any, told: str
) -> None:
    async with new_world() as world, tasks_client(build_server_for(world)) as client:
        task_id = await begun(world, client)
        error = await expect_error(
            update_task(client.session, task_id, {await open_form_key(client, task_id): response})
        )
        assert error.code == -32602
        assert told in str(error)
        assert (await get_task(client.session, task_id)).status == "input_required"
        await update_task(client.session, task_id, await decision_response(client, task_id, decision="approve"))
        await world.until(Status.PAID)


@requirement("TASK-FIRST-DECISION", "TASK-UPDATE")
async def test_the_first_decision_is_final_for_both_client_interfaces(new_world: NewWorld) -> None:
    async with new_world() as world, tasks_client(build_server_for(world)) as client:
        far = await world.due_in(30 * DAY)
        task_id = await begun(world, client, world.invoice(("100", far)))
        key = await open_form_key(client, task_id)
        await world.approve(by="Ann")
        # Too late, twice, and of what was never asked: acknowledged, ignored.
        late: list[dict[str, Any]] = [
            form_response(key, decision="reject", name="Bob"),
            form_response(key, decision="approve"),
            {"x": {}},
            {},
        ]
        for responses in late:
            await update_task(client.session, task_id, responses)
        report = await world.status()
        assert report.decision
        assert report.decision.by == "Ann"
        assert (await get_task(client.session, task_id)).status == "working"


@requirement("TASK-FIRST-DECISION")
async def test_a_decision_in_the_form_holds_for_the_plain_tools(new_world: NewWorld) -> None:
    async with new_world() as world, tasks_client(build_server_for(world)) as client:
        far = await world.due_in(30 * DAY)
        task_id = await begun(world, client, world.invoice(("100", far)))
        await update_task(
            client.session, task_id, await decision_response(client, task_id, decision="approve", name="Ann")
        )
        refused = await world.refusal(world.reject())
        assert refused.code == "ALREADY_DECIDED"
        assert "Ann" in str(refused)


@requirement("TASK-FIRST-DECISION")
async def test_of_two_decisions_at_once_by_both_client_interfaces_one_counts(real_world: NewWorld) -> None:
    """On the real server: the test server never answers an update that the workflow's end overtakes."""
    async with real_world() as world, tasks_client(build_server_for(world)) as client:
        far = await world.due_in(30 * DAY)
        task_id = await begun(world, client, world.invoice(("100", far)))
        key = await open_form_key(client, task_id)

        async def rejected() -> None:
            try:
                await world.reject(by="Cid")
            except ToolRefused as refused:
                assert refused.code == "ALREADY_DECIDED"  # noqa: PT017 (it may also be in time)

        # What is answered too late is acknowledged all the same.
        await asyncio.gather(
            update_task(client.session, task_id, form_response(key, decision="approve", name="Ann")),
            update_task(client.session, task_id, form_response(key, decision="reject", name="Bob")),
            rejected(),
        )
        decision = (await world.status()).decision
        assert decision
        assert (decision.verdict, decision.by) in {("APPROVED", "Ann"), ("REJECTED", "Bob"), ("REJECTED", "Cid")}


@requirement("TASK-WAITS", "TASK-WIRE")
async def test_a_task_waits_for_days_and_expires(new_world: NewWorld) -> None:
    async with new_world() as world, tasks_client(build_server_for(world)) as client:
        task_id = await begun(world, client)
        first = await get_task(client.session, task_id)
        await world.advance(4 * DAY)
        waiting = await get_task(client.session, task_id)
        assert (waiting.status, waiting.last_updated_at) == ("input_required", first.last_updated_at)
        await world.advance(2 * DAY)
        await world.until(Status.EXPIRED)
        ended = await get_task(client.session, task_id)
        assert report_in(ended).status is Status.EXPIRED
        span = datetime.fromisoformat(ended.last_updated_at) - datetime.fromisoformat(ended.created_at)
        assert timedelta(days=5) <= span < timedelta(days=5, minutes=5)
        assert ended.created_at == first.created_at
        assert isinstance(ended.ttl_ms, int)
        assert timedelta(milliseconds=ended.ttl_ms) >= span


@requirement("TASK-WAITS")
async def test_the_poll_interval_is_long_while_nothing_is_due(new_world: NewWorld) -> None:
    async with new_world() as world, tasks_client(build_server_for(world)) as client:
        # Also by this process's clock, which the world's may be far behind.
        far = await world.due_in(36_500 * DAY)
        task_id = await begun(world, client, world.invoice(("1", "2024-06-30T00:00:00Z"), ("2", far)))
        assert (await get_task(client.session, task_id)).poll_interval_ms == 2_000
        await world.approve()
        with anyio.fail_after(20):
            while lines_of(await world.status()) != [LineStatus.PAID, LineStatus.SCHEDULED]:
                await anyio.sleep(0.02)
        assert (await get_task(client.session, task_id)).poll_interval_ms == 60_000
        await world.cancel()


@requirement("TASK-CANCEL")
async def test_cancelling_twice_and_after_the_end_is_acknowledged(new_world: NewWorld) -> None:
    async with new_world() as world, tasks_client(build_server_for(world)) as client:
        task_id = await begun(world, client)
        await cancel_task(client.session, task_id)
        await cancel_task(client.session, task_id)
        await world.until(Status.CANCELLED)
        await cancel_task(client.session, task_id)
        task = await get_task(client.session, task_id)
        assert (task.status, task.result, task.error, task.input_requests) == ("cancelled", None, None, None)
        assert "nothing was paid" in str(task.status_message)
        answer = await TasksClient().follow(client.session, task_id)
        assert answer.is_error


@requirement("TASK-CANCEL")
async def test_stopping_the_task_of_an_approved_invoice_stops_nothing_and_the_task_says_so(new_world: NewWorld) -> None:
    async with new_world() as world, tasks_client(build_server_for(world)) as client:
        # Also by this process's clock, which the world's may be far behind.
        far = await world.due_in(36_500 * DAY)
        task_id = await begun(world, client, world.invoice(("1", "2024-06-30T00:00:00Z"), ("2", far)))
        assert "Stopping" not in str((await get_task(client.session, task_id)).status_message)
        await world.approve()
        await world.when(lambda: world.ledger)
        for _ in range(2):
            await cancel_task(client.session, task_id)
        task = await get_task(client.session, task_id)
        assert task.status == "working"
        assert "does not cancel an approved invoice: for that call the tool `cancel`" in str(task.status_message)
        assert not (await world.status()).cancelling
        # Payment continues. The tool `cancel` cancels the lines that are not paid, and the task shows that.
        await world.cancel()
        await world.until(Status.CANCELLED)
        task = await get_task(client.session, task_id)
        assert task.status == "cancelled"
        assert "1 of 2 lines paid" in str(task.status_message)
        assert "Stopping" not in str(task.status_message)


@requirement("TASK-CANCEL", "DECIDE-EARLY")
async def test_an_invoice_approved_before_its_validation_is_approved(new_world: NewWorld) -> None:
    async with new_world() as world, tasks_client(build_server_for(world)) as client:
        world.erp.is_down(times=1)
        created = await start_task(client, "trigger", invoice=world.invoice())
        world.track(*created.task_id.split(":"))
        await world.approve()
        await cancel_task(client.session, created.task_id)
        # Until the ERP is asked again.
        await world.advance(timedelta(minutes=1))
        await world.until(Status.PAID)


@requirement("TASK-CANCEL", "TASK-WIRE")
async def test_an_accepted_cancellation_is_a_change_before_it_has_its_effect(real_world: NewWorld) -> None:
    async with real_world() as world, tasks_client(build_server_for(world)) as client:
        world.payments.is_slow()
        task_id = await begun(world, client)
        await world.approve()
        await world.when(lambda: world.payments.under_way)
        before = await get_task(client.session, task_id)
        await world.call("cancel", workflow_id=world.workflow_id)

        async def is_cancelling() -> bool:
            return (await world.status()).cancelling

        await world.when(is_cancelling)
        after = await get_task(client.session, task_id)
        assert after.status == "working"
        assert after.last_updated_at > before.last_updated_at
        assert "being cancelled" in str(after.status_message)
        assert "Stopping" not in str(after.status_message)
        world.payments.answers()
        await world.until(Status.PAID)


@requirement("TASK-ID")
@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "x",
        ":",
        "{workflow}",
        "{workflow}:",
        ":{run}",
        "{workflow}:{run}x",
        "{workflow}:00000000-0000-4000-8000-000000000000",
        "{workflow}x:{run}",
        "{workflow}:{run}:",
        "%69nvoice{tail}:{run}",
        "{workflow}:{run}\n",
        "invoice-\u00e9:{run}",
        "%ff:{run}",
        "x" * 100_000,
    ],
)
async def test_an_id_that_is_no_tasks_is_unknown(real_world: NewWorld, wrong: str) -> None:
    """On the real server: the error of the time-skipping server lists all workflows, and exceeds header limits."""
    async with real_world() as world, tasks_client(build_server_for(world)) as client:
        workflow, _, run = (await begun(world, client)).partition(":")
        task_id = wrong.format(workflow=workflow, run=run, tail=workflow.removeprefix("invoice"))
        for call in (
            get_task(client.session, task_id),
            update_task(client.session, task_id, {}),
            cancel_task(client.session, task_id),
        ):
            assert (await expect_error(call)).code == -32602
        assert (await world.status()).status is Status.PENDING_APPROVAL


@requirement("TASK-ID")
async def test_a_workflow_that_is_no_invoice_is_no_task(new_world: NewWorld) -> None:
    async with new_world() as world, tasks_client(build_server_for(world)) as client:
        far = await world.due_in(30 * DAY)
        await begun(world, client, world.invoice(("1", far)))
        await world.approve()
        line = world.client.get_workflow_handle(f"{world.workflow_id}-line-1")
        await world.when(lambda: _exists(line))
        described = await line.describe()
        task_id = task_id_of(WorkflowRun(described.id, described.run_id))
        assert (await expect_error(get_task(client.session, task_id))).code == -32602
        assert (await expect_error(cancel_task(client.session, task_id))).code == -32602


async def _exists(handle: Any) -> bool:
    try:
        await handle.describe()
    except Exception:  # noqa: BLE001
        return False
    return True


@requirement("TASK-STORE")
async def test_a_task_is_there_for_every_server_and_no_server_is_needed_to_keep_it(new_world: NewWorld) -> None:
    async with new_world() as world:
        async with tasks_client(build_server_for(world)) as client:
            task_id = await begun(world, client)
        async with tasks_client(build_server_for(world)) as another:
            assert (await get_task(another.session, task_id)).status == "input_required"
            await update_task(
                another.session, task_id, await decision_response(another, task_id, decision="approve", name="Ann")
            )
        async with tasks_client(build_server_for(world)) as third:
            answer = await TasksClient().follow(third.session, task_id)
            assert InvoiceReport.model_validate(answer.structured_content).status is Status.PAID


@requirement("TASK-INVOICE")
async def test_submitted_again_it_is_the_same_task(new_world: NewWorld) -> None:
    async with new_world() as world, tasks_client(build_server_for(world)) as client:
        invoice = world.invoice()
        task_id = await begun(world, client, invoice)
        assert (await start_task(client, "trigger", invoice=invoice)).task_id == task_id
        await world.approve()
        await world.until(Status.PAID)
        again = await start_task(client, "trigger", invoice=invoice)
        assert (again.task_id, again.status) == (task_id, "completed")


@requirement("TASK-CAPABILITY")
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_that_does_not_declare_tasks_gets_none(new_world: NewWorld, mode: Any) -> None:
    async with new_world() as world:
        # The older protocol has no tasks, even if a client declares them.
        extensions = [advertise(EXTENSION_ID)] if mode == "legacy" else []
        async with Client(build_server_for(world), mode=mode, extensions=extensions) as client:
            invoice = world.invoice()
            answer = await client.call_tool("trigger", {"invoice": invoice})
            assert answer.structured_content
            assert answer.structured_content["created"] is True
            workflow_id, run_id = answer.structured_content["workflow_id"], answer.structured_content["run_id"]
            world.track(workflow_id, run_id)
            task_id = task_id_of(WorkflowRun(workflow_id, run_id))
            for call in (get_task, cancel_task):
                error = await expect_error(call(client.session, task_id))
                assert error.code == (-32601 if mode == "legacy" else -32021)
            assert (await expect_error(update_task(client.session, task_id, {}))).code == (
                -32601 if mode == "legacy" else -32021
            )


@requirement("TASK-INVOICE")
async def test_what_trigger_refuses_is_refused_and_no_task(new_world: NewWorld) -> None:
    async with new_world() as world, tasks_client(build_server_for(world)) as client:
        answer = await client.call_tool("trigger", {"invoice": {"invoice_id": "x"}})
        assert answer.is_error
        [block] = answer.content
        assert isinstance(block, TextContent)
        assert block.text.startswith("INVOICE_INVALID: ")


@requirement("TASK-INVOICE")
async def test_a_failed_invoice_is_a_completed_task_with_its_report(new_world: NewWorld) -> None:
    async with new_world() as world, tasks_client(build_server_for(world)) as client:
        world.erp.refuses("no such order")
        created = await start_task(client, "trigger", invoice=world.invoice())
        world.track(*created.task_id.split(":"))
        await world.until(Status.FAILED)
        report = report_in(await get_task(client.session, created.task_id))
        assert report.status is Status.FAILED
        assert report.reason
        assert "no such order" in report.reason
