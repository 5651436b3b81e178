"""Errors of calls to Temporal: what becomes a refusal, and what is raised as it is."""

from __future__ import annotations

from typing import Any, cast

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from invoice_mcp.domain.errors import RefusedError
from invoice_mcp.service.errors import temporal_calls
from tests.requirements import requirement

UNUSED_PROBE = cast(Any, None)


async def refusal_of(error: Exception) -> RefusedError:
    """The refusal that an error inside the block becomes."""
    with pytest.raises(RefusedError) as caught:
        async with temporal_calls(UNUSED_PROBE):
            raise error
    return caught.value


@requirement("TEMPORAL-DOWN")
async def test_a_client_that_can_not_connect_means_that_temporal_is_unavailable() -> None:
    refusal = await refusal_of(RuntimeError("Failed client connect: refused"))
    assert str(refusal).startswith("TEMPORAL_UNAVAILABLE: ")


async def test_a_programming_error_is_no_refusal() -> None:
    with pytest.raises(RuntimeError, match="changed size"):
        async with temporal_calls(UNUSED_PROBE):
            raise RuntimeError("dictionary changed size during iteration")


async def test_a_refusal_by_the_workflow_keeps_its_code_and_at_most_5000_characters() -> None:
    update = WorkflowUpdateFailedError(ApplicationError("x" * 6000, type="ALREADY_DECIDED"))
    refusal = await refusal_of(update)
    assert refusal.code == "ALREADY_DECIDED"
    shown, _, advice = refusal.message.partition(". Ask ")
    assert len(shown) == 5000
    assert advice
