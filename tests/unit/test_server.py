"""The MCP server with an in-memory client: its interface, and invalid calls."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner
from mcp import Client
from mcp_types import CallToolResult, TextContent
from temporalio.client import Client as TemporalClient
from temporalio.client import WorkflowExecutionStatus

from invoice_mcp.cli.main import main
from invoice_mcp.domain.errors import ErrorCode
from invoice_mcp.domain.names import line_workflow_id, workflow_id_for
from invoice_mcp.domain.report import Status
from invoice_mcp.server.tool_names import TOOLS, ToolNames
from invoice_mcp.server.tools import INSTRUCTIONS, build_server
from invoice_mcp.service.invoice_service import InvoiceService
from invoice_mcp.testing import EnvironmentPool, kinds, open_world
from invoice_mcp.testing.model.actions import PROTOCOL_MODES
from invoice_mcp.testing.plugin import NewWorld
from mcp_temporal_tasks import TasksClient, get_task
from tests.requirements import requirement
from tests.tasks_client import start_task
from tests.tool_client import an_invoice

in_both_protocol_modes = pytest.mark.parametrize("protocol_mode", PROTOCOL_MODES)


@requirement("TOOL-LIST", "TOOL-PROTOCOLS")
@in_both_protocol_modes
async def test_six_tools_with_titles_descriptions_annotations_and_schemas(
    new_world: NewWorld, protocol_mode: str
) -> None:
    async with new_world(protocol_mode=protocol_mode) as world:
        assert world.tools.client.instructions == INSTRUCTIONS
        tools = {tool.name: tool for tool in (await world.tools.client.list_tools()).tools}
    assert list(tools) == ["trigger", "status", "approve", "reject", "cancel", "list"]
    for tool in tools.values():
        assert tool.title
        assert tool.description
        assert tool.output_schema
        assert tool.annotations
        assert tool.input_schema["additionalProperties"] is False
    hints = {name: tool.annotations for name, tool in tools.items() if tool.annotations}
    assert [name for name, hint in hints.items() if hint.read_only_hint] == ["status", "list"]
    assert hints["approve"].destructive_hint is True
    assert hints["trigger"].destructive_hint is False
    assert hints["trigger"].idempotent_hint is True
    invoice = tools["trigger"].input_schema["properties"]["invoice"]["properties"]
    assert invoice["lines"]["minItems"] == 1
    assert "description" in invoice["invoice_id"]


@requirement("TOOL-DECLARED", "TOOL-PROTOCOLS")
@in_both_protocol_modes
async def test_only_existing_capabilities_are_declared(new_world: NewWorld, protocol_mode: str) -> None:
    async with new_world(protocol_mode=protocol_mode) as world:
        declared = world.tools.client.server_capabilities
        assert declared.tools is not None
        assert declared.prompts is None
        assert declared.resources is None
        assert (await world.tools.client.list_prompts()).prompts == []
        assert (await world.tools.client.list_resources()).resources == []


@requirement("TOOL-ANSWER")
async def test_text_content_is_the_summary_then_compact_json(new_world: NewWorld) -> None:
    async with new_world() as world:
        workflow_id = await world.submit()
        calls: list[tuple[str, dict[str, Any]]] = [
            ("trigger", {"invoice": world.invoice()}),
            ("status", {"workflow_id": workflow_id}),
            ("reject", {"workflow_id": workflow_id}),
        ]
        for tool, arguments in calls:
            answer = await world.tools.client.call_tool(tool, arguments)
            assert isinstance(answer, CallToolResult)
            summary, whole = [block.text for block in answer.content if isinstance(block, TextContent)]
            assert answer.structured_content
            assert summary == answer.structured_content["summary"] != ""
            assert json.loads(whole) == answer.structured_content
            assert whole == json.dumps(answer.structured_content, separators=(",", ":"), ensure_ascii=False)
            assert "idempotency_key" not in whole


@requirement("TOOL-HOSTS")
async def test_arguments_that_known_hosts_add_are_ignored(new_world: NewWorld) -> None:
    async with new_world() as world:
        workflow_id = (await world.call("trigger", invoice=world.invoice(), wait_for_previous=True))["workflow_id"]
        assert (await world.call("status", workflow_id=workflow_id, wait_for_previous=False))["workflow_id"]
        refused = await world.refusal(world.call("status", workflow_id=workflow_id, wait_for_next=True))
        assert 'takes no argument "wait_for_next"' in str(refused)


@requirement("TOOL-NAMES")
async def test_the_prefix_precedes_every_tool_name_also_in_texts(new_world: NewWorld) -> None:
    bare = re.compile(f"`({'|'.join(TOOLS)})`")
    async with new_world() as world:
        service = InvoiceService(world.client, task_queue=world.task_queue)
        server = build_server(service, names=ToolNames("invoice_"))
        async with Client(server, extensions=[TasksClient()]) as client:
            tools = (await client.list_tools()).tools
            assert [tool.name for tool in tools] == [f"invoice_{name}" for name in TOOLS]
            assert not bare.search(f"{client.instructions} {tools}")
            assert "`invoice_trigger`" in str(client.instructions)
            refused = await client.call_tool("invoice_status", {"workflow_id": "invoice-nobody"})
            assert "`invoice_list` shows" in str(refused.content)
            created = await start_task(client, "invoice_trigger", invoice=world.invoice())
            assert (await get_task(client.session, created.task_id)).status in {"working", "input_required"}


@requirement("TOOL-NAMES")
async def test_titles_and_descriptions_mention_invoices(new_world: NewWorld) -> None:
    async with new_world() as world:
        for tool in (await world.tools.client.list_tools()).tools:
            assert "nvoice" in str(tool.title)
            assert "nvoice" in str(tool.description).partition(".")[0]


@requirement("TOOL-NAMES")
@pytest.mark.parametrize("prefix", ["_", "9", "a b", "x" * 25, "ä"])
def test_an_invalid_prefix_is_refused(prefix: str) -> None:
    shown = CliRunner().invoke(main, ["serve", "--tool-prefix", prefix])
    assert shown.exit_code == 2
    assert "can't be the prefix of a tool name" in " ".join(shown.output.split())


@requirement("TOOL-PROTOCOLS")
@in_both_protocol_modes
async def test_an_invoice_is_paid_in_both_protocol_modes(new_world: NewWorld, protocol_mode: str) -> None:
    async with new_world(protocol_mode=protocol_mode) as world:
        workflow_id = await world.submit()
        report = await world.call("approve", workflow_id=workflow_id, comment='{"looks": "like JSON"}', run_id=None)
        assert report["decision"]["comment"] == '{"looks": "like JSON"}'
        assert report["decision"]["by"] == "the client mcp"
        assert (await world.until(Status.PAID)).lines[0].payment_id
        assert (await world.refusal(world.approve())).code == "ALREADY_CLOSED"


@requirement("TOOL-WAIT")
async def test_status_waits_for_the_next_change_and_reports_progress(new_world: NewWorld) -> None:
    async with new_world() as world:
        world.erp.is_down(times=1)
        await world.trigger()
        waiting = asyncio.ensure_future(world.status(wait_seconds=20))
        await world.when(lambda: world.tools.progress)
        # Until the ERP is tried again.
        await world.advance(timedelta(minutes=1))
        assert (await waiting).status is Status.PENDING_APPROVAL
        assert "being checked" in str(world.tools.progress[0][1])
        # Without a change the wait ends by itself.
        assert (await world.status(wait_seconds=0.2)).status is Status.PENDING_APPROVAL


@requirement("TOOL-WAIT")
async def test_a_wait_stays_with_the_run_that_it_began_with(new_world: NewWorld) -> None:
    async with new_world() as world:
        invoice = world.invoice()
        first = await world.trigger(invoice)
        await world.until(Status.PENDING_APPROVAL)
        waiting = asyncio.ensure_future(world.status(wait_seconds=20))
        # By then it polls seldom enough to miss changes in between.
        await world.when(lambda: len(world.tools.progress) > 3)
        await world.cancel()
        assert (await world.trigger(invoice)).run_id != first.run_id
        assert ((await waiting).run_id, waiting.result().status) == (first.run_id, Status.CANCELLED)


@requirement("LIST-STATUS")
async def test_a_terminated_invoice_is_not_listed_as_open() -> None:
    async with EnvironmentPool(kinds()["simulated"]) as pool, open_world(pool) as world:
        workflow_id = await world.submit(("1", await world.due_in(timedelta(days=30))))
        await world.approve()
        await world.until(Status.PAYING)
        assert [each["workflow_id"] for each in await world.list(status="PAYING")] == [workflow_id]
        await world.handle().terminate()
        assert await world.list(status="PAYING") == []


@requirement("TOOL-CODES", "START-INVALID")
@pytest.mark.parametrize(
    ("invoice", "expected"),
    [
        ({"invoice_id": "G", "customer": "c", "lines": "garbage"}, "lines: must be a list"),
        ({"invoice_id": "G", "customer": "c", "lines": [{"description": "d", "amount": 1}]}, "lines[0].due_date"),
        ("garbage", "invoice: must be an object"),
        (None, "invoice: must be an object"),
        ([], "invoice: must be an object"),
        (an_invoice("G", currency=["USD"]), "currency: must be an ISO 4217"),
        (an_invoice("G", note="x"), "note: unknown field"),
        (an_invoice("G", metadata={"a": 5}), "metadata.a"),
        (an_invoice("G", metadata={"a": "x" * 300_000}), "larger than 256 KiB"),
        (an_invoice("G", customer="x\x00"), "invisible character U+0000"),
        (an_invoice("G", customer="\ud800"), "unicode"),
    ],
)
async def test_an_invalid_invoice_is_refused_and_starts_no_workflow(
    new_world: NewWorld, invoice: Any, expected: str
) -> None:
    async with new_world() as world:
        refused = await world.refusal(world.call("trigger", invoice=invoice))
        assert refused.code == "INVOICE_INVALID"
        assert expected in str(refused)
        assert "call again; nothing was changed" in str(refused)
        assert (await world.refusal(world.status("invoice-G"))).code == "NOT_FOUND"


@requirement("TOOL-CODES")
async def test_a_missing_invoice_is_named(new_world: NewWorld) -> None:
    async with new_world() as world:
        assert str(await world.refusal(world.call("trigger"))).startswith("INVOICE_INVALID: invoice: is required.")


@requirement("TOOL-TEXT")
async def test_an_invoice_as_json_text_is_parsed(new_world: NewWorld) -> None:
    # Some hosts send objects as text.
    async with new_world() as world:
        assert (await world.call("trigger", invoice=json.dumps(world.invoice())))["created"]


@requirement("TOOL-TEXT", "INV-BOUNDS")
async def test_a_deeply_nested_invoice_is_refused(new_world: NewWorld) -> None:
    deep: Any = "x"
    for _ in range(200):
        deep = [deep]
    async with new_world() as world:
        assert (await world.refusal(world.trigger({"lines": deep}))).code == "INVOICE_INVALID"


@requirement("TOOL-CODES")
@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        ("status", {}, "workflow_id: is required"),
        ("status", {"workflow_id": 5}, "workflow_id"),
        ("status", {"workflow_id": "invoice-A", "wait_seconds": 51}, "less than or equal to 50"),
        ("status", {"workflow_id": "invoice-A", "wait_seconds": "soon"}, "wait_seconds"),
        ("status", {"workflow_id": "invoice-A", "verbose": True}, 'takes no argument "verbose"'),
        ("approve", {"workflow_id": "invoice-A", "comment": "x" * 2001}, "comment"),
        ("approve", {"workflow_id": "invoice-A", "approver": "x\x00"}, "approver"),
        ("approve", {"workflow_id": "invoice-A", "approver": "x" * 201}, "approver"),
        ("cancel", {"workflow_id": "invoice-A", "reason": ["a"]}, "reason"),
        ("list", {"status": "LOST"}, "status"),
        ("list", {"limit": 0}, "limit"),
        ("list", {"limit": 101}, "limit"),
        ("list", {"limit": True}, "limit: must be a number, not true or false"),
        ("list", {"cursor": "x"}, "cursor: this is not the next_cursor"),
        ("status", {"workflow_id": "invoice-X", "wait_seconds": True}, "wait_seconds: must be a number"),
        ("pay_everything", {}, "The tools are trigger, status"),
        ("x" * 5000, {}, "there is no tool"),
    ],
)
async def test_wrong_arguments_are_named(
    new_world: NewWorld, tool: str, arguments: dict[str, Any], expected: str
) -> None:
    async with new_world() as world:
        refused = await world.refusal(world.call(tool, **arguments))
        assert refused.code == "INVALID_ARGUMENT"
        assert expected in str(refused)
        assert len(str(refused)) < 600


@requirement("TOOL-NOT-FOUND", "TOOL-TEXT")
@pytest.mark.parametrize("tool", ["status", "approve", "reject", "cancel"])
@pytest.mark.parametrize(
    "workflow_id", ["", "INV-100", "invoice-nobody", "../../etc/passwd", "x" * 5000, "a\x00b", "ünïcödé", "a\nb"]
)
async def test_an_id_of_no_invoice_is_not_found(new_world: NewWorld, tool: str, workflow_id: str) -> None:
    async with new_world() as world:
        refused = await world.refusal(world.call(tool, workflow_id=workflow_id))
        assert refused.code == "NOT_FOUND"
        assert "`list` shows" in str(refused)
        assert str(refused).isprintable()


@requirement("TOOL-NOT-FOUND")
@pytest.mark.parametrize("run_id", ["no-run", "00000000-0000-4000-8000-000000000000"])
async def test_a_run_that_does_not_exist_is_not_found(new_world: NewWorld, run_id: str) -> None:
    async with new_world() as world:
        await world.submit()
        for tool in (world.status, world.approve, world.reject, world.cancel):
            assert (await world.refusal(tool(run_id=run_id))).code == "NOT_FOUND"
        assert (await world.status()).decision is None


@requirement("TOOL-NOT-FOUND", "START-CONFLICT")
async def test_workflows_of_other_types_are_never_touched(new_world: NewWorld) -> None:
    async with new_world() as world:
        invoice = world.invoice()
        taken = workflow_id_for(invoice["invoice_id"])
        theirs = await world.client.start_workflow("SomebodyElses", id=taken, task_queue="elsewhere")
        for tool in (world.status, world.approve, world.reject, world.cancel):
            assert (await world.refusal(tool(theirs.id))).code == "NOT_FOUND"
        refused = await world.refusal(world.trigger(invoice))
        assert refused.code == "INVOICE_CONFLICT"
        assert "another kind of workflow" in str(refused)
        assert (await theirs.describe()).status is WorkflowExecutionStatus.RUNNING
        await theirs.terminate()


@requirement("TOOL-NOT-FOUND")
async def test_the_workflow_of_a_line_is_no_invoice(new_world: NewWorld) -> None:
    async with new_world() as world:
        workflow_id = await world.submit()
        await world.approve()
        await world.until(Status.PAID)
        assert (await world.refusal(world.cancel(line_workflow_id(workflow_id, 1)))).code == "NOT_FOUND"


@requirement("LIST-UNSUPPORTED")
@pytest.mark.usefixtures("server_without_list")
async def test_a_server_that_cannot_list_says_so(new_world: NewWorld) -> None:
    async with new_world() as world:
        for arguments in ({}, {"status": "PAID"}):
            refused = await world.refusal(world.list(**arguments))
            assert refused.code == "NOT_SUPPORTED"
            assert "Call `" in str(refused)


@requirement("TOOL-CODES")
async def test_an_unexpected_error_is_internal_and_hides_its_text(
    real_client: TemporalClient, caplog: pytest.LogCaptureFixture
) -> None:
    class EpisodeFailure(InvoiceService):
        async def status(self, workflow_id: str, run_id: str | None = None) -> Any:
            raise ZeroDivisionError(f"secret {workflow_id} {run_id}")

    async with Client(build_server(EpisodeFailure(real_client))) as client:
        answer = await client.call_tool("status", {"workflow_id": "invoice-A"})
    assert answer.is_error
    assert "secret" not in str(answer.content)
    assert str(answer.content).count(ErrorCode.INTERNAL) == 1
    assert "ZeroDivisionError" in caplog.text
