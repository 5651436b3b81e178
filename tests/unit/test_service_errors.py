"""Errors of calls to Temporal: what becomes a refusal, and what is raised as it is."""

from __future__ import annotations

from typing import Any, cast

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from invoice_mcp.domain.errors import RefusedError
from invoice_mcp.service.errors import temporal_calls
from invoice_mcp.temporal.probe import NoAnswerReason
from tests.requirements import requirement


class FixedProbe:
    """Gives one reason why there is no answer."""

    def __init__(self, reason: NoAnswerReason) -> None:
        self.reason = reason

    async def no_answer_reason(self) -> NoAnswerReason:
        return self.reason


PROBE = cast(Any, FixedProbe(NoAnswerReason.UNKNOWN))


async def refusal_of(error: Exception, probe: Any = PROBE) -> RefusedError:
    """The refusal that an error inside the block becomes."""
    with pytest.raises(RefusedError) as caught:
        async with temporal_calls(probe):
            raise error
    return caught.value


@requirement("TEMPORAL-DOWN")
async def test_a_client_that_can_not_connect_means_that_temporal_is_unavailable() -> None:
    refusal = await refusal_of(RuntimeError("Failed client connect: refused"))
    assert str(refusal).startswith("TEMPORAL_UNAVAILABLE: ")


async def test_a_programming_error_is_no_refusal() -> None:
    with pytest.raises(RuntimeError, match="changed size"):
        async with temporal_calls(PROBE):
            raise RuntimeError("dictionary changed size during iteration")


async def test_a_refusal_by_the_workflow_keeps_its_code_and_at_most_5000_characters() -> None:
    update = WorkflowUpdateFailedError(ApplicationError("x" * 6000, type="ALREADY_DECIDED"))
    refusal = await refusal_of(update)
    assert refusal.code == "ALREADY_DECIDED"
    shown, _, advice = refusal.message.partition(". Ask ")
    assert len(shown) == 5000
    assert advice


@requirement("TEMPORAL-DOWN", "TEMPORAL-NO-WORKER", "TEMPORAL-BUSY")
@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (NoAnswerReason.UNREACHABLE, "TEMPORAL_UNAVAILABLE"),
        (NoAnswerReason.NO_WORKER, "NO_WORKER"),
        (NoAnswerReason.WORKER_POLLS, "NO_ANSWER"),
        (NoAnswerReason.UNKNOWN, "NO_ANSWER"),
    ],
)
async def test_a_timeout_is_refused_with_its_cause(reason: NoAnswerReason, code: str) -> None:
    assert (await refusal_of(TimeoutError(), FixedProbe(reason))).code == code
