"""The MCP server with a real in-memory client: its public surface, and every way to misuse it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mcp import Client
from temporalio.worker import Worker

from invoice_mcp.errors import Code
from invoice_mcp.server import INSTRUCTIONS, build_server
from invoice_mcp.service import InvoiceService
from tests.desk import Stage, an_invoice, skipping_desk
from tests.foreign import SomebodyElses
from tests.requirements import requirement

ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])


@requirement("TOOL-LIST", "TOOL-ERAS")
@ERAS
async def test_six_tools_with_titles_descriptions_annotations_and_schemas(stage: Stage, mode: str) -> None:
    async with Client(build_server(InvoiceService(stage.environment.client)), mode=mode) as client:
        assert client.instructions == INSTRUCTIONS
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
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
    invoice = tools["trigger"].input_schema["$defs"]["Invoice"]["properties"]
    assert invoice["lines"]["minItems"] == 1
    assert "description" in invoice["invoice_id"]


@requirement("TOOL-ERAS")
@ERAS
async def test_a_whole_life_in_both_eras_of_the_protocol(stage: Stage, invoice_id: str, mode: str) -> None:
    async with skipping_desk(stage, mode=mode) as desk:
        workflow_id = await desk.submit(an_invoice(invoice_id))
        report = await desk.call("approve", workflow_id=workflow_id, comment='{"looks": "like JSON"}', run_id=None)
        assert report["decision"]["comment"] == '{"looks": "like JSON"}'
        assert report["decision"]["by"].startswith("a user of ")
        assert (await desk.until(workflow_id, "PAID"))["lines"][0]["payment_id"]
        assert (await desk.refused("approve", workflow_id=workflow_id)).code == "ALREADY_CLOSED"


@requirement("TOOL-WAIT")
async def test_status_waits_for_the_next_change_and_reports_progress(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage) as desk:
        desk.erp.is_down(times=1)
        workflow_id = str((await desk.call("trigger", invoice=an_invoice(invoice_id)))["workflow_id"])
        report = await desk.call("status", workflow_id=workflow_id, wait_seconds=20)
        assert report["status"] == "PENDING-APPROVAL"
        assert desk.progress
        assert desk.progress[0][1] is not None
        assert "being checked" in desk.progress[0][1]
        # Nothing changes any more: the wait ends by itself.
        assert (await desk.call("status", workflow_id=workflow_id, wait_seconds=0.2))["status"] == "PENDING-APPROVAL"


@requirement("TOOL-CODES", "START-INVALID")
@pytest.mark.parametrize(
    ("invoice", "told"),
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
async def test_garbage_is_refused_and_starts_no_workflow(stage: Stage, invoice: Any, told: str) -> None:
    async with skipping_desk(stage) as desk:
        refused = await desk.refused("trigger", invoice=invoice)
        assert refused.code == "INVOICE_INVALID"
        assert told in str(refused)
        assert "call again; nothing was changed" in str(refused)
        assert (await desk.refused("status", workflow_id="invoice-G")).code == "NOT_FOUND"


@requirement("TOOL-CODES")
async def test_no_invoice_at_all_is_named(stage: Stage) -> None:
    async with skipping_desk(stage) as desk:
        assert str(await desk.refused("trigger")).startswith("INVOICE_INVALID: invoice: is required.")


@requirement("TOOL-TEXT")
async def test_an_invoice_as_a_json_text_is_read_as_the_invoice_it_is(stage: Stage, invoice_id: str) -> None:
    # Some hosts send objects as text.
    async with skipping_desk(stage) as desk:
        assert (await desk.call("trigger", invoice=json.dumps(an_invoice(invoice_id))))["created"]


@requirement("TOOL-TEXT", "INV-BOUNDS")
async def test_an_invoice_nested_beyond_all_measure_is_refused(stage: Stage) -> None:
    deep: Any = "x"
    for _ in range(200):
        deep = [deep]
    async with skipping_desk(stage) as desk:
        assert (await desk.refused("trigger", invoice={"lines": deep})).code == "INVOICE_INVALID"


@requirement("TOOL-CODES")
@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        ("status", {}, "workflow_id: is required"),
        ("status", {"workflow_id": 5}, "workflow_id"),
        ("status", {"workflow_id": "invoice-A", "wait_seconds": 51}, "less than or equal to 50"),
        ("status", {"workflow_id": "invoice-A", "wait_seconds": "soon"}, "wait_seconds"),
        ("status", {"workflow_id": "invoice-A", "verbose": True}, "takes no argument 'verbose'"),
        ("approve", {"workflow_id": "invoice-A", "comment": "x" * 2001}, "comment"),
        ("approve", {"workflow_id": "invoice-A", "approver": "x\x00"}, "approver"),
        ("approve", {"workflow_id": "invoice-A", "approver": "x" * 201}, "approver"),
        ("cancel", {"workflow_id": "invoice-A", "reason": ["a"]}, "reason"),
        ("list", {"status": "LOST"}, "status"),
        ("list", {"limit": 0}, "limit"),
        ("list", {"limit": 101}, "limit"),
        ("pay_everything", {}, "The tools are trigger, status"),
        ("x" * 5000, {}, "there is no tool"),
    ],
)
async def test_wrong_arguments_are_named(stage: Stage, tool: str, arguments: dict[str, Any], told: str) -> None:
    async with skipping_desk(stage) as desk:
        refused = await desk.refused(tool, **arguments)
        assert refused.code == "INVALID_ARGUMENT"
        assert told in str(refused)
        assert len(str(refused)) < 600


@requirement("TOOL-NOT-FOUND", "TOOL-TEXT")
@pytest.mark.parametrize("tool", ["status", "approve", "reject", "cancel"])
@pytest.mark.parametrize(
    "workflow_id", ["", "INV-100", "invoice-nobody", "../../etc/passwd", "x" * 5000, "a\x00b", "ünïcödé", "a\nb"]
)
async def test_an_id_that_is_no_invoices_is_not_found(stage: Stage, tool: str, workflow_id: str) -> None:
    async with skipping_desk(stage) as desk:
        refused = await desk.refused(tool, workflow_id=workflow_id)
        assert refused.code == "NOT_FOUND"
        assert "`list` shows" in str(refused)
        assert str(refused).isprintable()


@requirement("TOOL-NOT-FOUND")
@pytest.mark.parametrize("run_id", ["no-run", "00000000-0000-4000-8000-000000000000"])
async def test_a_run_that_does_not_exist_is_not_found(stage: Stage, invoice_id: str, run_id: str) -> None:
    async with skipping_desk(stage) as desk:
        workflow_id = await desk.submit(an_invoice(invoice_id))
        for tool in ("status", "approve", "reject", "cancel"):
            assert (await desk.refused(tool, workflow_id=workflow_id, run_id=run_id)).code == "NOT_FOUND"
        assert (await desk.call("status", workflow_id=workflow_id))["decision"] is None


@requirement("TOOL-NOT-FOUND", "START-CONFLICT")
async def test_other_peoples_workflows_are_never_touched(stage: Stage, invoice_id: str) -> None:
    client = stage.environment.client
    async with Worker(client, task_queue="elsewhere", workflows=[SomebodyElses]), skipping_desk(stage) as desk:
        theirs = await client.start_workflow(SomebodyElses.run, id=f"invoice-{invoice_id}", task_queue="elsewhere")
        for tool in ("status", "approve", "reject", "cancel"):
            assert (await desk.refused(tool, workflow_id=theirs.id)).code == "NOT_FOUND"
        taken = await desk.refused("trigger", invoice=an_invoice(invoice_id))
        assert taken.code == "INVOICE_CONFLICT"
        assert "another kind of workflow" in str(taken)
        await theirs.signal(SomebodyElses.finish)
        await theirs.result()


@requirement("TOOL-NOT-FOUND")
async def test_a_lines_own_workflow_is_no_invoice(stage: Stage, invoice_id: str) -> None:
    async with skipping_desk(stage) as desk:
        workflow_id = await desk.submit(an_invoice(invoice_id))
        await desk.call("approve", workflow_id=workflow_id)
        await desk.until(workflow_id, "PAID")
        assert (await desk.refused("cancel", workflow_id=f"{workflow_id}-line-1")).code == "NOT_FOUND"


@requirement("LIST-UNABLE")
async def test_a_server_that_cannot_list_says_so(stage: Stage) -> None:
    async with skipping_desk(stage) as desk:
        for arguments in ({}, {"status": "PAID"}):
            refused = await desk.refused("list", **arguments)
            assert refused.code == "NOT_SUPPORTED"
            assert "Call `" in str(refused)


async def test_an_invoice_whose_workflow_was_terminated_says_so_and_may_be_submitted_again(
    stage: Stage, invoice_id: str
) -> None:
    async with skipping_desk(stage) as desk:
        workflow_id = await desk.submit(an_invoice(invoice_id))
        await stage.environment.client.get_workflow_handle(workflow_id).terminate()
        report = await desk.call("status", workflow_id=workflow_id)
        assert (report["status"], report["workflow_status"]) == ("PENDING-APPROVAL", "TERMINATED")
        assert "ended from outside" in report["summary"]
        assert (await desk.refused("approve", workflow_id=workflow_id)).code == "ALREADY_CLOSED"
        assert (await desk.call("trigger", invoice=an_invoice(invoice_id)))["created"]


@requirement("TOOL-CODES")
async def test_what_nobody_foresaw_is_an_internal_error_without_its_text(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(InvoiceService):
        async def status(self, workflow_id: str, run_id: str | None = None) -> Any:
            raise ZeroDivisionError(f"secret {workflow_id} {run_id}")

    async with Client(build_server(Broken(stage.environment.client))) as client:
        answer = await client.call_tool("status", {"workflow_id": "invoice-A"})
    assert answer.is_error
    assert "secret" not in str(answer.content)
    assert str(answer.content).count(Code.INTERNAL) == 1
    assert "ZeroDivisionError" in caplog.text
