"""The activity that pays: what it makes of a port's answer, by itself and after other attempts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import ActivityEnvironment

from invoice_mcp.adapters.payments import PaymentRefusedError, PaymentUnavailableError
from invoice_mcp.domain.report import PaymentOrder, PaymentReceipt
from invoice_mcp.testing.world.fakes import ScriptedErp
from invoice_mcp.workflow.activities import InvoiceActivities
from invoice_mcp.workflow.line_workflow import IN_DOUBT
from invoice_mcp.workflow.parent_lookup import Parent
from tests.requirements import requirement
from tests.unit.testing.run_builders import an_invoice

ORDER = PaymentOrder.for_line(an_invoice(1), 1)


class Answers:
    """A payment system that has one answer."""

    def __init__(self, answer: PaymentReceipt | Exception) -> None:
        self._answer = answer
        self.asked: list[PaymentOrder] = []

    async def pay(self, order: PaymentOrder) -> PaymentReceipt:
        self.asked.append(order)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


async def paid(answer: PaymentReceipt | Exception, attempt: int = 1) -> PaymentReceipt:
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, attempt=attempt)
    activities = InvoiceActivities(ScriptedErp(), Answers(answer))
    receipt: PaymentReceipt = await environment.run(activities.payment_gateway, ORDER)
    return receipt


@requirement("PAY-UNCONFIRMED")
@pytest.mark.parametrize(("attempt", "details"), [(1, []), (2, [{"unconfirmed": True}]), (3, [{"unconfirmed": True}])])
async def test_a_refusal_tells_whether_an_attempt_before_it_was_left_without_a_verdict(
    attempt: int, details: list[Any]
) -> None:
    with pytest.raises(ApplicationError, match="used before") as refused:
        await paid(PaymentRefusedError("DUPLICATE_KEY", "used before"), attempt)
    assert (refused.value.type, refused.value.non_retryable) == ("DUPLICATE_KEY", True)
    assert [*refused.value.details] == details


@pytest.mark.parametrize("attempt", [1, 2])
async def test_no_verdict_is_retried_and_has_no_details(attempt: int) -> None:
    with pytest.raises(ApplicationError) as trouble:
        await paid(PaymentUnavailableError("reset"), attempt)
    assert (trouble.value.type, trouble.value.non_retryable) == ("PAYMENT_GATEWAY_ERROR", False)
    assert not trouble.value.details


@requirement("PORT-ANSWER")
async def test_the_receipt_of_another_payment_is_no_verdict() -> None:
    with pytest.raises(ApplicationError, match="receipt of another payment") as trouble:
        await paid(PaymentReceipt(payment_id="P", idempotency_key="another"))
    assert (trouble.value.type, trouble.value.non_retryable) == ("PAYMENT_GATEWAY_ERROR", False)


@pytest.mark.parametrize("key", [None, ORDER.idempotency_key])
async def test_a_receipt_is_told_with_its_id_alone(key: str | None) -> None:
    receipt = await paid(PaymentReceipt(payment_id="P", idempotency_key=key))
    assert receipt.model_dump(mode="json") == {"payment_id": "P"}


@requirement("ATTACK-LINE")
@pytest.mark.parametrize("attempt", [1, 2])
async def test_a_payment_that_no_invoice_waits_for_is_refused_before_the_gateway_is_asked(attempt: int) -> None:
    error, asked = await unpaid(Parent.NONE, attempt)
    # Whether an earlier run of the line was paid, nobody has asked.
    assert (error.type, error.non_retryable, [*error.details], asked) == ("NOT_AWAITED", True, [IN_DOUBT], [])


@requirement("ATTACK-LINE")
async def test_a_payment_is_tried_again_while_nobody_can_tell_whether_it_is_awaited() -> None:
    error, asked = await unpaid(RPCError("away", RPCStatusCode.UNAVAILABLE, b""))
    assert (error.type, error.non_retryable, [*error.details], asked) == ("TEMPORAL_UNAVAILABLE", False, [], [])


@requirement("ATTACK-RESET", "PAY-UNCONFIRMED")
@pytest.mark.parametrize("who", [Parent.WAITING, Parent.WAITING_FOR_RESET_LINE])
async def test_a_refusal_after_a_reset_of_the_line_is_in_doubt(who: Parent) -> None:
    error, asked = await unpaid(who, answers=PaymentRefusedError("DUPLICATE_KEY", "used before"))
    assert (error.type, asked) == ("DUPLICATE_KEY", [ORDER])
    assert [*error.details] == ([IN_DOUBT] if who is Parent.WAITING_FOR_RESET_LINE else [])


@requirement("ATTACK-RESET", "PAY-UNCONFIRMED")
async def test_a_refusal_after_a_reset_of_the_activity_is_in_doubt() -> None:
    # The server then counts its attempts from 1 again.
    error, _ = await unpaid(
        Parent.WAITING, answers=PaymentRefusedError("DUPLICATE_KEY", "used before"), rescheduled=True
    )
    assert [*error.details] == [IN_DOUBT]


async def unpaid(
    answer: Parent | RPCError,
    attempt: int = 1,
    *,
    answers: PaymentReceipt | Exception | None = None,
    rescheduled: bool = False,
) -> tuple[ApplicationError, list[PaymentOrder]]:
    """How a payment fails, of which Temporal says this; and what the gateway was asked."""

    async def find_parent(workflow_id: str, run_id: str) -> Parent:
        assert workflow_id
        assert run_id
        if isinstance(answer, RPCError):
            raise answer
        return answer

    gateway = Answers(answers or PaymentReceipt(payment_id="P-1"))
    environment = ActivityEnvironment()
    info = environment.info
    later = info.scheduled_time + timedelta(seconds=rescheduled)
    environment.info = replace(info, attempt=attempt, current_attempt_scheduled_time=later)
    with pytest.raises(ApplicationError) as failed:
        await environment.run(InvoiceActivities(ScriptedErp(), gateway, find_parent).payment_gateway, ORDER)
    return failed.value, gateway.asked
