"""Stories and scenarios in addition to those of the controls: interfaces and answers that model and checker ignore.

`test_mutants.py` runs them on the unmutated workflows, the oracles on each mutant.
"""

from __future__ import annotations

import asyncio
from asyncio import wait_for
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from temporalio.client import (
    Client,
    Interceptor,
    OutboundInterceptor,
    StartWorkflowInput,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from invoice_mcp.domain.errors import ErrorCode, RefusedError
from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.names import WORKFLOW_TYPE, workflow_id_for
from invoice_mcp.domain.report import (
    AcceptedInvoice,
    Confirmation,
    DecisionRequest,
    InvoiceRequest,
    Policy,
    Standing,
    Status,
    without_idempotency_keys,
)
from invoice_mcp.service.invoice_service import InvoiceService
from invoice_mcp.testing import PAST_DUE, Action, Line, Scenario, Verb, World
from invoice_mcp.testing.world.base import DAY
from invoice_mcp.workflow.invoice_decisions import MOST_DISMISSALS
from tests.scenarios.controls.control import Script

_SOON = timedelta(seconds=10)


async def _code_of(refusal: Awaitable[Any]) -> str:
    """Return the error code of an update or query that has to be refused."""
    try:
        await refusal
    except (WorkflowUpdateFailedError, WorkflowQueryFailedError) as refused:
        cause = refused.cause if isinstance(refused, WorkflowUpdateFailedError) else refused
        return cause.type or "" if isinstance(cause, ApplicationError) else str(cause)
    raise AssertionError("no error")


async def _why_cancelled(world: World) -> None:
    await world.submit()
    await world.cancel(reason="ordered twice")
    report = await world.until(Status.CANCELLED)
    assert "ordered twice" in str(report.reason)


async def _why_rejected(world: World) -> None:
    await world.submit()
    await world.reject(reason="too much")
    report = await world.until(Status.REJECTED)
    assert report.decision is not None
    assert report.decision.comment == "too much"
    assert report.reason is None


async def _garbage(world: World) -> None:
    workflow_id = f"invoice-{world.invoice()['invoice_id']}"
    await world.client.start_workflow("InvoiceWorkflow", {"no": "invoice"}, id=workflow_id, task_queue=world.task_queue)
    handle = world.handle(workflow_id)

    async def has_ended() -> bool:
        return (await handle.describe()).close_time is not None

    await world.when(has_ended)
    assert "INVOICE_INVALID" in str(await _error_text(handle.result()))
    assert "it was started with no valid invoice" in str(await _error_text(handle.query("GetInvoiceReport")))


async def _signalled_garbage(world: World) -> None:
    """The signal arrives in the first workflow task, before the input is validated."""
    workflow_id = f"invoice-{world.invoice()['invoice_id']}"
    await world.client.start_workflow(
        "InvoiceWorkflow", {}, id=workflow_id, task_queue=world.task_queue, start_signal="ApproveInvoice"
    )
    assert "INVOICE_INVALID" in await _error_text(wait_for(world.handle(workflow_id).result(), _SOON.total_seconds()))


async def _error_text(call: Awaitable[Any]) -> str:
    try:
        await call
    except Exception as error:  # noqa: BLE001 (its text is returned)
        return f"{error} {error.__cause__}"
    raise AssertionError("no error")


async def _null_decision(world: World) -> None:
    await world.submit()
    update = world.handle().execute_update("approve", None, rpc_timeout=_SOON)
    assert await _code_of(update) == "INVALID_ARGUMENT"
    await world.approve()
    await world.until(Status.PAID)


async def _forged_signal(world: World) -> None:
    await world.submit()
    forged = DecisionRequest(by="Ann", confirmation=Confirmation.SIGNAL)
    assert await _code_of(world.handle().execute_update("approve", forged, rpc_timeout=_SOON)) == "INVALID_ARGUMENT"
    await world.approve()
    await world.until(Status.PAID)


async def _decided_with_the_deadline(world: World) -> None:
    """The decision and the deadline are in one workflow task; the timeout is not the default."""
    window = timedelta(hours=1)
    invoice = Invoice.model_validate(world.invoice(("100", PAST_DUE)))
    request = InvoiceRequest(invoice=AcceptedInvoice.of(invoice), policy=Policy(approval_timeout=window))
    workflow_id = workflow_id_for(invoice.invoice_id)
    await world.client.start_workflow(WORKFLOW_TYPE, request, id=workflow_id, task_queue=world.task_queue)
    world.track(workflow_id)
    await world.until(Status.PENDING_APPROVAL)
    await world.crash_worker()
    await world.advance(window)
    update = world.handle().execute_update("approve", DecisionRequest(by="Ann"), rpc_timeout=_SOON)
    approving = asyncio.create_task(update)
    await asyncio.sleep(0)
    await world.restart_worker()
    with suppress(WorkflowUpdateFailedError, RPCError):
        await approving
    await world.until(Status.EXPIRED)


async def _dismissed_forms(world: World) -> None:
    def dismissed(number: int) -> Awaitable[Any]:
        return world.handle().execute_update("dismiss", number, rpc_timeout=_SOON)

    async def is_not_asked(number: int) -> None:
        assert await _code_of(dismissed(number)) == "INVALID_ARGUMENT"

    world.erp.is_slow()
    await world.trigger(world.invoice(("100", await world.due_in(30 * DAY))))
    await world.until(Status.PENDING_VALIDATION)
    await is_not_asked(1)
    world.erp.answers()
    await world.until(Status.PENDING_APPROVAL)
    for number in range(1, MOST_DISMISSALS + 1):
        for other in (number - 1, number + 1):
            await is_not_asked(other)
        await dismissed(number)
        standing = await world.handle().query("GetInvoiceStanding", result_type=Standing, rpc_timeout=_SOON)
        assert (standing.dismissals, standing.report.decision) == (number, None)
    await is_not_asked(MOST_DISMISSALS + 1)
    await world.reject()
    await world.until(Status.REJECTED)


async def _dismissed_too_late(world: World) -> None:
    await world.submit(("100", await world.due_in(30 * DAY)))
    await world.approve()
    await world.until(Status.PAYING)
    assert await _code_of(world.handle().execute_update("dismiss", 1, rpc_timeout=_SOON)) == "INVALID_ARGUMENT"


async def _every_query(world: World) -> None:
    for decide, verdict in ((world.approve, True), (world.reject, False)):
        await world.submit(("100", PAST_DUE))
        handle = world.handle()
        assert await handle.query("GetInvoiceStatus", rpc_timeout=_SOON) == Status.PENDING_APPROVAL
        assert "not set yet" in await _error_text(handle.query("IsInvoiceApproved", rpc_timeout=_SOON))
        await decide()
        await world.until(Status.PAID, Status.REJECTED)
        assert await handle.query("IsInvoiceApproved", rpc_timeout=_SOON) is verdict
        standing = await handle.query("GetInvoiceStanding", result_type=Standing, rpc_timeout=_SOON)
        assert without_idempotency_keys(standing.report) == await world.status()


async def _crash_under_way(world: World) -> None:
    world.payments.is_slow()
    await world.submit(("100", PAST_DUE))
    await world.approve()
    await world.when(lambda: world.payments.under_way)
    await world.crash_worker()
    world.payments.answers()
    await world.restart_worker()
    await world.advance(timedelta(minutes=5))
    await world.until(Status.PAID)


async def _declined_card(world: World) -> None:
    world.payments.refuses("ACCOUNT_CLOSED")
    await world.submit(("100", PAST_DUE))
    await world.approve()
    report = await world.until(Status.FAILED)
    line = report.lines[0]
    assert (line.error, line.reason, line.unconfirmed) == ("ACCOUNT_CLOSED", "refused by script", False)


async def _lost_answers(world: World) -> None:
    world.payments.loses_the_answer(3)
    await world.submit(("100", PAST_DUE))
    await world.approve()
    await world.advance(timedelta(minutes=2))
    line = (await world.until(Status.FAILED)).lines[0]
    assert (line.error, line.unconfirmed) == ("PAYMENT_GATEWAY_ERROR", True)
    assert "is not confirmed" in str(line.reason)


async def _more_than_a_page(world: World) -> None:
    """More invoices than the default limit of `list`, on engines that can list."""
    if not world.engine.can_list:
        return
    began = [await world.trigger(world.invoice(("100", PAST_DUE))) for _ in range(23)]
    listed = [entry["run_id"] for entry in await world.list(limit=50)]
    assert {each.run_id for each in began} <= set(listed)
    assert len(await world.list()) == 20


async def _approved_at_the_last_moment(world: World) -> None:
    """Approve after start plus timeout, but before the deadline, which counts from the end of the validation."""
    world.erp.is_down(2)
    await world.submit()
    deadline = (await world.status()).approval_deadline
    assert deadline is not None
    await world.advance(deadline - timedelta(seconds=1) - await world.now())
    assert (await world.approve()).decision is not None
    await world.until(Status.PAID)


class _BeforeFirstStart(Interceptor):
    """Runs a function just before the first workflow is started."""

    def __init__(self, first: Callable[[], Awaitable[None]]) -> None:
        self.first: Callable[[], Awaitable[None]] | None = first

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        others = self

        class Outbound(OutboundInterceptor):
            async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
                first, others.first = others.first, None
                if first is not None:
                    await first()
                return await super().start_workflow(input)

        return Outbound(next)


async def _overtaken_submission(world: World) -> None:
    """Another client submits other content under the same id, which is paid before this start."""
    draft = world.invoice(("100", PAST_DUE))

    async def is_paid_meanwhile() -> None:
        await world.trigger(draft)
        await world.approve()
        await world.until(Status.PAID)

    config: dict[str, Any] = {**world.client.config()}
    config["interceptors"] = [*config["interceptors"], _BeforeFirstStart(is_paid_meanwhile)]
    client = Client(**config)
    service = InvoiceService(client, task_queue=world.task_queue)
    try:
        submission = await service.trigger(Invoice.model_validate({**draft, "customer": "Somebody Else"}))
    except RefusedError as refused:
        assert refused.code is ErrorCode.INVOICE_CONFLICT  # noqa: PT017 (the else branch fails, too)
    else:
        raise AssertionError(f"paid with other content and started again: {submission}")


EXTRA_STORIES: tuple[Script, ...] = (
    Script("more invoices than a page", _more_than_a_page),
    Script("an overtaken submission", _overtaken_submission),
    Script("an approval at the last moment", _approved_at_the_last_moment),
    Script("cancel, with a reason", _why_cancelled),
    Script("reject, with a reason", _why_rejected),
    Script("started with garbage", _garbage),
    Script("started with garbage and signalled", _signalled_garbage),
    Script("a decision of null", _null_decision),
    Script("a forged signal decision", _forged_signal),
    Script("a decision in the same task as the deadline", _decided_with_the_deadline),
    Script("dismissed forms", _dismissed_forms),
    Script("a form dismissed after the decision", _dismissed_too_late),
    Script("every query", _every_query),
    Script("a crash while a payment is under way", _crash_under_way),
    Script("the report of a refused payment", _declined_card),
    Script("the report of an unconfirmed payment", _lost_answers),
)

_LINES = (Line(due_in_hours=60), Line(due_in_hours=70))
_APPROVED_AND_CANCELLED = (Action(verb=Verb.APPROVE), Action(verb=Verb.CANCEL))
_SHORT_WAIT = Action(verb=Verb.ADVANCE, hours=0.25)
_SIGNALLED_AND_CANCELLED = (_SHORT_WAIT, Action(verb=Verb.SIGNAL_APPROVE), Action(verb=Verb.CANCEL))
_SIGNALLED_AND_REJECTED = (Action(verb=Verb.SIGNAL_APPROVE), Action(verb=Verb.REJECT))

RACE_SCENARIOS: tuple[Scenario, ...] = (
    # Cancelled while the workflow of the first or second line starts.
    *(Scenario(lines=_LINES, actions=_APPROVED_AND_CANCELLED, eager=True, seed=seed) for seed in (21, 34)),
    # Rejected while a signal waits for confirmation.
    *(Scenario(lines=_LINES[:1], actions=_SIGNALLED_AND_REJECTED, eager=True, seed=seed) for seed in (5, 11)),
    # Cancelled while a signal waits for confirmation.
    *(Scenario(lines=_LINES[:1], actions=_SIGNALLED_AND_CANCELLED, eager=True, seed=seed) for seed in range(4)),
)
"""Races that only the simulator produces. The seeds were found by trial."""

_APPROVE, _AGAIN, _LATER = Action(verb=Verb.APPROVE), Action(verb=Verb.TRIGGER), Action(verb=Verb.ADVANCE, hours=150)
_CHANGED, _REJECT, _TERMINATE = (Action(verb=verb) for verb in (Verb.TRIGGER_CHANGED, Verb.REJECT, Verb.TERMINATE))
_RESET = Action(verb=Verb.RESET)
_SOON_DUE = (Line(due_in_hours=10 / 3600),)

RARE_SCENARIOS: tuple[Scenario, ...] = (
    Scenario(metadata=(("purchase_order", "4711"), ("note", "  ")), changes="metadata", actions=(_CHANGED, _APPROVE)),
    *(
        Scenario(changes=changes, actions=(_CHANGED, _APPROVE, _CHANGED))
        for changes in ("amount", "due_date", "customer")
    ),
    *(Scenario(approval_hours=hours, actions=(_LATER, _APPROVE)) for hours in (1 / 3600, 90 * 24)),
    Scenario(lines=_SOON_DUE, actions=(_APPROVE,)),
    Scenario(lines=(Line(),) * 12, actions=(_APPROVE,)),
    Scenario(names_runs=True, actions=(_REJECT, _AGAIN, _APPROVE)),
    Scenario(lines=_LINES, names_runs=True, actions=(_APPROVE, _TERMINATE, _CHANGED, _AGAIN)),
    Scenario(currency="JPY", client_interface="tasks", actions=(_APPROVE,)),
    Scenario(lines=_LINES, actions=(_APPROVE, _RESET)),
    Scenario(actions=(_APPROVE, _RESET, _REJECT, _CHANGED)),
)
"""Rare features of scenarios: metadata, other timeouts, many equal lines, named runs, resets."""
