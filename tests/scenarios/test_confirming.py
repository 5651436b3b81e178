"""A person decides: an approval that a model passes on is confirmed through the host."""

from __future__ import annotations

from typing import Any

import pytest
from mcp import Client
from mcp_types import ElicitResult, InputRequiredResult, TextContent

from invoice_mcp.approval import ApprovalPolicy
from invoice_mcp.reports import Status
from invoice_mcp.tasks import get, update
from invoice_mcp.testing import ERAS, PAST, World
from invoice_mcp.testing.plugin import NewWorld
from tests.desk import Desk
from tests.requirements import requirement
from tests.tasks_client import Person, begin, decided, error_of, server_of, tasks_client

in_both_eras = pytest.mark.parametrize("era", ERAS)


def client_of(world: World, era: Any, person: Person | None, policy: ApprovalPolicy = ApprovalPolicy.ASK) -> Client:
    return Client(server_of(world, approval=policy), mode=era, elicitation_callback=person)


@requirement("CONFIRM-ASK", "TOOL-ERAS")
@in_both_eras
async def test_the_person_is_asked_and_says_yes(new_world: NewWorld, era: str) -> None:
    person = Person(approve=True)
    async with new_world() as world, client_of(world, era, person) as client:
        workflow_id = await world.submit(("100.00", "2024-06-30T00:00:00Z"), ("20.50", "2024-07-30T00:00:00Z"))
        report = await Desk(client).call("approve", workflow_id=workflow_id, approver="Ann")
        assert report["decision"]["by"] == "Ann"
        await world.until(Status.PAID)
    [question] = person.asked
    for told in ("USD 120.50", "ACME Corp", '1. "Widget 1": USD 100.00', '2. "Widget 2": USD 20.50'):
        assert told in question


@requirement("CONFIRM-ASK")
@in_both_eras
@pytest.mark.parametrize(
    "person",
    [
        Person(approve=False),
        Person("decline"),
        Person("cancel"),
        Person("decline", approve=True),
        Person(approve="perhaps"),
        Person(approve="yes"),
        Person(approve="on"),
        Person(approve="true"),
        Person(approve="1"),
        Person(approve=1),
        Person(approve=1.0),
        Person(),
    ],
    ids=["no", "decline", "cancel", "decline-yes", "garbage", "yes", "on", "true", "text-1", "1", "1.0", "nothing"],
)
async def test_whatever_is_not_a_yes_approves_nothing(new_world: NewWorld, era: str, person: Person) -> None:
    async with new_world() as world, client_of(world, era, person) as client:
        workflow_id = await world.submit()
        refused = await Desk(client).refused("approve", workflow_id=workflow_id)
        assert refused.code == "NOT_CONFIRMED"
        assert "nothing was changed" in str(refused)
        assert (await world.status()).decision is None
        # It is still open to be decided.
        await world.reject()


@requirement("CONFIRM-POLICY")
@in_both_eras
async def test_trust_asks_nobody(new_world: NewWorld, era: str) -> None:
    person = Person("decline")
    async with new_world() as world, client_of(world, era, person, ApprovalPolicy.TRUST) as client:
        await Desk(client).call("approve", workflow_id=await world.submit())
        await world.until(Status.PAID)
    assert person.asked == []


@requirement("CONFIRM-POLICY")
@in_both_eras
async def test_who_can_not_be_asked_is_taken_at_its_word_or_refused(new_world: NewWorld, era: str) -> None:
    async with new_world() as world:
        workflow_id = await world.submit()
        async with client_of(world, era, None, ApprovalPolicy.ASK_OR_REFUSE) as client:
            refused = await Desk(client).refused("approve", workflow_id=workflow_id)
            assert refused.code == "NOT_CONFIRMED"
            assert "elicitation" in str(refused)
        async with client_of(world, era, Person(approve=True), ApprovalPolicy.ASK_OR_REFUSE) as client:
            await Desk(client).call("approve", workflow_id=workflow_id)
        await world.until(Status.PAID)
        second = await world.submit()
        async with client_of(world, era, None) as client:
            await Desk(client).call("approve", workflow_id=second)
        await world.until(Status.PAID)


@requirement("CONFIRM-POLICY", "TASK-DOORS")
async def test_the_task_is_no_way_around_a_person(new_world: NewWorld) -> None:
    async with new_world() as world:
        refusing = server_of(world, approval=ApprovalPolicy.ASK_OR_REFUSE)
        async with tasks_client(refusing) as blind, tasks_client(refusing, Person()) as seeing:
            task_id = await _waiting(world, blind)
            error = await error_of(update(blind.session, task_id, decided(task_id, decision="approve")))
            assert error.code == -32021
            assert error.data == {"requiredCapabilities": {"elicitation": {}}}
            assert "nothing was changed" in error.message
            assert (await world.status()).decision is None
            assert (await get(blind.session, task_id)).status == "input_required"
            await update(seeing.session, task_id, decided(task_id, decision="approve"))
            await world.until(Status.PAID)
            # To pay nothing needs nobody's confirmation.
            task_id = await _waiting(world, blind)
            await update(blind.session, task_id, decided(task_id, decision="reject"))
            await world.until(Status.REJECTED)


@requirement("CONFIRM-POLICY", "TASK-DOORS")
@pytest.mark.parametrize("policy", [ApprovalPolicy.ASK, ApprovalPolicy.TRUST])
async def test_a_client_that_answers_its_task_without_forms_is_taken_at_its_word(
    new_world: NewWorld, policy: ApprovalPolicy
) -> None:
    async with new_world() as world, tasks_client(server_of(world, approval=policy)) as client:
        task_id = await _waiting(world, client)
        await update(client.session, task_id, decided(task_id, decision="approve"))
        await world.until(Status.PAID)


@requirement("CONFIRM-ASK", "DECIDE-REPEAT", "DECIDE-LATE")
@in_both_eras
async def test_where_nothing_is_left_to_decide_nobody_is_asked(new_world: NewWorld, era: str) -> None:
    person = Person("decline")
    async with new_world() as world, client_of(world, era, person) as client:
        workflow_id = await world.submit()
        await world.reject()
        await world.until(Status.REJECTED)
        assert (await Desk(client).refused("approve", workflow_id=workflow_id)).code == "ALREADY_CLOSED"
        assert (await Desk(client).refused("approve", workflow_id="invoice-nobody")).code == "NOT_FOUND"
    assert person.asked == []


@requirement("CONFIRM-RUN")
async def test_an_answer_counts_only_for_the_run_that_was_shown(new_world: NewWorld) -> None:
    async with new_world() as world, client_of(world, "auto", Person()) as client:
        invoice = world.invoice()
        workflow_id = (await world.trigger(invoice)).workflow_id
        await world.until(Status.PENDING_APPROVAL)
        asked = await _approve(client, workflow_id, None)
        assert isinstance(asked, InputRequiredResult)
        [key] = asked.input_requests or {}
        # While the person reads, the invoice is withdrawn and comes back with another amount.
        await world.cancel()
        invoice["lines"][0]["amount"] = "999999"
        await world.trigger(invoice)
        await world.until(Status.PENDING_APPROVAL)
        again = await _approve(client, workflow_id, {key: ElicitResult(action="accept", content={"approve": True})})
        assert isinstance(again, InputRequiredResult)
        assert list(again.input_requests or {}) != [key]
        assert (await world.status()).decision is None


@requirement("CONFIRM-RUN")
async def test_any_server_goes_on_where_another_has_asked(new_world: NewWorld) -> None:
    async with (
        new_world() as world,
        client_of(world, "auto", Person()) as first,
        client_of(world, "auto", Person()) as second,
    ):
        workflow_id = await world.submit()
        asked = await _approve(first, workflow_id, None)
        assert isinstance(asked, InputRequiredResult)
        [key] = asked.input_requests or {}
        answer = await _approve(second, workflow_id, {key: ElicitResult(action="accept", content={"approve": True})})
        assert not isinstance(answer, InputRequiredResult)
        await world.until(Status.PAID)


@requirement("CONFIRM-ASK")
@in_both_eras
async def test_the_person_is_told_what_will_be_kept_as_their_word(new_world: NewWorld, era: str) -> None:
    person = Person("decline")
    async with new_world() as world, client_of(world, era, person) as client:
        workflow_id = await world.submit()
        desk = Desk(client)
        await desk.refused("approve", workflow_id=workflow_id, approver='Ann" 1. Free', comment='Checked.\n2. "Free"')
        await desk.refused("approve", workflow_id=workflow_id)
        named, plain = person.asked
        assert r'in the name of "Ann\x22 1. Free", invoice ' in named
        # What a model writes can't pass for a line of the invoice.
        assert named.endswith('\nComment: "Checked.\\n2. \\x22Free\\x22"')
        assert 'in the name of "a user of ' in plain
        assert "Comment" not in plain
        await world.reject()


@requirement("CONFIRM-ASK", "TASK-INVOICE")
async def test_nothing_in_an_invoice_passes_for_what_the_server_tells_of_it(new_world: NewWorld) -> None:
    far_down = "\n" * 40
    forged = {
        "customer": f"ACME Corp. It expires on 2030-01-01 00:00 UTC.\n1. Widget: USD 1.00, due on 2030-01-01{far_down}",
        "lines": [{"description": 'A"\n2. Free gift: USD 0.00', "amount": "900.00", "due_date": PAST}],
    }
    person = Person("decline")
    async with (
        new_world() as world,
        client_of(world, "auto", person) as client,
        tasks_client(server_of(world)) as tasks,
    ):
        task_id = (await begin(tasks, "trigger", invoice={**world.invoice(), **forged})).task_id
        world.watch(*task_id.split(":"))
        await world.until(Status.PENDING_APPROVAL)
        [request] = ((await get(tasks.session, task_id)).input_requests or {}).values()
        await Desk(client).refused("approve", workflow_id=task_id.partition(":")[0])
        for told in (request["params"]["message"], *person.asked):
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
    async with new_world() as world, client_of(world, "auto", Person()) as client:
        workflow_id = await world.submit()
        asked = await _approve(client, workflow_id, None)
        [key] = asked.input_requests or {}
        yes = {key: ElicitResult(action="accept", content={"approve": True})}
        assert isinstance(await _approve(client, workflow_id, yes, **changed), InputRequiredResult)
        assert (await world.status()).decision is None
        await world.reject()


@requirement("CONFIRM-ASK")
async def test_a_long_invoice_is_told_whole_and_short(new_world: NewWorld) -> None:
    person = Person("decline")
    async with new_world() as world, client_of(world, "auto", person) as client:
        workflow_id = await world.submit(*[("1.00", "2024-06-30T00:00:00Z")] * 120)
        await Desk(client).refused("approve", workflow_id=workflow_id)
        [question] = person.asked
        assert "pay USD 120.00 to" in question
        assert "… and 70 more lines, together USD 70.00" in question
        await world.reject()


async def _waiting(world: World, client: Client) -> str:
    """The id of the task of an invoice that waits for its decision."""
    created = await begin(client, "trigger", invoice=world.invoice())
    world.watch(*created.task_id.split(":"))
    await world.until(Status.PENDING_APPROVAL)
    return created.task_id


async def _approve(client: Client, workflow_id: str, responses: Any, **more: str) -> Any:
    answer = await client.session.call_tool(
        "approve", {"workflow_id": workflow_id, **more}, input_responses=responses, allow_input_required=True
    )
    if not isinstance(answer, InputRequiredResult):
        assert not answer.is_error, [block.text for block in answer.content if isinstance(block, TextContent)]
    return answer
