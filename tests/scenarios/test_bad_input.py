"""Any tool input is answered with a text and a code, and has no other effect."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mcp_types import CallToolResult, TextContent
from pydantic import Field, TypeAdapter
from temporalio.client import WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from invoice_mcp.domain.errors import ErrorCode
from invoice_mcp.domain.invoice import MAX_INVOICE_BYTES, Invoice
from invoice_mcp.domain.report import InvoiceReport, LineStatus, Status, without_idempotency_keys
from invoice_mcp.server.tools import Cursor, Limit, RunId, WaitSeconds, Who, Why, WorkflowId
from invoice_mcp.testing import EnvironmentPool, ScenarioRunner, ToolRefused, World, kinds, open_world
from invoice_mcp.testing.model.actions import PROTOCOL_MODES
from invoice_mcp.workflow.worker import WORKFLOWS
from tests.other_workflows import SomebodyElses
from tests.requirements import requirement
from tests.scenarios.hostile_input import (
    FRESH,
    OTHER_RUN,
    PAYING,
    PAYING_RUN,
    TOOLS,
    WAITING,
    WAITING_RUN,
    Call,
    Deep,
    Json,
    PowerOfTen,
    Repeated,
    Wide,
    calls,
    strangers,
    submissions,
)

LONGEST_REFUSAL = 8192
ANSWERS_WITHIN = 10.0
LATER = "2090-01-01T00:00:00Z"

_ADAPTERS: dict[str, TypeAdapter[Any]] = {
    "invoice": TypeAdapter(Invoice),
    "workflow_id": TypeAdapter(WorkflowId),
    "run_id": TypeAdapter(RunId),
    "approver": TypeAdapter(Who),
    "comment": TypeAdapter(Why),
    "reason": TypeAdapter(Why),
    "wait_seconds": TypeAdapter(WaitSeconds),
    "status": TypeAdapter(Status | None),
    "limit": TypeAdapter(Limit),
    # Nobody here has been given one.
    "cursor": TypeAdapter(Annotated[Cursor, Field(max_length=0)]),
}
_REQUIRED = {"invoice", "workflow_id"}
_DECISIONS = {"approve", "reject", "cancel"}

pytestmark = pytest.mark.thorough

# Each protocol mode gets its own examples, and each example has several calls.
several = settings(
    max_examples=max(settings().max_examples // 4, 10),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(scope="session")
def abused(request: pytest.FixtureRequest) -> Iterator[ScenarioRunner]:
    """An environment with a workflow that is not ours."""
    kind = kinds()[request.config.getoption("--bulk")]
    with ScenarioRunner(kind, [*WORKFLOWS, SomebodyElses], sandboxed=False) as environment:
        yield environment


@requirement("TOOL-CODES", "TOOL-TEXT", "TOOL-NOT-FOUND", "TOOL-PROTOCOLS")
@pytest.mark.parametrize("protocol_mode", PROTOCOL_MODES)
@several
@given(every=st.lists(calls() | strangers, min_size=1, max_size=8))
@example(every=[Call("status", {"workflow_id": WAITING, "run_id": "\ud800"})])
@example(every=[Call("approve", {"workflow_id": WAITING, "run_id": Repeated("x", 100_000)})])
@example(every=[Call("status", {"workflow_id": WAITING, "wait_seconds": "nan"})])
@example(every=[Call("list", {"limit": PowerOfTen(5000)}), Call("list", {"status": "null", "limit": True})])
@example(every=[Call("cancel", {"workflow_id": WAITING, "reason": Repeated("\U0001f4b8", 2000)})])
@example(
    every=[Call("approve", {"workflow_id": WAITING, "approver": "\u202e"}), Call("reject", {"workflow_id": WAITING})]
)
@example(every=[Call(tool, {"workflow_id": f"{PAYING}-line-1"}) for tool in ("status", "approve", "reject", "cancel")])
@example(every=[Call(tool, {"workflow_id": OTHER_RUN}) for tool in ("status", "approve", "reject", "cancel")])
@example(
    every=[
        Call("cancel", {chr(0x10000 + n) * 70: n for n in range(50)}),
        Call(Repeated("x", 5000), {}),
        Call("\ud800", {}),
    ]
)
def test_invalid_arguments_are_answered_with_a_code_and_have_no_effect(
    abused: ScenarioRunner, protocol_mode: str, every: list[Call]
) -> None:
    abused.run(lambda pool: abuse(pool, protocol_mode, every))


_LINE = {"description": "Widget", "amount": 100, "due_date": LATER}
_INVOICE = {"invoice_id": FRESH, "customer": "ACME Corp", "lines": [_LINE]}


def _trigger(**fields: Any) -> Call:
    return Call("trigger", {"invoice": {**_INVOICE, **fields}})


def _trigger_by_text(**fields: Any) -> Call:
    return Call("trigger", {"invoice": Json({**_INVOICE, **fields})})


@requirement("START-INVALID", "TOOL-CODES", "TOOL-TEXT", "TOOL-PROTOCOLS")
@pytest.mark.parametrize("protocol_mode", PROTOCOL_MODES)
@several
@given(every=st.lists(submissions, min_size=1, max_size=8))
@example(every=[_trigger(), _trigger_by_text()])
@example(
    every=[_trigger(**{"\ud800": 1}), _trigger_by_text(**{"\ud800": 1}), _trigger_by_text(metadata={"\ud800": "x"})]
)
@example(every=[_trigger(note=Deep(depth)) for depth in (100, 250, 900, 50_000)])
@example(every=[_trigger_by_text(note=Deep(depth)) for depth in (100, 250, 500, 900)])
@example(every=[Call("trigger", {"invoice": Json(Deep(depth))}) for depth in (900, 990, 3000, 100_000)])
@example(
    every=[_trigger_by_text(lines=[{**_LINE, "amount": amount}]) for amount in (float("nan"), PowerOfTen(4000), 1e308)]
)
@example(every=[_trigger(lines=[{**_LINE, "amount": Repeated("1", 200_000)}]), _trigger(lines=[_LINE] * 501)])
@example(every=[_trigger(metadata={f"{n}": Repeated("\x01", 600) for n in range(64)}), _trigger(metadata={"": "x"})])
@example(every=[Call("trigger", {"invoice": Wide(20_000)}), _trigger(lines=[{f"{n:x}": 1 for n in range(40)}] * 500)])
@example(every=[_trigger(invoice_id=f"{FRESH}-line-1"), _trigger(invoice_id="x" * 65), _trigger(invoice_id="../x")])
def test_only_a_valid_invoice_starts_a_workflow_however_it_is_broken(
    abused: ScenarioRunner, protocol_mode: str, every: list[Call]
) -> None:
    abused.run(lambda pool: abuse(pool, protocol_mode, every))


# -- what is done, and what must hold -----------------------------------------------------------------------


# The time-skipping server names every execution it knows when it is asked for a run there is not: of many, the answer
# is too long for its own transport, and never comes.
_WORLDS_A_STAGE = 20
_worlds = itertools.count(1)


async def abuse(pool: EnvironmentPool, protocol_mode: str, every: list[Call]) -> None:
    """Make these calls among an invoice that waits, one that is being paid, and a workflow that is not ours."""
    if next(_worlds) % _WORLDS_A_STAGE == 0:
        await pool.close()
    async with open_world(pool, protocol_mode=protocol_mode, run_to_end=False) as world:
        theirs = await _somebody_elses(world)
        paying = await _paying(world)
        undisturbed = _Undisturbed(world, paying)
        await undisturbed.begin()
        for number, call in enumerate(every):
            names = {
                WAITING_RUN: undisturbed.waiting.run_id,
                WAITING: undisturbed.waiting.workflow_id,
                PAYING_RUN: paying.run_id,
                PAYING: paying.workflow_id,
                OTHER_RUN: theirs,
                FRESH: f"{undisturbed.waiting.invoice_id}-{number}",
            }
            await _make(undisturbed, call.resolved(names), fresh=names[FRESH])
        await undisturbed.end()
        described = await world.client.get_workflow_handle(theirs).describe()
        assert described.status is WorkflowExecutionStatus.RUNNING
        assert described.history_length == 4  # started, and its one task


async def _somebody_elses(world: World) -> str:
    handle = await world.client.start_workflow(
        SomebodyElses.run,
        id="invoice-SOMEBODY-ELSES",
        task_queue=world.task_queue,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
    )

    async def has_begun() -> bool:
        return (await handle.describe()).history_length >= 4

    await world.when(has_begun)
    return handle.id


async def _paying(world: World) -> InvoiceReport:
    """An invoice with two lines that wait for their due date. All worlds of the environment share it."""
    answer = await ask(
        world, Call("trigger", {"invoice": {**_INVOICE, "invoice_id": "NEIGHBOUR", "lines": [_LINE] * 2}})
    )
    assert isinstance(answer, dict)
    workflow_id = answer["workflow_id"]
    if answer["created"]:
        await world.until(Status.PENDING_APPROVAL, workflow_id=workflow_id)
        await world.approve(workflow_id)

    async def is_scheduled() -> bool:
        return {line.status for line in (await world.read_report(workflow_id)).lines} == {LineStatus.SCHEDULED}

    await world.when(is_scheduled)
    return await world.read_report(workflow_id)


class _Undisturbed:
    """The invoices that must stay unchanged."""

    def __init__(self, world: World, paying: InvoiceReport) -> None:
        self.world = world
        self._paying = paying

    async def begin(self) -> None:
        """Have another invoice wait."""
        workflow_id = await self.world.submit()
        self.waiting = await self.world.status(workflow_id)

    async def check(self) -> None:
        for before in (self.waiting, self._paying):
            assert without_idempotency_keys(
                await self.world.read_report(before.workflow_id)
            ) == without_idempotency_keys(before)

    async def end(self) -> None:
        await self.check()
        asked = {invoice.invoice_id for invoice in self.world.erp.asked}
        assert {f"invoice-{invoice_id}" for invoice_id in asked} <= {*self.world.workflow_ids, self._paying.workflow_id}


async def _make(undisturbed: _Undisturbed, call: Call, *, fresh: str) -> None:
    world, waiting = undisturbed.world, undisturbed.waiting
    if call.tool == "trigger":
        await _submit(world, call, fresh=fresh)
        return
    is_right = is_well_formed(call)
    of_it = call.arguments.get("workflow_id") == waiting.workflow_id
    is_for_it = is_right and of_it and call.arguments.get("run_id") in {None, "", waiting.run_id}
    if is_for_it and call.tool in _DECISIONS:
        await undisturbed.check()
    match await ask(world, call):
        case ToolRefused() as refused if not is_right:
            assert refused.code == ErrorCode.INVALID_ARGUMENT, refused
        case ToolRefused() as refused if call.tool == "list":
            assert refused.code == ErrorCode.NOT_SUPPORTED, refused
            assert not world.engine.can_list
        case ToolRefused() as refused:
            assert refused.code == ErrorCode.NOT_FOUND, refused
            assert not is_for_it
        case {"invoices": _}:
            assert is_right
        case dict() as answer:
            assert is_for_it, answer
            assert (answer["workflow_id"], answer["run_id"]) == (waiting.workflow_id, waiting.run_id)
            if call.tool in _DECISIONS:
                await undisturbed.begin()


async def _submit(world: World, call: Call, *, fresh: str) -> None:
    is_right = is_well_formed(call)
    invoice_id = _invoice_id(call)
    before = await _run_of(world, invoice_id)
    match await ask(world, call):
        case dict() as answer:
            assert is_right, answer
            assert answer["workflow_id"] == f"invoice-{invoice_id}"
            world.track(answer["workflow_id"], answer["run_id"])
            return
        case ToolRefused() as refused if is_right:
            # Others may have used the same name, if it is not the fresh one.
            assert refused.code == ErrorCode.INVOICE_CONFLICT, refused
            assert invoice_id != fresh
        case ToolRefused() as refused:
            assert refused.code in {ErrorCode.INVOICE_INVALID, ErrorCode.INVALID_ARGUMENT}, refused
    assert await _run_of(world, invoice_id) == before


async def ask(world: World, call: Call) -> dict[str, Any] | ToolRefused | None:
    """Make a call and return its answer or refusal, or None if the client would not send it.

    The MCP client itself refuses to encode two things, in both protocol modes: a lone surrogate in a key of an object
    below the arguments or in a tool's name (UnicodeEncodeError), and more than some 250 levels (ValueError). It sends
    NaN and infinities as null, and a lone surrogate in an argument's name as U+FFFD. Texts with lone surrogates arrive.
    """
    began = time.monotonic()
    try:
        answer = await world.tools.client.call_tool(
            call.tool, dict(call.arguments), read_timeout_seconds=2 * ANSWERS_WITHIN
        )
    except UnicodeEncodeError:
        return None
    except ValueError as error:
        if "depth exceeded" not in str(error):
            raise
        return None
    assert time.monotonic() - began < ANSWERS_WITHIN
    assert isinstance(answer, CallToolResult)
    if not answer.is_error:
        assert isinstance(answer.structured_content, dict)
        return answer.structured_content
    refused = ToolRefused("".join(block.text for block in answer.content if isinstance(block, TextContent)))
    text = str(refused)
    assert refused.code in set(ErrorCode) - {ErrorCode.INTERNAL}, text
    assert len(text.encode()) <= LONGEST_REFUSAL
    assert text.isprintable(), ascii(text)
    assert "Traceback" not in text
    assert 'File "' not in text
    return refused


def is_well_formed(call: Call) -> bool:
    """Whether every argument is one the tool takes, and as it takes it."""
    known = TOOLS.get(call.tool)
    if known is None or not set(call.arguments) <= set(known):
        return False
    if not _REQUIRED & set(known) <= set(call.arguments):
        return False
    try:
        text = json.dumps(call.arguments, ensure_ascii=False)
        if len(text.encode("utf-8", "surrogatepass")) > MAX_INVOICE_BYTES:
            return False
        for name, value in call.arguments.items():
            _ADAPTERS[name].validate_python(_as_read(name, value))
    except (RecursionError, ValueError):  # also Pydantic's
        return False
    return True


def _as_read(name: str, value: object) -> object:
    """An argument as the server reads it: JSON in a text, where it is not to be a text, is taken for what it says."""
    if isinstance(value, str) and name in {"invoice", "wait_seconds", "status", "limit"}:
        try:
            said = json.loads(value)
        except (RecursionError, ValueError):
            return value
        return value if isinstance(said, str | int | float) else said
    return value


def _invoice_id(call: Call) -> str:
    """What is submitted calls itself."""
    invoice = _as_read("invoice", call.arguments.get("invoice"))
    invoice_id = invoice.get("invoice_id") if isinstance(invoice, dict) else None
    return invoice_id if isinstance(invoice_id, str) else ""


async def _run_of(world: World, invoice_id: str) -> str | None:
    """The newest run under the workflow id of this invoice, if there can be one."""
    if len(invoice_id) > 200 or not invoice_id.isprintable():
        return None
    try:
        return (await world.client.get_workflow_handle(f"invoice-{invoice_id}").describe()).run_id
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return None
