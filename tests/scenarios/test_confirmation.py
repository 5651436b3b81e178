"""The confirmation of approvals: policies, forms, which answers count, and what is recorded."""

from __future__ import annotations

import asyncio
import hashlib
import time
from datetime import timedelta
from typing import Any

import pytest
from mcp import Client
from mcp.shared.memory import create_client_server_memory_streams
from mcp.shared.message import SessionMessage
from mcp_types import ElicitResult, InputRequiredResult, JSONRPCMessage, TextContent
from pydantic import TypeAdapter
from temporalio.client import WorkflowHandle

from invoice_mcp.domain.report import Confirmation, DecisionRequest, Status
from invoice_mcp.server.approval_policy import ApprovalPolicy
from invoice_mcp.server.errors import ErrorCodeServer
from invoice_mcp.server.forms import confirmation_request, decision_request, message_of
from invoice_mcp.server.task import invoice_binding
from invoice_mcp.server.tool_names import ToolNames
from invoice_mcp.server.tools import build_server
from invoice_mcp.service.form_keys import FormKeys, text_digest
from invoice_mcp.service.invoice_service import InvoiceService
from invoice_mcp.service.queries import form_keys, require_run
from invoice_mcp.testing import PAST_DUE, World
from invoice_mcp.testing.model.actions import PROTOCOL_MODES
from invoice_mcp.testing.plugin import NewWorld
from mcp_temporal_tasks import get_task, input_key, update_task
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
from tests.tool_client import ToolClient

JSONRPC: TypeAdapter[JSONRPCMessage] = TypeAdapter(JSONRPCMessage)
_RAW = {"name": "raw", "version": "1"}
YES = ElicitResult(action="accept", content={"approve": True})
in_both_protocol_modes = pytest.mark.parametrize("protocol_mode", PROTOCOL_MODES)


def client_of(
    world: World, protocol_mode: Any, person: ScriptedUser | None, policy: ApprovalPolicy = ApprovalPolicy.ASK
) -> Client:
    return Client(build_server_for(world, approval=policy), mode=protocol_mode, elicitation_callback=person)


@requirement("CONFIRM-ASK", "TOOL-PROTOCOLS")
@in_both_protocol_modes
async def test_the_person_is_asked_and_says_yes(new_world: NewWorld, protocol_mode: str) -> None:
    person = ScriptedUser(approve=True)
    async with new_world() as world, client_of(world, protocol_mode, person) as client:
        workflow_id = await world.submit(("100.00", "2024-06-30T00:00:00Z"), ("20.50", "2024-07-30T00:00:00Z"))
        report = await ToolClient(client).call("approve", workflow_id=workflow_id, approver="Ann")
        assert report["decision"]["by"] == "Ann"
        await world.until(Status.PAID)
    [question] = person.questions
    for told in ("USD 120.50", "ACME Corp", '1. "Widget 1": USD 100.00', '2. "Widget 2": USD 20.50'):
        assert told in question


@requirement("CONFIRM-ASK")
@in_both_protocol_modes
@pytest.mark.parametrize(
    "person",
    [
        ScriptedUser(approve=False),
        ScriptedUser("decline"),
        ScriptedUser("cancel"),
        ScriptedUser("decline", approve=True),
        ScriptedUser(approve="perhaps"),
        ScriptedUser(approve="yes"),
        ScriptedUser(approve="on"),
        ScriptedUser(approve="true"),
        ScriptedUser(approve="1"),
        ScriptedUser(approve=1),
        ScriptedUser(approve=1.0),
        ScriptedUser(),
    ],
    ids=["no", "decline", "cancel", "decline-yes", "garbage", "yes", "on", "true", "text-1", "1", "1.0", "nothing"],
)
async def test_any_answer_but_yes_approves_nothing(
    new_world: NewWorld, protocol_mode: str, person: ScriptedUser
) -> None:
    async with new_world() as world, client_of(world, protocol_mode, person) as client:
        workflow_id = await world.submit()
        refused = await ToolClient(client).refused("approve", workflow_id=workflow_id)
        assert refused.code == "NOT_CONFIRMED"
        assert "nothing was changed" in str(refused)
        # Hosts without a screen answer by themselves, so the error does not mention a person.
        assert "user was" not in str(refused)
        assert "they" not in str(refused).partition("nothing was changed")[0]
        assert (await world.status()).decision is None
        # It is still open to be decided.
        await world.reject()


@requirement("CONFIRM-ASK")
@pytest.mark.parametrize(
    "garbled", [{"bogus": 1}, {"action": "yes"}, {"action": "accept", "content": {"approve": {"really": True}}}]
)
async def test_an_invalid_answer_approves_nothing_and_the_error_names_the_cause(
    new_world: NewWorld, garbled: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """In the older protocol. In the current one it comes with the call, which is then no call."""
    async with new_world() as world:
        workflow_id = await world.submit()
        text = await _approve_in_raw(
            build_server(InvoiceService(world.client, task_queue=world.task_queue)), workflow_id, garbled
        )
        assert text.startswith("NOT_CONFIRMED: the client's answer to the form is invalid; nothing was changed")
        assert (await world.status()).decision is None
        await world.reject()
    assert caplog.messages == []


@requirement("CONFIRM-POLICY")
@in_both_protocol_modes
async def test_the_policy_trust_shows_no_form(new_world: NewWorld, protocol_mode: str) -> None:
    person = ScriptedUser("decline")
    async with new_world() as world, client_of(world, protocol_mode, person, ApprovalPolicy.TRUST) as client:
        await ToolClient(client).call("approve", workflow_id=await world.submit())
        await world.until(Status.PAID)
    assert person.questions == []


@requirement("CONFIRM-POLICY")
@in_both_protocol_modes
async def test_a_client_without_forms_is_trusted_or_refused_by_the_policy(
    new_world: NewWorld, protocol_mode: str
) -> None:
    async with new_world() as world:
        workflow_id = await world.submit()
        async with client_of(world, protocol_mode, None, ApprovalPolicy.ASK_OR_REFUSE) as client:
            refused = await ToolClient(client).refused("approve", workflow_id=workflow_id)
            assert refused.code == "NOT_CONFIRMED"
            # The true reason, and the remedy.
            assert "this client does not declare that it shows forms (elicitation)" in str(refused)
            assert "Approve from a host that shows forms" in str(refused)
        async with client_of(world, protocol_mode, ScriptedUser(approve=True), ApprovalPolicy.ASK_OR_REFUSE) as client:
            await ToolClient(client).call("approve", workflow_id=workflow_id)
        await world.until(Status.PAID)
        second = await world.submit()
        async with client_of(world, protocol_mode, None) as client:
            await ToolClient(client).call("approve", workflow_id=second)
        await world.until(Status.PAID)


@requirement("CONFIRM-POLICY", "TASK-FIRST-DECISION")
async def test_the_task_does_not_bypass_the_confirmation(new_world: NewWorld) -> None:
    async with new_world() as world:
        refusing = build_server_for(world, approval=ApprovalPolicy.ASK_OR_REFUSE)
        async with tasks_client(refusing) as blind, tasks_client(refusing, ScriptedUser()) as seeing:
            task_id = await _waiting(world, blind)
            error = await expect_error(
                update_task(blind.session, task_id, await decision_response(blind, task_id, decision="approve"))
            )
            assert error.code == -32021
            assert error.data == {"requiredCapabilities": {"elicitation": {}}}
            assert "nothing was changed" in error.message
            assert (await world.status()).decision is None
            assert (await get_task(blind.session, task_id)).status == "input_required"
            await update_task(seeing.session, task_id, await decision_response(seeing, task_id, decision="approve"))
            await world.until(Status.PAID)
            # A rejection needs no confirmation.
            task_id = await _waiting(world, blind)
            await update_task(blind.session, task_id, await decision_response(blind, task_id, decision="reject"))
            await world.until(Status.REJECTED)


@requirement("CONFIRM-POLICY", "TASK-FIRST-DECISION")
@pytest.mark.parametrize("policy", [ApprovalPolicy.ASK, ApprovalPolicy.TRUST])
async def test_a_client_that_answers_its_task_without_declaring_forms_is_trusted(
    new_world: NewWorld, policy: ApprovalPolicy
) -> None:
    async with new_world() as world, tasks_client(build_server_for(world, approval=policy)) as client:
        task_id = await _waiting(world, client)
        await update_task(client.session, task_id, await decision_response(client, task_id, decision="approve"))
        await world.until(Status.PAID)


@requirement("CONFIRM-ASK", "DECIDE-REPEAT", "DECIDE-LATE")
@in_both_protocol_modes
async def test_no_form_is_shown_if_nothing_is_left_to_decide(new_world: NewWorld, protocol_mode: str) -> None:
    person = ScriptedUser("decline")
    async with new_world() as world, client_of(world, protocol_mode, person) as client:
        workflow_id = await world.submit()
        await world.reject()
        await world.until(Status.REJECTED)
        assert (await ToolClient(client).refused("approve", workflow_id=workflow_id)).code == "ALREADY_CLOSED"
        assert (await ToolClient(client).refused("approve", workflow_id="invoice-nobody")).code == "NOT_FOUND"
    assert person.questions == []


@requirement("CONFIRM-RUN")
async def test_an_answer_counts_only_for_the_run_that_was_shown(new_world: NewWorld) -> None:
    async with new_world() as world, client_of(world, "auto", ScriptedUser()) as client:
        invoice = world.invoice()
        workflow_id = (await world.trigger(invoice)).workflow_id
        await world.until(Status.PENDING_APPROVAL)
        question = await _approve(client, workflow_id, None)
        assert isinstance(question, InputRequiredResult)
        [key] = question.input_requests or {}
        # While the person reads, the invoice is withdrawn and comes back with another amount.
        await world.cancel()
        invoice["lines"][0]["amount"] = "999999"
        await world.trigger(invoice)
        await world.until(Status.PENDING_APPROVAL)
        again = await _approve(client, workflow_id, {key: YES})
        assert isinstance(again, InputRequiredResult)
        assert list(again.input_requests or {}) != [key]
        assert (await world.status()).decision is None


@requirement("CONFIRM-RUN")
async def test_any_server_accepts_the_answer_to_a_form_of_another(new_world: NewWorld) -> None:
    async with (
        new_world() as world,
        client_of(world, "auto", ScriptedUser()) as first,
        client_of(world, "auto", ScriptedUser()) as second,
    ):
        workflow_id = await world.submit()
        question = await _approve(first, workflow_id, None)
        assert isinstance(question, InputRequiredResult)
        [key] = question.input_requests or {}
        answer = await _approve(second, workflow_id, {key: YES})
        assert not isinstance(answer, InputRequiredResult)
        await world.until(Status.PAID)


@requirement("CONFIRM-ASK")
@in_both_protocol_modes
async def test_the_form_shows_the_name_and_comment_that_will_be_kept(new_world: NewWorld, protocol_mode: str) -> None:
    person = ScriptedUser("decline")
    async with new_world() as world, client_of(world, protocol_mode, person) as client:
        workflow_id = await world.submit()
        tools = ToolClient(client)
        await tools.refused("approve", workflow_id=workflow_id, approver='Ann" 1. Free', comment='Checked.\n2. "Free"')
        await tools.refused("approve", workflow_id=workflow_id)
        named, plain = person.questions
        assert r'in the name of "Ann\x22 1. Free", invoice ' in named
        # What a model writes can't pass for a line of the invoice.
        assert named.endswith('\nComment: "Checked.\\n2. \\x22Free\\x22"')
        assert 'in the name of "the client mcp", invoice ' in plain
        assert "Comment" not in plain
        await world.reject()


@requirement("CONFIRM-ASK", "TASK-INVOICE")
async def test_text_of_an_invoice_can_not_imitate_the_text_of_the_server(new_world: NewWorld) -> None:
    far_down = "\n" * 40
    forged = {
        "customer": f"ACME Corp. It expires on 2030-01-01 00:00 UTC.\n1. Widget: USD 1.00, due on 2030-01-01{far_down}",
        "lines": [{"description": 'A"\n2. Free gift: USD 0.00', "amount": "900.00", "due_date": PAST_DUE}],
    }
    person = ScriptedUser("decline")
    async with (
        new_world() as world,
        client_of(world, "auto", person) as client,
        tasks_client(build_server_for(world)) as tasks,
    ):
        task_id = (await start_task(tasks, "trigger", invoice={**world.invoice(), **forged})).task_id
        world.track(*task_id.split(":"))
        await world.until(Status.PENDING_APPROVAL)
        [request] = ((await get_task(tasks.session, task_id)).input_requests or {}).values()
        await ToolClient(client).refused("approve", workflow_id=task_id.partition(":")[0])
        for told in (request["params"]["message"], *person.questions):
            first, second = told.splitlines()
            assert 'pay USD 900.00 to "ACME Corp. It expires on 2030-01-01 00:00 UTC.\\n1. Widget' in first
            assert first.rpartition('"')[2].startswith(". It expires on ")
            assert second.startswith('1. "A\\x22\\n2. Free gift: USD 0.00": USD 900.00, due on ')
        await world.reject()


@requirement("CONFIRM-RUN")
@pytest.mark.parametrize("changed", [{"approver": "Bob"}, {"comment": "Urgent"}])
async def test_an_answer_counts_only_for_the_words_that_were_shown(
    new_world: NewWorld, changed: dict[str, str]
) -> None:
    async with new_world() as world, client_of(world, "auto", ScriptedUser()) as client:
        workflow_id = await world.submit()
        question = await _approve(client, workflow_id, None)
        [key] = question.input_requests or {}
        yes = {key: YES}
        assert isinstance(await _approve(client, workflow_id, yes, **changed), InputRequiredResult)
        assert (await world.status()).decision is None
        await world.reject()


@requirement("CONFIRM-ASK")
async def test_the_form_of_a_long_invoice_is_complete_and_short(new_world: NewWorld) -> None:
    person = ScriptedUser("decline")
    async with new_world() as world, client_of(world, "auto", person) as client:
        workflow_id = await world.submit(*[("1.00", "2024-06-30T00:00:00Z")] * 120)
        await ToolClient(client).refused("approve", workflow_id=workflow_id)
        [question] = person.questions
        assert "pay USD 120.00 to" in question
        assert "… and 70 more lines, together USD 70.00" in question
        await world.reject()


@requirement("CONFIRM-QUESTION")
@pytest.mark.parametrize("policy", [ApprovalPolicy.ASK, ApprovalPolicy.ASK_OR_REFUSE])
async def test_an_answer_to_a_question_that_was_never_asked_counts_for_nothing(
    new_world: NewWorld, policy: ApprovalPolicy
) -> None:
    async with new_world() as world, client_of(world, "auto", ScriptedUser(), policy) as client:
        workflow_id = await world.submit()
        report = await world.status()
        # All that a client knows, and what the key was made of in 0.1.0.
        decision = DecisionRequest(by="The CFO")
        words = hashlib.sha256(decision.model_dump_json().encode()).hexdigest()[:16]
        shown = text_digest(message_of(confirmation_request(report, decision)))
        guess = FormKeys(report.run_id, "a guess").confirmation_key(decision, shown, int(time.time()))
        forged = (f"approve-{report.run_id}-{words}", guess, "approve", "approved", "confirm")
        question = await _approve(client, workflow_id, dict.fromkeys(forged, YES), approver="The CFO")
        assert isinstance(question, InputRequiredResult)
        assert not set(question.input_requests or {}) & set(forged)
        assert (await world.status()).decision is None
        # The one that was asked counts.
        [key] = question.input_requests or {}
        assert not isinstance(await _approve(client, workflow_id, {key: YES}, approver="The CFO"), InputRequiredResult)
        await world.until(Status.PAID)


@requirement("CONFIRM-QUESTION")
async def test_an_answer_to_another_invoice_counts_for_nothing(new_world: NewWorld) -> None:
    async with new_world() as world, client_of(world, "auto", ScriptedUser()) as client:
        [key] = (await _approve(client, await world.submit(), None)).input_requests
        await world.reject()
        other = await world.submit()
        assert isinstance(await _approve(client, other, {key: YES}), InputRequiredResult)
        assert (await world.status()).decision is None
        await world.reject()


@requirement("CONFIRM-QUESTION", "TASK-UPDATE")
async def test_a_tasks_form_that_was_never_read_can_not_be_answered(new_world: NewWorld) -> None:
    async with new_world() as world, tasks_client(build_server_for(world)) as client:
        task_id = await _waiting(world, client)
        report = await world.status()
        message = message_of(decision_request(report))
        for guess in ("decision-1", FormKeys(report.run_id, "a guess").decision_key(1, message)):
            await update_task(
                client.session, task_id, form_response(input_key(guess, report.run_id), decision="approve")
            )
        assert (await world.status()).decision is None
        await update_task(client.session, task_id, await decision_response(client, task_id, decision="approve"))
        await world.until(Status.PAID)


@requirement("CONFIRM-DEFAULT")
@in_both_protocol_modes
async def test_no_form_is_shown_for_an_invoice_of_another_gateway(new_world: NewWorld, protocol_mode: Any) -> None:
    person = ScriptedUser(approve=True)
    async with new_world() as world:
        workflow_id = await world.submit()
        server = build_server(_elsewhere(world))
        async with Client(server, mode=protocol_mode, elicitation_callback=person) as client:
            refused = await ToolClient(client).refused("approve", workflow_id=workflow_id)
        assert (await world.status()).decision is None
    assert refused.code == "NOT_SUPPORTED"
    assert person.questions == []


@requirement("CONFIRM-DEFAULT", "TASK-INVOICE")
async def test_the_task_at_another_gateways_server_has_no_form_and_says_where_to_approve(new_world: NewWorld) -> None:
    async with new_world() as world:
        handle: WorkflowHandle[Any, Any] = world.client.get_workflow_handle(await world.submit())
        elsewhere = invoice_binding(_elsewhere(world), names=ToolNames("invoice_"))
        waiting = await elsewhere.state(handle)
        assert waiting.input_requests == {}
        assert "another ERP and payment gateway" in str(waiting.message)
        assert "tool `invoice_reject`" in str(waiting.message)
        await world.reject()
        await world.until(Status.REJECTED)
        assert "another ERP" not in str((await elsewhere.state(handle)).message)


def _elsewhere(world: World) -> InvoiceService:
    """At a server whose invoices go to another ERP and payment gateway."""
    return InvoiceService(world.client, task_queue=f"{world.task_queue}-of-another-gateway")


@requirement("CONFIRM-QUESTION")
async def test_no_tool_and_no_task_shows_what_the_keys_are_made_with(real_world: NewWorld) -> None:
    """On the real server: the test server can't list."""
    async with (
        real_world() as world,
        tasks_client(build_server_for(world)) as client,
        client_of(world, "auto", None) as plain,
    ):
        task_id = await _waiting(world, client)
        workflow_id = task_id.partition(":")[0]
        nonce = (await form_keys(await require_run(world.client, workflow_id))).nonce
        assert nonce
        tools = ToolClient(plain)

        async def is_listed() -> bool:
            return workflow_id in str(await tools.call("list"))

        await world.when(is_listed)
        told: list[Any] = [
            await tools.call("list"),
            await tools.call("status", workflow_id=workflow_id),
            await get_task(client.session, task_id),
            await tools.call("approve", workflow_id=workflow_id),
            await tools.refused("reject", workflow_id=workflow_id),
        ]
        await world.until(Status.PAID)
        told += [await get_task(client.session, task_id), await tools.refused("cancel", workflow_id=workflow_id)]
    assert nonce not in str(told)


@requirement("CONFIRM-RECORD")
@in_both_protocol_modes
async def test_an_approval_records_which_form_was_answered(new_world: NewWorld, protocol_mode: str) -> None:
    person = ScriptedUser(approve=True)
    async with new_world() as world, client_of(world, protocol_mode, person, ApprovalPolicy.ASK_OR_REFUSE) as client:
        await ToolClient(client).call("approve", workflow_id=await world.submit())
        decision = (await world.until(Status.PAID)).decision
    [question] = person.questions
    assert decision
    assert (decision.confirmation, decision.shown) == (Confirmation.FORM, hashlib.sha256(question.encode()).hexdigest())
    # Without a name, the report shows the sender instead of a person.
    assert decision.by == "the client mcp"


@requirement("CONFIRM-RECORD")
@in_both_protocol_modes
@pytest.mark.parametrize("tool", ["approve", "reject"])
@pytest.mark.parametrize(
    ("person", "policy"),
    [(None, ApprovalPolicy.ASK), (ScriptedUser("decline"), ApprovalPolicy.TRUST)],
    ids=["ask", "trust"],
)
async def test_a_decision_without_a_form_is_recorded_as_such(
    new_world: NewWorld, protocol_mode: str, tool: str, person: ScriptedUser | None, policy: ApprovalPolicy
) -> None:
    async with new_world() as world, client_of(world, protocol_mode, person, policy) as client:
        await ToolClient(client).call(tool, workflow_id=await world.submit(), approver="The CFO")
        decision = (await world.until(Status.PAID, Status.REJECTED)).decision
    assert decision
    assert (decision.confirmation, decision.shown, decision.by) == (Confirmation.NONE, None, "The CFO")


@requirement("CONFIRM-RECORD", "TASK-INVOICE")
@pytest.mark.parametrize("policy", list(ApprovalPolicy))
@pytest.mark.parametrize("verdict", ["approve", "reject"])
async def test_a_decision_in_the_tasks_form_records_what_was_shown(
    new_world: NewWorld, verdict: str, policy: ApprovalPolicy
) -> None:
    async with new_world() as world, tasks_client(build_server_for(world, approval=policy), ScriptedUser()) as client:
        task_id = await _waiting(world, client)
        await update_task(client.session, task_id, {await open_form_key(client, task_id): {"action": "cancel"}})
        # The second form has another text.
        [(key, request)] = ((await get_task(client.session, task_id)).input_requests or {}).items()
        await update_task(client.session, task_id, form_response(key, decision=verdict))
        decision = (await world.until(Status.PAID, Status.REJECTED)).decision
    shown = hashlib.sha256(request["params"]["message"].encode()).hexdigest()
    assert decision
    assert (decision.confirmation, decision.shown, decision.by) == (Confirmation.TASK, shown, "the client mcp")


@requirement("CONFIRM-POLICY", "DECIDE-LATE", "DECIDE-REPEAT", "TOOL-NOT-FOUND")
@in_both_protocol_modes
async def test_the_status_is_checked_before_the_clients_forms(new_world: NewWorld, protocol_mode: str) -> None:
    async with new_world() as world, client_of(world, protocol_mode, None, ApprovalPolicy.ASK_OR_REFUSE) as client:
        tools = ToolClient(client)
        assert (await tools.refused("approve", workflow_id="invoice-nobody")).code == "NOT_FOUND"
        far = await world.due_in(timedelta(days=30))
        approved = await world.submit(("1", far))
        await world.approve(by="Ann")
        # Repeating the decision has no effect, so no form is shown.
        assert (await tools.call("approve", workflow_id=approved, approver="Bob"))["decision"]["by"] == "Ann"
        await world.cancel()
        rejected = await world.submit()
        await world.reject()
        await world.until(Status.REJECTED)
        for closed in (approved, rejected):
            refused = await tools.refused("approve", workflow_id=closed)
            assert refused.code == "ALREADY_CLOSED"


async def _waiting(world: World, client: Client) -> str:
    """The id of the task of an invoice that waits for its decision."""
    created = await start_task(client, "trigger", invoice=world.invoice())
    world.track(*created.task_id.split(":"))
    await world.until(Status.PENDING_APPROVAL)
    return created.task_id


async def _approve(client: Client, workflow_id: str, responses: Any, **more: str) -> Any:
    answer = await client.session.call_tool(
        "approve", {"workflow_id": workflow_id, **more}, input_responses=responses, allow_input_required=True
    )
    if not isinstance(answer, InputRequiredResult):
        assert not answer.is_error, [block.text for block in answer.content if isinstance(block, TextContent)]
    return answer


async def _approve_in_raw(server: ErrorCodeServer, workflow_id: str, answer: dict[str, Any]) -> str:
    """What the tool says to a client that answers its form with just this, which the SDK's client would not send."""

    async def say(**message: Any) -> None:
        await says.send(SessionMessage(JSONRPC.validate_python({"jsonrpc": "2.0", **message})))

    async def heard() -> dict[str, Any]:
        message = await hears.receive()
        assert isinstance(message, SessionMessage)
        return message.message.model_dump(by_alias=True, exclude_unset=True)

    async with create_client_server_memory_streams() as ((hears, says), streams), asyncio.timeout(10):
        serving = asyncio.create_task(server.serve_streams(*streams))
        known = {"protocolVersion": "2025-06-18", "capabilities": {"elicitation": {}}, "clientInfo": _RAW}
        await say(id=1, method="initialize", params=known)
        await heard()
        await say(method="notifications/initialized")
        await say(id=2, method="tools/call", params={"name": "approve", "arguments": {"workflow_id": workflow_id}})
        asked = await heard()
        assert asked["method"] == "elicitation/create"
        await say(id=asked["id"], result=answer)
        told = await heard()
        await says.aclose()
        await serving
    assert told["result"]["isError"]
    text: str = told["result"]["content"][0]["text"]
    return text
